//! The commands as processes, which are killed at random moments.

use std::io::Read;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use processes::handshake::Role;
use serde_json::{Value, json};
use tempfile::TempDir;
use tests::processes::{Server, build_binaries};

use crate::common::{IDENTITIES, burnt, file};

pub static BINARIES: LazyLock<std::path::PathBuf> = LazyLock::new(|| build_binaries().unwrap());

/// Longest silence that processes admit, in seconds.
const TIMEOUT: &str = "2";

/// Time in which a process must have ended when another one died: its timeout, and some for a slow machine.
const SOON: Duration = Duration::from_secs(12);

pub fn ssvm(command: &str, folder: &Path) -> Command {
    let mut ssvm = Command::new(BINARIES.join("ssvm"));
    // Each has a folder of its role's name.
    let role = folder.file_name().and_then(|name| Role::from_name(name.to_str()?)).unwrap();
    ssvm.arg(command).arg(file("model.ssb")).args(["--timeout", TIMEOUT]).env("HOME", folder);
    ssvm.arg("--identity").arg(IDENTITIES.of(role));
    ssvm.env_remove("XDG_CACHE_HOME").env_remove("XDG_STATE_HOME").env_remove("RUST_LOG").stdin(Stdio::null());
    ssvm
}

/// The processes that serve, each with a folder of its own for what it keeps.
pub struct Parties {
    pub folder: TempDir,
    dealer: Option<Server>,
    pub server: Option<Server>,
    dealer_address: String,
    server_address: String,
    options: Vec<&'static str>,
}

impl Parties {
    pub fn start() -> Parties {
        Parties::with(&[])
    }

