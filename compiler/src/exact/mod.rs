//! Runs a compiled program in the clear, with the integers of a private run up to the rounding of `down` and of functions.

mod decoding;

pub use decoding::Decoding;

use std::borrow::Cow;
use std::sync::Arc;

use ir::eval::{Arguments, Session, Weights};
use ir::program::{Encoding, Input, WeightDecl};
use ir::weights::decode_values;
use ir::{Program, Value};
use ndarray::{ArrayD, IxDyn};

use crate::diagnostic::{Code, Diagnostic};
use crate::emit;
use crate::graph::{Tensor, kernel};
use crate::pipeline::Compiled;
use crate::samples::Arrays;

/// The entries of a program and their weights.
pub struct Exact<'a> {
    /// Scheduled.
    pub entries: &'a [Program],
    weights: Box<dyn Weights + 'a>,
}

/// What a run in the clear gave.
pub struct Outcome {
    /// Outputs by name, real values, in the file's order.
    pub outputs: Vec<(String, ArrayD<f32>)>,
    /// Elements that left their tables, as the program itself counts them.
    pub outside: u64,
    /// ONNX nodes whose openings left their claims, and by how many elements.
    pub broken: Vec<(String, usize)>,
}

impl Outcome {
    /// Real values of the first output: of a step of a generation the token, or logits.
    pub fn values(&self) -> Vec<f32> {
        self.outputs.first().map_or_else(Vec::new, |output| output.1.iter().copied().collect())
    }

    /// How many elements of openings left their claims.
    pub fn broken_elements(&self) -> usize {
        self.broken.iter().map(|(_, elements)| elements).sum()
    }
}

/// Weights of a compilation that is still in memory, encoded when they are read.
struct Encoded<'a> {
    declared: &'a [WeightDecl],
    values: &'a [Arc<ArrayD<f32>>],
}

impl Weights for Encoded<'_> {
    fn count(&self) -> usize {
        self.declared.len()
    }

    fn elements(&self, index: usize) -> usize {
        self.values[index].len()
    }

    fn weight(&self, index: usize) -> Cow<'_, [i64]> {
        Cow::Owned(emit::integers(&self.values[index], self.declared[index].scale))
    }
}

/// Weights of a `.ssw` file that belongs to the program.
struct Stored<'a> {
    declared: &'a [WeightDecl],
    file: ir::weights::Weights<'a>,
}

impl Weights for Stored<'_> {
    fn count(&self) -> usize {
        self.declared.len()
    }

    fn elements(&self, index: usize) -> usize {
        self.declared[index].shape.elements().map_or(usize::MAX, |n| n as usize)
    }

    fn weight(&self, index: usize) -> Cow<'_, [i64]> {
        let (tensor, bytes) = self.file.tensor(&self.declared[index].name).expect("the file belongs to the program");
        decode_values(tensor.element, bytes).collect()
    }
}

impl<'a> Exact<'a> {
    /// Of a compilation.
    pub fn of(compiled: &'a Compiled) -> Exact<'a> {
        let declared = compiled.schedules.first().map_or(&[][..], |entry| &entry.weights);
        Exact::new(&compiled.schedules, Encoded { declared, values: compiled.weights() })
    }

    /// Of entries and the weights that they declare.
    pub fn new(entries: &'a [Program], weights: impl Weights + 'a) -> Exact<'a> {
        Exact { entries, weights: Box::new(weights) }
    }

