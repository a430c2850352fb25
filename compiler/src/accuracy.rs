//! The exact program against the float graph: what the private result of a sample would be.

use ir::Program;
use ir::eval::{Arguments, eval};
use ir::program::Encoding;
use ndarray::{ArrayD, IxDyn};

use crate::diagnostic::{Code, Diagnostic};
use crate::graph::Tensor;
use crate::pipeline::Compiled;
use crate::samples::Arrays;

/// A compiled program of one pass with its weights as integers.
pub struct Exact<'a> {
    program: &'a Program,
    weights: Vec<Vec<i64>>,
}

/// What a run in the clear gave.
pub struct Outcome {
    /// Outputs by name, real values, in the file's order.
    pub outputs: Vec<(String, ArrayD<f32>)>,
    /// How many elements left their tables, as a run would tell; none if the program does not count them.
    pub outside: Option<i64>,
    /// Graph nodes whose openings left their claims, and by how many elements.
    pub broken: Vec<(String, usize)>,
}

impl<'a> Exact<'a> {
    /// Of the first entry.
    pub fn of(compiled: &'a Compiled) -> Exact<'a> {
        Exact { program: &compiled.schedules[0], weights: compiled.encoded_weights() }
    }

    /// Runs a sample whose arrays have the shapes that the program's inputs are bound to. Public indices take their
    /// last value.
    pub fn run(&self, sample: &Arrays) -> Result<Outcome, Diagnostic> {
        let program = self.program;
        let inputs = program.inputs.iter().map(|input| encode(input, sample)).collect::<Result<Vec<_>, _>>()?;
        let publics: Vec<u32> = program.publics.iter().map(|p| p.bound - 1).collect();
        let arguments = Arguments { inputs: &inputs, weights: &self.weights, publics: &publics };
        let evaluation = eval(program, arguments).expect("inputs are encoded as the program declares them");
        let outputs = program.instrs.iter().filter_map(|instr| match instr.op {
            ir::Op::Reveal { x, output, .. } => Some((program.ty(x).scale, output)),
            _ => None,
        });
        let mut outputs: Vec<(ir::Scale, ir::OutputId)> = outputs.collect();
        outputs.sort_by_key(|(_, output)| output.index());
        outputs.retain(|(_, output)| program.outside() != Some(*output));
        let outputs = outputs.into_iter().map(|(scale, output)| {
            let unit = f64::from(scale).exp2();
            let declared = &program.outputs[output.index()];
            let values = evaluation.outputs[output.index()].iter().map(|&v| (v as f64 / unit) as f32).collect();
            let shape: Vec<usize> = declared.shape.0.iter().map(|&d| d as usize).collect();
            let array = ArrayD::from_shape_vec(IxDyn(&shape), values).expect("an output has its declared shape");
            (declared.name.clone(), array)
        });
        let origin = |value: &ir::Value| {
            let origin = program.instrs[value.index()].origin;
            origin.map_or_else(String::new, |o| program.origins[o.index()].clone())
        };
        let broken = evaluation.broken_claims.iter().map(|(value, count)| (origin(value), *count)).collect();
        Ok(Outcome { outputs: outputs.collect(), outside: evaluation.outside(program), broken })
    }
}

/// An input as integers, as the client encodes it.
fn encode(input: &ir::program::Input, sample: &Arrays) -> Result<Vec<i64>, Diagnostic> {
    let fault = |why: String| {
        Diagnostic::new(Code::CalibrationArrays, format!("array \"{}\" does not fit the program", input.name))
            .because(why)
    };
    let array = sample.get(&input.name).ok_or_else(|| fault("there is no such array".to_owned()))?;
    if array.shape().iter().map(|&d| d as u32).ne(input.shape.0.iter().copied()) {
        return Err(fault(format!("it has shape {:?}, the program takes {:?}", array.shape(), input.shape.0)));
    }
    match input.encoding {
        Encoding::OneHot { classes } => {
            let Tensor::I64(ids) = array else { return Err(fault("it holds no integers".to_owned())) };
            if let Some(id) = ids.iter().find(|id| !(0..i64::from(classes)).contains(id)) {
                return Err(fault(format!("{id} is not an id below {classes}")));
            }
            Ok(ids.iter().flat_map(|&id| (0..i64::from(classes)).map(move |c| i64::from(c == id))).collect())
        }
        Encoding::Fixed => {
            let unit = f64::from(input.ty.scale).exp2();
            Ok(crate::graph::kernel::floats(array).iter().map(|&v| (f64::from(v) * unit).round() as i64).collect())
        }
    }
}