    /// The server has further options.
    pub fn with(options: &[&'static str]) -> Parties {
        let folder = tempfile::tempdir().unwrap();
        let any = "127.0.0.1:0".to_owned();
        let mut parties = Parties {
            folder,
            dealer: None,
            server: None,
            dealer_address: any.clone(),
            server_address: any,
            options: options.to_vec(),
        };
        parties.start_dealer();
        parties.start_server();
        parties
    }

    fn home(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }

    /// The address stays the same over restarts.
    fn start_dealer(&mut self) {
        let mut command = ssvm("dealer", &self.home("dealer"));
        let dealer = Server::start(command.args(["--listen", &self.dealer_address]).stderr(Stdio::null())).unwrap();
        self.dealer_address = dealer.address.clone();
        self.dealer = Some(dealer);
    }

    pub fn start_server(&mut self) {
        let mut command = ssvm("run", &self.home("server"));
        command.args(["--party", "1", "--listen", &self.server_address, "--dealer", &self.dealer_address]);
        let server = Server::start(command.args(&self.options).stderr(Stdio::null())).unwrap();
        self.server_address = server.address.clone();
        self.server = Some(server);
    }

    pub fn client(&self, command: &str) -> Command {
        let mut ssvm = ssvm(command, &self.home("client"));
        ssvm.args(["--connect", &self.server_address, "--dealer", &self.dealer_address]);
        ssvm.stdout(Stdio::piped()).stderr(Stdio::piped());
        ssvm
    }

    fn generate(&self, tokens: u32) -> Command {
        let mut command = self.client("generate");
        command.args(["--prompt", "ROMEO:", "--json", "--max-tokens", &tokens.to_string()]);
        command
    }

    fn prepare(&self, tokens: u32, sessions: u32) -> Command {
        let mut command = self.client("prepare");
        command.args(["--tokens", &tokens.to_string(), "--sessions", &sessions.to_string()]);
        command
    }

    /// A generation that must succeed.
    fn good(&self, tokens: u32) -> Value {
        let output = self.generate(tokens).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert!(report["completion_tokens"].as_u64().unwrap() <= u64::from(tokens));
        report
    }
}

/// Waits for the end of a process, which must come soon.
pub fn end(mut child: Child, what: &str) -> Output {
    let begin = Instant::now();
    while child.try_wait().unwrap().is_none() {
        if begin.elapsed() > SOON {
            let _ = (child.kill(), child.wait());
            panic!("{what}: still there after {SOON:?}");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    child.wait_with_output().unwrap()
}

pub fn signal(child: &Child, name: &str) {
    assert!(Command::new("kill").args([&format!("-{name}"), &child.id().to_string()]).status().unwrap().success());
}

#[test]
fn deaths_at_random_moments_end_the_session_and_nothing_is_used_twice() {
    let mut parties = Parties::start();
    parties.good(4);
    // The same moments every time; where in the session they fall depends on the machine.
    let mut state = 20_261_124u64;
    let mut random = |below: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    let mut broken = 0;
    for round in 0..50 {
        let mut child = match round % 3 {
            // Some of what is made is used by the generations that follow.
            2 => parties.prepare(9, 2).spawn().unwrap(),
            _ => parties.generate(40).spawn().unwrap(),
        };
        std::thread::sleep(Duration::from_millis(random(500)));
        let victim = random(3);
        match victim {
            0 => child.kill().unwrap(),
            1 => drop(parties.server.take()),
            _ => drop(parties.dealer.take()),
        }
        let output = end(child, &format!("round {round}, victim {victim}"));
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        if victim > 0 && !output.status.success() {
            broken += 1;
            assert!(said.starts_with("error: ") && said.contains("\ntry: "), "round {round}: {said}");
            assert_eq!(output.status.code(), Some(1), "{said}");
        }
        if parties.dealer.is_none() {
            parties.start_dealer();
        }
        if parties.server.is_none() {
            parties.start_server();
        }
        if round % 7 == 0 {
            parties.good(3);
        }
    }
    assert!(broken >= 10, "{broken} sessions were broken");
    parties.good(10);
    // Every session burnt its material once, on both sides; the server has begun whatever the client has.
    for home in ["client", "server"] {
        let mut lines = burnt(&parties.home(home).join(".local/state/ssvm"));
        let count = lines.len();
        assert!(count >= 15, "{count} sessions at the {home}");
        lines.sort();
        lines.dedup();
        assert_eq!(lines.len(), count, "a session was burnt twice at the {home}");
    }
}

#[test]
fn an_interrupted_client_ends_cleanly_and_the_server_goes_on() {
    let parties = Parties::start();
    for name in ["INT", "TERM"] {
        let child = parties.generate(56).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(300));
        signal(&child, name);
        let output = end(child, name);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        if !output.status.success() {
            assert_eq!((output.status.code(), said.as_str()), (Some(1), "error: cancelled\ntry: ask again\n"));
        }
    }
    parties.good(3);
}

#[test]
fn what_is_prepared_is_used_and_said() {
    let parties = Parties::start();
    let prepared = parties.prepare(5, 2).output().unwrap();
    assert!(prepared.status.success(), "{}", String::from_utf8_lossy(&prepared.stderr));
    let said = String::from_utf8(prepared.stdout).unwrap();
    assert!(
        said.starts_with("trusted dealer, encrypted links; stock 1 of 2: ")
            && said.ends_with(" s; material for 10 tokens\n"),
        "{said}"
    );
    assert_eq!(said.matches(" of products here, in ").count(), 2, "{said}");
    assert_eq!(parties.good(4)["material_tokens"], 6);
    assert_eq!(parties.good(7)["material_tokens"], 0);
    assert_eq!(parties.good(2)["material_tokens"], Value::Null);
}

#[test]
fn memory_does_not_grow_with_sessions_and_tokens() {
    let parties = Parties::start();
    let memory = || [&parties.dealer, &parties.server].map(|s| s.as_ref().unwrap().rss_bytes());
    (0..3).for_each(|_| drop(parties.good(56)));
    let before = memory();
    (0..8).for_each(|_| drop(parties.good(56)));
    for (before, after) in before.into_iter().zip(memory()) {
        let (Some(before), Some(after)) = (before, after) else { continue };
        assert!(after < before + (24 << 20), "{before} bytes after 3 sessions, {after} after 11");
    }
}

#[test]
fn the_endpoint_answers_from_the_private_model() {
    let parties = Parties::start();
    const TOKEN: &str = "0123456789abcdef-test";
    let mut command = parties.client("serve");
    command.args(["--party", "0", "--listen", "127.0.0.1:0"]).env("SSVM_TOKEN", TOKEN).stderr(Stdio::null());
    let endpoint = Server::start(&mut command).unwrap();
    let ask = |body: Value| {
        let config = ureq::Agent::config_builder().timeout_global(Some(Duration::from_secs(60))).build();
        let request = ureq::Agent::from(config)
            .post(format!("http://{}/v1/completions", endpoint.address))
            .header("authorization", format!("Bearer {TOKEN}"))
            .header("content-type", "application/json");
        let mut text = String::new();
        request.send(body.to_string()).unwrap().into_body().into_reader().read_to_string(&mut text).unwrap();
        text
    };
    let body = |more: Value| {
        let mut body = json!({"prompt": "ROMEO:", "temperature": 0, "max_tokens": 12});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        body
    };
    let whole: Value = serde_json::from_str(&ask(body(json!({})))).unwrap();
    assert_eq!(whole["usage"]["completion_tokens"], 12, "{whole}");
    assert!(whole["choices"][0]["text"].as_str().unwrap().len() > 10);
    // Two at once, as a stream.
    std::thread::scope(|scope| {
        let asked = [1, 2].map(|seed| {
            let body = body(json!({"stream": true, "temperature": 0.7, "seed": seed}));
            scope.spawn(move || ask(body))
        });
        for answer in asked.map(|thread| thread.join().unwrap()) {
            assert!(answer.matches("data: ").count() > 8 && answer.trim_end().ends_with("data: [DONE]"), "{answer}");
        }
    });
}
