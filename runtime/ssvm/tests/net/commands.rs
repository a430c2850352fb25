//! The command line, in processes of its own.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::time::{Duration, Instant};

use crate::common::{Files, IDENTITIES, SQUARE, TOKENS};
use ndarray::{Array2, ArrayD};
use ndarray_npy::{NpzReader, NpzWriter};

/// The command, with the identity of its role unless another is given.
pub fn ssvm(files: &Files, arguments: &[&str]) -> Command {
    let mut command = ssvm_with(files, arguments);
    let role = match arguments {
        ["dealer", ..] => Some("dealer"),
        ["run", _, "--party", "1", ..] => Some("server"),
        ["run", ..] => Some("client"),
        _ => None,
    };
    if let Some(role) = role.filter(|_| !arguments.contains(&"--identity")) {
        command.arg("--identity").arg(IDENTITIES.path().join(role));
    }
    command
}

/// The command as it is given; its identity, if it needs one, too.
pub fn ssvm_with(files: &Files, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ssvm"));
    command
        .args(arguments)
        .current_dir(files.directory.path())
        .env("HOME", files.directory.path())
        .env_remove("XDG_CACHE_HOME")
        .env_remove("XDG_CONFIG_HOME")
        .env_remove("XDG_STATE_HOME")
        .env_remove("RUST_LOG")
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .stdout(Stdio::piped());
    command
}

/// A process that serves, and where. Killed with the test if it does not end before.
pub struct Service {
    child: Child,
    out: BufReader<ChildStdout>,
    pub address: String,
}

impl Service {
    pub fn start(files: &Files, arguments: &[&str]) -> Service {
        let mut child = ssvm(files, arguments).spawn().unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        out.read_line(&mut line).unwrap();
        let address = line.strip_prefix("listening on ").unwrap_or_else(|| panic!("{line}")).trim().to_owned();
        Service { child, out, address }
    }

    fn signal(&self, name: &str) {
        let killed = Command::new("kill").args([&format!("-{name}"), &self.child.id().to_string()]).status();
        assert!(killed.unwrap().success());
    }

