//! A session in one process: dealer, client and server as threads that share nothing but the links of a real run. Same
//! code, same bytes, same results bit for bit; only sockets, handshake and burning of material are missing.

use crate::link::{self, Link};
use crate::{Finished, Machine, VmError};
use ir::{Party, Program};
use kernels::ring::Tensor;
use protocols::cache::{Masks, Openings};
use protocols::dealer::{self, Seeds};
use protocols::linear;
use protocols::material::{self, Material, MaterialError};
use protocols::step::Step;
use protocols::weights::{Packed, ServerWeights};
use std::thread;
use std::time::Duration;

/// A thread that waits longer than this has lost its peer. Long, since a slow machine is no fault.
const DEADLINE: Duration = Duration::from_secs(600);

/// What dealer and parties hold between the steps of a session.
pub struct Session<'a> {
    entries: &'a [Program],
    weights: &'a dyn ServerWeights,
    seeds: Seeds<'a>,
    masked: Packed,
    dealer: Masks,
    client: Openings,
    server: Openings,
    steps: u32,
}

impl<'a> Session<'a> {
    /// A session over the entries of a verified and scheduled module, with masked weights made anew.
    pub fn new(entries: &'a [Program], weights: &'a dyn ServerWeights, seeds: Seeds<'a>) -> Session<'a> {
        Session {
            entries,
            weights,
            seeds,
            masked: linear::mask_weights(entries, seeds.weights, weights),
            dealer: Masks::default(),
            client: Openings::default(),
            server: Openings::default(),
            steps: 0,
        }
    }

    /// Runs entry number `entry` on encoded inputs, as the next step. Gives what client and server ended with.
    pub fn step(&mut self, entry: u32, inputs: Vec<Tensor>, publics: &[u32]) -> Result<[Finished; 2], VmError> {
        let step = Step { entries: self.entries, entry, number: self.steps };
        let (program, seeds) = (step.program(), self.seeds);
        let client = Machine::client(step, seeds.client, publics, &self.masked)?;
        let server = Machine::server(step, seeds.server, publics, self.weights)?;
        // Both parties would refuse a step out of turn, but the dealer's threads would have begun.
        self.client.check(step)?;
        self.server.check(step)?;
        let (mut to_server, mut to_client) = link::pair(DEADLINE);
        let queue = |party| material::queue(dealer::material_bytes(program, party), DEADLINE);
        let ((mut feed_client, mut of_client), (mut feed_server, mut of_server)) =
            (queue(Party::Client), queue(Party::Server));
        let (at_dealer, at_client, at_server) = (&mut self.dealer, &mut self.client, &mut self.server);
        let finished = thread::scope(|scope| {
            // A party that stopped drops its queue; that is what the dealer then fails with, and the party's error tells why.
            scope.spawn(move || dealer::deal(step, seeds, at_dealer, &mut feed_client, &mut feed_server));
            let server = scope.spawn(move || party(server, at_server, Vec::new(), &mut to_client, &mut of_server));
            let client = party(client, at_client, inputs, &mut to_server, &mut of_client);
            drop((to_server, of_client));
            let server = server.join().expect("a party panics only by our own mistake");
            // If one fails, the other loses its peer: the first cause is the one that is no loss of a peer.
            match (client, server) {
                (Ok(client), Ok(server)) => Ok([client, server]),
                (Err(client), Err(server)) if is_loss(&client) => Err(server),
                (Err(e), _) | (_, Err(e)) => Err(e),
            }
        })?;
        self.steps += 1;
        Ok(finished)
    }
}

fn party(
    mut machine: Machine,
    session: &mut Openings,
    inputs: Vec<Tensor>,
    link: &mut dyn Link,
    material: &mut dyn Material,
) -> Result<Finished, VmError> {
    machine.prepare(link)?;
    machine.run(session, inputs, link, material)
}

/// Whether an error says no more than that somebody else stopped.
fn is_loss(error: &VmError) -> bool {
    use crate::Cause;
    use crate::link::LinkError;
    matches!(error, VmError::At(failure) if matches!(
        failure.cause,
        Cause::Link(LinkError::Closed) | Cause::Material(MaterialError::Short { .. })
    ))
}
