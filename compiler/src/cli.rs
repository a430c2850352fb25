//! The command line of `sscc`.

mod diff;
mod explain;
mod making;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

use ir::bytecode::Module;
use ir::pair::Maker;

use self::making::Made;
use crate::accuracy::{Files, Limit};
use crate::diagnostic::{Code, Diagnostic};
use crate::emit::EmitError;
use crate::entries::Generation;
use crate::explore::Picture;
use crate::lower::Reveal;
use crate::lower::variant::Link;
use crate::onnx::Given;
use crate::pass::Logits;
use crate::pipeline::{self, Bind, Compiled, Options};
use crate::predict::rates::Speed;
use crate::predict::{Cores, fit, reports};
use crate::recipe::{self, Recipe};
use crate::report::Place;
use crate::{accuracy, companions, explore, graph, report, supported};

/// Compiles ONNX transformers to programs that two parties run on secret-shared values.
#[derive(Parser)]
#[command(name = "sscc", version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Compile an ONNX file to a program (.ssb) and the server's encoded weights (.ssw)
    Compile(Compile),
    /// Print a program: sizes, inputs, outputs, cost and every instruction
    Inspect {
        /// The program
        program: PathBuf,
    },
    /// Print what a run of each entry costs: rounds, bytes, material; on a link, also how long it takes
    Cost(Cost),
    /// Compare a program with the float model that it was made from: errors, where they arise, how much of each range is used
    Accuracy(Accuracy),
    /// Draw a program by layer and node, with owner, width, scale, protocol and cost of what flows between them
    Graph(GraphArgs),
    /// List the operators, constructs and functions that are supported
    Ops,
    /// Explain where the cost of a program arises, by layer and instruction; or what a code of a message means, and ways out
    Explain(explain::Explain),
    /// Say what differs between two programs; exits with 0 where nothing does, 1 where something does, 2 after an error
    Diff(diff::Diff),
    /// Print a script that completes commands and options in a shell
    Completions {
        /// The shell
        shell: Shell,
    },
    /// Write man pages, one for each command
    Man {
        /// The folder, which is made if it is not there
        #[arg(long, value_name = "DIR")]
        dir: PathBuf,
    },
}

#[derive(Args)]
struct Cost {
    /// The program
    program: PathBuf,
    /// As JSON
    #[arg(long)]
    json: bool,
    /// Predict the online time on a link: loopback, lan, wan or RTT,RATE as in 0.5ms,1gbit
    #[arg(long)]
    link: Option<Link>,
    /// Cores of each party's machine [default: both parties share a machine of two]
    #[arg(long, value_name = "N", requires = "link", value_parser = clap::value_parser!(u16).range(1..=1024))]
    cores: Option<u16>,
    /// Predict with the speed of a machine on which the program ran once: reports of both parties, one thread each
    /// [default: the machine of BENCHMARKS.md]
    #[arg(long, value_names = ["CLIENT.json", "SERVER.json"], num_args = 2, requires = "link")]
    reports: Option<Vec<PathBuf>>,
    /// What the two parties exchange to make the material of a run, or of a text: to the byte, from the weights beside the program
    #[arg(long, conflicts_with_all = ["cores", "reports"])]
    making: bool,
    /// Tokens of that text after the least prompt, or as many as the context has room for
    #[arg(long, value_name = "N", requires = "making", default_value_t = 64, value_parser = tokens)]
    tokens: usize,
}

/// A number of tokens of a text.
fn tokens(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(tokens @ 1..=1_000_000) => Ok(tokens),
        _ => Err("1 to 1000000".to_owned()),
    }
}

