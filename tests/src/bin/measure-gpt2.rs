//! What a private pass of a GPT-2-shaped model costs and takes on this machine: makes the ONNX files, compiles them, runs
//! dealer, server and client as processes on loopback, and prints one table.

use std::fs::File;
use std::io::BufWriter;
use std::path::Path;
use std::process::{Command, ExitCode};

use clap::Parser;
use ndarray::Array2;
use ndarray_npy::NpzWriter;
use serde_json::Value;
use tests::gpt2::{self, Gpt2Shape};
use tests::processes::{Server, build_binaries, output};

/// Measures a private pass of a GPT-2-shaped model with made-up weights.
#[derive(Parser)]
struct Arguments {
    /// Layers; what one costs is the difference to a model of one layer
    #[arg(long, default_value_t = 12, value_parser = clap::value_parser!(u32).range(2..))]
    layers: u32,
    /// Width of the residual stream
    #[arg(long, default_value_t = 768)]
    width: u32,
    /// Attention heads
    #[arg(long, default_value_t = 12)]
    heads: u32,
    /// Tokens in the vocabulary
    #[arg(long, default_value_t = 50_257)]
    vocabulary: u32,
    /// Tokens of the prompt
    #[arg(long, default_value_t = 128)]
    tokens: u32,
    /// Runs; the table shows the median
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=100))]
    runs: u16,
}

fn main() -> ExitCode {
    match measure(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("{}", message.trim_end());
            ExitCode::FAILURE
        }
    }
}

fn measure(arguments: &Arguments) -> Result<(), String> {
    let folder = tempfile::tempdir().map_err(|e| e.to_string())?;
    let at = |name: &str| folder.path().join(name);
    let binaries = build_binaries()?;
    let ssvm = || Command::new(binaries.join("ssvm"));

    let mut costs = Vec::new();
    // One layer too: what a layer costs is the difference.
    for layers in [1, arguments.layers] {
        make(arguments, layers, &at("model.onnx"))?;
        let mut compile = Command::new(binaries.join("sscc"));
        compile.arg("compile").arg(at("model.onnx")).arg("-o").arg(at("model.ssb"));
        output(compile.args(["--dim", &format!("sequence={}", arguments.tokens)]))?;
        let cost = output(Command::new(binaries.join("sscc")).args(["cost", "--json"]).arg(at("model.ssb")))?;
        let cost: Value = serde_json::from_str(&cost).map_err(|e| e.to_string())?;
        costs.push(cost["entries"][0].clone());
    }

    let dealer = Server::start(ssvm().arg("dealer").arg(at("model.ssb")).args(["--listen", "127.0.0.1:0"]))?;
    let server = Server::start(
        ssvm()
            .arg("run")
            .arg(at("model.ssb"))
            .args(["--party", "1", "--listen", "127.0.0.1:0", "--timeout", "300", "--dealer", &dealer.address])
            .arg("--state")
            .arg(at("server"))
            .arg("--report")
            .arg(at("server.json")),
    )?;
    let ids = Array2::from_shape_fn((1, arguments.tokens as usize), |(_, i)| {
        (i as i64 * 7919 + 13) % i64::from(arguments.vocabulary)
    });
    let mut npz = NpzWriter::new(File::create(at("x.npz")).map_err(|e| e.to_string())?);
    npz.add_array("input_ids", &ids).map_err(|e| e.to_string())?;
    npz.finish().map_err(|e| e.to_string())?;
    let mut reports = Vec::new();
    for _ in 0..arguments.runs {
        output(
            ssvm()
                .arg("run")
                .arg(at("model.ssb"))
                .args(["--party", "0", "--connect", &server.address, "--dealer", &dealer.address, "--timeout", "300"])
                .args(["--input", "x.npz", "--report", "client.json", "--cache", "cache", "--state", "client"])
                .current_dir(folder.path()),
        )?;
        reports.push(read(&at("client.json"))?);
    }
    let served = read(&at("server.json"))?;
    print(arguments, &costs, &reports, &served, dealer.peak_rss_bytes());
    Ok(())
}

fn make(arguments: &Arguments, layers: u32, path: &Path) -> Result<(), String> {
    let shape = Gpt2Shape {
        layers,
        width: arguments.width,
        heads: arguments.heads,
        vocabulary: arguments.vocabulary,
        context: arguments.tokens,
    };
    let file = File::create(path).map_err(|e| e.to_string())?;
    let model = gpt2::build(shape, 1).map_err(|e| e.to_string())?;
    gpt2::write(model, &mut BufWriter::new(file)).map_err(|e| e.to_string())
}

fn read(path: &Path) -> Result<Value, String> {
    let text = std::fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))?;
    serde_json::from_str(&text).map_err(|e| format!("{}: {e}", path.display()))
}

fn print(arguments: &Arguments, costs: &[Value], reports: &[Value], served: &Value, dealer_rss: Option<u64>) {
    let claim = |i: usize, name: &str| costs[i][name].as_f64().unwrap_or(f64::NAN);
    let between = f64::from(arguments.layers - 1);
    let layer = |name: &str| (claim(1, name) - claim(0, name)) / between;
    let both = |of: &dyn Fn(&str) -> f64| of("client_sent_bytes") + of("server_sent_bytes");
    let whole = |name: &str| claim(1, name);
    let median = |name: &str| {
        let mut values: Vec<f64> = reports.iter().map(|r| r[name].as_f64().unwrap_or(f64::NAN)).collect();
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    };
    let first = |name: &str| reports[0][name].as_f64().unwrap_or(f64::NAN);
    let memory = |bytes: Option<f64>| bytes.map_or("unknown".to_owned(), |b| format!("{:.2} GB", b / 1e9));
    println!(
        "{} layers, width {}, {} heads, vocabulary {}, {} tokens; made-up weights; trusted dealer",
        arguments.layers, arguments.width, arguments.heads, arguments.vocabulary, arguments.tokens
    );
    println!("                              a layer      whole pass");
    println!("rounds                     {:>10.2} {:>15}", layer("rounds"), whole("rounds"));
    println!("one-way messages           {:>10.2} {:>15}", layer("one_way_messages"), whole("one_way_messages"));
    println!("sent, both ways            {:>7.2} MB {:>12.2} MB", both(&layer) / 1e6, both(&whole) / 1e6);
    println!(
        "before the input is known  {:>7.2} MB {:>12.2} MB",
        layer("client_ahead_bytes") / 1e6,
        whole("client_ahead_bytes") / 1e6
    );
    println!(
        "material, both parties     {:>7.1} MB {:>12.1} MB",
        layer("material_bytes") / 1e6,
        whole("material_bytes") / 1e6
    );
    println!("\nseconds on loopback, median of {}", reports.len());
    println!("once: masked weights       {:>10.3}   ({:.0} MB)", first("setup_seconds"), first("setup_bytes") / 1e6);
    println!("ahead of the input         {:>10.3}", median("prepare_seconds"));
    println!("dealing, beyond that       {:>10.3}", median("dealing_seconds"));
    println!("online, input to output    {:>10.3}", median("online_seconds"));
    println!(
        "\npeak memory: client {}, server {}, dealer {}",
        memory(Some(first("peak_rss_bytes"))),
        memory(served["peak_rss_bytes"].as_f64()),
        memory(dealer_rss.map(|b| b as f64))
    );
}
