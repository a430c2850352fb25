//! A private generation, everything started for the user: compiles the shipped model, starts the dealer and both parties
//! as separate processes on loopback, asks for a continuation of a prompt, checks it against the float evaluator.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Instant;

use clap::Parser;
use ndarray::{Array2, ArrayD};
use ndarray_npy::{NpzReader, NpzWriter};
use serde_json::Value;
use sscc::graph::{self, Tensor};
use sscc::onnx::{self, Bindings};
use ssvm::generate::Text;
use tests::processes::{Server, build_binaries, output, repository};

/// Private generation with the shipped model.
#[derive(Parser)]
#[command(name = "cargo demo")]
struct Arguments {
    /// What to continue.
    #[arg(long, default_value = "ROMEO:\nI will not speak of love; my heart is")]
    prompt: String,
    /// Tokens to generate.
    #[arg(long, default_value_t = 12, value_parser = clap::value_parser!(u16).range(1..=48))]
    tokens: u16,
}

/// Positions of the compiled program.
const POSITIONS: usize = 64;

fn main() -> ExitCode {
    match demo(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("{}", message.trim_end());
            ExitCode::FAILURE
        }
    }
}

fn demo(arguments: &Arguments) -> Result<(), String> {
    let models = repository().join("models/tiny-shakespeare");
    let text = Text::load(&models.join("tokenizer.json")).map_err(|e| e.to_string())?;
    let mut ids = text.encode(&arguments.prompt).map_err(|e| e.to_string())?;
    if ids.is_empty() || ids.len() + arguments.tokens as usize > POSITIONS {
        return Err(format!(
            "error: the prompt has {} tokens; with {} to generate the program's {POSITIONS} positions must hold them\n  \
             try: a shorter --prompt, or fewer --tokens",
            ids.len(),
            arguments.tokens
        ));
    }

    let folder = tempfile::tempdir().map_err(|e| format!("error: no temporary folder: {e}"))?;
    let at = |name: &str| folder.path().join(name);
    step("building sscc and ssvm");
    let binaries = build_binaries()?;
    let model = models.join("model.onnx");

    step("compiling models/tiny-shakespeare/model.onnx: 4 layers, 940,800 parameters");
    let started = Instant::now();
    output(
        Command::new(binaries.join("sscc"))
            .arg("compile")
            .arg(&model)
            .arg("-o")
            .arg(at("model.ssb"))
            .arg("--calibrate")
            .arg(models.join("calibration.npz")),
    )?;
    let compile_seconds = started.elapsed().as_secs_f64();

    step("starting the dealer and the server; each of them, and the client, is a process of its own");
    let ssvm = || Command::new(binaries.join("ssvm"));
    let dealer = Server::start(ssvm().arg("dealer").arg(at("model.ssb")).args(["--listen", "127.0.0.1:0"]))?;
    let server = Server::start(
        ssvm()
            .arg("run")
            .arg(at("model.ssb"))
            .args(["--party", "1", "--listen", "127.0.0.1:0", "--dealer", &dealer.address])
            .arg("--weights")
            .arg(at("model.ssw")),
    )?;

    let float = Float::load(&model)?;
    println!("\n{}", rule("the client's text, one private pass a token"));
    let mut shown = text.decode(&ids).map_err(|e| e.to_string())?;
    print!("{shown}");
    let mut totals = Totals::default();
    let mut agreed = 0;
    let mut greatest_error = 0f32;
    for _ in 0..arguments.tokens {
        write_prompt(&at("x.npz"), &ids)?;
        output(
            ssvm()
                .arg("run")
                .arg(at("model.ssb"))
                .args(["--party", "0", "--connect", &server.address, "--dealer", &dealer.address])
                .arg("--cache")
                .arg(at("cache"))
                .arg("--input")
                .arg(at("x.npz"))
                .arg("--output")
                .arg(at("y.npz"))
                .arg("--report")
                .arg(at("report.json")),
        )?;
        let logits = read_logits(&at("y.npz"))?;
        let wanted = float.last_logits(&ids)?;
        let token = greatest(&logits);
        agreed += usize::from(token == greatest(&wanted));
        greatest_error = logits.iter().zip(&wanted).fold(greatest_error, |m, (a, b)| m.max((a - b).abs()));
        totals.add(&at("report.json"))?;
        ids.push(token as u32);
        // A token may end in the middle of a character; what is printed is only ever added to.
        let whole = text.decode(&ids).map_err(|e| e.to_string())?;
        if let Some(more) = whole.trim_end_matches('\u{fffd}').strip_prefix(shown.as_str()) {
            print!("{more}");
            shown.push_str(more);
        }
        std::io::stdout().flush().map_err(|e| e.to_string())?;
    }
    println!("\n");

    let tokens = usize::from(arguments.tokens);
    println!("{}", rule("check"));
    println!("  next token equal to the float evaluator's   {agreed} of {tokens}");
    println!("  greatest error of a logit                   {greatest_error:.4}");
    println!();
    totals.print(tokens, compile_seconds);
    println!("{}", rule("who learned what (semi-honest parties, trusted dealer)"));
    println!("  client   the logits of the last position; nothing of the weights but what those logits tell");
    println!("  server   nothing of the prompt but its number of tokens ({} to {})", ids.len() - tokens, ids.len() - 1);
    println!("  dealer   neither prompt nor weights: it hands out randomness and receives no message of theirs");
    println!("  all      the program: architecture, sizes, calibrated ranges, and when messages are sent");
    if agreed < tokens {
        println!(
            "\n  {} token(s) differ from the float evaluator's: near-ties within the error above.",
            tokens - agreed
        );
    }
    if greatest_error > 0.08 {
        return Err(format!("error: a logit is off by {greatest_error:.3}; at most 0.08 is expected of this model"));
    }
    Ok(())
}

