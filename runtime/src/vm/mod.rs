//! The virtual machine of one party: a verified and scheduled program, instruction by instruction.
//!
//! Order     Program order, for messages and for material; it depends on no data. An `open` or `linear` adds its part to
//!           the next message, `round` and `send` exchange it and complete what waits for the peer.
//! Ahead     [`Machine::prepare`] does what does not depend on the input: the client's half of every product with a
//!           weight. A run counts as online from its first instruction.
//! Memory    A value is dropped after its last reader.
//! Errors    A peer, dealer or file that does not do its part. They name the instruction and the ONNX node, never a value.

mod error;
mod local;
mod read;
mod run;

pub use error::{Cause, Failure, VmError};

use crate::codec::dimensions;
use crate::link::Link;
use crate::material::Material;
use crate::meter::Report;
use crate::prg::Seed;
use crate::protocol::Use;
use crate::protocol::linear::{self, Sizes};
use crate::ring::Tensor;
use crate::weights::{MaskedWeights, ServerWeights};
use ir::{Op, Party, Pattern, Program, Table, TableId, Value, material, print};
use run::Run;
use std::time::Instant;

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
            if let (Op::Linear { x, weight }, Role::Client(weights)) = (&instr.op, self.role) {
                let (sizes, width) = (Sizes::of(self.program, *x, *weight), self.program.ty(*x).width);
                let masked = |first: usize, out: &mut [u64]| weights.fill(*weight, first, out);
                let product =
                    linear::prepare(self.own(i), masked, sizes, width).map_err(|e| self.failure(i, e.into()))?;
                self.ahead[i] = Some(Tensor::new(self.shape(Value(i as u32)), product));
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
        let outputs = Run::new(&mut self, inputs, link, material).all()?;
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
