//! The virtual machine of one party: a verified and scheduled program, instruction by instruction.
//!
//! Order     Program order, for messages and for material; it depends on no data. An `open` or `linear` adds its part to
//!           the next message, `round` and `send` exchange it and complete what waits for the peer.
//! Ahead     [`Machine::prepare`] does what does not depend on the input: the client's half of every product with a
//!           weight, tables of cosines. A run counts as online from its first instruction.
//! Memory    A value is dropped after its last reader.
//! Errors    A peer, dealer or file that does not do its part. They name the instruction and the ONNX node, never a value.

use crate::codec::dimensions;
use crate::link::{Link, LinkError};
use crate::material::{Material, MaterialError};
use crate::meter::Report;
use crate::packed;
use crate::prg::Seed;
use crate::protocol::linear::{self, Sizes};
use crate::protocol::matmul;
use crate::protocol::open::{self, Half};
use crate::protocol::series::Terms;
use crate::protocol::spline::{self, Steps};
use crate::protocol::square::{self, Over};
use crate::protocol::{Opening, Source, Use, blocks, ge, lift, mul, reveal, series};
use crate::ring::{self, Tensor};
use crate::weights::{MaskedWeights, ServerWeights, WeightsError};
use ir::series::{Cosine, Series};
use ir::{Op, Party, Pattern, Program, Table, TableId, Value, Width, liveness, material, print};
use std::collections::BTreeMap;
use std::ops::Range;
use std::time::{Duration, Instant};

/// Why a run ended early. The run is over: its material must not be used again.
#[derive(Debug, thiserror::Error)]
pub enum VmError {
    /// Not as many inputs as the program declares.
    #[error("the program takes {expected} inputs from the client, {got} were given")]
    Inputs {
        /// Declared.
        expected: usize,
        /// Given.
        got: usize,
    },
    /// An input of another shape.
    #[error("input {name:?} has another shape than the program was compiled for")]
    Input {
        /// The input.
        name: String,
    },
    /// Not as many public numbers as the program declares.
    #[error("the program takes {expected} public numbers, {got} were given")]
    Publics {
        /// Declared.
        expected: usize,
        /// Given.
        got: usize,
    },
    /// A public number out of bounds.
    #[error("public number {name:?} is {got}, it must be below {bound}")]
    Public {
        /// Its name.
        name: String,
        /// What was given.
        got: u32,
        /// Its bound.
        bound: u32,
    },
    /// An instruction could not be done.
    #[error(transparent)]
    At(Box<Failure>),
}

/// What went wrong at an instruction.
#[derive(Debug)]
pub struct Failure {
    /// What happened.
    pub cause: Cause,
    /// The instruction as it prints.
    pub line: String,
    /// The ONNX node that it comes from.
    pub origin: Option<String>,
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.cause)?;
        if let Some(origin) = &self.origin {
            write!(f, "\n  node {origin:?}")?;
        }
        write!(f, "\n  {}", self.line)
    }
}

impl std::error::Error for Failure {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.cause.source()
    }
}

/// Who did not do its part.
#[derive(Debug, thiserror::Error)]
pub enum Cause {
    /// The peer.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// The dealer.
    #[error(transparent)]
    Material(#[from] MaterialError),
    /// The masked weights.
    #[error(transparent)]
    Weights(#[from] WeightsError),
}

/// What a party has of the weights.
#[derive(Clone, Copy)]
enum Role<'a> {
    Client(&'a dyn MaskedWeights),
    Server(&'a dyn ServerWeights),
}

/// One party, ready to prepare and run one entry of a program once.
pub struct Machine<'a> {
    program: &'a Program,
    entry: u32,
    role: Role<'a>,
    seed: &'a Seed,
    publics: &'a [u32],
    lift_bits: Vec<u8>,
    prepared: bool,
    cosines: BTreeMap<Width, Cosine>,
    /// The client's shares of the products with weights, by instruction.
    ahead: Vec<Option<Tensor>>,
    report: Report,
}

/// What a run gave.
pub struct Finished {
    /// For every output of the program its integers, if this party learns it.
    pub outputs: Vec<Option<Vec<i64>>>,
    /// What it took.
    pub report: Report,
}

impl<'a> Machine<'a> {
    /// The client of entry number `entry`. `seed` is its seed of this run.
    pub fn client(
        program: &'a Program,
        entry: u32,
        seed: &'a Seed,
        publics: &'a [u32],
        weights: &'a dyn MaskedWeights,
    ) -> Result<Machine<'a>, VmError> {
        Machine::new(program, entry, seed, publics, Role::Client(weights))
    }

    /// The server of entry number `entry`. `seed` is its seed of this run.
    pub fn server(
        program: &'a Program,
        entry: u32,
        seed: &'a Seed,
        publics: &'a [u32],
        weights: &'a dyn ServerWeights,
    ) -> Result<Machine<'a>, VmError> {
        Machine::new(program, entry, seed, publics, Role::Server(weights))
    }

