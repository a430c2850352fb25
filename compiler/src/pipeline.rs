//! The whole compiler, read as a table of contents: import, fuse, calibrate, lower, assign widths, schedule.

use std::collections::{BTreeMap, HashSet};
use std::io::{Cursor, Seek, Write};
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;

use ir::bytecode::Module;
use ir::pair::Maker;
use ir::verify::Limits;
use ir::{Program, Scale};
use ndarray::ArrayD;

use crate::calibrate::{self, Ranges};
use crate::diagnostic::{Code, Diagnostic};
use crate::emit::{self, EmitError};
use crate::entries::{Entry, Generation, Plan};
use crate::graph::{DType, Graph, NodeId, Op, Tensor};
use crate::lower::draft::Draft;
use crate::lower::variant::Link;
use crate::lower::{self, Context, Memo, Reveal, Rungs, Scales, Step};
use crate::onnx::{self, Bindings, Given, Imported, Sequence};
use crate::pass::resize::{self, Positions};
use crate::pass::{self, Logits, assign_width, centre_logits, group_channels};
use crate::samples::{self, Worth};
use crate::{companions, schedule};

/// What the user asked for.
pub struct Options {
    /// The ONNX file.
    pub model: PathBuf,
    /// `--dim NAME=N`.
    pub dims: BTreeMap<String, usize>,
    /// `--bind NAME=VALUE`: values of inputs that are public.
    pub bind: BTreeMap<String, Bind>,
    /// Which positions' logits a language model computes.
    pub logits: Logits,
    /// An npz file with graph inputs by name, one sample a row.
    pub calibrate: Option<PathBuf>,
    /// Prices protocol variants.
    pub link: Link,
    /// Who will make the material.
    pub maker: Maker,
    /// Entries for generation instead of one for a run by itself.
    pub generation: Option<Generation>,
}

/// The bytes of the two files.
pub struct Artifacts {
    /// The `.ssb` file.
    pub program: Vec<u8>,
    /// The `.ssw` file.
    pub weights: Vec<u8>,
}

/// A value for an input, as the command line has it.
#[derive(Clone, PartialEq, Debug)]
pub enum Bind {
    /// A number, everywhere, or a count.
    Given(Given),
    /// An npy file.
    File(PathBuf),
}

/// Everything that the stages made from the fused graph on; see [`import`] for the stage before it.
pub struct Compiled {
    /// Name of the model, from its file.
    pub name: String,
    /// Stage `fused`.
    pub fused: Graph,
    /// What calibration saw.
    pub ranges: Ranges,
    /// What the calibration samples are worth.
    pub worth: Worth,
    /// Samples that took no part in calibration; none where they were made up or are few.
    pub held: Vec<samples::Arrays>,
    /// Which scales each node works with.
    pub rungs: Rungs,
    /// Fractional bits of the residual stream.
    pub residual: Scale,
    /// Stage `program`, by entry.
    pub programs: Vec<Program>,
    /// Stage `schedule`, by entry.
    pub schedules: Vec<Program>,
    /// Sizes of the entries for generation, if there are any.
    pub plan: Option<Plan>,
    /// What the client learns.
    pub reveal: Reveal,
    /// An output of which one position was picked, though its rows are no logits of the vocabulary: name and elements.
    pub one_of_many: Option<(String, usize)>,
    /// Public inputs, with the values that the program is compiled for.
    pub bound: BTreeMap<String, Tensor>,
    /// What is assumed of the client's token ids, a sentence each.
    pub assumed: Vec<String>,
    /// Facts for the program's users.
    metadata: BTreeMap<String, String>,
    /// What was lowered; all entries have its weights.
    draft: Draft,
}

impl Compiled {
    /// The weights as integers, as the entries declare them. They take 8 bytes for each element.
    pub fn encoded_weights(&self) -> Vec<Vec<i64>> {
        let weights = self.schedules.first().map_or(&[][..], |entry| &entry.weights);
        weights.iter().zip(&self.draft.weights).map(|(decl, value)| emit::integers(value, decl.scale)).collect()
    }

    /// Real values of the weights, as the entries declare them.
    pub fn weights(&self) -> &[Arc<ArrayD<f32>>] {
        &self.draft.weights
    }

    /// Writes the bytes of the `.ssw` file; gives those of the `.ssb` file.
    pub fn emit(&self, weights: &mut (impl Write + Seek)) -> Result<Vec<u8>, EmitError> {
        emit::run(&self.schedules, &self.draft.weights, self.metadata.clone(), &self.bound, weights)
    }

