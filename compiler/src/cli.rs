//! The command line of `sscc`.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::diagnostic::{Code, Diagnostic};
use crate::entries::Generation;
use crate::lower::Reveal;
use crate::lower::variant::Link;
use crate::pass::Logits;
use crate::pipeline::{self, Compiled, Options};
use crate::predict::rates::Speed;
use crate::predict::{Cores, fit, reports};
use crate::report::Place;
use crate::{companions, graph, report};

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
    /// Explain a code of a message: what it means, why, and ways out
    Explain {
        /// The code, as in SSC0102, ssc0102 or 102
        code: String,
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
    /// Positions whose logits a language model computes
    #[arg(long, value_enum, default_value_t = LogitsArg::Last)]
    logits: LogitsArg,
    /// Real inputs, by graph input name, one sample a row; ranges and free dimensions follow them
    #[arg(long, value_name = "X.npz")]
    calibrate: Option<PathBuf>,
    /// The link that protocols are chosen for: loopback, lan, wan or RTT,RATE as in 0.5ms,1gbit
    #[arg(long, default_value = "lan")]
    link: Link,
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

fn parse_dim(text: &str) -> Result<(String, usize), String> {
    let (name, size) = text.split_once('=').ok_or_else(|| format!("`{text}` is not NAME=N"))?;
    match size.parse() {
        Ok(size) if size > 0 && !name.is_empty() => Ok((name.to_owned(), size)),
        _ => Err(format!("`{text}` is not NAME=N with a positive number N")),
    }
}

/// Parses arguments and runs; errors go to stderr with exit code 1.
pub fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Compile(arguments) => compile(&arguments),
        Command::Inspect { program } => load(&program).and_then(|p| print(&report::inspect(&p))),
        Command::Cost(arguments) => cost(&arguments),
        Command::Explain { code } => explain(&code),
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
    let module = load(&arguments.program)?;
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

fn explain(name: &str) -> Result<(), Diagnostic> {
    if let Some(code) = Code::find(name) {
        return print(code.page());
    }
    let unknown = Diagnostic::new(Code::NoSuchCode, format!("there is no code {name}"));
    Err(Code::near(name)
        .into_iter()
        .fold(unknown, |report, code| report.help(format!("sscc explain {code}: {}", code.meaning()))))
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

fn compile(arguments: &Compile) -> Result<(), Diagnostic> {
    let mut dims = BTreeMap::new();
    for (name, size) in &arguments.dims {
        if dims.insert(name.clone(), *size).is_some_and(|earlier| earlier != *size) {
            return Err(Diagnostic::new(Code::TwoSizes, format!("--dim {name} is given twice with different sizes")));
        }
    }
    let options = Options {
        model: arguments.model.clone(),
        dims,
        logits: match arguments.logits {
            LogitsArg::Last => Logits::Last,
            LogitsArg::All => Logits::All,
        },
        calibrate: arguments.calibrate.clone(),
        link: arguments.link,
        generation: arguments.generation.wanted(),
    };
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
    let program = arguments
        .output
        .clone()
        .unwrap_or_else(|| Path::new(arguments.model.file_name().unwrap_or_default()).with_extension("ssb"));
    let weights = program.with_extension("ssw");
    let artifacts = compiled.artifacts()?;
    write_whole(&weights, &artifacts.weights)?;
    write_whole(&program, &artifacts.program)?;
    if compiled.plan.is_some() {
        bring_tokenizer(&arguments.model, &program)?;
    }
    warn(&compiled);
    print(&report::compiled(&compiled, (&program, artifacts.program.len()), (&weights, artifacts.weights.len())))
}

/// Puts the model's tokenizer beside a program that is written elsewhere, as NAME.tokenizer.json: whoever generates needs it.
fn bring_tokenizer(model: &Path, program: &Path) -> Result<(), Diagnostic> {
    let Some(tokenizer) = companions::tokenizer_file(model)? else { return Ok(()) };
    let there = std::fs::read(program.with_file_name("tokenizer.json")).is_ok_and(|there| there == tokenizer);
    if there { Ok(()) } else { write_whole(&program.with_extension("tokenizer.json"), &tokenizer) }
}

fn warn(compiled: &Compiled) {
    if compiled.plan.is_some() && compiled.reveal == Reveal::Outputs {
        eprintln!(
            "warning: each step reveals all logits to the client, who can work out the last layer's weights from enough \
             of them\n  try: --reveal token"
        );
    }
    compiled.worth.warnings().iter().for_each(|warning| eprintln!("{warning}"));
}

/// Writes a file so that it is there whole or not at all.
fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), Diagnostic> {
    let fault = |e: std::io::Error| {
        Diagnostic::new(Code::FileUnwritable, format!("the file cannot be written: {e}"))
            .at(path.display().to_string())
            .help("check that the folder exists and has room, or choose another place with -o")
    };
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(folder).map_err(fault)?;
    file.write_all(bytes).map_err(fault)?;
    file.as_file().sync_all().map_err(fault)?;
    file.persist(path).map_err(|e| fault(e.error))?;
    Ok(())
}

/// Reads and verifies a program.
fn load(path: &Path) -> Result<ir::bytecode::Module, Diagnostic> {
    let bytes = std::fs::read(path).map_err(|e| {
        Diagnostic::new(Code::FileUnreadable, format!("the program cannot be read: {e}"))
            .at(path.display().to_string())
            .help("make one with sscc compile MODEL.onnx -o MODEL.ssb")
    })?;
    ir::bytecode::decode(&bytes).map_err(|e| {
        Diagnostic::new(Code::NotProgram, format!("this is not a program that this version can run: {e}"))
            .at(path.display().to_string())
    })
}