    /// Ends the process by a signal; gives its exit code and what it still said on stdout and stderr.
    fn stop(mut self, name: &str) -> (Option<i32>, String, String) {
        self.signal(name);
        let begin = Instant::now();
        let status = loop {
            match self.child.try_wait().unwrap() {
                Some(status) => break status,
                None if begin.elapsed() > Duration::from_secs(5) => panic!("{name} did not end it"),
                None => std::thread::sleep(Duration::from_millis(10)),
            }
        };
        let (mut out, mut err) = (String::new(), String::new());
        self.out.read_to_string(&mut out).unwrap();
        self.child.stderr.take().unwrap().read_to_string(&mut err).unwrap();
        (status.code(), out, err)
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = (self.child.kill(), self.child.wait());
    }
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

pub fn failed(output: &Output) -> String {
    assert!(!output.status.success(), "{}", text(&output.stdout));
    text(&output.stderr)
}

pub fn write_input(files: &Files, rows: &[[f32; 4]]) {
    let mut npz = NpzWriter::new(std::fs::File::create(files.path("x.npz")).unwrap());
    npz.add_array("x", &Array2::from(rows.to_vec())).unwrap();
    npz.finish().unwrap();
}

fn read_output(path: &Path, name: &str) -> ArrayD<f32> {
    NpzReader::new(std::fs::File::open(path).unwrap()).unwrap().by_name(name).unwrap()
}

#[test]
fn processes_serve_one_client_after_another_and_end_by_signals() {
    let files = Files::write(SQUARE);
    write_input(&files, &[[1.0, -0.5, 0.25, 2.0], [0.0, 3.0, -1.0, 0.125], [1.0, 1.0, 1.0, 1.0]]);
    let dealer = Service::start(&files, &["dealer", "model.ssb", "--listen", "127.0.0.1:0"]);
    let serve = ["run", "model.ssb", "--party", "1", "--listen", "127.0.0.1:0", "--dealer", &dealer.address];
    let server = Service::start(&files, &[&serve[..], &["--report", "server.json"]].concat());
    let ask = [
        &["run", "model.ssb", "--party", "0", "--input", "x.npz", "--output", "y.npz", "--report", "client.json"][..],
        &["--connect", &server.address, "--dealer", &dealer.address],
    ]
    .concat();
    for _ in 0..2 {
        let asked = ssvm(&files, &ask).output().unwrap();
        assert!(asked.status.success(), "{}", text(&asked.stderr));
        let said = text(&asked.stdout);
        assert!(said.starts_with("y [3, 3]\n  row 0: argmax "), "{said}");
        assert!(said.contains("trusted dealer, encrypted links; 3 run(s), online "), "{said}");
        assert_eq!(text(&asked.stderr), "");
    }
    let simulate = ["simulate", "model.ssb", "--input", "x.npz", "--output", "z.npz", "--report", "simulated.json"];
    let simulated = ssvm(&files, &simulate).output().unwrap();
    assert!(simulated.status.success(), "{}", text(&simulated.stderr));
    let (y, z) = (read_output(&files.path("y.npz"), "y"), read_output(&files.path("z.npz"), "y"));
    assert_eq!(y.shape(), [3, 3]);
    // Seeds differ, and with them the rounding.
    assert!(y.iter().zip(&z).all(|(y, z)| (y - z).abs() < 1e-3), "{y} {z}");

    let json = |name: &str| -> serde_json::Value {
        serde_json::from_slice(&std::fs::read(files.path(name)).unwrap()).unwrap()
    };
    let (client, served, simulated) = (json("client.json"), json("server.json"), json("simulated.json"));
    for report in [&client, &served, &simulated] {
        assert_eq!(report["preprocessing"], "trusted dealer");
    }
    assert_eq!([&client["links"], &served["links"]], ["encrypted links"; 2]);
    assert_eq!(client["runs"].as_array().unwrap().len(), 3);
    assert_eq!(client["runs"][2]["session"], served["session"]["session"]);
    assert_eq!(client["runs"][2]["online"]["sent_bytes"], served["session"]["online"]["received_bytes"]);
    assert_eq!(client["runs"][2]["online"]["rounds"], simulated["runs"][2]["client"]["rounds"]);
    assert_eq!(client["runs"][2]["setup_bytes"], 0);

    let (code, said, logged) = server.stop("TERM");
    assert_eq!(code, Some(0));
    // A line for each request, and nothing else.
    let fields =
        ["INFO audit: served peer=\"client\" key=\"", "what=\"pass\" entry=\"square\" tokens=0 stock=false seconds="];
    assert_eq!(logged.lines().count(), 6, "{logged}");
    assert!(logged.lines().all(|line| fields.iter().all(|field| line.contains(field))), "{logged}");
    assert_eq!(said, format!("serving over encrypted links, with a trusted dealer at {}\n", dealer.address));
    let (code, said, logged) = dealer.stop("INT");
    assert_eq!((code, &logged[..]), (Some(0), ""));
    assert_eq!(said, "trusted dealer, encrypted links: must collude with neither party\n");
}

#[test]
fn a_server_that_is_killed_ends_the_client_and_one_that_is_stopped_says_so() {
    let files = Files::write(SQUARE);
    write_input(&files, &[[1.0; 4]]);
    // Without a dealer, both parties wait for it until something happens.
    let nowhere = "127.0.0.1:9";
    for signal in ["KILL", "TERM"] {
        let serve = ["run", "model.ssb", "--party", "1", "--listen", "127.0.0.1:0", "--dealer", nowhere];
        let server = Service::start(&files, &serve);
        let ask =
            ["run", "model.ssb", "--party", "0", "--input", "x.npz", "--connect", &server.address, "--dealer", nowhere];
        let child = ssvm(&files, &ask).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(500));
        let begin = Instant::now();
        server.signal(signal);
        let message = failed(&child.wait_with_output().unwrap());
        assert!(begin.elapsed() < Duration::from_secs(5));
        let expected = match signal {
            "KILL" => "error: the server closed the connection\ntry: ",
            _ => "error: the server gave up: stopped by a signal\ntry: ",
        };
        assert!(message.starts_with(expected), "{message}");
    }
}

/// An owner limits what a client may ask, in its pin or for all; the client is told.
#[test]
fn limits_hold_by_identity_and_are_said_on_both_sides() {
    let files = Files::write(SQUARE);
    write_input(&files, &[[1.0; 4]]);
    std::fs::create_dir(files.path("owner")).unwrap();
    for file in std::fs::read_dir(IDENTITIES.path().join("server")).unwrap().map(Result::unwrap) {
        std::fs::copy(file.path(), files.path("owner").join(file.file_name())).unwrap();
    }
    let pair = |rest: &[&str]| ssvm_with(&files, &[&["pair", "--identity", "owner"], rest].concat()).output().unwrap();
    let dealer = Service::start(&files, &["dealer", "model.ssb", "--listen", "127.0.0.1:0"]);
    let serve = ["run", "model.ssb", "--party", "1", "--listen", "127.0.0.1:0", "--dealer", &dealer.address];
    let all = ["--identity", "owner", "--limit", "passes-a-day=1", "--limit", "outputs=y,reached"];
    let server = Service::start(&files, &[&serve[..], &all].concat());
    let ask = || {
        let ask = ["run", "model.ssb", "--party", "0", "--input", "x.npz", "--connect", &server.address, "--dealer"];
        ssvm(&files, &[&ask[..], &[&dealer.address]].concat()).output().unwrap()
    };
    let asked = ask();
    assert!(asked.status.success(), "{}", text(&asked.stderr));
    let over = "error: the server refuses: limit reached: 1 passes a day; again at 00:00 UTC, in ";
    assert!(failed(&ask()).starts_with(over));
    // From the next connection on.
    assert_eq!(
        text(&pair(&["--limit", "client", "passes-a-day=3", "outputs=y"]).stdout),
        "client: passes-a-day=3 outputs=y\n"
    );
    let not_allowed = "error: the server refuses: not allowed: output `reached` of entry `square`\ntry: ";
    assert!(failed(&ask()).starts_with(not_allowed));
    pair(&["--limit", "client", "outputs=any"]);
    let listed = text(&pair(&["--list"]).stdout);
    assert!(listed.lines().any(|line| line.ends_with("  client  passes-a-day=3")), "{listed}");
    assert!(ask().status.success());
    assert!(failed(&pair(&["--limit", "client", "tokens=3"])).contains("there is no limit of this name"));
    assert!(failed(&pair(&["--limit", "dealer", "sessions=3"])).contains("no client in owner/pins is called `dealer`"));
    let (_, _, logged) = server.stop("TERM");
    let outcomes = ["audit: served", "audit: refused: limit reached", "audit: refused: not allowed", "audit: served"];
    assert_eq!(logged.lines().count(), 4, "{logged}");
    assert!(logged.lines().zip(outcomes).all(|(line, outcome)| line.contains(outcome)), "{logged}");
}