#[derive(Args)]
struct Accuracy {
    /// The program; its weights lie beside it as .ssw
    program: PathBuf,
    /// Inputs, by graph input name, one a row; for generation rows of token ids
    #[arg(long, value_name = "X.npz")]
    input: PathBuf,
    /// The ONNX file that the program was made from [default: what sscc compile wrote beside the program]
    #[arg(long, value_name = "MODEL.onnx")]
    model: Option<PathBuf>,
    /// As JSON
    #[arg(long)]
    json: bool,
    /// Write a page with plots, which needs no network
    #[arg(long, value_name = "FILE.html")]
    html: Option<PathBuf>,
    /// Compare no more than this many inputs
    #[arg(long, value_name = "N", default_value_t = 64)]
    rows: usize,
    /// Tokens at the end of each row that a generation is asked for one by one
    #[arg(long, value_name = "N", default_value_t = 8)]
    steps: usize,
    /// Begin no other input after this time
    #[arg(long, value_name = "SECONDS", default_value_t = 120)]
    seconds: u64,
}

#[derive(Args)]
struct GraphArgs {
    /// The program
    program: PathBuf,
    /// Where to write: .html for a page that folds and zooms, .dot for Graphviz
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// The entry [default: the first]
    #[arg(long, value_name = "NAME")]
    entry: Option<String>,
}

#[derive(Args)]
struct Compile {
    /// The ONNX file
    model: PathBuf,
    /// Where to write the program; the weights go beside it as .ssw [default: the model's name with .ssb]
    #[arg(short, long)]
    output: Option<PathBuf>,
    /// Bind a free dimension
    #[arg(long = "dim", value_name = "NAME=N", value_parser = parse_dim)]
    dims: Vec<(String, usize)>,
    /// Make an input public: a number for all of its elements, `arange` for 0, 1, .. along its last axis, or an npy file
    #[arg(long = "bind", value_name = "NAME=VALUE|FILE.npy", value_parser = parse_bind)]
    bind: Vec<(String, Bind)>,
    /// Positions whose logits a language model computes
    #[arg(long, value_enum, default_value_t = LogitsArg::Last)]
    logits: LogitsArg,
    /// Real inputs, by graph input name, one sample a row; ranges and free dimensions follow them
    #[arg(long, value_name = "X.npz")]
    calibrate: Option<PathBuf>,
    /// The link that protocols are chosen for: loopback, lan, wan or RTT,RATE as in 0.5ms,1gbit
    #[arg(long, default_value = "lan")]
    link: Link,
    /// Who will make the material: the pair of parties alone, or a dealer, which takes fewer rounds
    #[arg(long, value_enum, default_value_t = MakerArg::Pair)]
    material: MakerArg,
    /// Greatest error on inputs that calibration did not see, as a part of the output's spread; inf for any
    #[arg(long, value_name = "PART", default_value_t = 0.05, value_parser = parse_part)]
    max_error: f64,
    /// Print a stage as text instead of writing files
    #[arg(long, value_enum)]
    emit: Option<Stage>,
    #[command(flatten)]
    generation: GenerationArgs,
}

