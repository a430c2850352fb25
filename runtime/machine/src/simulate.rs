//! A session in one process: dealer, client and server as threads that share nothing but the links of a real run. Same
//! code, same bytes, same results bit for bit; only sockets, handshake and burning of material are missing. Without a dealer both
//! parties make their material, a step at a time, before they run it.

use crate::link::{self, Link};
use crate::{Finished, Machine, VmError};
use ir::{Party, Program};
use kernels::prg::Seed;
use kernels::ring::Tensor;
use protocols::cache::{Masks, Openings};
use protocols::dealer::{self, Seeds, material_bytes};
use protocols::linear;
use protocols::material::{self, Material, MaterialError};
use protocols::pair::{self, PairError, Products, Transfers};
use protocols::step::Step;
use protocols::weights::{Packed, ServerWeights};
use std::thread;
use std::time::Duration;

/// A thread that waits longer than this has lost its peer. Long, since a slow machine is no fault.
const DEADLINE: Duration = Duration::from_secs(600);

/// An engine's end at one party.
pub type Engine<'a> = &'a mut (dyn Transfers + Send);

/// Where material comes from.
enum Source<'a> {
    Dealer { seeds: Seeds<'a>, masked: Packed, masks: Masks },
    Pair { engines: [Engine<'a>; 2], masks: [Masks; 2], products: [Products; 2] },
}

/// The same while a step runs.
enum Makers<'s, 'a> {
    Dealer(Seeds<'a>, &'s mut Masks),
    Pair(&'s mut [Engine<'a>; 2], &'s mut [Masks; 2], &'s mut [Products; 2]),
}

/// What dealer and parties hold between the steps of a session.
pub struct Session<'a> {
    entries: &'a [Program],
    weights: &'a dyn ServerWeights,
    seeds: [&'a Seed; 2],
    source: Source<'a>,
    client: Openings,
    server: Openings,
    steps: u32,
}

impl<'a> Session<'a> {
    /// A session over the entries of a verified and scheduled module, with masked weights made anew.
    pub fn new(entries: &'a [Program], weights: &'a dyn ServerWeights, seeds: Seeds<'a>) -> Session<'a> {
        let masked = linear::mask_weights(entries, seeds.weights, weights);
        let source = Source::Dealer { seeds, masked, masks: Masks::default() };
        Session::with(entries, weights, [seeds.client, seeds.server], source)
    }

    /// A session whose parties, with seeds of the client and of the server, make their material with an engine's two ends. The
    /// program is one whose material can be made ([`ir::pair::unmade`]).
    pub fn of_pair(
        entries: &'a [Program],
        weights: &'a dyn ServerWeights,
        seeds: [&'a Seed; 2],
        engines: [Engine<'a>; 2],
    ) -> Session<'a> {
        Session::with(
            entries,
            weights,
            seeds,
            Source::Pair { engines, masks: Default::default(), products: Default::default() },
        )
    }

    fn with(
        entries: &'a [Program],
        weights: &'a dyn ServerWeights,
        seeds: [&'a Seed; 2],
        source: Source<'a>,
    ) -> Session<'a> {
        let (client, server) = (Openings::default(), Openings::default());
        Session { entries, weights, seeds, source, client, server, steps: 0 }
    }

    /// Makes the products of the next steps, which run these entries, before them and at once. Without a dealer.
    pub fn products(&mut self, entries: &[u32]) -> Result<(), PairError> {
        let Source::Pair { engines, masks, products } = &mut self.source else { panic!("parties make their material") };
        let step = |(number, &entry)| Step { entries: self.entries, entry, number };
        let steps: Vec<Step> = (self.steps..).zip(entries).map(step).collect();
        let ([client, server], [of_client, of_server]) = (engines, products);
        let (steps, masks, [client_seed, server_seed]) = (&steps, &*masks, self.seeds);
        thread::scope(|scope| {
            let weights = self.weights;
            let server =
                scope.spawn(move || pair::products(steps, server_seed, Some(weights), &masks[1], *server, of_server));
            pair::products(steps, client_seed, None, &masks[0], *client, of_client)?;
            server.join().expect("a party panics only by our own mistake")
        })
    }

    /// Runs entry number `entry` on encoded inputs, as the next step. Gives what client and server ended with.
    pub fn step(&mut self, entry: u32, inputs: Vec<Tensor>, publics: &[u32]) -> Result<[Finished; 2], VmError> {
        let step = Step { entries: self.entries, entry, number: self.steps };
        let (program, weights, [of_client, of_server]) = (step.program(), self.weights, self.seeds);
        let (client, server, makers) = match &mut self.source {
            Source::Dealer { seeds, masked, masks } => (
                Machine::client(step, of_client, publics, &*masked)?,
                Machine::server(step, of_server, publics, weights)?,
                Makers::Dealer(*seeds, masks),
            ),
            Source::Pair { engines, masks, products } => (
                Machine::client_of_pair(step, of_client, publics)?,
                Machine::server_of_pair(step, of_server, publics, weights)?,
                Makers::Pair(engines, masks, products),
            ),
        };
        // Both parties would refuse a step out of turn, but the dealer's threads would have begun.
        self.client.check(step)?;
        self.server.check(step)?;
        let (mut to_server, mut to_client) = link::pair(DEADLINE);
        let maker = client.maker();
        let queue = |party| material::queue(material_bytes(program, maker, party), DEADLINE);
        let ((mut feed_client, mut material_of_client), (mut feed_server, mut material_of_server)) =
            (queue(Party::Client), queue(Party::Server));
        let (at_client, at_server) = (&mut self.client, &mut self.server);
        let finished = thread::scope(|scope| {
            // A party that stopped drops its queue; that is what the dealer then fails with, and the party's error tells why.
            match makers {
                Makers::Dealer(seeds, masks) => {
                    scope.spawn(move || {
                        // Its error is told by the party whose queue ended.
                        let _ = dealer::deal(step, seeds, masks, &mut feed_client, &mut feed_server);
                    });
                }
                Makers::Pair([client, server], [masks_of_client, masks_of_server], [of_one, of_other]) => {
                    scope.spawn(move || {
                        let _ = pair::make(step, of_client, None, of_one, masks_of_client, *client, &mut feed_client);
                    });
                    scope.spawn(move || {
                        let _ = pair::make(
                            step,
                            of_server,
                            Some(weights),
                            of_other,
                            masks_of_server,
                            *server,
                            &mut feed_server,
                        );
                    });
                }
            }
            let server =
                scope.spawn(move || party(server, at_server, Vec::new(), &mut to_client, &mut material_of_server));
            let client = party(client, at_client, inputs, &mut to_server, &mut material_of_client);
            drop((to_server, material_of_client));
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