    /// Of the entries of a module and its `.ssw` file, whose header was checked against it.
    pub fn stored(entries: &'a [Program], file: ir::weights::Weights<'a>) -> Exact<'a> {
        let declared = entries.first().map_or(&[][..], |entry| &entry.weights);
        Exact::new(entries, Stored { declared, file })
    }

    /// Runs the first entry by itself; its public numbers take their last values.
    pub fn run(&self, sample: &Arrays) -> Result<Outcome, Diagnostic> {
        self.step(&mut Session::default(), 0, sample, &last(&self.entries[0]), &mut |_, _| {})
    }

    /// Runs an entry as the next step of a session and shows every value to `visit`. The arrays of `sample` have the shapes
    /// of the entry's inputs; one that is called `noise` may be missing, and is zeros.
    pub fn step(
        &self,
        session: &mut Session,
        entry: usize,
        sample: &Arrays,
        publics: &[u32],
        visit: &mut dyn FnMut(Value, &[i64]),
    ) -> Result<Outcome, Diagnostic> {
        let program = &self.entries[entry];
        let inputs = program.inputs.iter().map(|input| encode(input, sample)).collect::<Result<Vec<_>, _>>()?;
        let arguments = Arguments { inputs: &inputs, weights: &*self.weights, publics };
        let evaluation = session.step_with(program, arguments, visit).map_err(|e| {
            Diagnostic::new(Code::InputValue, "the program cannot run on this input").because(format!("{e}."))
        })?;
        let counted = program.outside();
        let declared = (0..program.outputs.len() as u32).map(ir::OutputId).filter(|output| Some(*output) != counted);
        let outputs = declared.filter_map(|output| Some((program.output_scale(output)?, output)));
        let outputs = outputs.map(|(scale, output)| {
            let unit = f64::from(scale).exp2();
            let declared = &program.outputs[output.index()];
            let values = evaluation.outputs[output.index()].iter().map(|&v| (v as f64 / unit) as f32).collect();
            let shape: Vec<usize> = declared.shape.0.iter().map(|&d| d as usize).collect();
            let array = ArrayD::from_shape_vec(IxDyn(&shape), values).expect("an output has its declared shape");
            (declared.name.clone(), array)
        });
        let origin = |value: &Value| {
            let origin = program.instrs[value.index()].origin;
            origin.map_or_else(String::new, |o| program.origins[o.index()].clone())
        };
        let broken = evaluation.broken_claims.iter().map(|(value, count)| (origin(value), *count)).collect();
        let outside = evaluation.outside(program).map_or(0, i64::unsigned_abs);
        Ok(Outcome { outputs: outputs.collect(), outside, broken })
    }
}

/// The last values of an entry's public numbers.
pub(crate) fn last(program: &Program) -> Vec<u32> {
    program.publics.iter().map(|public| public.bound - 1).collect()
}

/// An input as integers, as the client encodes it.
fn encode(input: &Input, sample: &Arrays) -> Result<Vec<i64>, Diagnostic> {
    let fault = |why: String| {
        Diagnostic::new(Code::CalibrationArrays, format!("array \"{}\" does not fit the program", input.name))
            .because(format!("{why}."))
    };
    let array = match sample.get(&input.name) {
        Some(array) => array,
        None if input.name == crate::lower::argmax::NOISE => {
            return Ok(vec![0; input.ty.shape.elements().map_or(0, |n| n as usize)]);
        }
        None => return Err(fault("there is no such array".to_owned())),
    };
    if array.shape().iter().map(|&d| d as u32).ne(input.shape.0.iter().copied()) {
        return Err(fault(format!("it has shape {:?}, the program takes {:?}", array.shape(), input.shape.0)));
    }
    match input.encoding {
        Encoding::OneHot { classes } => {
            let Tensor::I64(ids) = array else { return Err(fault("it holds no integers".to_owned())) };
            if let Some(id) = ids.iter().find(|id| !(0..i64::from(classes)).contains(*id)) {
                return Err(fault(format!("{id} is not an id below {classes}")));
            }
            Ok(ids.iter().flat_map(|&id| (0..i64::from(classes)).map(move |c| i64::from(c == id))).collect())
        }
        Encoding::Fixed => {
            let unit = f64::from(input.ty.scale).exp2();
            let limit = f64::from(i16::from(input.ty.width) - 1).exp2();
            let integer = |&v: &f32| Some((f64::from(v) * unit).round()).filter(|v| v.abs() < limit).map(|v| v as i64);
            let integers: Option<Vec<i64>> = kernel::floats(array).iter().map(integer).collect();
            integers.ok_or_else(|| {
                fault(format!("its numbers must be finite and below 2^{} in size", limit.log2() - unit.log2()))
            })
        }
    }
}