/// Any of these makes entries for generation token by token: prefill.N for prompts of up to N tokens and decode.C for one
/// token more
#[derive(Args)]
#[command(next_help_heading = "Generation")]
struct GenerationArgs {
    /// Make entries for generation, with default sizes
    #[arg(long)]
    generate: bool,
    /// Greatest number of tokens, prompt included [default: as many as the model has positions]
    #[arg(long, value_name = "TOKENS")]
    max_context: Option<usize>,
    /// Sizes of prompts, which are padded to the next [default: 16, then four times as many, up to the context]
    #[arg(long, value_name = "TOKENS,..", value_delimiter = ',')]
    prefill: Vec<usize>,
    /// Slots for tokens and padding that a further token looks back at [default: 32, then twice as many, up to what the
    /// longest session takes]
    #[arg(long, value_name = "SLOTS,..", value_delimiter = ',')]
    decode: Vec<usize>,
    /// What the client learns [default: token]
    #[arg(long, value_enum)]
    reveal: Option<RevealArg>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum RevealArg {
    /// The chosen token alone
    Token,
    /// All logits of one position, which tell much about the last layer
    Logits,
}

impl GenerationArgs {
    /// What is wanted, if anything is.
    fn wanted(&self) -> Option<Generation> {
        let given = self.generate
            || self.max_context.is_some()
            || !self.prefill.is_empty()
            || !self.decode.is_empty()
            || self.reveal.is_some();
        given.then(|| Generation {
            max_context: self.max_context,
            prefill: self.prefill.clone(),
            decode: self.decode.clone(),
            reveal: match self.reveal.unwrap_or(RevealArg::Token) {
                RevealArg::Token => Reveal::Token,
                RevealArg::Logits => Reveal::Outputs,
            },
        })
    }
}

#[derive(Clone, Copy, ValueEnum)]
enum LogitsArg {
    /// The last position only
    Last,
    /// Every position
    All,
}

#[derive(Clone, Copy, ValueEnum)]
enum MakerArg {
    /// A dealer, whom both parties trust not to collude with the other
    Dealer,
    /// The two parties alone
    Pair,
}

#[derive(Clone, Copy, ValueEnum)]
enum Stage {
    /// The imported float graph, public arithmetic folded
    Graph,
    /// The float graph after fusion
    Fused,
    /// Protocols with widths and scales
    Program,
    /// The program in rounds
    Schedule,
}

fn parse_bind(text: &str) -> Result<(String, Bind), String> {
    let (name, value) = text.split_once('=').ok_or_else(|| format!("`{text}` is not NAME=VALUE"))?;
    let value = match value {
        "arange" => Bind::Given(Given::Count),
        "true" => Bind::Given(Given::Fill(1.0)),
        "false" => Bind::Given(Given::Fill(0.0)),
        path if path.ends_with(".npy") => Bind::File(path.into()),
        number => match number.parse::<f64>() {
            Ok(number) if number.is_finite() => Bind::Given(Given::Fill(number)),
            _ => return Err(format!("`{number}` is neither a number, nor `arange`, nor a file that ends in .npy")),
        },
    };
    Ok((name.to_owned(), value))
}

fn parse_dim(text: &str) -> Result<(String, usize), String> {
    let (name, size) = text.split_once('=').ok_or_else(|| format!("`{text}` is not NAME=N"))?;
    match size.parse() {
        Ok(size) if size > 0 && !name.is_empty() => Ok((name.to_owned(), size)),
        _ => Err(format!("`{text}` is not NAME=N with a positive number N")),
    }
}

fn parse_part(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(part) if part >= 0.0 => Ok(part),
        _ => Err(format!("`{text}` is not a part such as 0.05")),
    }
}

/// The arguments that it takes.
pub fn command() -> clap::Command {
    Cli::command()
}

/// Parses arguments and runs; errors go to stderr with exit code 1.
pub fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Compile(arguments) => compile(&arguments),
        Command::Inspect { program } => load(&program).and_then(|(module, _)| print(&report::inspect(&module))),
        Command::Cost(arguments) => cost(&arguments),
        Command::Accuracy(arguments) => accuracy(arguments),
        Command::Graph(arguments) => draw(&arguments),
        Command::Ops => print(&supported::text()),
        Command::Explain(arguments) => explain::explain(&arguments),
        Command::Diff(arguments) => return diff::diff(&arguments),
        Command::Completions { shell } => completions(shell),
        Command::Man { dir } => man(&dir),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(diagnostic) => {
            eprintln!("{}", diagnostic.to_string().trim_end());
            ExitCode::FAILURE
        }
    }
}

fn cost(arguments: &Cost) -> Result<(), Diagnostic> {
    let (module, hash) = load(&arguments.program)?;
    if arguments.making {
        let made = Made::new((&arguments.program, module, hash), arguments.tokens, arguments.link)?;
        return print(&if arguments.json { format!("{:#}\n", made.json()) } else { made.text() });
    }
    let speed = match (arguments.reports.as_deref(), &module.entries[..]) {
        (Some([client, server]), [entry]) => fit::fit(entry, &reports::read(entry, client, server)?),
        (Some(_), _) => {
            return Err(Diagnostic::new(Code::Report, "reports tell of one entry, and this program has several")
                .at(arguments.program.display().to_string())
                .help("leave out --reports, or compile the model for one length without entries for generation"));
        }
        _ => Speed::built_in(),
    };
    let cores = arguments.cores.map_or(Cores::DEFAULT, Cores::Each);
    let place = arguments.link.map(|link| Place { link, cores, speed });
    let place = place.as_ref();
    print(&if arguments.json { report::cost_json(&module, place) } else { report::cost(&module, place) })
}