    /// The bytes of both files, in memory.
    pub fn artifacts(&self) -> Result<Artifacts, Diagnostic> {
        let mut weights = Cursor::new(Vec::new());
        match self.emit(&mut weights) {
            Ok(program) => Ok(Artifacts { program, weights: weights.into_inner() }),
            Err(EmitError::Refused(fault)) => Err(fault),
            Err(EmitError::Write(e)) => panic!("memory takes what is written to it: {e}"),
        }
    }
}

/// What is known of a model before it is calibrated.
pub struct Front {
    /// Stage `fused`, for generation at the context that is wanted; channels in the model's order.
    pub fused: Graph,
    /// Sizes of the entries for generation, and where the graph has its positions.
    pub generation: Option<(Plan, Positions)>,
    /// Public inputs, with the values that the program is compiled for.
    pub bound: BTreeMap<String, Tensor>,
    /// What is assumed of the client's token ids, a sentence each.
    pub assumed: Vec<String>,
}

/// Name and imported graph of a model, whether or not it can be fused.
pub fn import(options: &Options) -> Result<(String, Imported), Diagnostic> {
    let shapes = options.calibrate.as_deref().map(samples::read).transpose()?.as_ref().map(samples::shapes);
    let imported = onnx::import(&options.model, &bindings(options, &shapes.unwrap_or_default())?)?;
    Ok((name(options), imported))
}

fn name(options: &Options) -> String {
    options.model.file_stem().map_or_else(|| "model".to_owned(), |s| s.to_string_lossy().into_owned())
}

/// Reads a model and fuses it; `shapes` are those of inputs that are known, one row a sample.
pub fn front(options: &Options, shapes: &BTreeMap<String, Vec<usize>>) -> Result<Front, Diagnostic> {
    // Passes make new weights of old ones, so no copy of the imported graph is kept.
    let Imported { graph: mut fused, bound, without_past, assumed, .. } =
        onnx::import(&options.model, &bindings(options, shapes)?)?;
    pass::run_all(&mut fused, &pass::Options { logits: options.logits })?;
    if without_past {
        resize::one_by_one(&mut fused);
    }
    let generation =
        options.generation.as_ref().map(|wanted| prepare(&mut fused, wanted, options.logits)).transpose()?;
    Ok(Front { fused, generation, bound, assumed })
}

/// Compiles a model.
pub fn compile(options: &Options) -> Result<Compiled, Diagnostic> {
    let name = name(options);
    let given = options.calibrate.as_deref().map(|path| samples::read(path).map(|a| (a, path))).transpose()?;

    let shapes = given.as_ref().map_or_else(BTreeMap::new, |given| samples::shapes(&given.0));
    let Front { mut fused, generation, bound, assumed } = front(options, &shapes)?;

    let given = match given {
        Some((arrays, path)) => Some((samples::without_padding(&fused, arrays, &bound, path)?, path)),
        None => None,
    };
    let made_up = given.is_none();
    let looked_at = everywhere(&fused, generation.as_ref().map(|g| &g.1), given.as_ref().map(|g| &g.0))?;
    let mut samples = match given {
        Some((arrays, path)) if generation.is_some() => samples::windows(&looked_at, &arrays, path)?,
        Some((arrays, path)) => samples::split(&looked_at, &arrays, path)?,
        None => samples::make_up(&looked_at),
    };
    let worth = Worth::of(&samples, made_up);
    let held = if made_up { Vec::new() } else { samples::hold_back(&mut samples) };
    let mut ranges = calibrate::run(&looked_at, &fused, &samples, worth.margin())?;
    ranges.thin = worth.is_thin();
    group_channels::run(&mut fused, &mut ranges);

    let reveal = options.generation.as_ref().map_or(Reveal::Outputs, |wanted| wanted.reveal);
    let entries = match &generation {
        Some((plan, positions)) => plan.entries(&fused, positions),
        None => vec![Entry { name: name.clone(), step: Step::Once, graph: fused.clone() }],
    };
    let (lowered, rungs) = lower_and_fit(&entries, &ranges, options, reveal)?;
    let mut drafts = Vec::new();
    let mut programs = Vec::new();
    for (entry, (program, draft)) in entries.iter().zip(lowered) {
        programs.push(Program { name: entry.name.clone(), ..program });
        drafts.push(draft);
    }
    check(&programs, "lowering");
    let schedules: Vec<Program> = programs.iter().map(schedule::run).collect();
    check(&schedules, "scheduling");
    if options.maker == Maker::Pair {
        schedules.iter().try_for_each(made)?;
    }

    let one_of_many = generation.is_none().then(|| one_of_many(&fused)).flatten();
    let plan = generation.map(|(plan, _)| plan);
    let mut metadata = companions::read(&options.model)?;
    metadata.insert("name".to_owned(), name.clone());
    if !assumed.is_empty() {
        metadata.insert("assumed".to_owned(), assumed.join("\n"));
    }
    metadata.extend(plan.iter().map(|plan| ("context".to_owned(), plan.context.to_string())));
    if reveal == Reveal::Token {
        metadata.insert("noise_bound".to_owned(), ir::noise::NOISE_BOUND.to_string());
    }
    Ok(Compiled {
        name,
        residual: lower::norm::residual_scale(&fused, &ranges),
        fused,
        ranges,
        worth,
        held,
        rungs,
        programs,
        schedules,
        plan,
        reveal,
        one_of_many,
        bound,
        assumed,
        metadata,
        draft: drafts.swap_remove(0),
    })
}

