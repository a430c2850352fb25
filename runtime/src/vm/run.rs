//! A run: the instructions in their order, the messages between them, and what they are charged with.

use super::error::{Cause, VmError};
use super::read::read;
use super::{Machine, Role};
use crate::link::Link;
use crate::material::{Material, MaterialError};
use crate::protocol::linear::{self, Sizes};
use crate::protocol::open::{self, Half};
use crate::protocol::{Opening, Source, reveal};
use crate::ring::{self, Tensor};
use ir::{Op, Party, Value, Width, liveness};
use std::time::{Duration, Instant};

/// A value as a party holds it.
pub(super) enum Slot {
    /// Not yet or no longer there.
    Empty,
    /// A share.
    Share(Tensor),
    /// An opening whose other half is on its way.
    Half(Half),
    /// An opening.
    Opening(Opening),
    /// At the server, a product whose message is on its way.
    Product(Product),
}

/// The server's operand of a `linear`, and its share of A·B.
pub(super) struct Product {
    x: Tensor,
    dealt: linear::Dealt,
}

/// The state of a run.
pub(super) struct Run<'r, 'a> {
    pub(super) machine: &'r mut Machine<'a>,
    link: &'r mut dyn Link,
    material: &'r mut dyn Material,
    pub(super) inputs: Vec<Tensor>,
    values: Vec<Slot>,
    /// Openings and products that the next message completes, in program order.
    waiting: Vec<usize>,
    /// The message in the making.
    outgoing: Vec<u8>,
    outputs: Vec<Option<Vec<i64>>>,
    /// Time of the current instruction that belongs to others.
    elsewhere: Duration,
}

impl<'r, 'a> Run<'r, 'a> {
    /// A run that is about to begin.
    pub(super) fn new(
        machine: &'r mut Machine<'a>,
        inputs: Vec<Tensor>,
        link: &'r mut dyn Link,
        material: &'r mut dyn Material,
    ) -> Run<'r, 'a> {
        let program = machine.program;
        Run {
            machine,
            link,
            material,
            inputs,
            values: program.instrs.iter().map(|_| Slot::Empty).collect(),
            waiting: Vec::new(),
            outgoing: Vec::new(),
            outputs: program.outputs.iter().map(|_| None).collect(),
            elsewhere: Duration::ZERO,
        }
    }

    /// Does every instruction, and gives the outputs.
    pub(super) fn all(mut self) -> Result<Vec<Option<Vec<i64>>>, VmError> {
        for (i, frees) in liveness::frees(self.machine.program).iter().enumerate() {
            self.step(i, frees).map_err(|cause| self.machine.failure(i, cause))?;
            frees.iter().for_each(|v| self.values[v.index()] = Slot::Empty);
        }
        Ok(self.outputs)
    }

    fn step(&mut self, i: usize, frees: &[Value]) -> Result<(), Cause> {
        let start = Instant::now();
        let waited_before = self.waited(i);
        let program = self.machine.program;
        match &program.instrs[i].op {
            Op::Round {} => {
                self.machine.report.rounds += 1;
                self.exchange(i)?;
            }
            Op::Send {} => {
                self.machine.report.one_way_messages += 1;
                self.exchange(i)?;
            }
            Op::Reveal { x, output, to } => {
                self.machine.report.one_way_messages += 1;
                self.outputs[output.index()] = self.reveal(i, *x, *to)?;
            }
            op => {
                let value = match self.local(op, frees) {
                    Some(share) => Slot::Share(share),
                    None => self.protocol(i, op, frees)?,
                };
                self.values[i] = value;
            }
        }
        let elsewhere = std::mem::take(&mut self.elsewhere).as_secs_f64() + self.waited(i) - waited_before;
        self.machine.report.instructions[i].compute_seconds += start.elapsed().as_secs_f64() - elsewhere;
        Ok(())
    }

    fn waited(&self, i: usize) -> f64 {
        let row = &self.machine.report.instructions[i];
        row.peer_seconds + row.dealer_seconds
    }

    pub(super) fn share(&self, v: Value) -> &Tensor {
        share(&self.values, v)
    }

    /// The share of `v`, moved out if nothing needs it after this instruction.
    pub(super) fn consume(&mut self, v: Value, frees: &[Value]) -> Tensor {
        if !frees.contains(&v) {
            return self.share(v).clone();
        }
        let Slot::Share(share) = std::mem::replace(&mut self.values[v.index()], Slot::Empty) else {
            panic!("verified: a share")
        };
        share
    }

    /// The result of an instruction that takes material or adds to the next message.
    fn protocol(&mut self, i: usize, op: &Op, frees: &[Value]) -> Result<Slot, Cause> {
        if let Op::Open { .. } | Op::Linear { .. } = op {
            self.waiting.push(i);
        }
        let slot = match *op {
            Op::Linear { x, weight } => {
                let (sizes, width) = (Sizes::of(self.machine.program, x, weight), self.machine.program.ty(x).width);
                let own = self.machine.own(i);
                match self.machine.party() {
                    Party::Client => {
                        let message = linear::send(own, &self.share(x).data, sizes, width);
                        self.queue(i, &message, width);
                        Slot::Share(self.machine.ahead[i].take().expect("a run begins with `prepare`"))
                    }
                    Party::Server => {
                        let x = self.consume(x, frees);
                        let dealt = self.with_source(i, |source, _, _| linear::Dealt::take(source, sizes, width))?;
                        Slot::Product(Product { x, dealt })
                    }
                }
            }
            Op::Open { x, width, whole } => {
                let mut message = std::mem::take(&mut self.outgoing);
                let before = message.len();
                let half = self.with_source(i, |source, machine, values| {
                    let x = share(values, x);
                    let dealt = open::Dealt::take(source, x.len(), machine.lift_bits[i])?;
                    let mask = open::mask(machine.own(i), width);
                    Ok(open::send(machine.party(), x, &mask, width, whole, dealt, &mut message))
                })?;
                self.machine.report.instructions[i].sent_bytes += (message.len() - before) as u64;
                self.outgoing = message;
                Slot::Half(half)
            }
            _ => Slot::Share(self.with_source(i, |source, machine, values| read(source, machine, values, i, op))?),
        };
        Ok(slot)
    }

