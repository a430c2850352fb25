//! The endpoint as the official `openai` client for Python sees it.

use std::path::{Path, PathBuf};
use std::process::Command;

use tests::processes::{output, repository};

use crate::common::{SPEECH, Served, TOKEN, caps, toy};

/// A virtual environment below `target` with the packages that `requirements.txt` names, made if need be.
fn python() -> PathBuf {
    let requirements = repository().join("tests/openai/requirements.txt");
    let wanted = std::fs::read_to_string(&requirements).unwrap();
    let folder = repository().join("target/openai");
    let interpreter = folder.join(if cfg!(windows) { "Scripts/python.exe" } else { "bin/python" });
    let stamp = folder.join("installed.txt");
    if std::fs::read_to_string(&stamp).is_ok_and(|installed| installed == wanted) {
        return interpreter;
    }
    let step = |what: &str, command: &mut Command| {
        output(command).unwrap_or_else(|error| {
            panic!("{what}: {error}\nThis test needs python3 with venv and a package index that has `openai`.")
        });
    };
    step("making a virtual environment", Command::new("python3").args(["-m", "venv", "--clear"]).arg(&folder));
    let mut pip = Command::new(&interpreter);
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--requirement"]).arg(&requirements);
    step("installing the openai package", &mut pip);
    std::fs::write(stamp, wanted).unwrap();
    interpreter
}

#[test]
#[ignore = "needs python3 with venv, and a package index for `openai`"]
fn the_official_client_is_content() {
    let python = python();
    let served = Served::start(toy(), caps());
    let script: &Path = &repository().join("tests/openai/client.py");
    let said = output(Command::new(&python).arg(script).args([&served.base, TOKEN, SPEECH]));
    assert_eq!(said.unwrap_or_else(|error| panic!("{error}")).trim(), "content");
    // The example for users, too.
    let mut example = Command::new(&python);
    example.arg(repository().join("examples/openai.py")).arg("Hi");
    example.env("OPENAI_BASE_URL", format!("{}/v1", served.base)).env("OPENAI_API_KEY", TOKEN);
    let said = output(&mut example).unwrap_or_else(|error| panic!("{error}"));
    assert!(!said.trim().is_empty(), "an answer comes");
}
