//! A run: the instructions in their order, the messages between them, and what they are charged with.

use super::error::{Cause, VmError};
use super::local::local;
use super::message::{Incoming, Outgoing};
use super::read::read;
use super::values::{Slot, Values};
use super::{Machine, Role};
use crate::link::Link;
use bytes::Bytes;
use ir::exp::Exp;
use ir::{InputId, Op, Party, Table, Value, Weight, Width, liveness};
use kernels::codec::dimensions;
use kernels::ring::{self, Buffer, Tensor};
use protocols::cache::{self, Openings};
use protocols::cells::{self, Lines};
use protocols::linear::{self, Sizes};
use protocols::material::{Material, MaterialError};
use protocols::open;
use protocols::weights::ServerWeights;
use protocols::{Source, reveal};
use protocols::{bit, compare, exp, extend};
use std::time::{Duration, Instant};

/// The state of a run.
pub(super) struct Run<'r, 'a> {
    pub(super) machine: &'r mut Machine<'a>,
    cache: &'r mut Openings,
    pub(super) link: &'r mut dyn Link,
    material: &'r mut dyn Material,
    inputs: Vec<Tensor>,
    pub(super) values: Values,
    /// What the next message completes, in program order.
    waiting: Vec<usize>,
    outgoing: Outgoing,
    outputs: Vec<Option<Vec<i64>>>,
    /// Time of the current instruction that is charged to others.
    elsewhere: Duration,
    /// Time of the current instruction that went into packing.
    pub(super) packing: Duration,
}

impl<'r, 'a> Run<'r, 'a> {
    /// A run that is about to begin, after `prepare`.
    pub(super) fn new(
        machine: &'r mut Machine<'a>,
        cache: &'r mut Openings,
        inputs: Vec<Tensor>,
        link: &'r mut dyn Link,
        material: &'r mut dyn Material,
    ) -> Run<'r, 'a> {
        let (program, values) = (machine.program, std::mem::take(&mut machine.values));
        Run {
            machine,
            cache,
            link,
            material,
            inputs,
            values,
            waiting: Vec::new(),
            outgoing: Outgoing::default(),
            outputs: program.outputs.iter().map(|_| None).collect(),
            elsewhere: Duration::ZERO,
            packing: Duration::ZERO,
        }
    }

    /// Does every instruction, and gives the outputs.
    pub(super) fn all(mut self) -> Result<Vec<Option<Vec<i64>>>, VmError> {
        for (i, frees) in liveness::frees(self.machine.program).iter().enumerate() {
            self.step(i, frees).map_err(|cause| self.machine.failure(i, cause))?;
            self.values.free(frees);
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
            Op::Choose { x, output } => self.outputs[output.index()] = self.choose(i, *x)?,
            Op::Linear { x, weight } => self.linear(i, *x, *weight, frees)?,
            Op::Open { x, width, whole } => self.open(i, *x, *width, *whole)?,
            Op::Extend { x, claim, width } => {
                let widths = extend::Widths { claim: *claim, width: *width };
                let waiting =
                    self.post(i, |source, values, message| extend::send(source, values.share(*x), widths, message))?;
                self.values.put(i, Slot::Extend(waiting));
            }
            Op::Exp { x, table, width } => {
                let exp = Exp::new(program.table(*table), program.ty(*x).scale);
                let waiting = self
                    .post(i, |source, values, message| exp::send(source, values.opening(*x), exp, *width, message))?;
                self.values.put(i, Slot::Exp(waiting));
            }
            Op::Cells { x, table, width } => {
                let lines = Lines::new(program.table(*table));
                let waiting = self.post(i, |source, values, message| {
                    cells::send(source, values.opening(*x), lines, *width, message)
                })?;
                self.values.put(i, Slot::Cells(waiting));
            }
            Op::Compare { x, table } => {
                let Table::Thresholds(thresholds) = program.table(*table) else { panic!("verified: thresholds") };
                let waiting = self.post(i, |source, values, message| {
                    compare::send(source, values.opening(*x), thresholds, message)
                })?;
                self.values.put(i, Slot::Compare(waiting));
            }
            Op::Bit { x, width } => {
                let waiting =
                    self.post(i, |source, values, message| bit::send(source, values.share(*x), *width, message))?;
                self.values.put(i, Slot::Bit(waiting));
            }
            _ if self.known(i) => {}
            Op::Cache { x, state, .. } => {
                let all = program.ty(Value(i as u32));
                let rows = cache::read(self.cache, *state, self.values.opening(*x), all);
                self.values.put(i, Slot::Opening(rows));
            }
            op => {
                let share = match op {
                    Op::Input { input } => self.input(i, *input),
                    op => match local(self.machine, &mut self.values, op, frees) {
                        Some(share) => share,
                        None => self.with_source(i, |source, machine, values| read(source, machine, values, i, op))?,
                    },
                };
                self.values.put(i, Slot::Share(share));
            }
        }
        let waited = self.waited(i) - waited_before;
        let elsewhere = std::mem::take(&mut self.elsewhere);
        self.charge(i, start.elapsed().saturating_sub(elsewhere + Duration::from_secs_f64(waited)));
        Ok(())
    }

