//! The commands as processes that make their material themselves, and what is left of a stock when one of them ends.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use processes::handshake::Role;
use serde_json::{Value, json};
use tempfile::TempDir;
use tests::processes::{Server, output};

use crate::common::{IDENTITIES, PAIR, stocked};
use crate::processes::{BINARIES, end, signal};

/// Longest wait for something that a machine with much else to do does in seconds.
const LONG: Duration = Duration::from_secs(120);

fn ssvm(command: &str, folder: &Path) -> Command {
    let mut ssvm = Command::new(BINARIES.join("ssvm"));
    // Each has a folder of its role's name.
    let role = folder.file_name().and_then(|name| Role::from_name(name.to_str()?)).unwrap();
    ssvm.arg(command).arg(PAIR.path().join("model.ssb")).args(["--timeout", "5"]).env("HOME", folder);
    ssvm.arg("--identity").arg(IDENTITIES.of(role));
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
        let server = Two::serve(&folder, "127.0.0.1:0", options);
        Two { folder, server }
    }

    fn serve(folder: &TempDir, address: &str, options: &[&str]) -> Server {
        let mut command = ssvm("run", &folder.path().join("server"));
        command.args(["--party", "1", "--listen", address]).args(options).stderr(Stdio::null());
        Server::start(&mut command).unwrap()
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
        let role = Role::from_name(name).expect("a folder of its role's name");
        stocked(self.stocks(name).parent().expect("in a state directory"), role)
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

/// An endpoint of a client, and what asks it.
struct Endpoint(Server);

impl Endpoint {
    const TOKEN: &str = "0123456789abcdef-test";

    fn start(two: &Two, options: &[&str]) -> Endpoint {
        Endpoint::at(&two.folder, &two.server.address, options)
    }

    /// With a server that may be there or not.
    fn at(folder: &TempDir, server: &str, options: &[&str]) -> Endpoint {
        let mut command = ssvm("serve", &folder.path().join("client"));
        command.args(["--party", "0", "--listen", "127.0.0.1:0", "--connect", server]).args(options);
        let log = std::fs::File::create(folder.path().join("log")).unwrap();
        command.env("SSVM_TOKEN", Endpoint::TOKEN).stderr(log);
        Endpoint(Server::start(&mut command).unwrap())
    }

    fn agent() -> ureq::Agent {
        ureq::Agent::config_builder().timeout_global(Some(LONG)).build().into()
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.0.address)
    }

    fn ask(&self, tokens: usize) -> Value {
        let body = json!({"prompt": "ROMEO:", "temperature": 0, "max_tokens": tokens}).to_string();
        let request = Endpoint::agent().post(self.url("/v1/completions")).header("content-type", "application/json");
        let answer = request.header("authorization", format!("Bearer {}", Endpoint::TOKEN)).send(body).unwrap();
        serde_json::from_str(&answer.into_body().read_to_string().unwrap()).unwrap()
    }

    /// For how many tokens there is material.
    fn material(&self) -> usize {
        let request = Endpoint::agent().get(self.url("/metrics"));
        let answer = request.header("authorization", format!("Bearer {}", Endpoint::TOKEN)).call().unwrap();
        let text = answer.into_body().read_to_string().unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix("ssvm_material_tokens "));
        line.expect("a gauge").parse().expect("a number")
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
            let start = "error: stopped by a signal\ntry: run it again; what is whole is kept, about ";
            let end = " tokens, and the same command makes the rest\n";
            assert!(said.starts_with(start) && said.ends_with(end), "{said}");
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
    assert!(said.starts_with("error: ") && said.contains("a text took the stock while it was made"), "{said}");
    eventually("the server's maker ends", || two.left("server").is_empty() && two.odd("server").is_empty());
    assert_eq!(two.left("client"), [0; 0]);
}

#[test]
fn stocks_are_filled_up_behind_texts() {
    let two = Two::start(&["--stock", "24"]);
    let (want, _) = two.text(8);
    let endpoint = Endpoint::start(&two, &["--stock", "20"]);
    eventually("the stock is full", || endpoint.material() == 20);
    eventually("that of the server, too", || two.left("server") == [20]);
    // A text takes all of it, and it is made anew; more texts do not wait for that.
    for _ in 0..3 {
        let answer = endpoint.ask(8);
        assert_eq!(answer["choices"][0]["text"].as_str(), Some(&want[..]), "{answer}");
    }
    eventually("the stock is full again", || endpoint.material() == 20);
    let answer = endpoint.ask(8);
    assert_eq!(answer["choices"][0]["text"].as_str(), Some(&want[..]), "{answer}");
    // It may be ended at any moment, at once.
    std::thread::sleep(Duration::from_millis(300));
    let begin = Instant::now();
    assert_eq!(endpoint.0.stop("TERM").unwrap(), Some(0));
    assert!(begin.elapsed() < Duration::from_secs(10), "{:?}", begin.elapsed());
    assert_eq!(two.odd("client"), [""; 0]);
    eventually("the server's maker ends", || two.odd("server").is_empty());
    let log = std::fs::read_to_string(two.folder.path().join("log")).unwrap();
    assert_eq!(log, "", "all went well");
}

