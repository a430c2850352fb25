//! Generation from a stock: a model compiled for it, dealer, server and client as processes on loopback.

use std::fs::{self, File};
use std::io::BufWriter;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use serde_json::{Value, json};

use super::pass::Sizes;
use super::table::{Table, median};
use crate::gpt2::{self, Gpt2Shape};
use crate::processes::{Server, output};

/// Tokens of prompt and text together, at most. The prompt takes one prefill of 16 slots.
const CONTEXT: u32 = 128;

/// Makes a stock and a text of `tokens` tokens from it, several times; gives a table of medians.
pub fn measure(sizes: Sizes, tokens: u32, runs: u16, binaries: &Path) -> Result<Table, String> {
    let folder = tempfile::tempdir().map_err(|e| e.to_string())?;
    compile(sizes, folder.path(), binaries)?;
    let ssvm = |command: &str| {
        let mut ssvm = Command::new(binaries.join("ssvm"));
        ssvm.arg(command).args(["model.ssb", "--timeout", "300"]).current_dir(folder.path());
        ssvm
    };
    let dealer = Server::start(ssvm("dealer").args(["--listen", "127.0.0.1:0"]))?;
    let at_server = ["--party", "1", "--dealer", &dealer.address, "--state", "server", "--listen", "127.0.0.1:0"];
    let server = Server::start(ssvm("run").args(at_server))?;
    let at_client =
        ["--connect", &server.address, "--dealer", &dealer.address, "--state", "client", "--cache", "cache"];
    let count = tokens.to_string();
    let mut taken: Vec<[f64; 4]> = Vec::new();
    for _ in 0..runs {
        let start = Instant::now();
        output(ssvm("prepare").args(["--tokens", &count]).args(at_client))?;
        let preparing = start.elapsed().as_secs_f64() / f64::from(tokens);
        let stocks = [stored(&folder.path().join("client/stock")), stored(&folder.path().join("server/stock"))];
        let asked = ["--prompt", "t1 t2 t3 t4", "--max-tokens", &count, "--json"];
        let said: Value = serde_json::from_str(&output(ssvm("generate").args(asked).args(at_client))?)
            .map_err(|e| format!("the report of a generation: {e}"))?;
        let [seconds, first] = ["seconds", "first_seconds"].map(|name| said[name].as_f64().unwrap_or(f64::NAN));
        let later = (seconds - first) / f64::from(tokens - 1);
        taken.push([preparing, first, later, stocks.iter().sum::<u64>() as f64 / 1e6 / f64::from(tokens)]);
    }
    let title = format!("Generation of {tokens} tokens from a stock on loopback, seconds of a token:");
    let mut table = Table::new(title, &["", "prepared", "first", "later", "stock, MB"]);
    let figure = |index: usize| median(taken.iter().map(|run| run[index]));
    let cells = [format!("{:.2}", figure(0)), format!("{:.2}", figure(1)), format!("{:.3}", figure(2))];
    table.row([format!("{} layers", sizes.layers)].into_iter().chain(cells).chain([format!("{:.1}", figure(3))]));
    Ok(table)
}

/// A model with random weights, and a tokenizer of a word for each token.
fn compile(sizes: Sizes, folder: &Path, binaries: &Path) -> Result<(), String> {
    let at = |name: &str| folder.join(name);
    let Sizes { layers, width, heads, vocabulary, .. } = sizes;
    let model = gpt2::build(Gpt2Shape { layers, width, heads, vocabulary, context: CONTEXT }, 1);
    let file = File::create(at("model.onnx")).map_err(|e| e.to_string())?;
    gpt2::write(model.map_err(|e| e.to_string())?, &mut BufWriter::new(file)).map_err(|e| e.to_string())?;
    let mut compile = Command::new(binaries.join("sscc"));
    compile.args(["compile", "model.onnx", "-o", "model.ssb", "--generate", "--prefill", "16"]).current_dir(folder);
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
