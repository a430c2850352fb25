//! What private passes of GPT-2-shaped models cost and take on this machine: makes the models, compiles them, runs dealer,
//! server and client as processes on loopback and on links that `ssvm` slows down, and prints the tables of BENCHMARKS.md.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use serde_json::Value;
use sscc::predict::{fit, rates::Rate, work};
use tests::measure::generation::Subject;
use tests::measure::pass::{Model, Passes, Sizes, Taken, Way};
use tests::measure::peers::{self, PEERS};
use tests::measure::table::Table;
use tests::measure::{document, generation, place};
use tests::processes::{build_binaries, repository};

/// Measures private passes of GPT-2-shaped models with made-up weights.
#[derive(Parser)]
struct Arguments {
    /// Layers
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
    /// Tokens of the prompt, several after commas
    #[arg(long, value_delimiter = ',', default_value = "16,32,64,128")]
    tokens: Vec<u32>,
    /// Links, several after commas: loopback, lan (0.5 ms, 1 Gbit/s), wan (40 ms, 100 Mbit/s)
    #[arg(long, value_delimiter = ',', default_value = "loopback,lan,wan")]
    links: Vec<String>,
    /// Runs; tables show the median
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=100))]
    runs: u16,
    /// Measure with dealing overlapped, too
    #[arg(long)]
    overlap: bool,
    /// Run the scripts in benches/peers beside the longest prompt, once each
    #[arg(long)]
    peers: bool,
    /// Write the tables into a document that has the marker lines, as BENCHMARKS.md
    #[arg(long, value_name = "FILE.md")]
    markdown: Option<PathBuf>,
    /// Only measure what a unit of each op's work takes, and write it into the compiler for `sscc cost --link`
    #[arg(long, conflicts_with_all = ["peers", "markdown", "overlap", "links"])]
    fit: bool,
    /// Only measure generation: texts of so many tokens, each from a stock
    #[arg(long, value_name = "TOKENS", value_parser = clap::value_parser!(u32).range(2..=112),
          conflicts_with_all = ["peers", "markdown", "overlap", "tokens", "fit"])]
    generate: Option<u32>,
    /// With --generate: who makes the material, `dealer` or `pair`, several after commas
    #[arg(long, value_delimiter = ',', default_value = "dealer", requires = "generate", value_parser = ["dealer", "pair"])]
    material: Vec<String>,
    /// With --generate: measure this program instead, its .ssw and tokenizer.json beside it, compiled with a prefill of 16
    #[arg(long, value_name = "FILE.ssb", requires = "generate", conflicts_with_all = ["layers", "width", "heads", "vocabulary"])]
    program: Option<PathBuf>,
}

impl Arguments {
    fn sizes(&self, layers: u32, tokens: u32) -> Sizes {
        Sizes { layers, width: self.width, heads: self.heads, vocabulary: self.vocabulary, tokens }
    }

    /// Every way to run, loopback first: the masked weights go over an unhindered link.
    fn ways(&self) -> Vec<Way<'_>> {
        let mut links: Vec<&str> = self.links.iter().map(String::as_str).collect();
        links.sort_by_key(|&link| link != "loopback");
        let overlaps: &[bool] = if self.overlap { &[false, true] } else { &[false] };
        let way = |link, overlap| Way { link, overlap, one_thread: false };
        links.into_iter().flat_map(|link| overlaps.iter().map(move |&overlap| way(link, overlap))).collect()
    }
}

fn main() -> ExitCode {
    let mut arguments = Arguments::parse();
    arguments.tokens.sort_unstable();
    arguments.tokens.dedup();
    let done = match arguments.generate {
        Some(tokens) => generate(&arguments, tokens),
        None if arguments.fit => fit_rates(&arguments),
        None => measure(&arguments),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("{}", message.trim_end());
            ExitCode::FAILURE
        }
    }
}

/// Generation alone.
fn generate(arguments: &Arguments, tokens: u32) -> Result<(), String> {
    let (machine, binaries) = (place::describe(), build_binaries()?);
    let subject = match &arguments.program {
        Some(program) => Subject::Program(program),
        None => Subject::Sizes(arguments.sizes(arguments.layers, tokens)),
    };
    let texts =
        generation::Texts { tokens, links: &arguments.links, runs: arguments.runs, makers: &arguments.material };
    let table = generation::measure(&subject, &texts, &binaries)?;
    print!("{machine}. Median of {} runs.\n\n{}", arguments.runs, table.print());
    Ok(())
}