fn completions(shell: Shell) -> Result<(), Diagnostic> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command(), "sscc", &mut script);
    print(&String::from_utf8_lossy(&script))
}

fn man(dir: &Path) -> Result<(), Diagnostic> {
    std::fs::create_dir_all(dir).and_then(|()| clap_mangen::generate_to(command(), dir)).map_err(|e| {
        Diagnostic::new(Code::FileUnwritable, format!("man pages cannot be written: {e}"))
            .at(dir.display().to_string())
            .help("a folder that can be written, with --dir")
    })
}

fn draw(arguments: &GraphArgs) -> Result<(), Diagnostic> {
    let (module, _) = load(&arguments.program)?;
    let entry = match &arguments.entry {
        None => module.entries.first(),
        Some(name) => module.entry(name),
    };
    let entry = entry.ok_or_else(|| no_such_entry(&arguments.program, &module))?;
    let picture = Picture::new(entry);
    let name = arguments.program.file_stem().unwrap_or_default().to_string_lossy();
    let text = match arguments.output.extension().and_then(|e| e.to_str()) {
        Some("html" | "htm") => explore::page::page(&picture, &name),
        Some("dot" | "gv") => explore::dot::dot(&picture),
        _ => {
            return Err(Diagnostic::new(Code::FileUnwritable, "the name of the picture says no format")
                .at(arguments.output.display().to_string())
                .help("a name that ends in .html or .dot"));
        }
    };
    write_bytes(&arguments.output, text.as_bytes())?;
    Ok(())
}

fn no_such_entry(program: &Path, module: &Module) -> Diagnostic {
    let names: Vec<&str> = module.entries.iter().map(|entry| entry.name.as_str()).collect();
    Diagnostic::new(Code::NoSuchEntry, "the program has no such entry")
        .at(program.display().to_string())
        .because(format!("It has {}.", names.join(", ")))
}

/// Prints to stdout; a reader that closes the pipe early is no error.
fn print(text: &str) -> Result<(), Diagnostic> {
    match std::io::stdout().lock().write_all(text.as_bytes()) {
        Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Diagnostic::new(Code::FileUnwritable, format!("standard output cannot be written: {e}")))
        }
        _ => Ok(()),
    }
}

/// What the arguments of `compile` ask for.
fn options(arguments: &Compile) -> Result<Options, Diagnostic> {
    let mut dims = BTreeMap::new();
    for (name, size) in &arguments.dims {
        if dims.insert(name.clone(), *size).is_some_and(|earlier| earlier != *size) {
            return Err(Diagnostic::new(Code::TwoSizes, format!("--dim {name} is given twice with different sizes")));
        }
    }
    let mut bind = BTreeMap::new();
    for (name, value) in &arguments.bind {
        if bind.insert(name.clone(), value.clone()).is_some_and(|earlier| earlier != *value) {
            return Err(Diagnostic::new(
                Code::InputValue,
                format!("--bind {name} is given twice with different values"),
            ));
        }
    }
    Ok(Options {
        model: arguments.model.clone(),
        dims,
        bind,
        logits: match arguments.logits {
            LogitsArg::Last => Logits::Last,
            LogitsArg::All => Logits::All,
        },
        calibrate: arguments.calibrate.clone(),
        link: arguments.link,
        maker: match arguments.material {
            MakerArg::Dealer => Maker::Dealer,
            MakerArg::Pair => Maker::Pair,
        },
        generation: arguments.generation.wanted(),
    })
}

