//! One model, compiled, and its private passes with dealer, server and client as processes on loopback.

use std::fs::{self, File};
use std::io::BufWriter;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use ir::Party;
use ndarray::Array2;
use ndarray_npy::NpzWriter;
use processes::handshake::Role;
use serde_json::Value;
use tempfile::TempDir;

use super::table::median;
use crate::gpt2::{self, Gpt2Shape};
use crate::processes::{Identities, Server, output};

/// Sizes of a model and its prompt.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sizes {
    /// Layers.
    pub layers: u32,
    /// Width of the residual stream.
    pub width: u32,
    /// Attention heads.
    pub heads: u32,
    /// Tokens in the vocabulary.
    pub vocabulary: u32,
    /// Tokens of the prompt.
    pub tokens: u32,
}

/// How a pass is run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Way<'a> {
    /// `loopback`, or what `--shape` and `sscc cost --link` take.
    pub link: &'a str,
    /// Dealing overlaps the online phase.
    pub overlap: bool,
    /// Both parties compute with one thread.
    pub one_thread: bool,
}

/// A compiled model.
pub struct Model {
    /// Its sizes.
    pub sizes: Sizes,
    /// What `sscc cost --json` says of its entry.
    pub cost: Value,
    folder: TempDir,
    identities: Identities,
    binaries: PathBuf,
}

/// What passes of one way took: medians of seconds, the first run's bytes, the greatest memory.
#[derive(Clone, Debug)]
pub struct Taken {
    /// Transfer of masked weights, if it came about.
    pub setup_seconds: f64,
    /// From connecting to the dealer until the material is there.
    pub dealing_seconds: f64,
    /// Work and messages that do not depend on the input.
    pub ahead_seconds: f64,
    /// From input to output.
    pub online_seconds: f64,
    /// Bytes of the online protocol, both ways, with those ahead.
    pub sent_bytes: f64,
    /// Those sent before the input is known.
    pub ahead_bytes: f64,
    /// Greatest resident memory: client, server, dealer.
    pub memory_bytes: [f64; 3],
    /// The client's and the server's report of the median run, by its online seconds.
    pub reports: [Value; 2],
}

/// A prediction of a pass.
#[derive(Clone, Copy, Debug)]
pub struct Predicted {
    /// From input to output.
    pub online_seconds: f64,
    /// What distance and bytes take, each alone.
    pub link_seconds: f64,
}

/// Passes of one way, whose dealer and server are up until this is dropped.
pub struct Passes<'a> {
    model: &'a Model,
    way: Way<'a>,
    dealer: Server,
    server: Server,
    /// The client's and the server's.
    reports: Vec<[Value; 2]>,
}

impl Taken {
    /// Dealing, work ahead and online: a pass of which nothing was done before.
    pub fn whole_seconds(&self) -> f64 {
        self.dealing_seconds + self.ahead_seconds + self.online_seconds
    }
}

impl Model {
    /// Makes a model with random weights and compiles it.
    pub fn compile(sizes: Sizes, binaries: &Path) -> Result<Model, String> {
        let folder = tempfile::tempdir().map_err(|e| e.to_string())?;
        let at = |name: &str| folder.path().join(name);
        let Sizes { layers, width, heads, vocabulary, tokens } = sizes;
        let shape = Gpt2Shape { layers, width, heads, vocabulary, context: tokens };
        let model = gpt2::build(shape, 1).map_err(|e| e.to_string())?;
        let file = File::create(at("model.onnx")).map_err(|e| e.to_string())?;
        gpt2::write(model, &mut BufWriter::new(file)).map_err(|e| e.to_string())?;
        let mut compile = Command::new(binaries.join("sscc"));
        compile.args(["compile", "--material", "dealer"]).arg(at("model.onnx")).arg("-o").arg(at("model.ssb"));
        output(compile.args(["--dim", &format!("sequence={tokens}")]))?;
        fs::remove_file(at("model.onnx")).map_err(|e| e.to_string())?;
        let ids = Array2::from_shape_fn((1, tokens as usize), |(_, i)| (i as i64 * 7919 + 13) % i64::from(vocabulary));
        let mut npz = NpzWriter::new(File::create(at("x.npz")).map_err(|e| e.to_string())?);
        npz.add_array("input_ids", &ids).map_err(|e| e.to_string())?;
        npz.finish().map_err(|e| e.to_string())?;
        let identities = Identities::make()?;
        let mut model = Model { sizes, cost: Value::Null, folder, identities, binaries: binaries.to_owned() };
        model.cost = model.entry_cost(&[])?;
        Ok(model)
    }

    /// The program.
    pub fn program(&self) -> PathBuf {
        self.folder.path().join("model.ssb")
    }

    /// A figure of the cost.
    pub fn claim(&self, name: &str) -> f64 {
        self.cost[name].as_f64().unwrap_or(f64::NAN)
    }