    /// Charges instruction `i` with work, of which some was packing.
    fn charge(&mut self, i: usize, worked: Duration) {
        let packing = std::mem::take(&mut self.packing);
        let row = &mut self.machine.report.instructions[i];
        row.seconds.packing_seconds += packing.as_secs_f64();
        row.seconds.compute_seconds += worked.saturating_sub(packing).as_secs_f64();
    }

    fn waited(&self, i: usize) -> f64 {
        let row = &self.machine.report.instructions[i];
        row.seconds.peer_seconds + row.seconds.dealer_seconds
    }

    /// Whether the party is the client, who did this ahead.
    fn known(&self, i: usize) -> bool {
        self.machine.party() == Party::Client && self.machine.ahead.known[i]
    }

    /// The party's share of an input.
    fn input(&mut self, i: usize, input: InputId) -> Tensor {
        let program = self.machine.program;
        match self.machine.party() {
            Party::Client => {
                let later = &program.instrs[i + 1..];
                if later.iter().any(|instr| matches!(instr.op, Op::Input { input: other } if other == input)) {
                    self.inputs[input.index()].clone()
                } else {
                    std::mem::replace(&mut self.inputs[input.index()], Tensor::zeros(&[0]))
                }
            }
            // From the system, which gives no memory before it is touched, and most programs never do.
            Party::Server => {
                let shape = dimensions(&program.inputs[input.index()].ty.shape);
                let zeros = vec![0; shape.iter().product()];
                Tensor::new(shape, zeros)
            }
        }
    }

    /// The client sends its masked operand, the server waits for it.
    fn linear(&mut self, i: usize, x: Value, weight: Weight, frees: &[Value]) -> Result<(), Cause> {
        let (sizes, width) = (Sizes::of(self.machine.program, x, weight), self.machine.program.ty(x).width);
        match self.machine.party() {
            Party::Client if self.machine.ahead.sent[i] => {}
            Party::Client => {
                let (step, own) = (self.step_of(i), self.machine.own(i));
                let x = &self.values.share(x).data;
                for columns in sizes.blocks(width) {
                    let message = linear::send(own, sizes, columns, x, width);
                    let start = Instant::now();
                    let bytes = self.outgoing.add(self.link, step, &message, width)?;
                    self.packing += start.elapsed();
                    self.machine.report.instructions[i].sent_bytes += bytes;
                }
            }
            Party::Server => {
                // Its share of an input is zero.
                let input = matches!(self.machine.program.instrs[x.index()].op, Op::Input { .. });
                let x = (!input).then(|| self.values.consume(x, frees).data);
                let dealt = self.with_source(i, |source, _, _| linear::Dealt::take(source, sizes, width))?;
                self.waiting.push(i);
                self.values.put(i, Slot::Product(linear::Product::new(x, dealt, sizes, width)));
            }
        }
        Ok(())
    }