fn compile(arguments: &Compile) -> Result<(), Diagnostic> {
    let options = options(arguments)?;
    if let Some(Stage::Graph) = arguments.emit {
        // Also of a model that cannot be fused, to see why.
        let (name, imported) = pipeline::import(&options)?;
        return print(&graph::text::print(&imported.graph, graph::Stage::Graph, &name));
    }
    let compiled = pipeline::compile(&options)?;
    if let Some(stage) = arguments.emit {
        return print(&match stage {
            Stage::Graph => unreachable!("printed before"),
            Stage::Fused => graph::text::print(&compiled.fused, graph::Stage::Fused, &compiled.name),
            Stage::Program => compiled.programs.iter().map(ir::print::program).collect(),
            Stage::Schedule => compiled.schedules.iter().map(ir::print::program).collect(),
        });
    }
    let checked = accuracy::held_back(&compiled)?;
    if let Some(Ok(report)) = &checked {
        accuracy::check(report, arguments.max_error)?;
    }
    let program = arguments
        .output
        .clone()
        .unwrap_or_else(|| Path::new(arguments.model.file_name().unwrap_or_default()).with_extension("ssb"));
    let weights = program.with_extension("ssw");
    let mut written = Vec::new();
    let weights_length = write_whole(&weights, Readers::Owner, |file| {
        written = compiled.emit(file)?;
        Ok(())
    })?;
    let program_length = write_bytes(&program, &written)?;
    if compiled.plan.is_some() {
        bring_tokenizer(&arguments.model, &program)?;
    }
    let accuracy = checked.as_ref().and_then(|checked| Some(accuracy::text::kept(checked.as_ref().ok()?)));
    if let Some(recipe) = Recipe::of_process(accuracy) {
        write_whole(&recipe::path(&program), Readers::Owner, |file| Ok(file.write_all(recipe.text().as_bytes())?))?;
    }
    warn(&compiled);
    let mut text = report::compiled(&compiled, (&program, program_length), (&weights, weights_length));
    text.push_str(&match &checked {
        Some(Ok(report)) => accuracy::text::brief(report),
        Some(Err(why)) => format!("not checked on held-back inputs: {why}\n"),
        None => String::new(),
    });
    print(&text)
}

/// The arguments of a `sscc compile`.
fn compile_arguments(arguments: &[String]) -> Option<Compile> {
    let words = ["sscc", "compile"].into_iter().chain(arguments.iter().map(String::as_str));
    match Cli::try_parse_from(words).ok()?.command {
        Command::Compile(arguments) => Some(arguments),
        _ => None,
    }
}

/// The arguments that a recipe records. The process goes to its folder, since that is where their paths begin.
fn recipe_arguments(recipe: &Recipe) -> Option<Compile> {
    let (command, arguments) = recipe.arguments.split_first()?;
    let wanted = (command == "compile").then(|| compile_arguments(arguments)).flatten()?;
    std::env::set_current_dir(&recipe.folder).ok()?;
    Some(wanted)
}

fn accuracy(arguments: Accuracy) -> Result<(), Diagnostic> {
    let absolute = |path: PathBuf| std::path::absolute(&path).unwrap_or(path);
    let (program, input) = (absolute(arguments.program), absolute(arguments.input));
    let html = arguments.html.map(absolute);
    let (module, hash) = load(&program)?;
    let files = Files::read(&program, module, hash)?;
    let model = arguments.model.map(absolute);
    let mut wanted = match (Recipe::read(&program)?, &model) {
        (Some(recipe), _) => recipe_arguments(&recipe).ok_or_else(|| {
            Diagnostic::new(Code::OtherModel, "the recipe of the program makes no sense")
                .at(recipe::path(&program).display().to_string())
                .help("give the model with --model, or compile it again")
        })?,
        (None, Some(model)) => {
            compile_arguments(&[model.display().to_string()]).expect("a model is all that is needed")
        }
        (None, None) => {
            return Err(Diagnostic::new(Code::OtherModel, "nothing says which model this program was made from")
                .at(program.display().to_string())
                .help("--model MODEL.onnx"));
        }
    };
    if let Some(model) = model {
        wanted.model = model;
    }
    let options = options(&wanted)?;
    let limit = Limit {
        rows: arguments.rows,
        steps: arguments.steps,
        least_prefill: false,
        time: Duration::from_secs(arguments.seconds),
    };
    let report = files.compare(&options, &input, limit)?;
    if let Some(path) = html {
        let name = program.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        write_bytes(&path, accuracy::page::page(&report, &name).as_bytes())?;
    }
    print(&if arguments.json { accuracy::text::json(&report) } else { accuracy::text::text(&report) })
}