    fn new(
        program: &'a Program,
        entry: u32,
        seed: &'a Seed,
        publics: &'a [u32],
        role: Role<'a>,
    ) -> Result<Machine<'a>, VmError> {
        assert!(program.scheduled, "only a scheduled program says when messages leave");
        if publics.len() != program.publics.len() {
            return Err(VmError::Publics { expected: program.publics.len(), got: publics.len() });
        }
        for (public, &got) in program.publics.iter().zip(publics) {
            if got >= public.bound {
                return Err(VmError::Public { name: public.name.clone(), got, bound: public.bound });
            }
        }
        let party = match role {
            Role::Client(_) => Party::Client,
            Role::Server(_) => Party::Server,
        };
        Ok(Machine {
            program,
            entry,
            role,
            seed,
            publics,
            lift_bits: material::lift_bits(program),
            prepared: false,
            cosines: BTreeMap::new(),
            ahead: program.instrs.iter().map(|_| None).collect(),
            report: Report::new(program, party),
        })
    }

    fn own(&self, index: usize) -> Use<'a> {
        Use { seed: self.seed, entry: self.entry, index: index as u32 }
    }

    fn failure(&self, index: usize, cause: Cause) -> VmError {
        let instr = &self.program.instrs[index];
        let origin = instr.origin.map(|o| self.program.origins[o.index()].clone());
        VmError::At(Box::new(Failure { cause, line: print::instr(self.program, index, instr), origin }))
    }

    /// Does ahead what does not depend on the input. Without material: the client's comes from its seed.
    pub fn prepare(&mut self) -> Result<(), VmError> {
        if std::mem::replace(&mut self.prepared, true) {
            return Ok(());
        }
        let start = Instant::now();
        for (i, instr) in self.program.instrs.iter().enumerate() {
            match (&instr.op, self.role) {
                (Op::Series { x, table, .. }, _) => {
                    let bits = Terms::of(self.program.table(*table), self.program.ty(*x)).period_bits;
                    self.cosines.entry(bits).or_insert_with(|| Cosine::new(bits));
                }
                (Op::Linear { x, weight }, Role::Client(weights)) => {
                    let (sizes, width) = (Sizes::of(self.program, *x, *weight), self.program.ty(*x).width);
                    let masked = |first: usize, out: &mut [u64]| weights.fill(*weight, first, out);
                    let product =
                        linear::prepare(self.own(i), masked, sizes, width).map_err(|e| self.failure(i, e.into()))?;
                    self.ahead[i] = Some(Tensor::new(self.shape(Value(i as u32)), product));
                }
                _ => {}
            }
        }
        self.report.setup_seconds += start.elapsed().as_secs_f64();
        Ok(())
    }

    fn shape(&self, v: Value) -> Vec<usize> {
        dimensions(&self.program.ty(v).shape)
    }

    /// Runs the program once, after [`Machine::prepare`] if that was not called. The client gives its encoded inputs, the
    /// server none.
    pub fn run(
        mut self,
        inputs: Vec<Tensor>,
        link: &mut dyn Link,
        material: &mut dyn Material,
    ) -> Result<Finished, VmError> {
        self.check_inputs(&inputs)?;
        self.prepare()?;
        let start = Instant::now();
        let program = self.program;
        let mut run = Run {
            inputs: inputs.into_iter().map(Some).collect(),
            values: program.instrs.iter().map(|_| Slot::Empty).collect(),
            waiting: Vec::new(),
            outgoing: Vec::new(),
            outputs: program.outputs.iter().map(|_| None).collect(),
            elsewhere: Duration::ZERO,
            machine: &mut self,
            link,
            material,
        };
        for (i, frees) in liveness::frees(program).iter().enumerate() {
            run.step(i, frees).map_err(|cause| run.machine.failure(i, cause))?;
            frees.iter().for_each(|v| run.values[v.index()] = Slot::Empty);
        }
        let outputs = run.outputs;
        self.report.finish(start.elapsed());
        Ok(Finished { outputs, report: self.report })
    }

    fn check_inputs(&self, inputs: &[Tensor]) -> Result<(), VmError> {
        let declared = match self.role {
            Role::Client(_) => &self.program.inputs[..],
            Role::Server(_) => &[],
        };
        if declared.len() != inputs.len() {
            return Err(VmError::Inputs { expected: declared.len(), got: inputs.len() });
        }
        match declared.iter().zip(inputs).find(|(declared, x)| dimensions(&declared.ty.shape) != x.shape) {
            Some((declared, _)) => Err(VmError::Input { name: declared.name.clone() }),
            None => Ok(()),
        }
    }

    fn pattern(&self, table: TableId) -> &'a Pattern {
        let Table::Pattern(pattern) = self.program.table(table) else { panic!("verified: a pattern") };
        pattern
    }

    fn constant(&self, table: TableId) -> Tensor {
        let Table::Const { shape, values, .. } = self.program.table(table) else { panic!("verified: a constant") };
        Tensor::new(dimensions(shape), values.iter().map(|&v| v as u64).collect())
    }

    fn party(&self) -> Party {
        match self.role {
            Role::Client(_) => Party::Client,
            Role::Server(_) => Party::Server,
        }
    }
}

