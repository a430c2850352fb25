//! Hygiene of the repository: what every file has, what no file holds, and that the code map is true.

use std::fs;
use std::path::{Path, PathBuf};

use tests::processes::repository;

/// Files that may hold `unsafe` blocks: vector kernels and the multiversioning macro.
const UNSAFE: &[&str] = &[
    "runtime/kernels/src/aes128.rs",
    "runtime/kernels/src/cpu.rs",
    "runtime/kernels/src/masked.rs",
    "runtime/kernels/src/ring/matmul/few.rs",
    "runtime/kernels/src/ring/matmul/limbs.rs",
    "runtime/kernels/src/ring/matmul/packed.rs",
    "runtime/kernels/src/ring/matmul/wide.rs",
    "runtime/kernels/src/ring/matmul/x86.rs",
    "runtime/kernels/src/ring/pack/mod.rs",
    "runtime/kernels/src/ring/pack/vbmi.rs",
    "runtime/protocols/benches/kernels.rs",
    "runtime/protocols/src/dcf/whole.rs",
    "runtime/protocols/src/dcf/wide.rs",
];

/// The crates.
const CRATES: &[&str] = &["compiler", "ir", "runtime", "tests"];

/// Files below the crates with a given ending, as path within the repository and content.
fn files(ending: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut folders: Vec<PathBuf> = CRATES.iter().map(|name| repository().join(name)).collect();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.to_str().unwrap().ends_with(ending) {
                let name = path.strip_prefix(repository()).unwrap().to_str().unwrap().to_owned();
                found.push((name, fs::read_to_string(&path).unwrap()));
            }
        }
    }
    found.sort();
    assert!(!found.is_empty(), "no {ending} file");
    found
}

/// Panics with all complaints at once.
fn none(complaints: Vec<String>) {
    assert!(complaints.is_empty(), "\n{}", complaints.join("\n"));
}

/// Line number and text of the lines of a file, from 1.
fn lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines().enumerate().map(|(i, line)| (i + 1, line))
}

#[test]
fn rust_files_say_what_they_are() {
    let headless = files(".rs").into_iter().filter(|(_, text)| !text.starts_with("//! "));
    none(headless.map(|(name, _)| format!("{name}: does not start with `//!`")).collect());
}

#[test]
fn nothing_is_left_unfinished() {
    // Put together here, so that this file does not hold them.
    let words = [["todo", "!("], ["unimplemented", "!("], ["dbg", "!("], ["FIX", "ME"], ["XX", "X"]]
        .map(|halves| halves.concat());
    let mut complaints = Vec::new();
    for (name, text) in files(".rs") {
        for (number, line) in lines(&text) {
            complaints.extend(
                words.iter().filter(|word| line.contains(*word)).map(|word| format!("{name}:{number}: {word}")),
            );
        }
    }
    none(complaints);
}

#[test]
fn unsafe_code_is_confined_and_explained() {
    let block = format!("{} {{", "unsafe");
    let mut complaints = Vec::new();
    let mut with_blocks = Vec::new();
    for (name, text) in files(".rs") {
        let lines: Vec<&str> = text.lines().collect();
        for (i, line) in lines.iter().enumerate() {
            let code = line.split("//").next().unwrap();
            if !code.contains(&block) {
                continue;
            }
            with_blocks.push(name.clone());
            if !lines[i.saturating_sub(3)..i].iter().any(|l| l.trim_start().starts_with("// SAFETY: ")) {
                complaints.push(format!("{name}:{}: no SAFETY sentence in the three lines before", i + 1));
            }
        }
    }
    with_blocks.dedup();
    assert_eq!(with_blocks, UNSAFE, "files with unsafe blocks");
    none(complaints);
}

/// A line of a snapshot's head.
fn head<'a>(snapshot: &'a str, key: &str) -> Option<&'a str> {
    snapshot
        .lines()
        .skip(1)
        .take_while(|line| *line != "---")
        .find_map(|line| line.strip_prefix(key)?.strip_prefix(": "))
}