/// Puts the model's tokenizer beside a program that is written elsewhere, as NAME.tokenizer.json: whoever generates needs it.
fn bring_tokenizer(model: &Path, program: &Path) -> Result<(), Diagnostic> {
    let Some(tokenizer) = companions::tokenizer_file(model)? else { return Ok(()) };
    let there = std::fs::read(program.with_file_name("tokenizer.json")).is_ok_and(|there| there == tokenizer);
    if !there {
        write_bytes(&program.with_extension("tokenizer.json"), &tokenizer)?;
    }
    Ok(())
}

fn warn(compiled: &Compiled) {
    if compiled.plan.is_some() && compiled.reveal == Reveal::Outputs {
        eprintln!(
            "warning: each step reveals all logits to the client, who can work out the last layer's weights from enough \
             of them\n  try: --reveal token"
        );
    }
    if let Some((name, count)) = &compiled.one_of_many {
        eprintln!(
            "warning: of output \"{name}\" the last position alone is computed, and its {count} elements are no vocabulary; a \
             classifier of every token needs all\n  try: --logits all"
        );
    }
    for assumption in &compiled.assumed {
        eprintln!("note: assumed of every prompt: {assumption}");
    }
    compiled.worth.warnings().iter().for_each(|warning| eprintln!("{warning}"));
}

/// Writes a file that holds no secret; see [`write_whole`].
fn write_bytes(path: &Path, bytes: &[u8]) -> Result<u64, Diagnostic> {
    write_whole(path, Readers::All, |file| Ok(file.write_all(bytes)?))
}

/// Who may read a file.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Readers {
    /// Who wrote it.
    Owner,
    /// Whoever the user's own mask lets.
    All,
}

/// Writes a file so that it is there whole or not at all; gives its length.
fn write_whole(
    path: &Path,
    readers: Readers,
    write: impl FnOnce(&mut BufWriter<&mut File>) -> Result<(), EmitError>,
) -> Result<u64, Diagnostic> {
    let fault = |e: std::io::Error| {
        Diagnostic::new(Code::FileUnwritable, format!("the file cannot be written: {e}"))
            .at(path.display().to_string())
            .help("check that the folder exists and has room, or choose another place with -o")
    };
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut new = tempfile::Builder::new();
    #[cfg(unix)]
    if readers == Readers::All {
        use std::os::unix::fs::PermissionsExt;
        new.permissions(std::fs::Permissions::from_mode(0o666));
    }
    let mut file = new.tempfile_in(folder).map_err(fault)?;
    let mut buffered = BufWriter::with_capacity(1 << 20, file.as_file_mut());
    write(&mut buffered).map_err(|e| match e {
        EmitError::Refused(refused) => refused,
        EmitError::Write(e) => fault(e),
    })?;
    buffered.flush().map_err(fault)?;
    drop(buffered);
    file.as_file().sync_all().map_err(fault)?;
    let length = file.as_file().metadata().map_err(fault)?.len();
    file.persist(path).map_err(|e| fault(e.error))?;
    Ok(length)
}

/// Reads a program; also gives its hash.
fn load(path: &Path) -> Result<(Module, [u8; 32]), Diagnostic> {
    let bytes = std::fs::read(path).map_err(|e| {
        Diagnostic::new(Code::FileUnreadable, format!("the program cannot be read: {e}"))
            .at(path.display().to_string())
            .help("make one with sscc compile MODEL.onnx -o MODEL.ssb")
    })?;
    let refuse = |why: String| {
        Diagnostic::new(Code::NotProgram, format!("this is not a program that this version can run: {why}"))
            .at(path.display().to_string())
    };
    let module = ir::bytecode::decode(&bytes).map_err(|e| refuse(e.to_string()))?;
    // Costs and pictures are defined for programs that a party would run.
    ir::verify_runnable(&module, &ir::Limits::default()).map_err(|faults| {
        let said: String = faults.iter().map(|fault| format!("{fault}\n")).collect();
        said.lines().fold(refuse("it breaks the rules".to_owned()), Diagnostic::because)
    })?;
    Ok((module, ir::bytecode::hash(&bytes)))
}