/// What a program reveals and takes is said without a link, and one that asks for too much is refused before there is any.
#[test]
fn programs_are_verified_against_a_policy_and_the_memory() {
    let files = Files::write(SQUARE);
    write_input(&files, &[[1.0; 4]]);
    let verified = ssvm(&files, &["verify", "model.ssb"]).output().unwrap();
    let said = text(&verified.stdout);
    assert!(verified.status.success(), "{}", text(&verified.stderr));
    assert!(
        said.contains("\nreveals    `y` to the client (3 numbers), `reached` to the client (9 numbers)\n"),
        "{said}"
    );
    assert!(said.contains("\ncontext    one pass\n"), "{said}");
    std::fs::write(files.path("strict.toml"), "logits = false\n").unwrap();
    std::fs::write(files.path("fair.toml"), "memory = \"1 MB\"\noutputs = [\"y\", \"reached\"]\n").unwrap();
    std::fs::write(files.path("mean.toml"), "traffic = \"10 B\"\n").unwrap();
    let nowhere = ["--connect", "127.0.0.1:9", "--dealer", "127.0.0.1:9", "--timeout", "0.1"];
    let ask = [&["run", "model.ssb", "--party", "0", "--input", "x.npz"][..], &nowhere].concat();
    for (given, why) in [
        (["--policy", "strict.toml"], "entry `square` reveals `y`, which the policy does not admit"),
        (["--policy", "mean.toml"], "traffic of entry `square`: "),
        (["--policy", "none.toml"], "policy none.toml: "),
        (["--memory", "100"], "the tensors of entry `square` take "),
    ] {
        for command in [&["verify", "model.ssb"][..], &ask] {
            let begin = Instant::now();
            let error = failed(&ssvm(&files, &[command, &given].concat()).output().unwrap());
            assert!(error.contains(why), "{error}");
            assert!(begin.elapsed() < Duration::from_secs(2));
        }
    }
    let fair = [&ask[..], &["--policy", "fair.toml"]].concat();
    assert!(failed(&ssvm(&files, &fair).output().unwrap()).starts_with("error: no server at 127.0.0.1:9"));
    // The one that lies beside the identity holds without being named.
    std::fs::create_dir_all(files.path(".config/ssvm")).unwrap();
    std::fs::copy(files.path("strict.toml"), files.path(".config/ssvm/policy.toml")).unwrap();
    assert!(failed(&ssvm(&files, &["verify", "model.ssb"]).output().unwrap()).contains("reveals `y`"));
}

#[test]
fn mistakes_are_explained() {
    let files = Files::write(TOKENS);
    write_input(&files, &[[1.0; 4]]);
    std::fs::write(files.path("text.npz"), "text").unwrap();
    let say = |arguments: &[&str]| {
        let output = ssvm(&files, arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        failed(&output)
    };
    let run = |rest: &[&str]| say(&[&["run", "model.ssb"][..], rest].concat());
    insta::assert_snapshot!(
        [
            run(&["--party", "0"]),
            run(&["--party", "0", "--listen", "127.0.0.1:0"]),
            run(&["--party", "1", "--input", "x.npz"]),
            run(&["--party", "1", "--insecure", "--dealer", "192.0.2.1:7702"]),
            run(&["--party", "0", "--input", "x.npz", "--connect", "7701"]),
            run(&["--party", "0", "--input", "x.npz"]),
            run(&["--party", "0", "--input", "none.npz"]),
            run(&["--party", "0", "--input", "text.npz"]),
            run(&["--party", "1", "--weights", "model.ssb"]),
            say(&["dealer", "model.ssw"]),
            say(&["dealer", "none.ssb"]),
            say(&["simulate", "model.ssb", "--input", "x.npz", "--log", "=="]),
        ]
        .join("\n")
    );
}
