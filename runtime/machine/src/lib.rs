//! The virtual machine of one party: a verified and scheduled program, instruction by instruction.
//!
//! Order     Program order, for messages and for material; it depends on no data. An `open` or `linear` adds its part to
//!           the next message, `round` and `send` exchange it and complete what waits for the peer.
//! Ahead     [`Machine::prepare`] does what does not depend on the input: the client's half of every product with a weight
//!           and of every opening that follows from it, which it sends. A run counts as online from its first
//!           instruction. The products depend on nothing but the seed, so they can be made long before, for many steps at
//!           once ([`products`]).
//! Messages  leave frame by frame as they are packed and are used as they arrive.
//! Memory    A value is dropped after its last reader.
//! Errors    A peer, dealer or file that does not do its part. They name the instruction and the ONNX node, never a value.

mod choose;
mod error;
pub mod link;
mod local;
mod message;
pub mod meter;
mod packed;
mod prepare;
mod products;
pub mod profile;
mod read;
mod run;
pub mod simulate;
mod values;

pub use error::{Cause, Failure, VmError};
pub use products::{Products, products, products_len};

use crate::link::Link;
use crate::meter::Report;
use bytes::Bytes;
use ir::ahead::{Ahead, ahead};
use ir::{Party, Pattern, Program, PublicId, Table, TableId, Value, material, print};
use kernels::codec::dimensions;
use kernels::prg::Seed;
use kernels::ring::{Buffer, Tensor};
use protocols::cache::Openings;
use protocols::material::Material;
use protocols::step::Step;
use protocols::weights::{MaskedWeights, ServerWeights};
use protocols::{Maker, Use};
use run::Run;
use std::time::Instant;
use values::Values;

/// What a party has of the weights.
#[derive(Clone, Copy)]
enum Role<'a> {
    /// Without masked weights, what the pair made stands in their place.
    Client(Option<&'a dyn MaskedWeights>),
    Server(&'a dyn ServerWeights),
}

/// One party, ready to prepare and run one step of a session once.
pub struct Machine<'a> {
    step: Step<'a>,
    program: &'a Program,
    maker: Maker,
    role: Role<'a>,
    seed: &'a Seed,
    publics: &'a [u32],
    lift_bits: Vec<u8>,
    own_masks: Vec<bool>,
    prepared: bool,
    ahead: Ahead,
    /// The client's products with weights, if they were made beforehand.
    products: Option<Products>,
    /// The client's shares that are known before the input.
    values: Values,
    /// The client's parts of messages that went ahead, packed, by instruction.
    early: Vec<Bytes>,
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
    /// The client whose material a dealer deals. `seed` is its seed of the session.
    pub fn client(
        step: Step<'a>,
        seed: &'a Seed,
        publics: &'a [u32],
        weights: &'a dyn MaskedWeights,
    ) -> Result<Machine<'a>, VmError> {
        Machine::new(step, seed, publics, Maker::Dealer, Role::Client(Some(weights)))
    }

    /// The client whose material both parties made. `seed` is its seed of the session.
    pub fn client_of_pair(step: Step<'a>, seed: &'a Seed, publics: &'a [u32]) -> Result<Machine<'a>, VmError> {
        Machine::new(step, seed, publics, Maker::Pair, Role::Client(None))
    }

    /// Takes the client's products with weights from those made beforehand for this step under this seed.
    pub fn with_products(self, products: Products) -> Machine<'a> {
        Machine { products: Some(products), ..self }
    }

    /// The server whose material a dealer deals. `seed` is its seed of the session.
    pub fn server(
        step: Step<'a>,
        seed: &'a Seed,
        publics: &'a [u32],
        weights: &'a dyn ServerWeights,
    ) -> Result<Machine<'a>, VmError> {
        Machine::new(step, seed, publics, Maker::Dealer, Role::Server(weights))
    }

    /// The server whose material both parties made. `seed` is its seed of the session.
    pub fn server_of_pair(
        step: Step<'a>,
        seed: &'a Seed,
        publics: &'a [u32],
        weights: &'a dyn ServerWeights,
    ) -> Result<Machine<'a>, VmError> {
        Machine::new(step, seed, publics, Maker::Pair, Role::Server(weights))
    }

    fn new(
        step: Step<'a>,
        seed: &'a Seed,
        publics: &'a [u32],
        maker: Maker,
        role: Role<'a>,
    ) -> Result<Machine<'a>, VmError> {
        let program = step.program();
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
            step,
            program,
            maker,
            role,
            seed,
            publics,
            lift_bits: material::lift_bits(program),
            own_masks: ir::pair::own_masks(program),
            prepared: false,
            ahead: ahead(program),
            products: None,
            values: Values::new(program.instrs.len()),
            early: vec![Bytes::new(); program.instrs.len()],
            report: Report::new(program, party, maker),
        })
    }

    fn own(&self, index: usize) -> Use<'a> {
        self.step.own(self.seed, index)
    }

    fn failure(&self, index: usize, cause: Cause) -> VmError {
        let instr = &self.program.instrs[index];
        let origin = instr.origin.map(|o| self.program.origins[o.index()].clone());
        VmError::At(Box::new(Failure { cause, line: print::instr(self.program, index, instr), origin }))
    }

    fn shape(&self, v: Value) -> Vec<usize> {
        dimensions(&self.program.ty(v).shape)
    }

    /// Runs the step, after [`Machine::prepare`] if that was not called. The client gives its encoded inputs, the server
    /// none. `cache` is what the party keeps from step to step. If the step fails the session is over; what is wrong with
    /// the arguments is told before anything is sent, and leaves it as it was.
    pub fn run(
        mut self,
        cache: &mut Openings,
        inputs: Vec<Tensor>,
        link: &mut dyn Link,
        material: &mut dyn Material,
    ) -> Result<Finished, VmError> {
        self.check_inputs(&inputs)?;
        cache.begin(self.step)?;
        self.prepare(link)?;
        let start = Instant::now();
        let outputs = Run::new(&mut self, cache, inputs, link, material).all()?;
        cache.end();
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

    /// A public number, within its bound.
    fn public(&self, id: PublicId) -> usize {
        self.publics[id.index()] as usize
    }

    fn pattern(&self, table: TableId) -> &'a Pattern {
        let Table::Pattern(pattern) = self.program.table(table) else { panic!("verified: a pattern") };
        pattern
    }

    fn constant(&self, table: TableId) -> Tensor {
        let Table::Const { shape, values, .. } = self.program.table(table) else { panic!("verified: a constant") };
        Tensor::new(dimensions(shape), values.iter().map(|&v| v as u64).collect::<Buffer>())
    }

    /// A row of a constant matrix.
    fn constant_row(&self, table: TableId, row: usize) -> Tensor {
        let Table::Const { shape, values, .. } = self.program.table(table) else { panic!("verified: a constant") };
        let d = shape.0[1] as usize;
        Tensor::new(vec![d], values[row * d..(row + 1) * d].iter().map(|&v| v as u64).collect::<Buffer>())
    }

    /// Who made its material.
    fn maker(&self) -> Maker {
        self.maker
    }

    fn party(&self) -> Party {
        match self.role {
            Role::Client(_) => Party::Client,
            Role::Server(_) => Party::Server,
        }
    }
}
