//! Compiled models that run privately in one process, for tests and measurements.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use ir::bytecode::{self, Module};
use ir::weights::{Weights, decode_values};
use sscc::diagnostic::Diagnostic;
use sscc::graph::{self, Tensor};
use sscc::lower::variant::Link;
use sscc::pass::Logits;
use sscc::pipeline::{self, Compiled, Options};
use ssvm::codec::{self, Plain};
use ssvm::dealer::Seeds;
use ssvm::prg::Seed;
use ssvm::simulate::Session;
use ssvm::vm::Finished;
use ssvm::weights::Resident;

/// A compiled model with its weights in memory.
pub struct Private {
    /// What the compiler made.
    pub compiled: Compiled,
    /// The decoded `.ssb`.
    pub module: Module,
    weights: Resident,
}

/// Options of a compilation with the defaults of `sscc compile`.
pub fn options(model: &Path, calibrate: Option<PathBuf>) -> Options {
    Options {
        model: model.to_owned(),
        dims: BTreeMap::new(),
        logits: Logits::Last,
        calibrate,
        link: Link::LAN,
        generation: None,
    }
}

impl Private {
    /// Compiles a model, and reads back what the compiler wrote.
    pub fn compile(options: &Options) -> Result<Private, Diagnostic> {
        Private::new(pipeline::compile(options)?)
    }

    /// Reads back what the compiler wrote.
    pub fn new(compiled: Compiled) -> Result<Private, Diagnostic> {
        let artifacts = compiled.artifacts()?;
        let module = bytecode::decode(&artifacts.program).expect("the compiler writes what decodes");
        let file = Weights::open(&artifacts.weights).expect("the compiler writes what opens");
        file.header.check(&module, bytecode::hash(&artifacts.program)).expect("weights of this program");
        let values: Vec<Vec<i64>> = module.entries[0]
            .weights
            .iter()
            .map(|decl| {
                let (tensor, bytes) = file.tensor(&decl.name).expect("every declared weight");
                decode_values(tensor.element, bytes).collect()
            })
            .collect();
        Ok(Private { compiled, module, weights: Resident::new(values.iter().map(Vec::as_slice)) })
    }

    /// Runs dealer and both parties in this process on token ids `[1, positions]`, with fresh seeds.
    pub fn run(&self, ids: &[i64]) -> [Finished; 2] {
        let program = &self.module.entries[0];
        let inputs = program
            .inputs
            .iter()
            .map(|input| codec::encode(input, &Plain::Integers(ids.to_vec())).expect("token ids of the vocabulary"))
            .collect();
        let publics: Vec<u32> = program.publics.iter().map(|p| p.bound - 1).collect();
        let [client, server, weights] = [(); 3].map(|()| Seed::random().expect("the system's randomness"));
        let seeds = Seeds { client: &client, server: &server, weights: &weights };
        let mut session = Session::new(&self.module.entries, &self.weights, seeds);
        session.step(0, inputs, &publics).expect("a run in one process")
    }

    /// The revealed output of all its rows, in real units.
    pub fn logits(&self, client: &Finished) -> Vec<f32> {
        let program = &self.module.entries[0];
        let scale = program
            .instrs
            .iter()
            .find_map(|i| match i.op {
                ir::Op::Reveal { x, .. } => Some(program.ty(x).scale),
                _ => None,
            })
            .expect("a program reveals something");
        codec::decode(client.outputs[0].as_ref().expect("the client learns it"), scale)
    }

    /// The same rows by the float evaluator, on the graph as imported: the program keeps all positions or the last.
    pub fn float(&self, ids: &[i64]) -> Vec<f32> {
        let graph = &self.compiled.graph;
        let name = &self.module.entries[0].inputs[0].name;
        let shape = graph.node(graph.inputs[0]).shape.clone();
        let ids = ndarray::ArrayD::from_shape_vec(shape, ids.to_vec()).expect("as many ids as positions");
        let inputs = BTreeMap::from([(name.clone(), Tensor::I64(ids))]);
        let outputs = graph::eval::evaluate(graph, &inputs, None, &mut |_, _| {}).expect("the graph evaluates");
        let Tensor::F32(logits) = &outputs[0].1 else { panic!("logits are floats") };
        let kept = self.module.entries[0].outputs[0].shape.elements().expect("a size that verified") as usize;
        logits.iter().copied().skip(logits.len() - kept).collect()
    }
}
