//! The commands of `sscc` as a person meets them: what mistakes are answered with, and how outputs agree.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::LazyLock;

use serde_json::{Value, json};
use tempfile::TempDir;
use tests::processes::{build_binaries, repository};

static SSCC: LazyLock<PathBuf> = LazyLock::new(|| build_binaries().unwrap().join("sscc"));

/// An empty folder, in which commands run, with some models.
fn folder(models: &[&str]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for model in models {
        let from = repository().join("models").join(model);
        fs::copy(&from, folder.path().join(from.file_name().unwrap())).unwrap();
    }
    folder
}

fn sscc(folder: &TempDir, arguments: &str) -> Output {
    Command::new(&*SSCC).args(arguments.split_whitespace()).current_dir(folder.path()).output().unwrap()
}

/// Stdout of a command that succeeds.
fn succeeds(folder: &TempDir, arguments: &str) -> String {
    let output = sscc(folder, arguments);
    assert!(output.status.success(), "sscc {arguments}\n{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// What a command that fails says.
fn fails(folder: &TempDir, arguments: &str) -> String {
    let output = sscc(folder, arguments);
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code().map(|code| code != 0), Some(true), "sscc {arguments} exits with a failure\n{said}");
    assert!(output.stdout.is_empty(), "sscc {arguments} prints nothing on stdout");
    format!("$ sscc {arguments}\n{said}")
}

const NANO: &str = "dialects/nanogpt__leg17.onnx";

#[test]
fn bad_models() {
    let folder = folder(&["dialects/llama__leg17.onnx"]);
    fs::write(folder.path().join("text.onnx"), "this is not a model").unwrap();
    let said = ["missing.onnx", "text.onnx", "llama__leg17.onnx"].map(|m| fails(&folder, &format!("compile {m}")));
    insta::assert_snapshot!(said.join("\n"));
}

#[test]
fn bad_sizes_and_links() {
    let folder = folder(&[NANO]);
    let said = [
        "--dim sequence=8",
        "--dim seq",
        "--dim seq=0",
        "--dim seq=8 --dim seq=9",
        "--link far",
        "--link 5,1gbit",
        "--logits first",
    ];
    insta::assert_snapshot!(
        said.map(|flags| fails(&folder, &format!("compile nanogpt__leg17.onnx {flags}"))).join("\n")
    );
}

#[test]
fn bad_calibration() {
    let folder = folder(&[NANO, "dialects/nanogpt__leg17.io.npz", "tiny-shakespeare/calibration.npz"]);
    let ids = ndarray::Array3::<i64>::zeros((4, 12, 2));
    let path = folder.path().join("shape.npz");
    let mut npz = ndarray_npy::NpzWriter::new(fs::File::create(path).unwrap());
    npz.add_array("idx", &ids).unwrap();
    npz.finish().unwrap();
    let said = ["missing.npz", "nanogpt__leg17.onnx", "calibration.npz", "shape.npz"];
    insta::assert_snapshot!(
        said.map(|file| fails(&folder, &format!("compile nanogpt__leg17.onnx --calibrate {file}"))).join("\n")
    );
}

#[test]
fn bad_programs() {
    let folder = folder(&[NANO]);
    succeeds(&folder, "compile nanogpt__leg17.onnx --dim seq=4 -o m.ssb");
    let whole = fs::read(folder.path().join("m.ssb")).unwrap();
    fs::write(folder.path().join("half.ssb"), &whole[..whole.len() / 2]).unwrap();
    fs::write(folder.path().join("empty.ssb"), "").unwrap();
    let said =
        ["inspect m.ssw", "cost half.ssb", "cost empty.ssb", "cost --json missing.ssb", "inspect nanogpt__leg17.onnx"];
    insta::assert_snapshot!(said.map(|arguments| fails(&folder, arguments)).join("\n"));
}

/// A program that decodes and that no party would run is refused by every command that reads one.
#[test]
fn forged_programs() {
    let folder = folder(&[NANO]);
    succeeds(&folder, "compile nanogpt__leg17.onnx --dim seq=4 -o m.ssb");
    let whole = ir::bytecode::decode(&fs::read(folder.path().join("m.ssb")).unwrap()).unwrap();
    let forge = |name: &str, change: &dyn Fn(&mut ir::bytecode::Module)| {
        let mut module = whole.clone();
        change(&mut module);
        fs::write(folder.path().join(name), ir::bytecode::encode(&module)).unwrap();
    };
    forge("none.ssb", &|module| module.entries.clear());
    forge("undefined.ssb", &|module| module.entries[0].instrs.swap(0, 9));
    let program = ir::parse(&succeeds(&folder, "compile nanogpt__leg17.onnx --dim seq=4 --emit program")).unwrap();
    forge("unscheduled.ssb", &|module| module.entries = vec![program.clone()]);
    forge("huge.ssb", &|module| module.entries[0].weights[0].shape.0[0] = 1 << 31);
    for name in ["none", "undefined", "unscheduled", "huge"] {
        for command in [
            "inspect X",
            "cost X",
            "cost --making X",
            "explain X",
            "explain X --html page.html",
            "diff X m.ssb",
            "diff m.ssb X",
            "graph X -o page.html",
            "accuracy X --input m.ssw",
        ] {
            let said = fails(&folder, &command.replace('X', &format!("{name}.ssb")));
            assert!(said.contains("error[SSC0701]") && said.contains(&format!("{name}.ssb\n")), "{said}");
        }
    }
    insta::assert_snapshot!(
        ["cost none.ssb", "cost unscheduled.ssb"].map(|command| fails(&folder, command)).join("\n")
    );
}

/// What making takes is told of programs that two parties can make the material of, with their weights.
#[test]
fn making() {
    let folder = folder(&[NANO]);
    succeeds(&folder, "compile nanogpt__leg17.onnx --dim seq=4 -o pair.ssb");
    succeeds(&folder, "compile nanogpt__leg17.onnx --dim seq=4 --material dealer -o dealer.ssb");
    fs::copy(folder.path().join("pair.ssb"), folder.path().join("alone.ssb")).unwrap();
    let said = ["dealer.ssb", "alone.ssb"].map(|file| fails(&folder, &format!("cost --making {file}")));
    insta::assert_snapshot!("bad_making", said.join("\n"));
    insta::assert_snapshot!("making", succeeds(&folder, "cost --making pair.ssb --link wan"));
    let json = |flags: &str| -> Value {
        serde_json::from_str(&succeeds(&folder, &format!("cost --making --json pair.ssb {flags}"))).unwrap()
    };
    let (alone, wan) = (json(""), json("--link wan"));
    assert!(alone["stages"][0]["link_seconds"].is_null() && wan["stages"][0]["link_seconds"].as_f64() > Some(0.1));
    for key in ["client_sent_bytes", "server_sent_bytes", "messages", "transfers"] {
        assert!(alone["stages"][0][key].as_u64() > Some(0), "{key}");
        assert_eq!(alone["stages"][0][key], wan["stages"][0][key], "{key} does not depend on the link");
    }
}

#[test]
fn bad_predictions() {
    let folder = folder(&[NANO]);
    succeeds(&folder, "compile nanogpt__leg17.onnx --dim seq=4 -o m.ssb");
    let said = ["--link far", "--link 1ms,0mbit", "--link", "--cores 2", "--link lan --cores 0"];
    insta::assert_snapshot!(said.map(|flags| fails(&folder, &format!("cost m.ssb {flags}"))).join("\n"));
}

/// What `ssvm run --report` writes, as far as `sscc` reads it: of a run that took each instruction `seconds`.
fn report(folder: &TempDir, name: &str, seconds: f64, change: impl Fn(&mut Value)) {
    let cost: Value = serde_json::from_str(&succeeds(folder, "cost --json m.ssb")).unwrap();
    let rows = cost["entries"][0]["instructions"].as_array().unwrap();
    let rows: Vec<Value> = rows.iter().map(|row| json!({"op": row["op"], "compute_seconds": seconds})).collect();
    let mut report = json!({
        "threads": 1,
        "rounds": cost["entries"][0]["rounds"],
        "online_seconds": 2.0 * seconds * rows.len() as f64,
        "instructions": rows,
    });
    change(&mut report);
    fs::write(folder.path().join(name), report.to_string()).unwrap();
}

#[test]
fn bad_reports() {
    let folder = folder(&[NANO]);
    succeeds(&folder, "compile nanogpt__leg17.onnx --dim seq=4 -o m.ssb");
    report(&folder, "good.json", 1e-3, |_| {});
    report(&folder, "threads.json", 1e-3, |report| report["threads"] = json!(2));
    report(&folder, "runs.json", 1e-3, |report| report["rounds"] = json!(3));
    report(&folder, "other.json", 1e-3, |report| report["instructions"][0]["op"] = json!("open"));
    fs::write(folder.path().join("none.json"), "[]").unwrap();
    let said = ["missing.json", "none.json", "other.json", "runs.json", "threads.json"];
    let said = said.map(|bad| fails(&folder, &format!("cost m.ssb --link lan --reports good.json {bad}")));
    let alone = ["--reports good.json good.json", "--link lan --reports good.json"];
    let alone = alone.map(|flags| fails(&folder, &format!("cost m.ssb {flags}")));
    insta::assert_snapshot!(said.iter().chain(&alone).cloned().collect::<Vec<_>>().join("\n"));
}

#[test]
fn predictions() {
    let folder = folder(&[NANO]);
    succeeds(&folder, "compile nanogpt__leg17.onnx --dim seq=4 -o m.ssb");
    let online = |flags: &str| {
        let json: Value = serde_json::from_str(&succeeds(&folder, &format!("cost --json m.ssb {flags}"))).unwrap();
        json["entries"][0]["predicted"]["online_seconds"].as_f64()
    };
    assert_eq!(online(""), None, "no link, no prediction");
    let [loopback, lan, wan] = ["loopback", "lan", "wan"].map(|link| online(&format!("--link {link}")).unwrap());
    assert!(0.0 < loopback && loopback < lan && lan < wan, "{loopback} {lan} {wan}");
    assert_eq!(Some(wan), online("--link 40ms,100mbit"));
    assert!(online("--link lan --cores 8").unwrap() <= lan);
    // At the speed of machines that are slower, the second twice as slow as the first.
    let [first, second] = [1e-3, 2e-3].map(|seconds| {
        report(&folder, "r.json", seconds, |_| {});
        online("--link loopback --reports r.json r.json").unwrap()
    });
    assert!(loopback < first && (1.9..2.1).contains(&(second / first)), "{loopback} {first} {second}");
    let text = succeeds(&folder, "cost m.ssb --link wan");
    let line = format!("online   about {wan:.2} s on a link of 40 ms and 100 Mbit/s, 2 cores that both parties share");
    assert!(text.contains(&line), "{line} is missing in\n{text}");
}

#[test]
fn bad_places_for_results() {
    let folder = folder(&[NANO]);
    for place in ["no/such/folder/m.ssb", "nanogpt__leg17.onnx/m.ssb"] {
        let said = fails(&folder, &format!("compile nanogpt__leg17.onnx --dim seq=4 -o {place}"));
        assert!(said.contains("error[SSC0002]: the file cannot be written"), "{said}");
        assert!(said.contains(&place.replace("ssb", "ssw")) && said.contains("try: "), "{said}");
    }
    let left: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(left, ["nanogpt__leg17.onnx"], "nothing is left behind");
}

#[test]
fn outputs_agree() {
    let folder = folder(&[NANO]);
    let summary = succeeds(&folder, "compile nanogpt__leg17.onnx --dim seq=4 -o m.ssb");
    let size = |name: &str| fs::metadata(folder.path().join(name)).unwrap().len();
    for name in ["m.ssb", "m.ssw"] {
        let line = summary.lines().find(|line| line.starts_with(name)).expect("a line for each file");
        assert!(line.contains(&sscc::report::size(size(name))), "{line}");
    }
    let (inspected, cost) = (succeeds(&folder, "inspect m.ssb"), succeeds(&folder, "cost m.ssb"));
    let json: serde_json::Value = serde_json::from_str(&succeeds(&folder, "cost --json m.ssb")).unwrap();
    let [entry] = json["entries"].as_array().unwrap().as_slice() else { panic!("one entry") };
    let number = |name: &str| entry[name].as_u64().unwrap_or_else(|| panic!("{name} is a number"));

    let rounds = format!("{} rounds + {} one-way messages", number("rounds"), number("one_way_messages"));
    let bytes = |name: &str| sscc::report::size(number(name));
    let sent = format!("client sends {}, server sends {}", bytes("client_sent_bytes"), bytes("server_sent_bytes"));
    let dealt =
        format!("{} to the client, {} to the server", bytes("client_material_bytes"), bytes("server_material_bytes"));
    for text in [&summary, &inspected, &cost] {
        for figure in [&rounds, &sent, &dealt] {
            assert!(text.contains(figure), "{figure} is missing in\n{text}");
        }
    }

    // What is inspected is the program itself: it reads back, and what it promises is what the JSON says.
    let program = ir::parse(&inspected).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(program, module(&folder.path().join("m.ssb")).entries[0]);
    let instructions = entry["instructions"].as_array().unwrap();
    assert_eq!(instructions.len(), program.instrs.len());
    for name in ["client_material_bytes", "server_material_bytes"] {
        let sum: u64 = instructions.iter().map(|i| i[name].as_u64().unwrap()).sum();
        assert_eq!(sum, number(name), "{name}");
    }
}

fn module(path: &Path) -> ir::bytecode::Module {
    ir::bytecode::decode(&fs::read(path).unwrap()).unwrap()
}

/// Every command of a program, with the name of its page.
fn pages(command: &clap::Command, name: &str) -> Vec<(String, clap::Command)> {
    let below = command.get_subcommands().filter(|below| below.get_name() != "help");
    let below = below.flat_map(|below| pages(below, &format!("{name}-{}", below.get_name())));
    [(name.to_owned(), command.clone())].into_iter().chain(below).collect()
}

#[test]
fn every_command_and_option_is_documented_and_completed() {
    let folder = folder(&[]);
    for (name, mut command) in [("sscc", sscc::cli::command()), ("ssvm", ssvm::cli::command())] {
        command.build();
        let run = |arguments: &[&str]| {
            let output =
                Command::new(SSCC.with_file_name(name)).args(arguments).current_dir(folder.path()).output().unwrap();
            assert!(output.status.success(), "{name} {arguments:?}\n{}", String::from_utf8_lossy(&output.stderr));
            String::from_utf8(output.stdout).unwrap()
        };
        run(&["man", "--dir", "share/man"]);
        let scripts =
            ["bash", "zsh", "fish", "elvish", "powershell"].map(|shell| (shell, run(&["completions", shell])));
        let all = pages(&command, name);
        assert!(all.len() > 8, "{name} has {} commands", all.len());
        for (page, command) in all {
            let file = folder.path().join("share/man").join(format!("{page}.1"));
            let text = fs::read_to_string(&file).unwrap_or_else(|e| panic!("{page}: {e}")).replace("\\-", "-");
            assert!(text.contains(".SH NAME") && text.contains(".SH SYNOPSIS"), "{page}");
            for argument in command.get_arguments().filter(|argument| !argument.is_hide_set()) {
                let said = argument.get_long().map_or_else(
                    || argument.get_value_names().expect("a place has a name")[0].to_string(),
                    |long| format!("--{long}"),
                );
                assert!(text.contains(&said), "{page}: {said} is missing");
                assert!(argument.get_help().is_some(), "{page}: {said} says nothing");
                for (shell, script) in scripts.iter().filter(|_| said.starts_with("--")) {
                    assert!(script.contains(&said[2..]), "{shell}: {said} of {page} is missing");
                }
            }
            for (shell, script) in &scripts {
                assert!(script.contains(command.get_name()), "{shell}: {page} is missing");
            }
        }
    }
}