/// See [`Compiled::one_of_many`].
fn one_of_many(fused: &Graph) -> Option<(String, usize)> {
    let vocabulary = fused.order().into_iter().filter(|&id| fused.node(id).op == Op::Embed);
    let vocabulary = vocabulary.map(|id| fused.node(fused.operands(id)[1]).shape[0]).max()?;
    fused.order().into_iter().find(|&id| matches!(fused.node(id).op, Op::Pick { .. }))?;
    let (name, id) = fused.outputs.first()?;
    let elements = *fused.node(*id).shape.last()?;
    (elements < vocabulary && fused.node(*id).shape.len() > 2).then(|| (name.clone(), elements))
}

/// Sizes by what the user says, or what the calibration arrays have. For generation a calibration array says nothing: it
/// is cut to windows of the context.
fn bindings(options: &Options, shapes: &BTreeMap<String, Vec<usize>>) -> Result<Bindings, Diagnostic> {
    let (sequence, input_shapes) = match &options.generation {
        None => (Sequence::Short, shapes.clone()),
        Some(Generation { max_context: None, .. }) => (Sequence::Context, BTreeMap::new()),
        Some(Generation { max_context: Some(size), .. }) => (Sequence::Of(*size), BTreeMap::new()),
    };
    let without_past = options.generation.is_some();
    let values = options.bind.iter().map(|(name, value)| {
        Ok((
            name.clone(),
            match value {
                Bind::Given(given) => given.clone(),
                Bind::File(path) => samples::read_npy(path)?.into(),
            },
        ))
    });
    let values = values.collect::<Result<_, Diagnostic>>()?;
    Ok(Bindings { dims: options.dims.clone(), sequence, without_past, input_shapes, values, ..Bindings::default() })
}

/// Brings a fused graph to the context that is wanted, and decides the sizes of the entries.
fn prepare(fused: &mut Graph, wanted: &Generation, logits: Logits) -> Result<(Plan, Positions), Diagnostic> {
    let positions = resize::positions(fused)?;
    let (output, one) = match fused.outputs[..] {
        [(_, id)] => (id, positions.is_picked(id)),
        _ => return Err(cannot_generate(format!("it has {} outputs, not the logits alone", fused.outputs.len()))),
    };
    if !one || fused.node(output).dtype != DType::F32 {
        return Err(cannot_generate("its output is not the logits of one position".to_owned()).help(
            if logits == Logits::All { "leave out --logits all" } else { "a model with an output named `logits`" },
        ));
    }
    let context = wanted.max_context.unwrap_or(positions.count);
    if context > positions.count {
        return Err(Diagnostic::new(
            Code::FewPositions,
            format!("the model is bound to {} tokens, not to {context}", positions.count),
        )
        .help(format!("--max-context {}", positions.count)));
    }
    let plan = Plan::new(context, wanted)?;
    if context < positions.count {
        *fused = resize::first(fused, &positions, context);
    }
    if wanted.reveal == Reveal::Token {
        centre_logits::run(fused, output);
    }
    Ok((plan, resize::positions(fused)?))
}

fn cannot_generate(why: String) -> Diagnostic {
    Diagnostic::new(Code::CannotGenerate, "this model cannot generate token by token").because(format!("{why}."))
}