#[test]
fn a_server_that_is_away_is_told_of_once_and_found_again() {
    let two = Two::start(&[]);
    let address = two.server.address.clone();
    let Two { folder, server } = two;
    drop(server);
    let endpoint = Endpoint::at(&folder, &address, &["--stock", "4"]);
    let log = || std::fs::read_to_string(folder.path().join("log")).unwrap();
    eventually("it is told", || !log().is_empty());
    // Time for another attempt.
    std::thread::sleep(Duration::from_secs(8));
    let two = Two { server: Two::serve(&folder, &address, &[]), folder };
    eventually("the server is found", || endpoint.material() == 4);
    let log = std::fs::read_to_string(two.folder.path().join("log")).unwrap();
    assert_eq!(log.matches("no stock is made").count(), 1, "{log}");
    assert!(log.contains("no server at") && log.contains("try: start it"), "{log}");
}

#[test]
fn a_server_keeps_as_much_as_it_says() {
    let two = Two::start(&["--stock", "6"]);
    output(&mut two.client("prepare", &["--tokens", "4"])).unwrap();
    let said = output(&mut two.client("prepare", &["--tokens", "3"])).unwrap_err();
    let want = "error: the server gave up: the server keeps material for at most 6 tokens (`--stock`): it has promised 4, and 3 more \
                are asked for\n";
    assert!(said.starts_with(want), "{said}");
    assert_eq!([two.left("client"), two.left("server")], [[4], [4]]);
    output(&mut two.client("prepare", &["--tokens", "2"])).unwrap();
    // What a text uses makes room.
    two.text(2);
    let kept = |name: &str, options: &[&str]| {
        let mut command = Command::new(BINARIES.join("ssvm"));
        let (role, home) = (Role::from_name(name).unwrap(), two.folder.path().join(name));
        command.arg("stocks").args(options).env("HOME", home).arg("--identity").arg(IDENTITIES.of(role));
        output(command.env_remove("XDG_STATE_HOME").env_remove("RUST_LOG")).unwrap()
    };
    for (name, other) in [("client", "server"), ("server", "client")] {
        let said = kept(name, &["--check"]);
        let line = format!(" with {other}, no third party, ");
        assert!(said.contains(": 2 tokens of program ") && said.contains(&line), "{said}");
        assert!(said.contains(" 29 days left, whole\n1 stocks in "), "{said}");
    }
    output(&mut two.client("prepare", &["--tokens", "4"])).unwrap();
    // Halves that the client has lost make room, too.
    assert_eq!(kept("client", &["--remove", "all"]), "removed 2\n");
    output(&mut two.client("prepare", &["--tokens", "6"])).unwrap();
    assert_eq!([two.left("client"), two.left("server")], [[6], [6]]);
}

#[test]
fn nothing_is_left_of_a_first_step_that_breaks() {
    // So slow that it is still there when it is ended.
    let two = Two::start(&["--making-rate", "1"]);
    let endpoint = Endpoint::start(&two, &["--stock", "8"]);
    std::thread::sleep(Duration::from_secs(2));
    let stocks = ["client", "server"].map(|name| two.stocks(name));
    let Two { folder: _folder, server } = two;
    for process in [server, endpoint.0] {
        let begin = Instant::now();
        assert_eq!(process.stop("TERM").unwrap(), Some(0));
        assert!(begin.elapsed() < Duration::from_secs(8), "{:?}", begin.elapsed());
    }
    for stock in stocks {
        assert_eq!(std::fs::read_dir(&stock).into_iter().flatten().count(), 0, "{}", stock.display());
    }
}

/// Coarse, since the machine has other work: what is sent at a rate takes the time that the rate says, and not much more.
#[test]
fn making_keeps_to_its_rate_and_its_threads() {
    let limits = ["--making-rate", "40", "--making-threads", "1"];
    let two = Two::start(&limits);
    let prepare = |options: &[&str]| {
        let begin = Instant::now();
        let said = output(two.client("prepare", &["--tokens", "1"]).args(options)).unwrap();
        let seconds = begin.elapsed().as_secs_f64();
        // "no third party; stock 1 of 1: 31.20 MB sent and 17.00 MB received, in ..."
        let words: Vec<&str> = said.split([' ', ',']).collect();
        let bytes = |after: &str| {
            let at = words.iter().position(|word| *word == after).expect("as it says");
            assert_eq!(words[at - 1], "MB", "{said}");
            words[at - 2].parse::<f64>().expect("a number") * 1e6
        };
        (bytes("sent"), bytes("received"), seconds)
    };
    for (options, both) in [(&[][..], false), (&limits[..], true)] {
        let (sent, received, seconds) = prepare(options);
        // Both directions at once, or the server's alone.
        let least = if both { sent.max(received) } else { received } * 8.0 / 40e6;
        assert!(seconds > 0.8 * least, "{sent} and {received} bytes in {seconds} s");
        assert!(seconds < 6.0 * least + 20.0, "{sent} and {received} bytes in {seconds} s");
    }
}
