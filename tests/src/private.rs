//! Compiled models that run privately in one process, for tests and measurements.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use ir::bytecode::{self, Module};
use ir::program::Encoding;
use ir::slots::Slots;
use ir::weights::{Weights, decode_values};
use ir::{OutputId, Program};
use kernels::codec::{self, Plain};
use kernels::prg::Seed;
use machine::Finished;
use machine::simulate::Session;
use protocols::dealer::Seeds;
use protocols::weights::Resident;
use sscc::diagnostic::Diagnostic;
use sscc::entries::Generation;
use sscc::graph::{self, Graph, Tensor};
use sscc::lower::Reveal;
use sscc::lower::variant::Link;
use sscc::pass::{Logits, resize};
use sscc::pipeline::{self, Compiled, Options};

/// A compiled model with its weights in memory.
pub struct Private {
    /// The model as imported.
    pub graph: Graph,
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
        bind: BTreeMap::new(),
        logits: Logits::Last,
        calibrate,
        link: Link::LAN,
        maker: ir::pair::Maker::Dealer,
        generation: None,
    }
}

/// The same for generation; the client learns tokens.
pub fn generation(model: &Path, calibrate: Option<PathBuf>, prefill: &[usize], decode: &[usize]) -> Options {
    let (prefill, decode, reveal) = (prefill.to_vec(), decode.to_vec(), Reveal::Token);
    Options { generation: Some(Generation { max_context: None, prefill, decode, reveal }), ..options(model, calibrate) }
}

/// A party's meter says what the program promised, to the byte and to the round.
pub fn meter_equals_cost(name: &str, program: &Program, [client, server]: &[Finished; 2]) {
    let cost = ir::cost::cost(program);
    assert!(cost.rounds > 0 && cost.client_material_bytes > 0);
    let sides = [
        (client, cost.client_sent_bytes, cost.server_sent_bytes, cost.client_material_bytes),
        (server, cost.server_sent_bytes, cost.client_sent_bytes, cost.server_material_bytes),
    ];
    for (Finished { report, .. }, sent, received, material) in sides {
        let party = &report.party;
        assert_eq!(report.rounds, cost.rounds, "{name}, {party}: rounds");
        assert_eq!(report.one_way_messages, cost.one_way_messages, "{name}, {party}: one-way messages");
        assert_eq!(report.sent_bytes, sent, "{name}, {party}: bytes sent");
        assert_eq!(report.received_bytes, received, "{name}, {party}: bytes received");
        assert_eq!(report.material_bytes, material, "{name}, {party}: bytes of material");
    }
}

impl Private {
    /// Compiles a model, and reads back what the compiler wrote.
    pub fn compile(options: &Options) -> Result<Private, Diagnostic> {
        let (_, imported) = pipeline::import(options)?;
        let compiled = pipeline::compile(options)?;
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
        Ok(Private {
            graph: imported.graph,
            compiled,
            module,
            weights: Resident::new(values.iter().map(Vec::as_slice)),
        })
    }

    /// Its weights.
    pub fn weights(&self) -> &Resident {
        &self.weights
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

    /// Generates `count` tokens after a prompt with dealer and both parties in this process, the likeliest each time, and
    /// shows every step. The module has one prefill, then decodes.
    pub fn generate(&self, prompt: &[i64], count: u32, mut step: impl FnMut(&Program, &[Finished; 2])) -> Vec<i64> {
        let entries = &self.module.entries;
        let [client, server, weights] = [(); 3].map(|()| Seed::random().expect("the system's randomness"));
        let seeds = Seeds { client: &client, server: &server, weights: &weights };
        let mut session = Session::new(entries, &self.weights, seeds);
        let slots = entries[0].inputs[0].shape.0[1];
        let mut ids = prompt.to_vec();
        ids.resize(slots as usize, 0);
        let (length, mut tokens) = (prompt.len() as u32, Vec::new());
        for number in 0..count {
            let used = slots + number;
            let entry = match number {
                0 => 0,
                _ => entries.iter().position(|e| e.name == format!("decode.{used}")).expect("a decode of every size"),
            };
            let held = Slots { prompt: length, prefill: slots, used };
            let program = &entries[entry];
            let publics: Vec<u32> =
                program.publics.iter().map(|p| held.public(&p.name).expect("a number of slots")).collect();
            let plain = |input: &ir::program::Input| match input.encoding {
                Encoding::OneHot { .. } => Plain::Integers(ids.clone()),
                Encoding::Fixed => Plain::Reals(vec![0.0; input.shape.elements().expect("verified") as usize]),
            };
            let inputs = program.inputs.iter().map(|i| codec::encode(i, &plain(i)).expect("what it takes")).collect();
            let finished = session.step(entry as u32, inputs, &publics).expect("a step in one process");
            step(program, &finished);
            let token = finished[0].outputs[0].as_ref().expect("the client learns it")[0];
            tokens.push(token);
            ids = vec![token];
        }
        tokens
    }

    /// The revealed output of all its rows, in real units.
    pub fn logits(&self, client: &Finished) -> Vec<f32> {
        let program = &self.module.entries[0];
        let scale = program.output_scale(OutputId(0)).expect("a program reveals something");
        codec::decode(client.outputs[0].as_ref().expect("the client learns it"), scale)
    }

    /// The token that the float evaluator finds likeliest after some, on the fused graph.
    pub fn likeliest(&self, ids: &[i64]) -> i64 {
        let fused = &self.compiled.fused;
        let positions = resize::positions(fused).expect("a model for generation");
        let graph = resize::first(fused, &positions, ids.len());
        let ids = ndarray::ArrayD::from_shape_vec(vec![1, ids.len()], ids.to_vec()).expect("a row");
        let inputs = BTreeMap::from([(self.module.entries[0].inputs[0].name.clone(), Tensor::I64(ids))]);
        let outputs = graph::eval::evaluate(&graph, &inputs, None, &mut |_, _| {}).expect("the graph evaluates");
        let Tensor::F32(logits) = &outputs[0].1 else { panic!("logits are floats") };
        let greatest = logits.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1));
        greatest.expect("a model has tokens").0 as i64
    }

    /// The same rows by the float evaluator, on the graph as imported: the program keeps all positions or the last.
    pub fn float(&self, ids: &[i64]) -> Vec<f32> {
        let graph = &self.graph;
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
