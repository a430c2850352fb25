//! A private generation, everything started for the user: compiles the shipped model, starts both parties as separate
//! processes on loopback, has them make what they will consume, continues a prompt token by token, and checks the text against the
//! float evaluator.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

use clap::Parser;
use ndarray::ArrayD;
use serde_json::Value;
use sscc::graph::{self, Tensor};
use sscc::onnx::{self, Bindings};
use tests::processes::{Server, build_binaries, output, repository};
use text::{Detokenizer, Text};

/// Private generation with the shipped model.
#[derive(Parser)]
#[command(name = "cargo demo")]
struct Arguments {
    /// What to continue.
    #[arg(long, default_value = "ROMEO:\nI will not speak of love; my heart is")]
    prompt: String,
    /// Tokens to generate.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..=112))]
    tokens: u16,
}

/// Sizes of prompts that it is compiled for.
const PREFILL: [usize; 2] = [16, 64];

/// Tokens of prompt and continuation that the compiled program has room for.
const CONTEXT: usize = 128;

/// A choice between tokens whose logits are nearer than this may differ from the float evaluator's.
const NEAR: f32 = 0.1;

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
    let prompt = text.encode_prompt(&arguments.prompt).map_err(|e| e.to_string())?;
    let tokens = usize::from(arguments.tokens);
    if prompt.is_empty() || prompt.len() + tokens > CONTEXT {
        return Err(format!(
            "error: the prompt has {} tokens; with {tokens} to generate the context of {CONTEXT} must hold them\n  \
             try: a shorter --prompt, or fewer --tokens",
            prompt.len(),
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
            .arg(models.join("calibration.npz"))
            .args(["--generate", "--max-context", &CONTEXT.to_string()])
            .args(["--prefill", &PREFILL.map(|size| size.to_string()).join(",")]),
    )?;
    let compile_seconds = started.elapsed().as_secs_f64();

    step("making a key for each side, and pinning each other's");
    let ssvm = |side: &str, command: &str| {
        let mut ssvm = Command::new(binaries.join("ssvm"));
        ssvm.arg(command).arg("--identity").arg(at(side).join("identity"));
        ssvm
    };
    for side in ["client", "server"] {
        output(&mut ssvm(side, "keygen"))?;
    }
    for (side, other) in [("client", "server"), ("server", "client")] {
        let public = at(other).join("identity/identity.pub");
        output(ssvm(side, "pair").args(["--as", other, "--file"]).arg(public))?;
    }

    step("starting the server; it and the client are processes of their own, and there is no third one");
    let server = Server::start(
        ssvm("server", "run")
            .arg(at("model.ssb"))
            .args(["--party", "1", "--listen", "127.0.0.1:0", "--log", "warn"])
            .arg("--state")
            .arg(at("server")),
    )?;
    let client = |command: &str| {
        let mut client = ssvm("client", command);
        client.arg(at("model.ssb")).args(["--connect", &server.address]);
        client.arg("--cache").arg(at("cache")).arg("--state").arg(at("client"));
        client
    };

    step(&format!("both parties make the randomness of {tokens} tokens, without seeing prompt or text"));
    let started = Instant::now();
    let size = PREFILL.into_iter().find(|&size| size >= prompt.len()).unwrap_or(CONTEXT);
    output(client("prepare").args(["--tokens", &tokens.to_string(), "--prefill", &size.to_string()]))?;
    let making_seconds = started.elapsed().as_secs_f64();

    println!("\n{}", rule("the client's text, as it comes"));
    print!("{}", arguments.prompt);
    let started = Instant::now();
    let said = shown(
        client("generate")
            .arg("--tokenizer")
            .arg(models.join("tokenizer.json"))
            .args(["--prompt", &arguments.prompt, "--max-tokens", &arguments.tokens.to_string()])
            .arg("--report")
            .arg(at("report.json")),
    )?;
    let seconds = started.elapsed().as_secs_f64();
    println!();

    let report = std::fs::read_to_string(at("report.json")).map_err(|e| e.to_string())?;
    let report: Value = serde_json::from_str(&report).map_err(|e| e.to_string())?;
    let figure = |name: &str| report[name].as_f64().unwrap_or(f64::NAN);
    let count = figure("tokens");
    println!("{}", rule("what it took"));
    println!("  tokens a second                  {:>8.1}", count / figure("seconds"));
    println!(
        "  MB a token, both ways            {:>8.3}",
        (figure("sent_bytes") + figure("received_bytes")) / count / 1e6
    );
    println!("  seconds, with start and set-up   {seconds:>8.2}");
    println!("  seconds for making randomness    {making_seconds:>8.2}");
    println!("  seconds for compiling, once      {compile_seconds:>8.2}");
    println!();
    println!("{}", rule("check"));
    let checked = check(&model, &text, &prompt, &said, count as usize)?;
    println!("  {checked}");
    println!();
    println!("{}", rule("who learned what (semi-honest parties, no third party)"));
    println!(
        "  client   the text, and how many elements left their tables; nothing of the weights but what these tell"
    );
    println!("  server   nothing of prompt and text but their numbers of tokens ({} and {count})", prompt.len());
    println!("  both     the program: architecture, sizes, calibrated ranges, and when messages are sent");
    Ok(())
}

fn step(what: &str) {
    println!("- {what}");
}

fn rule(title: &str) -> String {
    format!("== {title} {}", "=".repeat(92usize.saturating_sub(title.len())))
}

/// Runs a command and shows its stdout as it comes; gives all of it without the last line's end.
fn shown(command: &mut Command) -> Result<String, String> {
    let mut child = command.stdout(Stdio::piped()).spawn().map_err(|e| format!("{command:?}: {e}"))?;
    let mut stdout = child.stdout.take().expect("stdout is piped");
    let (mut all, mut buffer) = (Vec::new(), [0; 4096]);
    loop {
        match stdout.read(&mut buffer).map_err(|e| e.to_string())? {
            0 => break,
            n => {
                all.extend_from_slice(&buffer[..n]);
                let mut out = std::io::stdout().lock();
                out.write_all(&buffer[..n]).and_then(|()| out.flush()).map_err(|e| e.to_string())?;
            }
        }
    }
    let status = child.wait().map_err(|e| e.to_string())?;
    if !status.success() {
        return Err(format!("error: the client ended with {status}"));
    }
    let text = String::from_utf8_lossy(&all).into_owned();
    Ok(text.strip_suffix('\n').unwrap_or(&text).to_owned())
}

/// Compares a text with what the float evaluator finds likeliest; gives a sentence, or an error where they differ by
/// more than a choice between near logits.
fn check(model: &Path, text: &Text, prompt: &[u32], said: &str, count: usize) -> Result<String, String> {
    let float = Float { model: model.to_owned() };
    let mut ids = prompt.to_vec();
    let mut detokenizer = Detokenizer::after(text, prompt).map_err(|e| e.to_string())?;
    let mut wanted = String::new();
    for number in 0..count {
        let logits = float.last_logits(&ids)?;
        let token = greatest(&logits);
        ids.push(token as u32);
        let before = wanted.len();
        wanted += &detokenizer.push(text, token as u32).map_err(|e| e.to_string())?;
        if !said.starts_with(&wanted) {
            let second = (0..logits.len()).filter(|&i| i != token).map(|i| logits[i]).fold(f32::NEG_INFINITY, f32::max);
            let margin = logits[token] - second;
            if said.starts_with(&wanted[..before]) && margin < NEAR {
                return Ok(format!(
                    "the float evaluator says the same for {number} tokens, then chooses another: a margin of {margin:.4}"
                ));
            }
            return Err(format!("error: token {number} is not the float evaluator's, whose margin is {margin:.4}"));
        }
    }
    Ok(format!("the float evaluator says the same {count} tokens"))
}

fn greatest(logits: &[f32]) -> usize {
    (0..logits.len()).max_by(|&a, &b| logits[a].total_cmp(&logits[b])).expect("a vocabulary")
}

/// The model in floating point, for the check.
struct Float {
    model: PathBuf,
}

impl Float {
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
