//! `ssvm chat` as a process: lines of stdin, signals, a server that is idle, dies and comes back, and what is left on disk.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use serde_json::Value;

use crate::processes::{Parties, end, signal};

/// How long a test waits for a line.
const LONG: Duration = Duration::from_secs(30);

/// A conversation that is typed.
struct Chat {
    child: Child,
    stdin: ChildStdin,
    said: Receiver<String>,
}

impl Chat {
    fn start(mut command: Command) -> Chat {
        let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
        let (stdin, stderr) = (child.stdin.take().unwrap(), child.stderr.take().unwrap());
        let (sender, said) = channel();
        std::thread::spawn(move || {
            BufReader::new(stderr).lines().map_while(Result::ok).all(|line| sender.send(line).is_ok())
        });
        Chat { child, stdin, said }
    }

    fn type_line(&mut self, line: &str) {
        self.stdin.write_all(format!("{line}\n").as_bytes()).unwrap();
    }

    /// What is said on stderr, up to the end of a turn.
    fn turn(&mut self) -> String {
        loop {
            let line = self.said.recv_timeout(LONG).expect("a turn ends");
            if line.starts_with('[') || line.starts_with("error: ") {
                return line;
            }
        }
    }

    /// What stdout had to the end, after which it ended well.
    fn end(mut self) -> String {
        drop(self.stdin);
        let mut all = String::new();
        self.child.stdout.take().unwrap().read_to_string(&mut all).unwrap();
        assert!(self.child.wait().unwrap().success());
        all
    }
}

fn chat(parties: &Parties, options: &[&str]) -> Command {
    let mut command = parties.client("chat");
    command.args(["--chat-template", "plain"]).args(options);
    command
}

/// Files below a folder whose content has some text.
fn files_with(folder: &Path, text: &str) -> Vec<std::path::PathBuf> {
    let all = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path());
    all.flat_map(|path| match path.is_dir() {
        true => files_with(&path, text),
        false => {
            let content = std::fs::read(&path).unwrap();
            let found = content.windows(text.len()).any(|window| window == text.as_bytes());
            found.then_some(path).into_iter().collect()
        }
    })
    .collect()
}

#[test]
fn lines_of_stdin_are_turns_and_nothing_of_them_is_kept_but_what_is_saved() {
    let parties = Parties::start();
    let saved = parties.folder.path().join("saved.json");
    let mut typed = Chat::start(chat(&parties, &["--max-tokens", "4", "--system", "zebrafinch"]));
    typed.type_line("ROMEO zebrafinch");
    let first = typed.turn();
    assert!(first.starts_with("[as long as was asked for; 4 tokens, ") && !first.contains("new session"), "{first}");
    assert!(
        first.ends_with("trusted dealer, encrypted links: the server learned that there are 33 tokens more, and when]"),
        "{first}"
    );
    typed.type_line("And?");
    let second = typed.turn();
    assert!(!second.contains("new session"), "{second}");
    assert!(files_with(parties.folder.path(), "zebrafinch").is_empty());
    typed.type_line("/nonsense");
    assert_eq!(typed.turn(), "error: there is no such command");
    typed.type_line(&format!("/save {}", saved.display()));
    typed.type_line("/cost");
    typed.type_line("/quit");
    let out = typed.end();
    assert_eq!(std::fs::metadata(&saved).unwrap().permissions().mode() & 0o777, 0o600);
    let messages: Value = serde_json::from_slice(&std::fs::read(&saved).unwrap()).unwrap();
    let said: Vec<&str> =
        messages["messages"].as_array().unwrap().iter().map(|m| m["content"].as_str().unwrap()).collect();
    assert_eq!((said.len(), said[0], said[1], said[3]), (5, "zebrafinch", "ROMEO zebrafinch", "And?"));
    assert!(out.contains(said[2].trim()) && out.contains(said[4].trim()), "{out:?}");
    assert_eq!(files_with(parties.folder.path(), "zebrafinch"), [saved]);
}

#[test]
fn a_program_that_does_not_chat_says_so_before_anything_is_asked() {
    let parties = Parties::start();
    let output = parties.client("chat").output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && said.starts_with("error: the model has no chat template\ntry: "), "{said}");
    assert!(said.contains("`--chat-template plain`"), "{said}");
}

#[test]
fn an_idle_conversation_gives_its_place_away_and_goes_on_in_another_session() {
    let parties = Parties::with(&["--idle", "0.4", "--sessions", "1"]);
    let mut typed = Chat::start(chat(&parties, &["--max-tokens", "3"]));
    typed.type_line("ROMEO");
    typed.turn();
    std::thread::sleep(Duration::from_millis(900));
    // Its place is free.
    let other = parties.client("generate").args(["--prompt", "x", "--max-tokens", "2"]).output().unwrap();
    assert!(other.status.success(), "{}", String::from_utf8_lossy(&other.stderr));
    typed.type_line("And?");
    let lost = typed.turn();
    let reason = "(the server gave up: no token was asked for within 0.4 s (`--idle` of the server))";
    assert!(lost.contains(&format!("a new session, since the last one ended {reason}; ")), "{lost}");
    typed.end();
}

#[test]
fn a_server_that_dies_and_comes_back_is_asked_again() {
    let mut parties = Parties::start();
    let mut typed = Chat::start(chat(&parties, &["--max-tokens", "4"]));
    typed.type_line("ROMEO");
    typed.turn();
    drop(parties.server.take());
    typed.type_line("And?");
    let error = typed.turn();
    assert!(error.starts_with("error: no server at 127.0.0.1:"), "{error}");
    parties.start_server();
    typed.type_line("And?");
    let back = typed.turn();
    assert!(back.contains("a new session, since the last one ended ("), "{back}");
    typed.type_line("And?");
    let on = typed.turn();
    assert!(!on.contains("new session"), "{on}");
    typed.end();
}

#[test]
fn an_interrupt_stops_the_answer_and_then_the_command() {
    let parties = Parties::start();
    let mut typed = Chat::start(chat(&parties, &[]));
    typed.type_line("ROMEO");
    let mut out = typed.child.stdout.take().unwrap();
    out.read_exact(&mut [0]).unwrap();
    signal(&typed.child, "INT");
    let stopped = typed.turn();
    assert!(stopped.starts_with("[stopped; "), "{stopped}");
    typed.type_line("And?");
    out.read_exact(&mut [0; 2]).unwrap();
    signal(&typed.child, "INT");
    let on = typed.turn();
    assert!(on.starts_with("[stopped; ") && !on.contains("new session"), "{on}");
    signal(&typed.child, "INT");
    assert!(end(typed.child, "an interrupt while nothing is answered").status.success());
}
