//! What the examples that go through a folder of models share.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

/// Checks every model of the folder that the command line names, one line each, and counts the verdicts. A model counts that
/// has `recorded` files beside it and whose path holds the second argument, if there is one; a panic is a verdict.
pub fn check_all(name: &str, recorded: impl Fn(&Path) -> bool, check: impl Fn(&Path) -> (&'static str, String)) {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let Some(dir) = arguments.first() else {
        eprintln!("usage: {name} DIR [FILTER]");
        std::process::exit(2);
    };
    let mut models: Vec<PathBuf> = std::fs::read_dir(dir)
        .unwrap_or_else(|e| panic!("{dir}: {e}"))
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|e| e == "onnx") && recorded(path))
        .filter(|path| arguments.get(1).is_none_or(|filter| path.to_string_lossy().contains(filter)))
        .collect();
    models.sort();
    std::panic::set_hook(Box::new(|_| {}));
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for model in &models {
        let (verdict, text) = catch_unwind(AssertUnwindSafe(|| check(model))).unwrap_or_else(|cause| {
            let text = cause.downcast_ref::<String>().cloned();
            let text = text.or_else(|| cause.downcast_ref::<&str>().map(|s| (*s).to_owned())).unwrap_or_default();
            ("PANIC", text.replace('\n', " "))
        });
        *counts.entry(verdict).or_default() += 1;
        println!("{verdict:7} {:40} {text}", model.file_stem().unwrap_or_default().to_string_lossy());
    }
    println!("{} files: {counts:?}", models.len());
}

/// Whether inputs and outputs of a model are recorded.
#[allow(dead_code)]
pub fn has_arrays(model: &Path) -> bool {
    model.with_extension("io.npz").exists()
}

/// Sizes of open dimensions that NAME.json gives.
#[allow(dead_code)]
pub fn dims(path: &Path) -> BTreeMap<String, usize> {
    let Ok(text) = std::fs::read(path) else { return BTreeMap::new() };
    let facts: serde_json::Value = serde_json::from_slice(&text).expect("JSON");
    let dims = facts["dims"].as_object().cloned().unwrap_or_default();
    dims.into_iter().filter_map(|(name, size)| Some((name, size.as_u64()? as usize))).collect()
}
