//! Dealing beforehand: both parties have the material of a session dealt and keep it as a stock.

use bytes::Bytes;
use ir::Party;

use super::client::{Ask, Client, Opened};
use super::material::Delivery;
use super::progress::Progress;
use super::stock::Making;
use super::{GO_ON, Plan, Purpose, RunError, Watch};
use crate::handshake::Role;
use crate::net::frame::Kind;
use crate::net::{Conn, Net};

/// Has one step dealt and keeps it.
pub(super) fn keep(
    delivery: &mut Delivery,
    making: &mut Making,
    (number, entry): (u32, u32),
    bytes: u64,
    peer: &mut Conn,
) -> Result<(), RunError> {
    delivery.ask(number, entry)?;
    delivery.turn(number, entry, bytes, peer)?;
    making.step(entry);
    delivery.drain(|chunk| Ok(making.write(chunk)?))
}

impl Client {
    /// Makes a stock for `tokens` tokens after a prompt of up to `size` tokens, which is a size of the plan; gives the bytes
    /// of it that lie here.
    pub fn prepare(&self, net: &Net, plan: &Plan, size: Option<usize>, tokens: usize) -> Result<u64, RunError> {
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
        let done = self.deal(net, &mut conn, plan, size, &entries);
        match &done {
            Ok(_) => conn.close(),
            Err(error) => conn.fail(&error.for_peer()),
        }
        done
    }

    fn deal(&self, net: &Net, conn: &mut Conn, plan: &Plan, size: usize, entries: &[u32]) -> Result<u64, RunError> {
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
        let Opened { session, seed, mut delivery, .. } = self.open(net, conn, &mut Watch::start(), ask)?;
        let mut keeping = || -> Result<u64, RunError> {
            let stocks = self.stocks();
            let mut making = stocks.make()?;
            let bytes = |entry: u32| plan.material_bytes(entry, Party::Client);
            let total = entries.iter().map(|&entry| bytes(entry)).sum();
            let progress = Progress::bytes("material", total);
            for (number, &entry) in (0..).zip(entries) {
                conn.send_frame(Kind::Next, 0, Bytes::from_static(&[GO_ON]))?;
                keep(&mut delivery, &mut making, (number, entry), bytes(entry), conn)?;
                progress.add(bytes(entry) as usize);
            }
            conn.send_frame(Kind::Next, 0, Bytes::new())?;
            conn.receive_small(Kind::Done, 0)?;
            stocks.keep(making, session, &seed)?;
            Ok(total)
        };
        let kept = keeping();
        delivery.end(&kept);
        kept
    }
}