/// One model and what its passes took.
struct Measured {
    model: Model,
    /// In the order of [`Arguments::ways`].
    taken: Vec<Taken>,
    /// With one thread a party.
    alone: Taken,
}

/// How the speed of a core is measured.
const ALONE: Way<'static> = Way { link: "loopback", overlap: false, one_thread: true };

fn measure(arguments: &Arguments) -> Result<(), String> {
    let machine = place::describe();
    let binaries = build_binaries()?;
    let ways = arguments.ways();
    let compile = |layers, tokens| {
        eprintln!("compiling {layers} layers, {tokens} tokens");
        Model::compile(arguments.sizes(layers, tokens), &binaries)
    };
    let longest = *arguments.tokens.last().ok_or("--tokens names no length")?;
    let mut models: Vec<Model> =
        arguments.tokens.iter().map(|&tokens| compile(arguments.layers, tokens)).collect::<Result<_, _>>()?;
    // Half the layers: what a layer costs is the difference.
    models.push(compile(arguments.layers / 2, longest)?);

    // The first way of all models in turn: growth is read from it, and the machine's speed changes from minute to minute.
    eprintln!("running each, {}", ways[0].link);
    let mut in_turn = models.iter().map(|model| model.start(ways[0])).collect::<Result<Vec<_>, _>>()?;
    for _ in 0..arguments.runs {
        in_turn.iter_mut().try_for_each(Passes::run)?;
    }
    let mut first = in_turn.iter().map(Passes::taken).collect::<Result<Vec<_>, _>>()?;
    drop(in_turn);
    let half = models.pop().zip(first.pop()).expect("pushed above");
    let mut measured = Vec::new();
    for (model, first) in models.into_iter().zip(first) {
        eprintln!("running {} tokens on every link", model.sizes.tokens);
        let mut taken = vec![first];
        for &way in &ways[1..] {
            taken.push(model.run(way, arguments.runs)?);
        }
        let alone = model.run(ALONE, arguments.runs)?;
        measured.push(Measured { model, taken, alone });
    }
    let peers = match arguments.peers {
        true => PEERS.iter().map(|name| peers::run(name, arguments.sizes(arguments.layers, longest))).collect(),
        false => Ok(Vec::new()),
    }?;

    let whole = measured.last().expect("a length at least");
    let mut out = format!(
        "{} layers, width {}, {} heads, vocabulary {}; made-up weights; trusted dealer.\n{machine}. Median of {} runs. \
         Both parties and the dealer share the machine; they slow their messages down by themselves to be a slower link.\n",
        arguments.layers, arguments.width, arguments.heads, arguments.vocabulary, arguments.runs
    );
    for table in [seconds(&measured, &ways)?, sizes(&measured), growth(&measured, (&half.0, &half.1), arguments)] {
        out = out + "\n" + &table.print();
    }
    if !peers.is_empty() {
        out = out + "\n" + &beside(&peers, whole, &ways[0]).print();
        for peer in &peers {
            out += &format!("\n{}: embeddings {}; {}.\n", peer.name, peer.embedding, peer.includes);
        }
    }
    print!("{out}");
    arguments.markdown.as_ref().map_or(Ok(()), |path| document::update(path, &out))
}

fn megabytes(bytes: f64) -> String {
    format!("{:.1}", bytes / 1e6)
}

fn gigabytes(bytes: f64) -> String {
    format!("{:.2}", bytes / 1e9)
}

