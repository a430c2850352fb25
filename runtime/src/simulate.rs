//! A whole run in one process: dealer, client and server as threads that share nothing but the links of a real run. Same
//! code, same bytes, same results bit for bit; only sockets, handshake and burning of material are missing.

use crate::dealer::{self, Seeds};
use crate::link::{self, Link};
use crate::material::{self, Material, MaterialError};
use crate::ring::Tensor;
use crate::vm::{Finished, Machine, VmError};
use crate::weights::{Packed, ServerWeights};
use ir::{Party, Program};
use std::thread;
use std::time::Duration;

/// A thread that waits longer than this has lost its peer. Long, since a slow machine is no fault.
const DEADLINE: Duration = Duration::from_secs(600);

/// Runs a verified and scheduled program's entry number `entry` on encoded inputs. Gives what client and server ended
/// with.
pub fn simulate(
    program: &Program,
    entry: u32,
    weights: &dyn ServerWeights,
    inputs: Vec<Tensor>,
    publics: &[u32],
    seeds: Seeds,
) -> Result<[Finished; 2], VmError> {
    let masked = Packed::mask(program, entry, seeds.weights, weights);
    let client = Machine::client(program, entry, seeds.client, publics, &masked)?;
    let server = Machine::server(program, entry, seeds.server, publics, weights)?;
    let (mut to_server, mut to_client) = link::pair(DEADLINE);
    let queue = |party| material::queue(dealer::material_bytes(program, party), DEADLINE);
    let ((mut feed_client, mut of_client), (mut feed_server, mut of_server)) =
        (queue(Party::Client), queue(Party::Server));
    thread::scope(|scope| {
        // A party that stopped drops its queue; that is what the dealer then fails with, and the party's error tells why.
        scope.spawn(move || dealer::deal(program, entry, seeds, &mut feed_client, &mut feed_server));
        let server = scope.spawn(move || party(server, Vec::new(), &mut to_client, &mut of_server));
        let client = party(client, inputs, &mut to_server, &mut of_client);
        drop((to_server, of_client));
        let server = server.join().expect("a party panics only by our own mistake");
        // If one fails, the other loses its peer: the first cause is the one that is no loss of a peer.
        match (client, server) {
            (Ok(client), Ok(server)) => Ok([client, server]),
            (Err(client), Err(server)) if is_loss(&client) => Err(server),
            (Err(e), _) | (_, Err(e)) => Err(e),
        }
    })
}

fn party(
    mut machine: Machine,
    inputs: Vec<Tensor>,
    link: &mut dyn Link,
    material: &mut dyn Material,
) -> Result<Finished, VmError> {
    machine.prepare(link)?;
    machine.run(inputs, link, material)
}

/// Whether an error says no more than that somebody else stopped.
fn is_loss(error: &VmError) -> bool {
    use crate::link::LinkError;
    use crate::vm::Cause;
    matches!(error, VmError::At(failure) if matches!(
        failure.cause,
        Cause::Link(LinkError::Closed) | Cause::Material(MaterialError::Short { .. })
    ))
}