/// A value as a party holds it.
enum Slot {
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
struct Product {
    x: Tensor,
    dealt: linear::Dealt,
}

/// The state of a run.
struct Run<'r, 'a> {
    machine: &'r mut Machine<'a>,
    link: &'r mut dyn Link,
    material: &'r mut dyn Material,
    inputs: Vec<Option<Tensor>>,
    values: Vec<Slot>,
    /// Openings and products that the next message completes, in program order.
    waiting: Vec<usize>,
    /// The message in the making.
    outgoing: Vec<u8>,
    outputs: Vec<Option<Vec<i64>>>,
    /// Time of the current instruction that belongs to others.
    elsewhere: Duration,
}

impl Run<'_, '_> {
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

    fn share(&self, v: Value) -> &Tensor {
        share(&self.values, v)
    }

    /// The share of `v`, moved out if nothing needs it after this instruction.
    fn consume(&mut self, v: Value, frees: &[Value]) -> Tensor {
        if !frees.contains(&v) {
            return self.share(v).clone();
        }
        let Slot::Share(share) = std::mem::replace(&mut self.values[v.index()], Slot::Empty) else {
            panic!("verified: a share")
        };
        share
    }

    /// The result of an instruction that takes neither material nor messages and reads shares alone.
    fn local(&mut self, op: &Op, frees: &[Value]) -> Option<Tensor> {
        let (program, party) = (self.machine.program, self.machine.party());
        Some(match op {
            Op::Input { input } => match party {
                Party::Client => self.inputs[input.index()].clone().expect("inputs are checked before the run"),
                Party::Server => Tensor::zeros(&dimensions(&program.inputs[input.index()].ty.shape)),
            },
            // Bits above the width mean nothing, and a scale is but a name.
            Op::Narrow { x, .. } | Op::Point { x, .. } => self.consume(*x, frees),
            Op::Down { x, by } => {
                let mut share = self.consume(*x, frees);
                ring::down_assign(party, &mut share.data, program.ty(*x).width, *by);
                share
            }
            Op::Up { x, by } => {
                let (mut share, by) = (self.consume(*x, frees), *by);
                ring::map_assign(&mut share.data, move |x| x << by);
                share
            }
            Op::Add { x, y } => ring::broadcast(self.share(*x), self.share(*y), u64::wrapping_add),
            Op::Sub { x, y } => ring::broadcast(self.share(*x), self.share(*y), u64::wrapping_sub),
            Op::AddPublic { x, table } => match party {
                Party::Client => ring::broadcast(self.share(*x), &self.machine.constant(*table), u64::wrapping_add),
                Party::Server => self.consume(*x, frees),
            },
            Op::MulPublic { x, table } => {
                ring::broadcast(self.share(*x), &self.machine.constant(*table), u64::wrapping_mul)
            }
            Op::AddWeight { x, weight } => match self.machine.role {
                Role::Client(_) => self.consume(*x, frees),
                Role::Server(weights) => {
                    let mut added = Tensor::zeros(&dimensions(&program.weights[weight.index()].shape));
                    weights.integers(*weight).copy_to(0, &mut added.data);
                    ring::broadcast(self.share(*x), &added, u64::wrapping_add)
                }
            },
            Op::Reshape { x, shape } => self.consume(*x, frees).reshape(&dimensions(shape)),
            Op::Transpose { x, perm } => {
                self.share(*x).transpose(&perm.iter().map(|&axis| axis as usize).collect::<Vec<_>>())
            }
            Op::Slice { x, axis, from, to } => self.share(*x).slice(*axis as usize, *from as usize, *to as usize),
            Op::Concat { xs, axis } => {
                Tensor::concat(&xs.iter().map(|x| self.share(*x)).collect::<Vec<_>>(), *axis as usize)
            }
            Op::Pick { x, index, axis } => {
                let at = self.machine.publics[index.index()] as usize;
                self.share(*x).slice(*axis as usize, at, at + 1)
            }
            Op::Sum { x, axis } => self.share(*x).sum(*axis as usize),
            Op::RowSum { x, pattern, axis } => {
                packed::row_sum(self.share(*x), self.machine.pattern(*pattern), *axis as usize)
            }
            Op::Spread { x, pattern, axis } => {
                packed::spread(self.share(*x), self.machine.pattern(*pattern), *axis as usize)
            }
            _ => return None,
        })
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
                let half = self.with_source(i, |source, machine, values| {
                    let x = share(values, x);
                    let dealt = open::Dealt::take(source, x.len(), machine.lift_bits[i])?;
                    let mask = open::mask(machine.own(i), x.len(), width);
                    Ok(open::send(machine.party(), x, mask, width, whole, dealt))
                })?;
                self.queue(i, half.message(), width);
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
            self.complete(p, &ring::unpack(part, width, elements));
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
            Slot::Half(half) => (half.message().len(), half.width()),
            Slot::Product(product) => {
                let Op::Linear { x, .. } = self.machine.program.instrs[p].op else { panic!("a product is a `linear`") };
                (product.x.len(), self.machine.program.ty(x).width)
            }
            // The client's share of a product is there already.
            _ => (0, 1),
        }
    }

