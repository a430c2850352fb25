//! What documents and examples promise to run runs: with the project's own binaries, in an empty folder, on ports that are free.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::net::TcpListener;
use std::os::unix::fs::symlink;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use tests::processes::{build_binaries, repository};

use crate::markdown::{Block, Document, documents};

static BINARIES: LazyLock<PathBuf> = LazyLock::new(|| build_binaries().unwrap());

/// Longest time that a document or an example may take: it is seconds where nothing else runs.
const DEADLINE: Duration = Duration::from_secs(300);

/// Printed between the outputs of two blocks.
const PARTED: &str = "=== the next block ===";

/// A text in which the addresses that documents name are ones that nobody listens on.
fn on_free_ports(text: &str) -> String {
    // All are held until all are known, so that no two are the same.
    let free: Vec<TcpListener> = (0..3).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
    let named = ["127.0.0.1:7700", "127.0.0.1:7701", "127.0.0.1:7702"];
    named
        .iter()
        .zip(&free)
        .fold(text.to_owned(), |text, (named, free)| text.replace(named, &free.local_addr().unwrap().to_string()))
}

/// Runs a script by bash, ends whatever it has started, and gives what it printed; panics where it fails.
fn run(name: &str, script: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    for shared in ["models", "examples"] {
        symlink(repository().join(shared), folder.path().join(shared)).unwrap();
    }
    let at = |name: &str| folder.path().join(name);
    let path = std::env::join_paths(
        [BINARIES.clone()].into_iter().chain(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default())),
    );
    fs::write(at("script"), on_free_ports(script)).unwrap();
    let mut bash = Command::new("bash");
    bash.args(["-euo", "pipefail", "script"]).current_dir(folder.path()).env("PATH", path.unwrap());
    bash.env("HOME", folder.path()).env_remove("XDG_CONFIG_HOME").env_remove("XDG_STATE_HOME");
    bash.env_remove("XDG_CACHE_HOME").env_remove("SSVM_TOKEN");
    // Files, not pipes: a server that a script leaves behind would keep a pipe open.
    bash.stdout(File::create(at("stdout")).unwrap()).stderr(File::create(at("stderr")).unwrap());
    let status = finished(bash.process_group(0));
    let said = |name: &str| String::from_utf8_lossy(&fs::read(at(name)).unwrap()).into_owned();
    assert!(status.is_some_and(|s| s.success()), "{name}: {status:?}\n{}\n{}", said("stdout"), said("stderr"));
    said("stdout")
}

/// Waits for a command that has a process group of its own, and ends the group; nothing where it took too long.
fn finished(command: &mut Command) -> Option<ExitStatus> {
    let mut child = match command.spawn() {
        Err(e) if e.kind() == ErrorKind::NotFound => panic!("bash is not installed"),
        child => child.unwrap(),
    };
    let begun = Instant::now();
    let mut status = None;
    while status.is_none() && begun.elapsed() < DEADLINE {
        std::thread::sleep(Duration::from_millis(20));
        status = child.try_wait().unwrap();
    }
    // Fails where nothing of the group is left, which is as well.
    let _ = Command::new("kill").args(["-KILL", "--", &format!("-{}", child.id())]).output();
    let _ = child.wait();
    status
}

/// Whether lines are among those of a text, in this order; `...` stands for any.
fn has(text: &str, wanted: &str) -> bool {
    let mut lines = text.lines().map(str::trim_end);
    wanted.lines().map(str::trim_end).filter(|line| *line != "...").all(|line| lines.any(|l| l == line))
}

/// Runs the blocks of a document in one shell, and looks for the marked outputs.
fn run_document(document: &Document) {
    let blocks: Vec<Block> = document.blocks().into_iter().filter(|b| b.is("run") || b.is("output")).collect();
    let script: Vec<&str> = blocks.iter().filter(|b| b.is("run")).map(|b| b.text.as_str()).collect();
    let said = run(&document.name, &script.join(&format!("echo '{PARTED}'\n")));
    let mut outputs = said.split(PARTED);
    let mut last = "";
    for block in &blocks {
        if block.is("run") {
            last = outputs.next().expect("an output for each block");
        } else {
            let place = format!("{}:{}", document.name, block.line);
            assert!(has(last, &block.text), "{place} says\n{}\nbut what runs before it\n{last}", block.text);
        }
    }
}

#[test]
fn marked_blocks_run() {
    let marked = documents(".md").into_iter().filter(|d| d.blocks().iter().any(|b| b.is("run")));
    let ran: Vec<String> = marked
        .map(|document| {
            run_document(&document);
            document.name
        })
        .collect();
    assert!(ran.contains(&"docs/quick-start.md".to_owned()), "{ran:?}");
}

#[test]
fn examples_run() {
    let scripts = documents(".sh").into_iter().filter(|d| Path::new(&d.name).starts_with("examples"));
    let ran: Vec<String> = scripts.map(|script| run(&script.name, &script.text)).collect();
    assert!(!ran.is_empty(), "no example");
}

#[test]
fn a_fault_is_seen() {
    let document = |text: &str| Document { name: "test".to_owned(), text: text.to_owned() };
    let fails = |text: &str| std::panic::catch_unwind(|| run_document(&document(text))).is_err();
    assert!(!fails("```sh,run\nls models/README.md; sleep 100 &\n```\n\n```text,output\n...\nmodels/README.md\n```\n"));
    assert!(fails("```sh,run\nls no-such-file\n```\n"));
    assert!(fails("```sh,run\necho one\n```\n\n```text,output\ntwo\n```\n"));
    assert!(fails("```sh,run\necho one; false; echo two\n```\n"));
}