    /// Both parties send their halves, the client perhaps has done so already.
    fn open(&mut self, i: usize, x: Value, width: Width, whole: bool) -> Result<(), Cause> {
        let early = self.machine.party() == Party::Client && self.machine.ahead.sent[i];
        let sent = if early { std::mem::take(&mut self.machine.early[i]) } else { Bytes::new() };
        let mut outgoing = std::mem::take(&mut self.outgoing);
        let mut bytes = 0;
        let half = self.with_source(i, |source, machine, values| {
            let shape = machine.shape(x);
            let mask = source.mask(shape.iter().product(), width, machine.own_masks[i])?;
            let dealt = open::Dealt::take(source, shape.iter().product(), machine.lift_bits[i])?;
            Ok(if early {
                open::resume(shape, &sent, mask, width, whole, dealt)
            } else {
                let message = outgoing.space(ring::packed_len(shape.iter().product(), width));
                bytes = message.len() as u64;
                open::send(machine.party(), values.share(x), mask, width, whole, dealt, message)
            })
        })?;
        let (step, start) = (self.step_of(i), Instant::now());
        outgoing.send_full(self.link, step)?;
        self.outgoing = outgoing;
        self.packing += start.elapsed();
        self.machine.report.instructions[i].sent_bytes += bytes;
        self.waiting.push(i);
        self.values.put(i, Slot::Half(half));
        Ok(())
    }

    /// Lets an instruction fill its part of the message in the making; the peer's is waited for.
    fn post<T>(
        &mut self,
        i: usize,
        send: impl FnOnce(&mut Source, &Values, &mut [u8]) -> Result<T, MaterialError>,
    ) -> Result<T, Cause> {
        let mut outgoing = std::mem::take(&mut self.outgoing);
        let message = outgoing.space(self.incoming_bytes(i));
        self.machine.report.instructions[i].sent_bytes += message.len() as u64;
        let waiting = self.with_source(i, |source, _, values| send(source, values, message))?;
        let (step, start) = (self.step_of(i), Instant::now());
        outgoing.send_full(self.link, step)?;
        self.outgoing = outgoing;
        self.packing += start.elapsed();
        self.waiting.push(i);
        Ok(waiting)
    }

    /// The `round` or `send` whose message instruction `i` adds to, unless a `reveal` or `choose` is due before.
    fn step_of(&self, i: usize) -> Option<u32> {
        let later = self.machine.program.instrs[i..].iter().map(|instr| &instr.op);
        let ends = |op: &Op| matches!(op, Op::Round {} | Op::Send {}) || op.declassifies().is_some();
        let (end, op) = (i..).zip(later).find(|(_, op)| ends(op)).expect("verified: a `round` or `send` completes it");
        op.declassifies().is_none().then_some(end as u32)
    }

    /// Calls `f` with the material of instruction `i` and counts what it takes.
    pub(super) fn with_source<T>(
        &mut self,
        i: usize,
        f: impl FnOnce(&mut Source, &Machine, &Values) -> Result<T, MaterialError>,
    ) -> Result<T, MaterialError> {
        let mut source =
            Source::new(self.machine.party(), self.machine.own(i), self.material).made_by(self.machine.maker);
        let result = f(&mut source, self.machine, &self.values);
        let row = &mut self.machine.report.instructions[i];
        row.material_bytes += source.taken_bytes;
        row.seconds.dealer_seconds += source.waited.as_secs_f64();
        result
    }

    /// Ends and receives the messages of a `round` or `send`, and completes what waits for them.
    fn exchange(&mut self, i: usize) -> Result<(), Cause> {
        let start = Instant::now();
        let sent = self.outgoing.finish(self.link, i as u32)?;
        let packing = start.elapsed();
        let waiting = std::mem::take(&mut self.waiting);
        let late = |p: &&usize| self.machine.party() == Party::Client || !self.machine.ahead.sent[**p];
        let length = waiting.iter().filter(late).map(|&p| self.incoming_bytes(p)).sum();
        let mut message = Incoming::new(i as u32, length);
        for p in waiting {
            let (start, waited) = (Instant::now(), message.waited);
            if self.machine.party() == Party::Server && self.machine.ahead.sent[p] {
                let early = std::mem::take(&mut self.machine.early[p]);
                self.complete(p, &mut Incoming::of(i as u32, early))?;
            } else {
                self.machine.report.instructions[p].received_bytes += self.incoming_bytes(p) as u64;
                self.complete(p, &mut message)?;
            }
            let worked = start.elapsed().saturating_sub(message.waited - waited);
            self.charge(p, worked);
            self.elsewhere += worked;
        }
        self.packing = packing;
        self.machine.report.message(i, sent, length as u64, message.waited);
        Ok(())
    }