/// Seconds of every length and way.
fn seconds(measured: &[Measured], ways: &[Way<'_>]) -> Result<Table, String> {
    let columns = [
        "tokens, link",
        "dealing",
        "ahead",
        "online",
        "all three",
        "predicted",
        "predicted / online",
        "online / sum of parts",
    ];
    let mut table = Table::new("Seconds of a pass:", &columns);
    for Measured { model, taken, alone } in measured {
        let unhindered = if ways[0].link == "loopback" { &taken[0] } else { alone };
        for (way, pass) in ways.iter().zip(taken) {
            // What is predicted is a pass whose material is there.
            let predicted = if way.overlap { None } else { Some(model.predict(way.link, alone)?) };
            let shown = |value: Option<f64>| value.map_or("-".to_owned(), |v| format!("{v:.2}"));
            let parts =
                predicted.filter(|_| way.link != "loopback").map(|p| p.link_seconds + unhindered.online_seconds);
            let overlapped = if way.overlap { ", dealing overlapped" } else { "" };
            table.row([
                format!("{}, {}{overlapped}", model.sizes.tokens, way.link),
                format!("{:.2}", pass.dealing_seconds),
                format!("{:.2}", pass.ahead_seconds),
                format!("{:.2}", pass.online_seconds),
                format!("{:.2}", pass.whole_seconds()),
                shown(predicted.map(|p| p.online_seconds)),
                shown(predicted.map(|p| p.online_seconds / pass.online_seconds)),
                shown(parts.map(|parts| pass.online_seconds / parts)),
            ]);
        }
    }
    Ok(table)
}

/// Messages, bytes and memory of every length.
fn sizes(measured: &[Measured]) -> Table {
    let columns = [
        "tokens",
        "rounds",
        "one-way",
        "sent, MB",
        "of it ahead",
        "material, MB",
        "setup, MB",
        "setup, s",
        "client, GB",
        "server, GB",
        "dealer, GB",
    ];
    let mut table = Table::new("Messages, bytes of both ways and parties, and peak memory:", &columns);
    for Measured { model, taken, .. } in measured {
        let first = &taken[0];
        let [client, server, dealer] = first.memory_bytes.map(gigabytes);
        table.row([
            model.sizes.tokens.to_string(),
            model.claim("rounds").to_string(),
            model.claim("one_way_messages").to_string(),
            megabytes(first.sent_bytes),
            megabytes(first.ahead_bytes),
            megabytes(model.claim("material_bytes")),
            megabytes(model.claim("setup_bytes")),
            format!("{:.2}", first.setup_seconds),
            client,
            server,
            dealer,
        ]);
    }
    table
}

/// What doubling the tokens or the layers multiplies, and what a layer adds.
fn growth(measured: &[Measured], half: (&Model, &Taken), arguments: &Arguments) -> Table {
    let mut table = Table::new(
        "Growth, on the first link:",
        &["", "rounds", "sent", "material", "dealing, s", "ahead, s", "online, s"],
    );
    let figures = |(model, taken): (&Model, &Taken)| {
        let claims = [model.claim("rounds"), taken.sent_bytes, model.claim("material_bytes")];
        [claims[0], claims[1], claims[2], taken.dealing_seconds, taken.ahead_seconds, taken.online_seconds]
    };
    let mut ratio = |what: String, less, more| {
        let (less, more) = (figures(less), figures(more));
        table.row([what].into_iter().chain((0..6).map(|i| format!("x {:.2}", more[i] / less[i]))));
    };
    let all: Vec<(&Model, &Taken)> = measured.iter().map(|m| (&m.model, &m.taken[0])).collect();
    for pair in all.windows(2) {
        ratio(format!("{} to {} tokens", pair[0].0.sizes.tokens, pair[1].0.sizes.tokens), pair[0], pair[1]);
    }
    let whole = *all.last().expect("a length at least");
    let (layers, tokens) = (half.0.sizes.layers, whole.0.sizes.tokens);
    ratio(format!("{layers} to {} layers, {tokens} tokens", arguments.layers), half, whole);
    let (less, more, added) = (figures(half), figures(whole), f64::from(arguments.layers - layers));
    let a_layer = |i: usize| (more[i] - less[i]) / added;
    let cells = [
        format!("a layer, {tokens} tokens"),
        format!("{:.1}", a_layer(0)),
        format!("{} MB", megabytes(a_layer(1))),
        format!("{} MB", megabytes(a_layer(2))),
        format!("{:.3}", a_layer(3)),
        format!("{:.3}", a_layer(4)),
        format!("{:.3}", a_layer(5)),
    ];
    table.row(cells);
    table
}

/// Peers and their ratios to the same pass here: its online phase alone, and with all that comes before the input.
fn beside(peers: &[peers::Peer], whole: &Measured, way: &Way<'_>) -> Table {
    let ours = &whole.taken[0];
    let online = (ours.online_seconds, ours.sent_bytes);
    let all = (ours.whole_seconds(), ours.sent_bytes + whole.model.claim("material_bytes"));
    let columns = ["", "s", "sent, MB", "s / online", "sent / online", "s / all", "sent / all"];
    let title = format!("The same pass of {} tokens beside other frameworks:", whole.model.sizes.tokens);
    let mut table = Table::new(title, &columns);
    let mut row = |name: &str, (seconds, sent): (f64, f64)| {
        let times = |ratio: f64| format!("x {ratio:.1}");
        table.row([
            name.to_owned(),
            format!("{seconds:.2}"),
            megabytes(sent),
            times(seconds / online.0),
            times(sent / online.1),
            times(seconds / all.0),
            times(sent / all.1),
        ]);
    };
    row(&format!("ssvm, {}: online", way.link), online);
    row(&format!("ssvm, {}: all, with dealing, material and work ahead", way.link), all);
    peers.iter().for_each(|peer| row(&peer.name, (peer.online_seconds, peer.sent_bytes)));
    table
}

/// Measures the longest prompt with one thread a party, and writes the speed that it tells into the compiler.
fn fit_rates(arguments: &Arguments) -> Result<(), String> {
    let machine = place::describe();
    let tokens = *arguments.tokens.last().ok_or("--tokens names no length")?;
    let model = Model::compile(arguments.sizes(arguments.layers, tokens), &build_binaries()?)?;
    let bytes = fs::read(model.program()).map_err(|e| e.to_string())?;
    let program = ir::bytecode::decode(&bytes).map_err(|e| e.to_string())?.entries.swap_remove(0);
    let taken = model.run(ALONE, arguments.runs)?;
    let [client, server] = taken.reports.each_ref().map(instruction_seconds);
    let online_seconds = taken.reports[0]["online_seconds"].as_f64().unwrap_or(f64::NAN);
    let measured = fit::Measured { client, server, online_seconds };
    let speed = fit::fit(&program, &measured);
    print!("{}", rate_table(&program, &measured, &speed.rates).print());
    println!("\na message: {:.3} ms besides its bytes and its way", 1e3 * speed.message);
    let origin = format!("{tokens} tokens, {} layers; {machine}.", arguments.layers);
    let path = repository().join("compiler/src/predict/rates.rs");
    let text = fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
    let (kept, _) = text.split_once(fit::MARKER).ok_or_else(|| format!("{}: no marker line", path.display()))?;
    fs::write(&path, format!("{kept}{}", fit::print(&speed, &origin)))
        .map_err(|e| format!("{}: {e}", path.display()))?;
    println!("\n{} holds the new rates; build sscc anew to predict with them", path.display());
    Ok(())
}

/// Computing seconds by instruction.
fn instruction_seconds(report: &Value) -> Vec<f64> {
    let rows = report["instructions"].as_array().map(Vec::as_slice).unwrap_or_default();
    rows.iter().map(|row| row["compute_seconds"].as_f64().unwrap_or(f64::NAN)).collect()
}

fn rate_table(program: &ir::Program, measured: &fit::Measured, rates: &[Rate]) -> Table {
    let columns = ["op", "units, client", "s", "ns a unit", "units, server", "s", "ns a unit"];
    let mut table = Table::new("Work of an op, one thread a party:", &columns);
    let mut sums: BTreeMap<&str, [f64; 4]> = BTreeMap::new();
    for (index, (instr, work)) in program.instrs.iter().zip(work::work(program)).enumerate() {
        let sum = sums.entry(instr.op.mnemonic()).or_default();
        let row = [work.client, measured.client[index], work.server, measured.server[index]];
        sum.iter_mut().zip(row).for_each(|(sum, value)| *sum += value);
    }
    for rate in rates {
        let [client_units, client, server_units, server] = sums[rate.op];
        let party = |units: f64, seconds: f64, per: f64| {
            [format!("{units:.0}"), format!("{seconds:.3}"), format!("{:.4}", per * 1e9)]
        };
        let cells = [party(client_units, client, rate.client), party(server_units, server, rate.server)];
        table.row([rate.op.to_owned()].into_iter().chain(cells.into_iter().flatten()));
    }
    table
}