    /// Calls `f` with the material of instruction `i` and counts what it takes.
    fn with_source<T>(
        &mut self,
        i: usize,
        f: impl FnOnce(&mut Source, &Machine, &[Slot]) -> Result<T, MaterialError>,
    ) -> Result<T, MaterialError> {
        let mut source = Source::new(self.machine.party(), self.machine.own(i), self.material);
        let result = f(&mut source, self.machine, &self.values);
        let row = &mut self.machine.report.instructions[i];
        row.material_bytes += source.taken_bytes;
        row.dealer_seconds += source.waited.as_secs_f64();
        result
    }

    /// Adds elements of instruction `i` to the next message.
    fn queue(&mut self, i: usize, elements: &[u64], width: Width) {
        let before = self.outgoing.len();
        ring::pack(elements, width, &mut self.outgoing);
        self.machine.report.instructions[i].sent_bytes += (self.outgoing.len() - before) as u64;
    }

    /// Sends and receives the messages of a `round` or `send`, and completes what waited for them.
    fn exchange(&mut self, i: usize) -> Result<(), Cause> {
        let waiting = std::mem::take(&mut self.waiting);
        let outgoing = std::mem::take(&mut self.outgoing);
        let parts: Vec<(usize, Width)> = waiting.iter().map(|&p| self.incoming(p)).collect();
        let length = parts.iter().map(|&(elements, width)| ring::packed_len(elements, width)).sum();
        if !outgoing.is_empty() {
            self.link.send(i as u32, &outgoing)?;
        }
        let start = Instant::now();
        let message = if length > 0 { self.link.receive(i as u32, length)? } else { Vec::new() };
        self.machine.report.message(i, outgoing.len() as u64, length as u64, start.elapsed());
        let mut rest = &message[..];
        for (p, (elements, width)) in waiting.into_iter().zip(parts) {
            let start = Instant::now();
            let (part, tail) = rest.split_at(ring::packed_len(elements, width));
            rest = tail;
            self.complete(p, part, elements, width);
            let (row, elapsed) = (&mut self.machine.report.instructions[p], start.elapsed());
            row.received_bytes += part.len() as u64;
            row.compute_seconds += elapsed.as_secs_f64();
            self.elsewhere += elapsed;
        }
        Ok(())
    }

    /// Elements, and their bits, that the peer sends for what waits at instruction `p`.
    fn incoming(&self, p: usize) -> (usize, Width) {
        match &self.values[p] {
            Slot::Half(half) => (half.elements(), half.width()),
            Slot::Product(product) => {
                let Op::Linear { x, .. } = self.machine.program.instrs[p].op else { panic!("a product is a `linear`") };
                (product.x.len(), self.machine.program.ty(x).width)
            }
            // The client's share of a product is there already.
            _ => (0, 1),
        }
    }

    /// Completes what waits at instruction `p` with what the peer sent for it: `elements` elements of `width` bits.
    fn complete(&mut self, p: usize, peer: &[u8], elements: usize, width: Width) {
        let value = Value(p as u32);
        self.values[p] = match std::mem::replace(&mut self.values[p], Slot::Empty) {
            Slot::Half(half) => Slot::Opening(half.complete(peer)),
            Slot::Product(product) => {
                let (Op::Linear { x, weight }, Role::Server(weights)) =
                    (&self.machine.program.instrs[p].op, self.machine.role)
                else {
                    panic!("a product that waits is a `linear` at the server")
                };
                let sizes = Sizes::of(self.machine.program, *x, *weight);
                let weight = weights.integers(*weight);
                let share =
                    linear::read(&ring::unpack(peer, width, elements), &product.x.data, weight, sizes, product.dealt);
                Slot::Share(Tensor::new(self.machine.shape(value), share))
            }
            done => done,
        }
    }

    /// The one instruction that declassifies.
    fn reveal(&mut self, i: usize, x: Value, to: Party) -> Result<Option<Vec<i64>>, Cause> {
        let (share, width) = (share(&self.values, x), self.machine.program.ty(x).width);
        let length = ring::packed_len(share.len(), width);
        let start = Instant::now();
        let (output, sent, received) = if self.machine.party() == to {
            let peer = ring::unpack(&self.link.receive(i as u32, length)?, width, share.len());
            (Some(reveal::read(&share.data, &peer, width)), 0, length as u64)
        } else {
            let mut packed = Vec::with_capacity(length);
            ring::pack(&share.data, width, &mut packed);
            self.link.send(i as u32, &packed)?;
            (None, length as u64, 0)
        };
        let row = &mut self.machine.report.instructions[i];
        row.sent_bytes += sent;
        row.received_bytes += received;
        self.machine.report.message(i, sent, received, start.elapsed());
        Ok(output)
    }
}

pub(super) fn share(values: &[Slot], v: Value) -> &Tensor {
    let Slot::Share(share) = &values[v.index()] else { panic!("verified: a share") };
    share
}

pub(super) fn opening(values: &[Slot], v: Value) -> &Opening {
    let Slot::Opening(opening) = &values[v.index()] else { panic!("verified: an opening") };
    opening
}