    /// Completes what waits at instruction `p` with what the peer sent for it.
    fn complete(&mut self, p: usize, peer: &[u64]) {
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
                let share = linear::read(peer, &product.x.data, weight, sizes, product.dealt);
                Slot::Share(Tensor::new(self.machine.shape(value), share))
            }
            done => done,
        }
    }

    /// The one instruction that declassifies.
    fn reveal(&mut self, i: usize, x: Value, to: Party) -> Result<Option<Vec<i64>>, Cause> {
        let (share, width) = (share(&self.values, x), self.machine.program.ty(x).width);
        let length = ring::packed_len(share.len(), width) as u64;
        let mut packed = Vec::new();
        let start = Instant::now();
        let (row, sent, received, output);
        if self.machine.party() == to {
            packed = self.link.receive(i as u32, length as usize)?;
            (sent, received) = (0, length);
            output = Some(reveal::read(&share.data, &ring::unpack(&packed, width, share.len()), width));
        } else {
            ring::pack(&share.data, width, &mut packed);
            self.link.send(i as u32, &packed)?;
            (sent, received) = (length, 0);
            output = None;
        }
        row = &mut self.machine.report.instructions[i];
        row.sent_bytes += sent;
        row.received_bytes += received;
        self.machine.report.message(i, sent, received, start.elapsed());
        Ok(output)
    }
}

