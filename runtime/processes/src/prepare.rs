//! Dealing beforehand: both parties have the material of a session dealt and keep it as a stock. The client makes its
//! products with the masked weights, too: many steps at once take little more than one.

use bytes::Bytes;
use ir::Party;

use super::client::{Ask, Client, Opened};
use super::material::{Delivery, Turn};
use super::progress::Progress;
use super::stock::Making;
use super::{GO_ON, Plan, Purpose, RunError, Watch};
use crate::handshake::Role;
use crate::net::frame::Kind;
use crate::net::{Conn, Net};
use machine::{products, products_len};
use protocols::step::Step;

/// Bytes of products that are worth making at once: tens of steps of a large model.
const BATCH: u64 = 1 << 26;

/// What a stock takes on the client's disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Made {
    /// Bytes that were dealt.
    pub material_bytes: u64,
    /// Bytes of products with the masked weights.
    pub products_bytes: u64,
    /// Bytes on the socket sent to the other party.
    pub sent_bytes: u64,
    /// Bytes received from it.
    pub received_bytes: u64,
}

/// Has one step dealt, or makes it, and keeps it.
pub(super) fn keep(delivery: &mut Delivery, making: &mut Making, turn: Turn, peer: &mut Conn) -> Result<(), RunError> {
    let Step { number, entry, .. } = turn.step;
    delivery.ask(number, entry)?;
    delivery.turn(turn, peer)?;
    making.step(entry);
    delivery.drain(|chunk| Ok(making.material(chunk)?))
}

impl Client {
    /// Makes a stock for `tokens` tokens after a prompt of up to `size` tokens, which is a size of the plan; says what
    /// it takes here.
    pub fn prepare(&self, net: &Net, plan: &Plan, size: Option<usize>, tokens: usize) -> Result<Made, RunError> {
        let sizes = plan.prefill();
        let size = size.unwrap_or(sizes[0]);
        if !sizes.contains(&size) {
            let sizes: Vec<String> = sizes.iter().map(ToString::to_string).collect();
            return Err(RunError::NoPrefill { size, sizes: sizes.join(", ") });
        }
        let entries: Vec<u32> = (0..).map_while(|number| plan.entry(size, number)).take(tokens).collect();
        if entries.len() < tokens {
            return Err(RunError::NoRoom { tokens, prefill: size, most: entries.len() });
        }
        let mut conn = net.connect(Role::Party(Party::Server).name(), self.server, self.options, None)?;
        match self.deal(net, &mut conn, plan, size, &entries) {
            Ok(made) => {
                let (sent_bytes, received_bytes) = (conn.sent_bytes(), conn.received_bytes());
                conn.close();
                Ok(Made { sent_bytes, received_bytes, ..made })
            }
            Err(error) => {
                conn.fail(&error.for_peer());
                Err(error)
            }
        }
    }

    fn deal(&self, net: &Net, conn: &mut Conn, plan: &Plan, size: usize, entries: &[u32]) -> Result<Made, RunError> {
        let module = &self.loaded.module;
        // Any prompt of this size will do: the entries do not depend on its length.
        let prompt = size.min(plan.context().saturating_sub(1));
        let due = plan.due(module, prompt, 0).filter(|due| due.entry == entries[0]);
        let Some(due) = due else { return Err(RunError::NoRoom { tokens: entries.len(), prefill: size, most: 0 }) };
        let ask = Ask {
            program: &module.entries[due.entry as usize],
            publics: &due.publics,
            purpose: Purpose::Prepare,
            frames: plan.frames(module, due.entry, Party::Client),
            held: None,
            offer: None,
        };
        let Opened { session, seed, masked, mut delivery, .. } = self.open(net, conn, &mut Watch::start(), ask)?;
        let mut keeping = || -> Result<Made, RunError> {
            let stocks = self.stocks();
            let mut making = stocks.make()?;
            let bytes = |entry: u32| match masked {
                Some(_) => plan.material_bytes(entry, Party::Client),
                None => 0,
            };
            let step = |(number, &entry): (u32, &u32)| Step { entries: &module.entries, entry, number };
            let steps: Vec<Step> = (0..).zip(entries).map(step).collect();
            let packed = |step: &Step| if masked.is_some() { products_len(step.program()) as u64 } else { 0 };
            let made = Made {
                material_bytes: entries.iter().map(|&entry| bytes(entry)).sum(),
                products_bytes: steps.iter().map(packed).sum(),
                sent_bytes: 0,
                received_bytes: 0,
            };
            let progress = match masked {
                Some(_) => Progress::bytes("stock", made.material_bytes + made.products_bytes),
                None => Progress::tokens("stock", entries.len() as u64),
            };
            conn.send_frame(Kind::Next, 0, Bytes::from((entries.len() as u32).to_le_bytes().to_vec()))?;
            let (mut batch, mut size) = (0, 0);
            for (i, &step) in steps.iter().enumerate() {
                let entry = step.entry;
                conn.send_frame(Kind::Next, 0, Bytes::from_static(&[GO_ON]))?;
                let turn = Turn { step, bytes: bytes(entry), weights: None, kept: None, ahead: &entries[i + 1..] };
                keep(&mut delivery, &mut making, turn, conn)?;
                let Some(masked) = &masked else {
                    progress.add(1);
                    continue;
                };
                progress.add(bytes(entry) as usize);
                size += packed(&step);
                if size >= BATCH || i + 1 == steps.len() {
                    products(&steps[batch..=i], &seed, &**masked)?.iter().try_for_each(|step| making.products(step))?;
                    progress.add(size as usize);
                    (batch, size) = (i + 1, 0);
                }
            }
            conn.send_frame(Kind::Next, 0, Bytes::new())?;
            conn.receive_small(Kind::Done, 0)?;
            stocks.keep(making, session, &seed)?;
            Ok(made)
        };
        let kept = keeping();
        delivery.end(&kept);
        kept
    }
}
