//! The whole compiler, read as a table of contents: import, fuse, calibrate, lower, assign widths, schedule, emit.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use ir::Program;

use crate::calibrate::{self, Ranges};
use crate::diagnostic::Diagnostic;
use crate::emit::{self, Artifacts};
use crate::graph::{self, DType, Graph, Op, Tensor};
use crate::lower::draft::Draft;
use crate::lower::variant::Link;
use crate::lower::{self, Scales};
use crate::onnx::{self, Bindings, PublicInput};
use crate::pass::{self, Logits, assign_width};
use crate::{samples, schedule};

/// What the user asked for.
pub struct Options {
    /// The ONNX file.
    pub model: PathBuf,
    /// `--dim NAME=N`.
    pub dims: BTreeMap<String, usize>,
    /// Which positions' logits a language model computes.
    pub logits: Logits,
    /// An npz file with graph inputs by name, one sample a row.
    pub calibrate: Option<PathBuf>,
    /// Prices protocol variants.
    pub link: Link,
}

/// Everything that the stages made.
pub struct Compiled {
    /// Name of the model, from its file.
    pub name: String,
    /// Stage `graph`.
    pub graph: Graph,
    /// Stage `fused`.
    pub fused: Graph,
    /// What calibration saw.
    pub ranges: Ranges,
    /// Whether the calibration inputs were made up.
    pub made_up: bool,
    /// Number of calibration samples.
    pub samples: usize,
    /// Fractional bits chosen.
    pub scales: Scales,
    /// Stage `program`.
    pub program: Program,
    /// Stage `schedule`.
    pub schedule: Program,
    /// Inputs that are public and bound.
    pub public_inputs: Vec<PublicInput>,
    draft: Draft,
}

impl Compiled {
    /// The bytes of the `.ssb` and `.ssw` files.
    pub fn artifacts(&self) -> Result<Artifacts, Diagnostic> {
        emit::run(&self.schedule, &self.draft.weights, &self.name, &self.public_inputs)
    }
}

/// Compiles a model.
pub fn compile(options: &Options) -> Result<Compiled, Diagnostic> {
    let name = options.model.file_stem().map_or_else(|| "model".to_owned(), |s| s.to_string_lossy().into_owned());
    let given = options.calibrate.as_deref().map(samples::read).transpose()?;

    let bindings = Bindings { dims: options.dims.clone(), input_shapes: given.as_ref().map_or_else(BTreeMap::new, samples::shapes) };
    let imported = onnx::import(&options.model, &bindings)?;
    let graph = imported.graph;

    let mut fused = graph.clone();
    pass::run_all(&mut fused, options.logits)?;

    let (samples, made_up) = match &given {
        Some(arrays) => (samples::split(&fused, arrays, options.calibrate.as_deref().unwrap_or(Path::new("")))?, false),
        None => (samples::make_up(&fused), true),
    };
    let ranges = calibrate::run(&fused, &samples, if made_up { 2.0 } else { 1.0 })?;

    let (program, draft, scales) = lower_and_fit(&fused, &ranges, options.link)?;
    check(&program)?;
    let schedule = schedule::run(&program);
    check(&schedule)?;
    Ok(Compiled {
        name,
        graph,
        fused,
        ranges,
        made_up,
        samples: samples.len(),
        scales,
        program,
        schedule,
        public_inputs: imported.public_inputs,
        draft,
    })
}

/// Lowers with the most precise scales that fit 64 bits.
fn lower_and_fit(fused: &Graph, ranges: &Ranges, link: Link) -> Result<(Program, Draft, Scales), Diagnostic> {
    let mut last = None;
    for &scales in Scales::LADDER {
        let draft = lower::run(fused, ranges, scales, link)?;
        if let Some((origin, bound, scale)) = draft.unfit.first() {
            let bits = bound.log2().ceil();
            return Err(Diagnostic::new("a value does not fit any ring")
                .at(format!("node \"{}\"", draft.program.origins[origin.index()]))
                .because(format!("it may reach {bound:.3e}: {bits} integer bits, {scale} fractional bits, a sign and a spare bit exceed 64"))
                .help("check the model's weights for outliers, or calibrate with inputs like the ones that will be asked"));
        }
        match assign_width::run(draft) {
            Ok((program, draft)) => return Ok((program, draft, scales)),
            Err(overflow) => last = Some(overflow),
        }
    }
    let overflow = last.expect("the ladder has a rung");
    Err(Diagnostic::new(format!("`{}` needs more width than a ring has", overflow.op))
        .at(format!("node \"{}\"", overflow.origin))
        .because(format!(
            "its readers need {} bits at scale {}, with the smallest scales that keep the result useful; 64 is the most",
            overflow.needed, overflow.scale
        ))
        .help("calibrate with inputs like the ones that will be asked: claims follow the ranges seen"))
}

fn check(program: &Program) -> Result<(), Diagnostic> {
    let found = ir::verify::verify(program, &ir::verify::Limits::default(), &ir::verify::Policy::default());
    match found {
        Ok(()) => Ok(()),
        Err(faults) => panic!(
            "the compiler made a program that does not verify:\n{}",
            faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
        ),
    }
}