fn step(what: &str) {
    println!("- {what}");
}

fn rule(title: &str) -> String {
    format!("== {title} {}", "=".repeat(92usize.saturating_sub(title.len())))
}

fn greatest(logits: &[f32]) -> usize {
    (0..logits.len()).max_by(|&a, &b| logits[a].total_cmp(&logits[b])).expect("a vocabulary")
}

fn write_prompt(path: &Path, ids: &[u32]) -> Result<(), String> {
    let ids = Array2::from_shape_fn((1, ids.len()), |(_, i)| i64::from(ids[i]));
    let mut npz = NpzWriter::new(File::create(path).map_err(|e| e.to_string())?);
    npz.add_array("input_ids", &ids).map_err(|e| e.to_string())?;
    npz.finish().map_err(|e| e.to_string())?;
    Ok(())
}

fn read_logits(path: &Path) -> Result<Vec<f32>, String> {
    let mut npz = NpzReader::new(File::open(path).map_err(|e| e.to_string())?).map_err(|e| e.to_string())?;
    let logits: ArrayD<f32> = npz.by_name("logits").map_err(|e| e.to_string())?;
    Ok(logits.into_iter().collect())
}

/// The model in floating point, for the check.
struct Float {
    model: PathBuf,
}

impl Float {
    fn load(model: &Path) -> Result<Float, String> {
        Ok(Float { model: model.to_owned() })
    }

    fn last_logits(&self, ids: &[u32]) -> Result<Vec<f32>, String> {
        let shape = vec![1, ids.len()];
        let bindings =
            Bindings { input_shapes: BTreeMap::from([("input_ids".to_owned(), shape)]), ..Bindings::default() };
        let imported = onnx::import(&self.model, &bindings).map_err(|e| e.to_string())?;
        let tokens = ArrayD::from_shape_fn(vec![1, ids.len()], |i| i64::from(ids[i[1]]));
        let inputs = BTreeMap::from([("input_ids".to_owned(), Tensor::I64(tokens))]);
        let outputs =
            graph::eval::evaluate(&imported.graph, &inputs, None, &mut |_, _| {}).map_err(|e| e.to_string())?;
        let Some((_, Tensor::F32(logits))) = outputs.into_iter().next() else { return Err("no logits".to_owned()) };
        let vocabulary = logits.shape()[2];
        Ok(logits.iter().copied().skip((ids.len() - 1) * vocabulary).collect())
    }
}

/// Sums over the reports of all passes.
#[derive(Default)]
struct Totals {
    passes: usize,
    last: BTreeMap<String, f64>,
    seconds: BTreeMap<String, f64>,
}

impl Totals {
    fn add(&mut self, path: &Path) -> Result<(), String> {
        let report: Value = serde_json::from_str(&std::fs::read_to_string(path).map_err(|e| e.to_string())?)
            .map_err(|e| e.to_string())?;
        let fields = report.as_object().ok_or("a report is an object")?;
        for (name, value) in fields {
            if let Some(number) = value.as_f64() {
                self.last.insert(name.clone(), number);
                if name.ends_with("_seconds") {
                    *self.seconds.entry(name.clone()).or_default() += number;
                }
            }
        }
        self.passes += 1;
        Ok(())
    }

    fn print(&self, tokens: usize, compile_seconds: f64) {
        let last = |name: &str| self.last.get(name).copied().unwrap_or(f64::NAN);
        let mean = |name: &str| self.seconds.get(name).copied().unwrap_or(f64::NAN) / self.passes as f64;
        println!("{}", rule(&format!("one pass, {POSITIONS} positions (client's side; mean of {tokens})")));
        println!("  rounds + one-way messages     {:>8} + {}", last("rounds"), last("one_way_messages"));
        println!(
            "  sent, received by the client  {:>8.2} MB, {:.2} MB",
            last("sent_bytes") / 1e6,
            last("received_bytes") / 1e6
        );
        println!("  material to the client        {:>8.2} MB", last("material_bytes") / 1e6);
        println!("  seconds: ahead of the input   {:>8.3}", mean("prepare_seconds"));
        println!("           dealing, beyond that {:>8.3}", mean("dealing_seconds"));
        println!("           online               {:>8.3}", mean("online_seconds"));
        println!("  once: compiling               {compile_seconds:>8.2}");
        println!(
            "        masked weights          {:>8.2}",
            self.seconds.get("setup_seconds").copied().unwrap_or(f64::NAN)
        );
        println!();
    }
}
