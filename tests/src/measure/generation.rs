//! Generation from a stock: a model compiled for it, server and client as processes on loopback, and a dealer, unless the two make
//! their material.

use std::fs::{self, File};
use std::io::BufWriter;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use ir::Party;
use processes::handshake::Role;
use serde_json::{Value, json};

use super::pass::Sizes;
use super::table::{Table, median};
use crate::gpt2::{self, Gpt2Shape};
use crate::processes::{Identities, Server, output};

/// Tokens of prompt and text together, at most. The prompt takes one prefill of 16 slots.
const CONTEXT: u32 = 128;

/// Slots of the prompt.
const PREFILL: usize = 16;

/// What generates.
pub enum Subject<'a> {
    /// A model of these sizes with random weights.
    Sizes(Sizes),
    /// A compiled program, its weights and tokenizer beside it, with an entry for prompts of 16 tokens.
    Program(&'a Path),
}

/// What is generated, and how often.
pub struct Texts<'a> {
    /// Tokens of each.
    pub tokens: u32,
    /// As `ssvm run --shape` takes them, or `loopback`.
    pub links: &'a [String],
    /// Texts on each link.
    pub runs: u16,
    /// Who makes the material, as `sscc compile --material` takes it.
    pub makers: &'a [String],
}

/// Makes stocks and texts from them on each link; gives a table of medians.
pub fn measure(subject: &Subject, texts: &Texts, binaries: &Path) -> Result<Table, String> {
    let title = format!(
        "Generation of {} tokens from a stock, seconds of a token by the slots that it looks back at:",
        texts.tokens
    );
    let columns = ["material", "link", "prepared", "first", "to 32", "to 64", "to 128", "stock, MB"];
    let mut table = Table::new(title, &columns);
    for maker in texts.makers {
        measure_with(subject, texts, maker, binaries, &mut table)?;
    }
    Ok(table)
}

