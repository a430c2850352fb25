//! The whole compiler, read as a table of contents: import, fuse, calibrate, lower, assign widths, schedule.

use std::collections::BTreeMap;
use std::path::PathBuf;

use ir::verify::Limits;
use ir::{Program, Scale};

use crate::calibrate::{self, Ranges};
use crate::diagnostic::Diagnostic;
use crate::emit::{self, Artifacts};
use crate::graph::{Graph, Tensor};
use crate::lower::draft::Draft;
use crate::lower::variant::Link;
use crate::lower::{self, Scales};
use crate::onnx::{self, Bindings};
use crate::pass::{self, Logits, assign_width, group_channels};
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
    /// Fractional bits of the residual stream.
    pub residual: Scale,
    /// Stage `program`.
    pub program: Program,
    /// Stage `schedule`.
    pub schedule: Program,
    /// Public inputs, with the values that the program is compiled for.
    pub bound: BTreeMap<String, Tensor>,
    draft: Draft,
}

impl Compiled {
    /// The bytes of the `.ssb` and `.ssw` files.
    pub fn artifacts(&self) -> Result<Artifacts, Diagnostic> {
        emit::run(&self.schedule, &self.draft.weights, &self.name, &self.bound)
    }
}

/// Compiles a model.
pub fn compile(options: &Options) -> Result<Compiled, Diagnostic> {
    let name = options.model.file_stem().map_or_else(|| "model".to_owned(), |s| s.to_string_lossy().into_owned());
    let given = options.calibrate.as_deref().map(|path| samples::read(path).map(|a| (a, path))).transpose()?;

    let input_shapes = given.as_ref().map_or_else(BTreeMap::new, |(arrays, _)| samples::shapes(arrays));
    let imported =
        onnx::import(&options.model, &Bindings { dims: options.dims.clone(), input_shapes, ..Bindings::default() })?;
    let graph = imported.graph;

    let mut fused = graph.clone();
    pass::run_all(&mut fused, &pass::Options { logits: options.logits })?;

    let made_up = given.is_none();
    let samples = match given {
        Some((arrays, path)) => samples::split(&fused, &arrays, path)?,
        None => samples::make_up(&fused),
    };
    let mut ranges = calibrate::run(&fused, &samples, if made_up { 2.0 } else { 1.0 })?;
    group_channels::run(&mut fused, &mut ranges);

    let (mut program, draft, scales) = lower_and_fit(&fused, &ranges, options.link)?;
    program.name = name.clone();
    check(&program, "lowering");
    let schedule = schedule::run(&program);
    check(&schedule, "scheduling");
    Ok(Compiled {
        name,
        graph,
        residual: lower::norm::residual_scale(&fused, &ranges, scales),
        fused,
        ranges,
        made_up,
        samples: samples.len(),
        scales,
        program,
        schedule,
        bound: imported.bound,
        draft,
    })
}

/// Lowers with the most precise scales that fit 64 bits.
fn lower_and_fit(fused: &Graph, ranges: &Ranges, link: Link) -> Result<(Program, Draft, Scales), Diagnostic> {
    let mut last = None;
    for &scales in Scales::LADDER {
        let draft = lower::run(fused, ranges, scales, link)?;
        if let Some(&(origin, bound, scale)) = draft.unfit.first() {
            return Err(Diagnostic::new("a value does not fit any ring")
                .at(format!("node \"{}\"", draft.program.origins[origin.index()]))
                .because(format!(
                    "it may reach {bound:.3e}: {:.0} integer bits, {scale} fractional bits, a sign and a spare bit; a ring has 64",
                    bound.log2().ceil()
                ))
                .help("look for outliers in the model's weights, or calibrate with inputs like the ones that will be asked"));
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
            "its readers need {} bits at scale {}, even with the smallest scales that are worth having; a ring has 64",
            overflow.needed, overflow.scale
        ))
        .help("calibrate with inputs like the ones that will be asked: claims follow the ranges that were seen"))
}

/// A program that does not verify is the compiler's own mistake.
fn check(program: &Program, after: &str) {
    if let Err(faults) = ir::verify::verify(program, &Limits::default()) {
        let list: Vec<String> = faults.iter().map(ToString::to_string).collect();
        panic!("{after} made a program that does not verify:\n{}", list.join("\n"));
    }
}