fn share(values: &[Slot], v: Value) -> &Tensor {
    let Slot::Share(share) = &values[v.index()] else { panic!("verified: a share") };
    share
}

fn opening(values: &[Slot], v: Value) -> &Opening {
    let Slot::Opening(opening) = &values[v.index()] else { panic!("verified: an opening") };
    opening
}

/// A read of openings.
fn read(source: &mut Source, machine: &Machine, values: &[Slot], i: usize, op: &Op) -> Result<Tensor, MaterialError> {
    let (party, program) = (machine.party(), machine.program);
    let opening = |v: &Value| opening(values, *v);
    let product = |source: &mut Source, product, x: &Value, y: &Value, pattern: &TableId| {
        let ty = program.ty(Value(i as u32));
        let elements = dimensions(&ty.shape).iter().product();
        let dealt = matmul::Dealt::take(source, elements, ty.width)?;
        Ok(matmul::read(party, product, opening(x), opening(y), machine.pattern(*pattern), dealt))
    };
    let shape = || machine.shape(Value(i as u32));
    match op {
        Op::Lift { x, .. } => Ok(lift::read(party, opening(x))),
        Op::Square { x, width } | Op::SumSquares { x, width } => {
            let (x, over) = (opening(x), if matches!(op, Op::Square { .. }) { Over::Elements } else { Over::Rows });
            let dealt = square::Dealt::take(source, x, over, *width)?;
            Ok(square::read(party, x, over, dealt))
        }
        Op::Mul { x, y, width } => {
            let dealt = mul::Dealt::take(source, opening(x), opening(y), *width)?;
            Ok(mul::read(party, opening(x), opening(y), dealt))
        }
        Op::Sddmm { x, y, pattern } => product(source, matmul::Product::Sddmm, x, y, pattern),
        Op::Spmm { x, y, pattern } => product(source, matmul::Product::Spmm, x, y, pattern),
        Op::Series { x, table, width } => {
            let (ty, x, table) = (program.ty(*x), opening(x), program.table(*table));
            let Table::Series { c0, .. } = table else { panic!("verified: a series") };
            let series = Series::new(table, &machine.cosines[&Terms::of(table, ty).period_bits]);
            in_blocks(shape(), 1, |block, out| {
                let dealt = series::Dealt::take(source, block.clone(), series.terms(), *width)?;
                series::read(party, x, block, &series, *c0, dealt, out);
                Ok(())
            })
        }
        Op::Spline { x, table, width } => {
            let Table::Spline { knots, a, b, .. } = program.table(*table) else { panic!("verified: a spline") };
            let (x, steps) = (opening(x), Steps::new(knots, a, b));
            in_blocks(shape(), 1, |block, out| {
                let dealt = spline::Dealt::take(source, x, block.clone(), *width)?;
                spline::read(party, x, block, &steps, dealt, out);
                Ok(())
            })
        }
        Op::Ge { x, table, width } => {
            let Table::Thresholds(thresholds) = program.table(*table) else { panic!("verified: thresholds") };
            let x = opening(x);
            in_blocks(shape(), thresholds.len(), |block, out| {
                let dealt = ge::Dealt::take(source, x, block.clone(), *width)?;
                ge::read(party, x, block, thresholds, dealt, out);
                Ok(())
            })
        }
        op => unreachable!("`{}` reads no opening", op.mnemonic()),
    }
}

/// Computes a tensor block by block of an opening, `per` results for each of its elements.
fn in_blocks(
    shape: Vec<usize>,
    per: usize,
    mut f: impl FnMut(Range<usize>, &mut [u64]) -> Result<(), MaterialError>,
) -> Result<Tensor, MaterialError> {
    let mut out = Tensor::zeros(&shape);
    for block in blocks(out.len() / per) {
        let results = block.start * per..block.end * per;
        f(block, &mut out.data[results])?;
    }
    Ok(out)
}