/// Adds the rows of one maker of material.
fn measure_with(
    subject: &Subject,
    texts: &Texts,
    maker: &str,
    binaries: &Path,
    table: &mut Table,
) -> Result<(), String> {
    let folder = tempfile::tempdir().map_err(|e| e.to_string())?;
    let prompt = match subject {
        Subject::Sizes(sizes) => {
            compile(*sizes, maker, folder.path(), binaries)?;
            "t1 t2 t3 t4"
        }
        Subject::Program(program) => {
            for (from, to) in [
                (program.to_path_buf(), "model.ssb"),
                (program.with_extension("ssw"), "model.ssw"),
                (program.with_file_name("tokenizer.json"), "tokenizer.json"),
            ] {
                fs::copy(&from, folder.path().join(to)).map_err(|e| format!("{}: {e}", from.display()))?;
            }
            "The meaning of"
        }
    };
    let identities = Identities::make()?;
    let ssvm = |command: &str, link: &str| {
        let role = match command {
            "dealer" => Role::Dealer,
            "run" => Role::Party(Party::Server),
            _ => Role::Party(Party::Client),
        };
        let mut ssvm = Command::new(binaries.join("ssvm"));
        ssvm.arg(command).args(["model.ssb", "--timeout", "300"]).current_dir(folder.path());
        ssvm.arg("--identity").arg(identities.of(role));
        if command != "dealer" && link != "loopback" {
            ssvm.args(["--shape", link]);
        }
        ssvm
    };
    let &Texts { tokens, runs, .. } = texts;
    for link in texts.links {
        let dealer = match maker {
            "dealer" => Some(Server::start(ssvm("dealer", link).args(["--listen", "127.0.0.1:0"]))?),
            _ => None,
        };
        let of_dealer: Vec<&str> = dealer.iter().flat_map(|dealer| ["--dealer", dealer.address.as_str()]).collect();
        let at_server = ["--party", "1", "--state", "server", "--listen", "127.0.0.1:0"];
        let server = Server::start(ssvm("run", link).args(at_server).args(&of_dealer))?;
        let at_client =
            [&["--connect", &server.address, "--state", "client", "--cache", "cache"], &of_dealer[..]].concat();
        let count = tokens.to_string();
        let mut taken: Vec<[f64; 6]> = Vec::new();
        for _ in 0..runs {
            let start = Instant::now();
            let sizes = ["--tokens", &count, "--prefill", &PREFILL.to_string()];
            output(ssvm("prepare", link).args(sizes).args(&at_client))?;
            let preparing = start.elapsed().as_secs_f64() / f64::from(tokens);
            let stocks = [stored(&folder.path().join("client/stock")), stored(&folder.path().join("server/stock"))];
            let asked = ["--prompt", prompt, "--max-tokens", &count, "--json"];
            let said: Value = serde_json::from_str(&output(ssvm("generate", link).args(asked).args(&at_client))?)
                .map_err(|e| format!("the report of a generation: {e}"))?;
            let seconds = said["token_seconds"].as_array().map(Vec::as_slice).unwrap_or_default();
            let seconds: Vec<f64> = seconds.iter().filter_map(Value::as_f64).collect();
            // Token i, counted from zero, looks back at the prompt's slots and i more.
            let up_to = |least: usize, most: usize| {
                let slots = (1..seconds.len()).filter(|i| (least..=most).contains(&(PREFILL + i)));
                median(slots.map(|i| seconds[i]))
            };
            let first = seconds.first().copied().unwrap_or(f64::NAN);
            let stock = stocks.iter().sum::<u64>() as f64 / 1e6 / f64::from(tokens);
            taken.push([preparing, first, up_to(1, 32), up_to(33, 64), up_to(65, 128), stock]);
        }
        let figure = |index: usize| median(taken.iter().map(|run| run[index]));
        let [preparing, first] = [0, 1].map(|i| format!("{:.2}", figure(i)));
        let [short, middle, long] = [2, 3, 4].map(|i| format!("{:.3}", figure(i)));
        table.row([maker.to_owned(), link.clone(), preparing, first, short, middle, long, format!("{:.1}", figure(5))]);
    }
    Ok(())
}

/// A model with random weights, and a tokenizer of a word for each token.
fn compile(sizes: Sizes, maker: &str, folder: &Path, binaries: &Path) -> Result<(), String> {
    let at = |name: &str| folder.join(name);
    let Sizes { layers, width, heads, vocabulary, .. } = sizes;
    let model = gpt2::build(Gpt2Shape { layers, width, heads, vocabulary, context: CONTEXT }, 1);
    let file = File::create(at("model.onnx")).map_err(|e| e.to_string())?;
    gpt2::write(model.map_err(|e| e.to_string())?, &mut BufWriter::new(file)).map_err(|e| e.to_string())?;
    let mut compile = Command::new(binaries.join("sscc"));
    compile
        .args([
            "compile",
            "--material",
            maker,
            "model.onnx",
            "-o",
            "model.ssb",
            "--generate",
            "--prefill",
            &PREFILL.to_string(),
        ])
        .current_dir(folder);
    output(compile.args(["--max-context", &CONTEXT.to_string()]))?;
    let words: serde_json::Map<String, Value> =
        (0..vocabulary).map(|token| (format!("t{token}"), json!(token))).collect();
    let tokenizer = json!({
        "version": "1.0",
        "added_tokens": [],
        "pre_tokenizer": {"type": "WhitespaceSplit"},
        "model": {"type": "WordLevel", "vocab": words, "unk_token": "t0"},
    });
    fs::write(at("tokenizer.json"), tokenizer.to_string()).map_err(|e| e.to_string())
}

/// Bytes of the files two levels below a folder.
fn stored(folder: &Path) -> u64 {
    let below = |folder: &Path| fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok);
    let files = below(folder).flat_map(|stock| below(&stock.path()));
    files.filter_map(|file| Some(file.metadata().ok()?.len())).sum()
}