    /// Bytes that a party sends for what waits at instruction `p`.
    fn incoming_bytes(&self, p: usize) -> usize {
        let packed = |x: Value, width: Width| ring::packed_len(self.machine.shape(x).iter().product(), width);
        match self.machine.program.instrs[p].op {
            Op::Open { x, width, .. } | Op::Exp { x, width, .. } => packed(x, width),
            Op::Extend { x, .. } | Op::Bit { x, .. } => packed(x, 1),
            Op::Compare { .. } => packed(Value(p as u32), ir::digits::MASKED),
            Op::Cells { x, width, .. } => 2 * packed(x, width),
            Op::Linear { x, .. } => packed(x, self.machine.program.ty(x).width),
            _ => panic!("only what sends waits"),
        }
    }

    /// Completes what waits at instruction `p` with what the peer sent for it, as it arrives.
    fn complete(&mut self, p: usize, message: &mut Incoming) -> Result<(), Cause> {
        let slot = match (self.values.take(p), self.machine.role) {
            (Slot::Half(half), _) => {
                let packed = message.take(self.link, ring::packed_len(half.elements(), half.width()))?;
                let start = Instant::now();
                let opening = half.complete(&packed);
                self.packing += start.elapsed();
                Slot::Opening(opening)
            }
            (Slot::Extend(waiting), _) => {
                let peer = message.take(self.link, waiting.message_bytes())?;
                Slot::Share(waiting.complete(self.machine.party(), &peer))
            }
            (Slot::Compare(waiting), _) => {
                let peer = message.take(self.link, waiting.message_bytes())?;
                Slot::Share(waiting.complete(&peer))
            }
            (Slot::Bit(waiting), _) => {
                let peer = message.take(self.link, waiting.message_bytes())?;
                Slot::Share(waiting.complete(&peer))
            }
            (Slot::Exp(waiting), _) => {
                let peer = message.take(self.link, waiting.message_bytes())?;
                Slot::Share(waiting.complete(self.machine.party(), &peer))
            }
            (Slot::Cells(waiting), _) => {
                let peer = message.take(self.link, waiting.message_bytes())?;
                Slot::Share(waiting.complete(&peer))
            }
            (Slot::Product(product), Role::Server(weights)) => self.complete_product(p, product, weights, message)?,
            _ => panic!("something waits, or a product at the server"),
        };
        self.values.put(p, slot);
        Ok(())
    }

    fn complete_product(
        &mut self,
        p: usize,
        mut product: linear::Product,
        weights: &dyn ServerWeights,
        message: &mut Incoming,
    ) -> Result<Slot, Cause> {
        let Op::Linear { x, weight } = self.machine.program.instrs[p].op else { panic!("a product is a `linear`") };
        let (width, integers) = (self.machine.program.ty(x).width, weights.integers(weight));
        let sizes = product.sizes();
        for columns in sizes.blocks(width) {
            let masked = self.unpacked(message, sizes.rows * columns.len(), width)?;
            product.add(columns, masked, integers);
        }
        Ok(Slot::Share(Tensor::new(self.machine.shape(Value(p as u32)), product.complete())))
    }

    /// The next elements of a message.
    pub(super) fn unpacked(&mut self, message: &mut Incoming, count: usize, width: Width) -> Result<Buffer, Cause> {
        let packed = message.take(self.link, ring::packed_len(count, width))?;
        let start = Instant::now();
        let elements = ring::unpack(&packed, width, count);
        self.packing += start.elapsed();
        Ok(elements)
    }

    /// One party's share goes to the other.
    fn reveal(&mut self, i: usize, x: Value, to: Party) -> Result<Option<Vec<i64>>, Cause> {
        let (share, width) = (self.values.share(x), self.machine.program.ty(x).width);
        let mut message = Incoming::new(i as u32, ring::packed_len(share.len(), width));
        let (output, sent, received) = if self.machine.party() == to {
            let length = ring::packed_len(share.len(), width);
            let peer = ring::unpack(&message.take(self.link, length)?, width, share.len());
            (Some(reveal::read(&share.data, &peer, width)), 0, length as u64)
        } else {
            // Not the message in the making, which is that of a later `round`.
            let mut outgoing = Outgoing::default();
            outgoing.add(self.link, Some(i as u32), &share.data, width)?;
            (None, outgoing.finish(self.link, i as u32)?, 0)
        };
        let row = &mut self.machine.report.instructions[i];
        row.sent_bytes += sent;
        row.received_bytes += received;
        self.machine.report.message(i, sent, received, message.waited);
        Ok(output)
    }
}
