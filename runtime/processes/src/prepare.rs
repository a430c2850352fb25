//! Making beforehand: both parties make the material of a session, or have it dealt, and keep it as a stock. The client makes its
//! products with a dealer's masked weights, too: many steps at once take little more than one.
//!
//! What is whole of a stock is kept whatever happens (`growth`), and a stock that has fewer steps than it was to have is gone on with
//! before another is begun.

use bytes::Bytes;
use ir::Party;

use super::client::{Ask, Client, Opened, Wants};
use super::growth::Growth;
use super::material::{Delivery, Turn};
use super::progress::Progress;
use super::{GO_ON, Plan, Purpose, RunError, Watch};
use crate::handshake::Role;
use crate::net::frame::Kind;
use crate::net::{Conn, Net};
use machine::{products, products_len};
use protocols::step::Step;

/// Bytes of products that are worth making at once: tens of steps of a large model.
const BATCH: u64 = 1 << 26;

/// A stock to make.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Order {
    /// The size of prompts, one of the program's; the least if none is given.
    pub prefill: Option<usize>,
    /// Tokens that it is to last for.
    pub tokens: usize,
    /// Whether somebody watches: a bar shows how far it is.
    pub watched: bool,
}

/// What a stock took to make.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Made {
    /// Tokens that were made.
    pub tokens: usize,
    /// Bytes that were dealt.
    pub material_bytes: u64,
    /// Bytes of products with the masked weights.
    pub products_bytes: u64,
    /// Bytes on the socket sent to the other party.
    pub sent_bytes: u64,
    /// Bytes received from it.
    pub received_bytes: u64,
}

/// Has one step dealt, or makes it, and writes it down.
pub(super) fn keep(delivery: &mut Delivery, growth: &mut Growth, turn: Turn, peer: &mut Conn) -> Result<(), RunError> {
    let step = turn.step;
    delivery.ask(step.number, step.entry)?;
    delivery.turn(turn, peer)?;
    delivery.drain(|chunk| Ok(growth.material(chunk)?))?;
    if let Some(rows) = delivery.rows(step) {
        growth.masks(&rows)?;
    }
    growth.made()?;
    Ok(())
}

impl Client {
    /// Makes a stock, or the rest of one of this size that has fewer tokens than it was to have. `go_on` is asked before each
    /// token, with the number of those that are there, and may take its time; the making ends when it says no.
    pub fn prepare(
        &self,
        net: &Net,
        plan: &Plan,
        order: Order,
        go_on: &mut dyn FnMut(usize) -> bool,
    ) -> Result<Made, RunError> {
        let Order { prefill, tokens, watched } = order;
        let sizes = plan.prefill();
        let size = prefill.unwrap_or(sizes[0]);
        if !sizes.contains(&size) {
            let sizes: Vec<String> = sizes.iter().map(ToString::to_string).collect();
            return Err(RunError::NoPrefill { size, sizes: sizes.join(", ") });
        }
        let entries: Vec<u32> = (0..).map_while(|number| plan.entry(size, number)).take(tokens).collect();
        if entries.len() < tokens || entries.is_empty() {
            return Err(RunError::NoRoom { tokens, prefill: size, most: entries.len() });
        }
        let mut conn = net.connect(Role::Party(Party::Server), self.server, self.options, None)?;
        match self.grow(net, &mut conn, plan, (size, &entries, watched), go_on) {
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

    fn grow(
        &self,
        net: &Net,
        conn: &mut Conn,
        plan: &Plan,
        (size, entries, watched): (usize, &[u32], bool),
        go_on: &mut dyn FnMut(usize) -> bool,
    ) -> Result<Made, RunError> {
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
            wants: Wants::Grow { entry: due.entry, steps: entries.len() as u32 },
        };
        let Opened { seeds, masked, mut delivery, growth, .. } = self.open(net, conn, &mut Watch::start(), ask)?;
        let mut growth = growth.expect("a stock is begun, or gone on with");
        growth.want(entries.len() as u32);
        let mut growing = || -> Result<Made, RunError> {
            let begun = growth.steps();
            let bytes = |entry: u32| match masked {
                Some(_) => plan.material_bytes(entry, Party::Client),
                None => 0,
            };
            let step = |(number, &entry): (u32, &u32)| Step { entries: &module.entries, entry, number };
            let steps: Vec<Step> = (0..).zip(entries).map(step).skip(begun as usize).collect();
            let packed = |step: &Step| if masked.is_some() { products_len(step.program()) as u64 } else { 0 };
            let progress = match masked {
                _ if !watched => Progress::none(),
                Some(_) => {
                    let of = |step: &Step| bytes(step.entry) + packed(step);
                    Progress::bytes("stock", steps.iter().map(of).sum())
                }
                None => Progress::tokens("stock", steps.len() as u64),
            };
            conn.send_frame(Kind::Next, 0, Bytes::from((entries.len() as u32).to_le_bytes().to_vec()))?;
            let (mut batch, mut size, mut done) = (0, 0, 0);
            for (i, &step) in steps.iter().enumerate() {
                let goes_on = go_on(step.number as usize) && !growth.is_taken();
                if goes_on {
                    conn.send_frame(Kind::Next, 0, Bytes::from_static(&[GO_ON]))?;
                    let (number, entry) = (step.number as usize, step.entry);
                    let ahead = &entries[number + 1..];
                    let turn = Turn { step, bytes: bytes(entry), weights: None, kept: None, ahead };
                    keep(&mut delivery, &mut growth, turn, conn)?;
                    progress.add(bytes(entry) as usize);
                    size += packed(&step);
                    done = i + 1;
                }
                // With products of its own a step waits for others.
                if batch < done && (masked.is_none() || size >= BATCH || done == steps.len() || !goes_on) {
                    if let Some(masked) = &masked {
                        let made = products(&steps[batch..done], seeds.of(0), &**masked)?;
                        made.iter().try_for_each(|step| growth.products(step))?;
                    }
                    growth.whole(&entries[begun as usize..][batch..done])?;
                    progress.add(if masked.is_some() { size as usize } else { 1 });
                    (batch, size) = (done, 0);
                }
                if !goes_on {
                    break;
                }
            }
            match growth.settle() {
                // The server is told as of any end.
                Err(RunError::Taken) => {}
                settled => settled?,
            }
            conn.send_frame(Kind::Next, 0, Bytes::new())?;
            conn.receive_small(Kind::Done, 0)?;
            let made = &steps[..done];
            Ok(Made {
                tokens: done,
                material_bytes: made.iter().map(|step| bytes(step.entry)).sum(),
                products_bytes: made.iter().map(packed).sum(),
                sent_bytes: 0,
                received_bytes: 0,
            })
        };
        let made = growing();
        delivery.end(&made);
        let settled = growth.settle();
        let made = made.and_then(|made| settled.map(|()| made));
        match made {
            Ok(made) if growth.steps() as usize == entries.len() => {
                growth.end()?;
                Ok(made)
            }
            // Either side may be the first to come upon it.
            _ if growth.is_taken() => Err(RunError::Taken),
            made => made,
        }
    }
}
