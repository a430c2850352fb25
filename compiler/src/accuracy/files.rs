//! The comparison of a program on disk: its files, the model that it was made from, inputs of the user's choice.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use ir::bytecode::Module;

use super::{Float, Limit, Report, compare};
use crate::diagnostic::{Code, Diagnostic};
use crate::exact::Exact;
use crate::graph::{Graph, Op, Tensor};
use crate::pipeline::{self, Options};
use crate::samples::{self, Arrays};

/// A program and its weights.
pub struct Files {
    program: PathBuf,
    module: Module,
    weights: Vec<u8>,
}

impl Files {
    /// Reads a program and the `.ssw` file beside it, and checks that they belong together.
    pub fn read(program: &Path, module: Module, hash: [u8; 32]) -> Result<Files, Diagnostic> {
        let path = program.with_extension("ssw");
        let weights = std::fs::read(&path).map_err(|e| {
            Diagnostic::new(Code::FileUnreadable, format!("the weights cannot be read: {e}"))
                .at(path.display().to_string())
                .help("keep the .ssw file that sscc compile wrote beside the program")
        })?;
        let broken = |e: ir::weights::WeightsError| {
            Diagnostic::new(Code::NotProgram, format!("the weights cannot be used: {e}")).at(path.display().to_string())
        };
        let file = ir::weights::Weights::open(&weights).map_err(broken)?;
        file.header.check(&module, hash).map_err(broken)?;
        file.check_data().map_err(broken)?;
        Ok(Files { program: program.to_owned(), module, weights })
    }

    /// The program and its weights.
    pub fn parts(&self) -> (&Module, ir::weights::Weights<'_>) {
        (&self.module, ir::weights::Weights::open(&self.weights).expect("checked when it was read"))
    }

    /// Compares with a model on the rows of an npz file.
    pub fn compare(&self, options: &Options, input: &Path, limit: Limit) -> Result<Report, Diagnostic> {
        let shapes = self.module.entries[0]
            .inputs
            .iter()
            .map(|input| (input.name.clone(), input.shape.0.iter().map(|&d| d as usize).collect()));
        let front = pipeline::front(options, &shapes.collect::<BTreeMap<String, Vec<usize>>>())?;
        let plan = front.generation.as_ref().map(|(plan, _)| plan);
        let float = Float::new(&front.fused, plan)?;
        self.check(&float).map_err(|why| {
            Diagnostic::new(Code::OtherModel, "the program was made from another model")
                .at(self.program.display().to_string())
                .at(options.model.display().to_string())
                .because(format!("{why}."))
                .help("name the model that it was made from with --model")
                .help("compile the model again")
        })?;
        let samples = rows(&front.fused, &samples::read(input)?, plan.is_some(), input)?;
        let file = ir::weights::Weights::open(&self.weights).expect("checked when it was read");
        compare(&Exact::stored(&self.module.entries, file), &float, &samples, limit)
    }

    /// Whether the program's nodes and sizes are those of a model.
    fn check(&self, float: &Float) -> Result<(), String> {
        let graphs: Vec<&Graph> = match float {
            Float::Once(graph) => vec![graph],
            Float::Generation { entries, .. } => entries.iter().map(|entry| &entry.graph).collect(),
        };
        if graphs.len() != self.module.entries.len() {
            return Err(format!("the program has {} entries, not {}", self.module.entries.len(), graphs.len()));
        }
        for (graph, entry) in graphs.into_iter().zip(&self.module.entries) {
            let names: BTreeSet<&str> = graph.dag.node_weights().map(|node| node.origin.as_str()).collect();
            if let Some(missing) = entry.origins.iter().find(|name| !names.contains(name.as_str())) {
                return Err(format!("the model has no node \"{missing}\""));
            }
            for &id in &graph.inputs {
                let (Op::Input { name }, shape) = (&graph.node(id).op, &graph.node(id).shape) else { continue };
                let declared = entry.inputs.iter().find(|input| input.name == *name).map(|input| &input.shape.0);
                if declared.is_none_or(|declared| declared.iter().map(|&d| d as usize).ne(shape.iter().copied())) {
                    return Err(format!("entry {} takes no input \"{name}\" of shape {shape:?}", entry.name));
                }
            }
        }
        Ok(())
    }
}

/// One sample for each row of the graph's inputs, or for as many rows as its batch has.
fn rows(graph: &Graph, arrays: &Arrays, generation: bool, path: &Path) -> Result<Vec<Arrays>, Diagnostic> {
    let fault = |why: String| {
        Diagnostic::new(Code::CalibrationArrays, "the inputs do not fit the model")
            .at(path.display().to_string())
            .because(format!("{why}."))
    };
    let mut samples: Vec<Arrays> = Vec::new();
    for &id in &graph.inputs {
        let Op::Input { name } = &graph.node(id).op else { panic!("a graph input is an Input") };
        let shape = &graph.node(id).shape;
        let Some(array) = arrays.get(name) else {
            let names: Vec<&str> = arrays.keys().map(String::as_str).collect();
            return Err(fault(format!("there is no array \"{name}\", only {}", names.join(", "))));
        };
        let batch = if generation { 1 } else { shape.first().copied().unwrap_or(1) };
        let fits = array.shape().len() == shape.len()
            && array.shape().first().is_none_or(|&rows| rows >= batch)
            && (array.shape().get(2..) == shape.get(2..))
            && (generation || matches!(array, Tensor::I64(_)) || array.shape().get(1..) == shape.get(1..));
        if !fits {
            return Err(fault(format!("array \"{name}\" has shape {:?}, the model takes {shape:?}", array.shape())));
        }
        let count = array.shape().first().map_or(1, |rows| rows / batch);
        if samples.is_empty() {
            samples.resize(count, Arrays::new());
        } else if samples.len() != count {
            return Err(fault("the arrays have different numbers of rows".to_owned()));
        }
        for (i, sample) in samples.iter_mut().enumerate() {
            sample.insert(name.clone(), samples::rows_of(array, i * batch, (i + 1) * batch));
        }
    }
    Ok(samples)
}
