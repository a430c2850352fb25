//! The commands as processes that make their material themselves, and what is left of a stock when one of them ends.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;
use tests::processes::{Server, output};

use crate::common::PAIR;
use crate::processes::{BINARIES, end, signal};

/// Longest wait for something that a machine with much else to do does in seconds.
const LONG: Duration = Duration::from_secs(120);

fn ssvm(command: &str, folder: &Path) -> Command {
    let mut ssvm = Command::new(BINARIES.join("ssvm"));
    ssvm.arg(command).arg(PAIR.path().join("model.ssb")).args(["--timeout", "20"]).env("HOME", folder);
    ssvm.env_remove("XDG_CACHE_HOME").env_remove("XDG_STATE_HOME").env_remove("RUST_LOG").stdin(Stdio::null());
    ssvm
}

/// A server and its client, each with a folder of its own for what it keeps.
struct Two {
    folder: TempDir,
    server: Server,
}

impl Two {
    fn start(options: &[&str]) -> Two {
        let folder = tempfile::tempdir().unwrap();
        let mut command = ssvm("run", &folder.path().join("server"));
        command.args(["--party", "1", "--listen", "127.0.0.1:0"]).args(options).stderr(Stdio::null());
        let server = Server::start(&mut command).unwrap();
        Two { folder, server }
    }

    fn client(&self, command: &str, options: &[&str]) -> Command {
        let mut ssvm = ssvm(command, &self.folder.path().join("client"));
        ssvm.args(["--connect", &self.server.address]).args(options).stdout(Stdio::piped()).stderr(Stdio::piped());
        ssvm
    }

    /// The text of a generation, and for how many tokens there is material after it.
    fn text(&self, tokens: usize) -> (String, Value) {
        let options = ["--prompt", "ROMEO:", "--json", "--max-tokens", &tokens.to_string()];
        let report: Value = serde_json::from_str(&output(&mut self.client("generate", &options)).unwrap()).unwrap();
        (report["text"].as_str().unwrap().to_owned(), report["material_tokens"].clone())
    }

    fn stocks(&self, name: &str) -> PathBuf {
        self.folder.path().join(name).join(".local/state/ssvm/stock")
    }

    /// Tokens of the stocks on a side's disk.
    fn left(&self, name: &str) -> Vec<usize> {
        let stocks = std::fs::read_dir(self.stocks(name)).into_iter().flatten().map(|stock| stock.unwrap().path());
        let manifests = stocks.filter_map(|stock| std::fs::read(stock.join("manifest")).ok());
        let tokens = |text: Vec<u8>| {
            serde_json::from_slice::<Value>(&text).unwrap()["entries"].as_array().expect("a list").len()
        };
        manifests.map(tokens).collect()
    }

    /// Names that stand for no whole stock.
    fn odd(&self, name: &str) -> Vec<String> {
        let stocks = std::fs::read_dir(self.stocks(name)).into_iter().flatten();
        let names = stocks.map(|stock| stock.unwrap().file_name().into_string().unwrap());
        names.filter(|stock| !stock.starts_with(&format!("{name}-"))).collect()
    }
}

/// Waits until something holds.
fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !holds() {
        assert!(begin.elapsed() < LONG, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Ends the maker of a stock when it has some tokens.
fn end_at(two: &Two, child: &mut Child, tokens: usize, name: &str) {
    eventually("some tokens are made", || {
        assert!(child.try_wait().unwrap().is_none(), "it was to be broken before its end");
        two.left("client").first().is_some_and(|&there| there >= tokens)
    });
    signal(child, name);
}

#[test]
fn a_prepare_that_is_killed_is_gone_on_with() {
    let two = Two::start(&[]);
    let (want, material) = two.text(12);
    assert_eq!(material, Value::Null);
    for name in ["KILL", "INT"] {
        let mut child = two.client("prepare", &["--tokens", "40"]).spawn().unwrap();
        end_at(&two, &mut child, 3, name);
        let ended = end(child, name);
        assert!(!ended.status.success());
        let [client] = two.left("client")[..] else { panic!("a stock") };
        assert!((3..40).contains(&client));
        let said = String::from_utf8(ended.stderr).unwrap();
        if name == "INT" {
            assert!(
                said.contains("is kept; the same command goes on from there\nerror: stopped by a signal"),
                "{said}"
            );
        }
        // The rest of it, and no more.
        let tokens = client + 3;
        let said = output(&mut two.client("prepare", &["--tokens", &tokens.to_string()])).unwrap();
        let there = said.split(' ').nth(3).and_then(|there| there.parse::<usize>().ok()).expect("a number");
        assert!(there == client || there + 1 == client, "{said}");
        let line = format!("a stock of {there} tokens is there; making {} more\n", tokens - there);
        assert!(said.starts_with(&line) && said.ends_with(&format!("; material for {tokens} tokens\n")), "{said}");
        assert_eq!([two.left("client"), two.left("server")], [[tokens], [tokens]]);
        let text = two.text(12);
        assert_eq!(text, (want.clone(), Value::from(tokens.saturating_sub(12))));
        assert_eq!([two.left("client"), two.left("server")], [[0; 0]; 2]);
        assert_eq!([two.odd("client"), two.odd("server")], [const { Vec::<String>::new() }; 2]);
    }
}

/// What a text finds is used, though its maker is not done with it.
#[test]
fn a_text_takes_a_stock_that_is_being_made() {
    let two = Two::start(&[]);
    let (want, _) = two.text(6);
    let mut child = two.client("prepare", &["--tokens", "40"]).spawn().unwrap();
    eventually("some tokens are made", || {
        assert!(child.try_wait().unwrap().is_none());
        two.left("client").first().is_some_and(|&there| there >= 3)
    });
    let (text, material) = two.text(6);
    assert_eq!((text, material), (want, Value::from(0)));
    let said = String::from_utf8(end(child, "a text").stderr).unwrap();
    assert!(said.contains("error: ") && said.contains("a text took the stock while it was made"), "{said}");
    eventually("the server's maker ends", || two.left("server").is_empty() && two.odd("server").is_empty());
    assert_eq!(two.left("client"), [0; 0]);
}