#[test]
fn snapshots_belong_to_tests() {
    let mut complaints = Vec::new();
    let mut inputs = Vec::new();
    for (name, text) in files(".snap") {
        let Some(source) = head(&text, "source") else {
            complaints.push(format!("{name}: its head has no source"));
            continue;
        };
        let Ok(code) = fs::read_to_string(repository().join(source)) else {
            complaints.push(format!("{name}: {source} does not exist"));
            continue;
        };
        // MODULE__NAME@SUFFIX.snap, where NAME is the function's or one that it gives.
        let stem = Path::new(&name).file_name().unwrap().to_str().unwrap();
        let test = stem.trim_end_matches(".snap").split('@').next().unwrap().rsplit("__").next().unwrap();
        // The second and later snapshots of a function are numbered.
        let function = test.trim_end_matches(|c: char| c.is_ascii_digit()).trim_end_matches('-');
        // A macro makes functions of bare names.
        let word = |line: &str| line.starts_with(' ') && line.split(' ').any(|word| word == test);
        let named = [format!("fn {test}("), format!("fn {function}("), format!("\"{test}\"")];
        if !named.iter().any(|text| code.contains(text)) && !code.lines().any(word) {
            complaints.push(format!("{name}: {source} has no test {test}"));
        }
        inputs.extend(head(&text, "input_file").map(str::to_owned));
    }
    for input in &inputs {
        if !repository().join(input).exists() {
            complaints.push(format!("a snapshot is of {input}, which does not exist"));
        }
    }
    // A listing that neither a snapshot is of nor a test includes would be tested by nothing.
    let code = files(".rs");
    for (name, _) in files(".ssir").into_iter().filter(|(name, _)| !inputs.contains(name)) {
        let included = |(source, text): &(String, String)| {
            let folder = Path::new(source).parent().unwrap();
            Path::new(&name).strip_prefix(folder).is_ok_and(|path| text.contains(&format!("\"{}\"", path.display())))
        };
        if !code.iter().any(included) {
            complaints.push(format!("{name}: no test reads it"));
        }
    }
    none(complaints);
}

/// What must not reach files, sockets and the clock cannot name them. Tests may.
#[test]
fn protocols_do_no_io() {
    let words = ["std::fs", "std::net", "std::process", "std::io::std", "SystemTime", "tokio", "memmap2", "File::"];
    let mut complaints = Vec::new();
    for (name, text) in files(".rs").into_iter().chain(files(".toml")) {
        let pure = ["ir", "runtime/kernels", "runtime/protocols", "runtime/rlwe", "runtime/machine"];
        let below = |folder: &&str| name.strip_prefix(*folder).is_some_and(|rest| rest.starts_with('/'));
        if !pure.iter().any(below) || name.contains("/tests/") || name.contains("/benches/") {
            continue;
        }
        let code = text.split("#[cfg(test)]").next().unwrap();
        for (number, line) in lines(code) {
            let found = words.iter().filter(|word| line.contains(*word));
            complaints.extend(found.map(|word| format!("{name}:{number}: {word}")));
        }
    }
    none(complaints);
}

/// Rows `| path | content |`; names between backticks are folders, modules or the program of that crate.
#[test]
fn code_map() {
    let text = fs::read_to_string(repository().join("ARCHITECTURE.md")).unwrap();
    let (_, map) = text.split_once("## Code map").expect("a code map");
    let mut rows = 0;
    let mut complaints = Vec::new();
    for row in map.lines().filter(|line| line.starts_with("| `")) {
        rows += 1;
        let mut names = row.split('`').skip(1).step_by(2);
        let root = repository().join(names.next().unwrap());
        if !root.is_dir() {
            complaints.push(format!("{} does not exist", root.display()));
            continue;
        }
        let manifest = fs::read_to_string(root.join("Cargo.toml")).unwrap_or_default();
        for name in names.filter(|name| !manifest.contains(&format!("name = \"{name}\""))) {
            let at = root.join("src").join(name);
            if !at.exists() && !at.with_extension("rs").exists() {
                complaints.push(format!("{} has no {name}", root.display()));
            }
        }
    }
    assert!(rows > CRATES.len() - 1, "the map has {rows} rows");
    none(complaints);
}