    /// What `sscc cost` predicts on a link, at the speed that a run with one thread a party tells.
    pub fn predict(&self, link: &str, alone: &Taken) -> Result<Predicted, String> {
        let mut options = vec!["--link".to_owned(), link.to_owned(), "--reports".to_owned()];
        for (name, report) in ["client", "server"].iter().zip(&alone.reports) {
            let path = self.folder.path().join(format!("{name}.alone.json"));
            fs::write(&path, report.to_string()).map_err(|e| e.to_string())?;
            options.push(path.display().to_string());
        }
        let predicted = &self.entry_cost(&options)?["predicted"];
        let seconds = |name: &str| number(predicted, name);
        let link_seconds = seconds("latency_seconds") + seconds("transfer_seconds");
        Ok(Predicted { online_seconds: seconds("online_seconds"), link_seconds })
    }

    fn entry_cost(&self, options: &[String]) -> Result<Value, String> {
        let mut command = Command::new(self.binaries.join("sscc"));
        let said = output(command.args(["cost", "--json"]).args(options).arg(self.program()))?;
        let said: Value = serde_json::from_str(&said).map_err(|e| e.to_string())?;
        Ok(said["entries"][0].clone())
    }

    /// Starts dealer and server for passes of one way.
    pub fn start<'a>(&'a self, way: Way<'a>) -> Result<Passes<'a>, String> {
        let dealer = Server::start(self.ssvm("dealer", Role::Dealer, way).args(["--listen", "127.0.0.1:0"]))?;
        let server = Server::start(self.party(Party::Server, &dealer, way).args(["--listen", "127.0.0.1:0"]))?;
        Ok(Passes { model: self, way, dealer, server, reports: Vec::new() })
    }

    /// Runs some passes of one way.
    pub fn run(&self, way: Way<'_>, runs: u16) -> Result<Taken, String> {
        let mut passes = self.start(way)?;
        (0..runs).try_for_each(|_| passes.run())?;
        passes.taken()
    }

    fn ssvm(&self, command: &str, role: Role, way: Way<'_>) -> Command {
        let mut ssvm = Command::new(self.binaries.join("ssvm"));
        ssvm.arg(command).arg(self.program()).args(["--timeout", "300"]).current_dir(self.folder.path());
        ssvm.arg("--identity").arg(self.identities.of(role));
        if way.one_thread {
            ssvm.env("RAYON_NUM_THREADS", "1");
        }
        ssvm
    }

    fn party(&self, party: Party, dealer: &Server, way: Way<'_>) -> Command {
        let mut ssvm = self.ssvm("run", Role::Party(party), way);
        let (number, name) = (party.index().to_string(), party.to_string());
        ssvm.args(["--party", &number, "--dealer", &dealer.address, "--state", &name]);
        ssvm.args(["--report", &format!("{name}.json")]);
        if way.link != "loopback" {
            ssvm.args(["--shape", way.link]);
        }
        ssvm
    }
}

impl Passes<'_> {
    /// Runs a pass. The masked weights go over the first time that a model runs; later passes find them in the cache.
    pub fn run(&mut self) -> Result<(), String> {
        let at = |name: &str| self.model.folder.path().join(name);
        let _ = fs::remove_file(at("server.json"));
        let mut client = self.model.party(Party::Client, &self.dealer, self.way);
        client.args(["--connect", &self.server.address, "--input", "x.npz", "--cache", "cache"]);
        if self.way.overlap {
            client.arg("--overlap");
        }
        output(&mut client)?;
        self.reports.push([read(&at("client.json"))?, wait_for(&at("server.json"))?]);
        Ok(())
    }

    /// What the passes so far took.
    pub fn taken(&self) -> Result<Taken, String> {
        let reports = &self.reports;
        let seconds = |name: &str| median(reports.iter().map(|[client, _]| number(client, name)));
        let (Some([first, _]), Some(last)) = (reports.first(), reports.last()) else {
            return Err("no runs".to_owned());
        };
        let mut by_time: Vec<&[Value; 2]> = reports.iter().collect();
        by_time.sort_by(|[a, _], [b, _]| number(a, "online_seconds").total_cmp(&number(b, "online_seconds")));
        Ok(Taken {
            setup_seconds: number(first, "setup_seconds"),
            dealing_seconds: seconds("dealing_seconds"),
            ahead_seconds: seconds("prepare_seconds"),
            online_seconds: seconds("online_seconds"),
            sent_bytes: number(&last[0], "sent_bytes") + number(&last[0], "received_bytes"),
            ahead_bytes: number(&last[0], "client_ahead_bytes"),
            memory_bytes: [
                number(&last[0], "peak_rss_bytes"),
                self.server.peak_rss_bytes().map_or(f64::NAN, |bytes| bytes as f64),
                self.dealer.peak_rss_bytes().map_or(f64::NAN, |bytes| bytes as f64),
            ],
            reports: by_time[by_time.len() / 2].clone(),
        })
    }
}

/// A figure of a report; NaN if it has none.
fn number(report: &Value, name: &str) -> f64 {
    report[name].as_f64().unwrap_or(f64::NAN)
}

fn read(path: &Path) -> Result<Value, String> {
    let text = fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))?;
    serde_json::from_str(&text).map_err(|e| format!("{}: {e}", path.display()))
}

/// A report that its process writes after the client has ended.
fn wait_for(path: &Path) -> Result<Value, String> {
    let start = Instant::now();
    loop {
        match read(path) {
            Err(_) if start.elapsed() < Duration::from_secs(10) => std::thread::sleep(Duration::from_millis(10)),
            done => return done,
        }
    }
}