/// What calibration runs. Any position may be picked, so where the model allows it all of them are; and windows shorter
/// than a context that is generated in will do.
fn everywhere(
    fused: &Graph,
    generated: Option<&Positions>,
    arrays: Option<&samples::Arrays>,
) -> Result<Graph, Diagnostic> {
    let Some(positions) = generated else {
        return Ok(resize::positions(fused).map_or_else(|_| fused.clone(), |positions| resize::all(fused, &positions)));
    };
    let length = arrays.and_then(|arrays| arrays.values().find_map(|array| array.shape().get(1).copied()));
    match length {
        Some(length @ 2..) if length < positions.count => {
            let short = resize::first(fused, positions, length);
            Ok(resize::all(&short, &resize::positions(&short)?))
        }
        _ => Ok(resize::all(fused, positions)),
    }
}

/// Lowers with the most precise scales that fit 64 bits in every entry, node by node: where width runs out, the
/// normalisations on the way open fewer bits; then a value on the way is lifted, at the price of a round; then scales
/// become coarser.
fn lower_and_fit(
    entries: &[Entry],
    ranges: &Ranges,
    options: &Options,
    reveal: Reveal,
) -> Result<(Vec<(Program, Draft)>, Rungs), Diagnostic> {
    let Options { link, maker, .. } = *options;
    let mut rungs = Rungs::default();
    let mut may_pay: HashSet<NodeId> = HashSet::new();
    let memo = Rc::<Memo>::default();
    loop {
        let mut drafts: Vec<Draft> = Vec::new();
        for entry in entries {
            let memo = memo.clone();
            let context =
                Context { step: entry.step, reveal, memo, maker, ..Context::new(&entry.graph, ranges, &rungs, link) };
            let draft = lower::run(&context, drafts.last().map_or_else(Draft::default, Draft::beside))?;
            if let Some(&(origin, bound, scale)) = draft.unfit.first() {
                let name = &draft.program.origins[origin.index()];
                return Err(lower::unfit::too_large(&entry.graph, ranges, name, bound, scale));
            }
            drafts.push(draft);
        }
        if let Some((last, others)) = drafts.split_last_mut() {
            others.iter_mut().for_each(|draft| draft.share(last));
        }
        let overflow = match assign_width::run_all(drafts, &|id| may_pay.contains(&id)) {
            Ok(lowered) => return Ok((lowered, rungs)),
            Err(overflow) => overflow,
        };
        let graph = &entries[0].graph;
        let norms: Vec<NodeId> = overflow
            .chain
            .iter()
            .copied()
            .filter(|&id| matches!(graph.node(id).op, Op::Normalize { .. }) && rungs.of(id) == 0)
            .collect();
        let unpaid: Vec<NodeId> = overflow.chain.iter().copied().filter(|id| !may_pay.contains(id)).collect();
        let coarser: Vec<NodeId> =
            overflow.chain.iter().copied().filter(|&id| rungs.of(id) + 1 < Scales::LADDER.len()).collect();
        if !norms.is_empty() {
            rungs.0.extend(norms.into_iter().map(|id| (id, 1)));
        } else if !unpaid.is_empty() {
            may_pay.extend(unpaid);
        } else if let Some(least) = coarser.iter().map(|&id| rungs.of(id)).min() {
            let those: Vec<NodeId> = coarser.into_iter().filter(|&id| rungs.of(id) == least).collect();
            rungs.0.extend(those.into_iter().map(|id| (id, least.max(1) + 1)));
        } else {
            return Err(lower::unfit::too_wide(graph, ranges, &overflow));
        }
    }
}

/// Refuses a program whose material two parties cannot make.
fn made(program: &Program) -> Result<(), Diagnostic> {
    let Some(index) = ir::pair::unmade(program) else { return Ok(()) };
    let instr = &program.instrs[index];
    let count = program.instrs.iter().filter(|instr| !ir::pair::is_made(program, &instr.op)).count();
    let title = format!("two parties cannot make the material of `{}`", instr.op.mnemonic());
    let mut report = Diagnostic::new(Code::Unmade, title);
    if let Some(origin) = instr.origin {
        report = report.at(format!("node \"{}\"", program.origins[origin.index()]));
    }
    let reads = if count == 1 { "read" } else { "reads" };
    Err(report.because(format!("the program would take {count} such {reads}")).help("--material dealer"))
}

/// Entries that do not verify are the compiler's own mistake.
fn check(programs: &[Program], after: &str) {
    let module = Module { entries: programs.to_vec(), ..Module::default() };
    if let Err(faults) = ir::verify::verify_module(&module, &Limits::default()) {
        let list: Vec<String> = faults.iter().map(ToString::to_string).collect();
        panic!("{after} made a program that does not verify:\n{}", list.join("\n"));
    }
}
