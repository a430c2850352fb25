//! The tools around a compiled program: accuracy, pictures, lists, explanations.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;
use tempfile::TempDir;

fn model(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../models").join(name)
}

fn sscc(folder: &TempDir, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_sscc")).args(arguments).current_dir(folder.path()).output().unwrap()
}

/// Stdout of a command that succeeds.
fn succeeds(folder: &TempDir, arguments: &[&str]) -> String {
    let output = sscc(folder, arguments);
    assert!(output.status.success(), "sscc {arguments:?}\n{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// What a command that fails says.
fn fails(folder: &TempDir, arguments: &[&str]) -> String {
    let output = sscc(folder, arguments);
    assert!(!output.status.success(), "sscc {arguments:?} fails");
    String::from_utf8(output.stderr).unwrap()
}

/// The shipped model and its calibration under short names, and the program `m.ssb` compiled with further arguments.
fn compiled(arguments: &[&str]) -> (TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    for (from, to) in [
        ("tiny-shakespeare/model.onnx", "m.onnx"),
        ("tiny-shakespeare/calibration.npz", "text.npz"),
        ("tiny-shakespeare/validation.npz", "other.npz"),
    ] {
        std::fs::copy(model(from), folder.path().join(to)).unwrap();
    }
    let all = [&["compile", "m.onnx", "-o", "m.ssb", "--calibrate", "text.npz"], arguments].concat();
    let said = succeeds(&folder, &all);
    (folder, said)
}

/// A page fetches nothing: no address but the name of the SVG namespace, nothing that loads.
fn needs_no_network(page: &str) {
    let page = page.replace("http://www.w3.org/2000/svg", "");
    for word in ["http:", "https:", " src=", " href=", "url(", "@import", "fetch(", "XMLHttpRequest", "import("] {
        assert!(!page.contains(word), "the page has {word:?}");
    }
    assert!(page.starts_with("<!doctype html>") && page.trim_end().ends_with("</html>"));
    assert_eq!(page.matches("<script").count(), page.matches("</script>").count());
}

#[test]
fn accuracy_of_a_run() {
    let (folder, said) = compiled(&[]);
    assert!(said.contains("checked on 6 held-back inputs"), "{said}");
    // From another folder: the recipe knows where the model is.
    std::fs::create_dir(folder.path().join("elsewhere")).unwrap();
    let arguments = ["accuracy", "../m.ssb", "--input", "../other.npz", "--rows", "3", "--json", "--html", "a.html"];
    let mut command = Command::new(env!("CARGO_BIN_EXE_sscc"));
    let output = command.args(arguments).current_dir(folder.path().join("elsewhere")).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((report["rows"].as_u64(), report["given"].as_u64()), (Some(3), Some(200)));
    let logits = &report["outputs"][0];
    assert_eq!((logits["name"].as_str(), logits["top1_agree"].as_u64()), (Some("logits"), Some(3)));
    assert!(report["relative"].as_f64().unwrap() < 0.01, "{logits}");
    assert!(logits["kl_nats"].as_f64().unwrap() < 1e-3, "{logits}");
    assert_eq!((report["broken_claims"].as_u64(), report["left_tables"].as_u64()), (Some(0), Some(0)));
    // Every layer has nodes whose error is known, small and not zero.
    let nodes = report["nodes"].as_array().unwrap();
    for layer in 0..4 {
        let own: Vec<f64> = nodes
            .iter()
            .filter(|n| n["layer"] == format!("m/transformer/h.{layer}"))
            .map(|n| n["relative"].as_f64().unwrap())
            .collect();
        assert!(own.len() > 4 && own.iter().all(|e| (1e-7..0.01).contains(e)), "layer {layer}: {own:?}");
    }
    let ranges = report["ranges"].as_array().unwrap();
    assert!(ranges.iter().any(|r| r["kind"] == "table") && ranges.iter().all(|r| r["used"].as_f64().unwrap() <= 1.0));
    let page = std::fs::read_to_string(folder.path().join("elsewhere/a.html")).unwrap();
    needs_no_network(&page);
    assert!(page.matches("<svg").count() >= 3 && page.contains("What to change"));
}

#[test]
fn accuracy_of_a_generation() {
    let (folder, said) = compiled(&["--max-context", "32", "--prefill", "8", "--decode", "16,40"]);
    assert!(said.contains(" of 60 tokens as in float"), "{said}");
    let arguments = ["accuracy", "m.ssb", "--input", "other.npz", "--rows", "2", "--steps", "5"];
    let said = succeeds(&folder, &arguments);
    assert!(said.contains(" of 12 as in float"), "{said}");
}

#[test]
fn inputs_unlike_those_of_calibration_are_seen() {
    let (folder, _) = compiled(&[]);
    // One token that follows itself, which no text does.
    let ids = ndarray::Array2::<i64>::from_elem((1, 64), 1023);
    let mut npz = ndarray_npy::NpzWriter::new(std::fs::File::create(folder.path().join("odd.npz")).unwrap());
    npz.add_array("input_ids", &ids).unwrap();
    npz.finish().unwrap();
    let report = succeeds(&folder, &["accuracy", "m.ssb", "--input", "odd.npz", "--json"]);
    let report: Value = serde_json::from_str(&report).unwrap();
    let outside = report["broken_claims"].as_u64().unwrap() + report["left_tables"].as_u64().unwrap();
    let advice = report["advice"][0].as_str().unwrap();
    assert_eq!(outside > 0, advice.contains("--calibrate"), "{outside} outside: {advice}");
}

#[test]
fn too_great_an_error_is_no_program() {
    let (folder, _) = compiled(&[]);
    std::fs::remove_file(folder.path().join("m.ssb")).unwrap();
    let arguments = ["compile", "m.onnx", "-o", "m.ssb", "--calibrate", "text.npz", "--max-error"];
    let said = fails(&folder, &[&arguments[..], &["1e-9"]].concat());
    assert!(said.contains("error[SSC0405]") && said.contains("--max-error"), "{said}");
    assert!(!folder.path().join("m.ssb").exists());
    succeeds(&folder, &[&arguments[..], &["inf"]].concat());
}

#[test]
fn accuracy_needs_the_model_of_the_program() {
    let (folder, _) = compiled(&[]);
    std::fs::remove_file(folder.path().join("m.recipe.json")).unwrap();
    let said = fails(&folder, &["accuracy", "m.ssb", "--input", "other.npz"]);
    assert!(said.contains("error[SSC0803]") && said.contains("--model"), "{said}");
    let other = model("dialects/nanogpt__leg17.onnx");
    let said = fails(&folder, &["accuracy", "m.ssb", "--input", "other.npz", "--model", other.to_str().unwrap()]);
    assert!(said.contains("error[SSC0803]"), "{said}");
    let said = succeeds(&folder, &["accuracy", "m.ssb", "--input", "other.npz", "--rows", "1", "--model", "m.onnx"]);
    assert!(said.contains("1 of 1"), "{said}");
    let bytes = std::fs::read(folder.path().join("m.ssw")).unwrap();
    std::fs::write(folder.path().join("m.ssw"), &bytes[..bytes.len() - 2]).unwrap();
    let said = fails(&folder, &["accuracy", "m.ssb", "--input", "other.npz", "--model", "m.onnx"]);
    assert!(said.contains("the weights cannot be used"), "{said}");
}

#[test]
fn pictures_of_a_program() {
    let (folder, _) = compiled(&[]);
    succeeds(&folder, &["graph", "m.ssb", "-o", "m.html"]);
    let page = std::fs::read_to_string(folder.path().join("m.html")).unwrap();
    needs_no_network(&page);
    let data = page.split("id=\"data\">").nth(1).unwrap().split("</script>").next().unwrap();
    let data: Value = serde_json::from_str(data).unwrap();
    assert_eq!(data["layers"].as_array().unwrap().len(), 6, "{}", data["layers"]);
    // Every flow has an owner, a width and a shape, and comes from an instruction before or from a weight.
    for (index, instruction) in data["instructions"].as_array().unwrap().iter().enumerate() {
        for flow in instruction.get(8).and_then(Value::as_array).into_iter().flatten() {
            assert!(flow[0].as_u64().map_or(flow[0].is_string(), |from| from < index as u64), "{flow}");
            assert!(["client", "server", "shared", "masked, both"].contains(&flow[1].as_str().unwrap()), "{flow}");
            assert!(flow[2].as_str().unwrap().contains('.') && flow[3].as_str().unwrap().starts_with('['), "{flow}");
        }
    }
    succeeds(&folder, &["graph", "m.ssb", "-o", "m.dot"]);
    let dot = std::fs::read_to_string(folder.path().join("m.dot")).unwrap();
    assert_eq!(dot.matches("subgraph cluster_").count(), 6);
    assert!(dot.contains("server <.14>") && dot.contains("sddmm") && dot.trim_end().ends_with('}'));
    assert!(fails(&folder, &["graph", "m.ssb", "-o", "m.png"]).contains(".dot"));
    assert!(fails(&folder, &["graph", "m.ssb", "-o", "m.dot", "--entry", "decode.1"]).contains("error[SSC0804]"));
}

/// A row of a table: the cells after its name.
fn row<'a>(text: &'a str, name: &str) -> Vec<&'a str> {
    let line = text.lines().find(|line| line.split_whitespace().next() == Some(name));
    line.unwrap_or_else(|| panic!("no row {name} in\n{text}")).split_whitespace().skip(1).collect()
}

#[test]
fn costs_are_explained_to_the_byte() {
    let (folder, _) = compiled(&["--max-context", "32", "--prefill", "8,16", "--decode", "16,40"]);
    let cost: Value = serde_json::from_str(&succeeds(&folder, &["cost", "m.ssb", "--json", "--link", "wan"])).unwrap();
    for entry in cost["entries"].as_array().unwrap() {
        let name = entry["entry"].as_str().unwrap();
        let said = succeeds(&folder, &["explain", "m.ssb", "--entry", name, "--link", "wan"]);
        let number = |key: &str| entry[key].as_u64().unwrap();
        let size = |bytes: u64| sscc::report::size(bytes);
        let sent = size(number("client_sent_bytes") + number("server_sent_bytes"));
        let (made, dealt) = (size(number("made_bytes")), size(number("material_bytes")));
        let seconds = format!("{:.4}", entry["predicted"]["online_seconds"].as_f64().unwrap());
        let rounds = [number("rounds"), number("one_way_messages")].map(|n| n.to_string());
        let expected = [rounds[0].clone(), rounds[1].clone(), sent, made, dealt, seconds].join(" ");
        assert_eq!(row(&said, "all").join(" "), expected, "{said}");
        // Layers and instructions each add up to it.
        let (layers, ops) = said.split_once("\ninstruction").unwrap();
        let sum = |table: &str, column: usize| {
            let cells = table.lines().filter_map(|line| line.get(column..column + 11)?.trim().parse::<u64>().ok());
            cells.sum::<u64>()
        };
        let head = said.lines().find(|line| line.starts_with("layer")).unwrap();
        let column = head.find("rounds").unwrap() + "rounds".len() - 11;
        assert_eq!(sum(layers, column), 2 * number("rounds"), "layers and `all`\n{said}");
        assert_eq!(sum(ops, column), number("rounds"), "{said}");
        // What held-back texts told when it was compiled.
        assert_eq!(row(&said, "m/transformer/h.3").last().map(|error| error.contains("e-")), Some(true), "{said}");
        assert!(said.contains("checked on") && said.contains("of the spread"), "{said}");
    }
    let both = succeeds(&folder, &["explain", "m.ssb", "--html", "m.html"]);
    assert!(both.contains("entry prefill.8: ") && both.contains("entry decode.16: "), "{both}");
    assert!(!both.contains("entry prefill.16: ") && both.contains("prefill.16"), "{both}");
    let page = std::fs::read_to_string(folder.path().join("m.html")).unwrap();
    needs_no_network(&page);
    // Four plots an entry, each with bars of every layer.
    assert_eq!(page.matches("<svg").count(), 16);
    assert!(page.matches("<rect").count() > 16 * 6 && page.contains("m/transformer/h.3, openings: "), "{page}");

    // A recipe of another release knows no errors.
    let recipe = std::fs::read_to_string(folder.path().join("m.recipe.json")).unwrap();
    let mut recipe: Value = serde_json::from_str(&recipe).unwrap();
    recipe.as_object_mut().unwrap().remove("accuracy").unwrap();
    std::fs::write(folder.path().join("m.recipe.json"), recipe.to_string()).unwrap();
    assert!(succeeds(&folder, &["explain", "m.ssb"]).contains("sscc accuracy PROGRAM --input X.npz"));
    assert!(fails(&folder, &["explain", "m.ssb", "--entry", "decode.1"]).contains("error[SSC0804]"));
    assert!(fails(&folder, &["explain", "m.onnx"]).contains("error[SSC0701]"));
    assert!(fails(&folder, &["explain", "missing.ssb"]).contains("error[SSC0001]"));
    assert!(fails(&folder, &["explain", "SSC0405", "--html", "x.html"]).contains("--html is for programs"));
}

/// Exit code, stdout and stderr of `sscc diff`.
fn diff(folder: &TempDir, arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = sscc(folder, &[&["diff"], arguments].concat());
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[test]
fn programs_are_compared() {
    let sizes = ["--max-context", "32", "--prefill", "8,16", "--decode", "16,40"];
    let (folder, _) = compiled(&sizes);
    let (code, said, _) = diff(&folder, &["m.ssb", "m.ssb"]);
    assert_eq!((code, said.as_str()), (Some(0), "m.ssb and m.ssb are the same program\n"));

    let compile = |name: &str, calibrate: &str, arguments: &[&str]| {
        let all = ["compile", "m.onnx", "-o", name, "--calibrate", calibrate, "--max-error", "inf"];
        succeeds(&folder, &[&all[..], arguments].concat());
    };
    // Compiled again: another salt, and nothing else.
    compile("again.ssb", "text.npz", &sizes);
    let (code, said, _) = diff(&folder, &["m.ssb", "again.ssb"]);
    assert_eq!(code, Some(1));
    assert!(said.contains("--max-error  none -> inf") && said.contains("weights: not those of"), "{said}");
    assert_eq!(said.matches(": the same\n").count(), 4, "{said}");

    // Other texts: other ranges, by layer, and costs in proportion. Another decode size is an entry of one alone.
    let other = ["--max-context", "32", "--prefill", "8,16", "--decode", "40", "--material", "dealer"];
    compile("other.ssb", "other.npz", &other);
    let (code, said, _) = diff(&folder, &["m.ssb", "other.ssb"]);
    assert_eq!(code, Some(1));
    for part in [
        "--calibrate  text.npz -> other.npz",
        "--decode     16,40 -> 40",
        "decode.16  input_ids[1,1], noise[1024] -> none",
        "\nentry prefill.8\n  rounds ",
        "\nlayer m/transformer/h.0: ",
        "compare 13 -> 0",
        "/m/transformer/h.1/attn/c_attn/Gemm: ",
        "width of linear ",
    ] {
        assert!(said.contains(part), "{part} is missing in\n{said}");
    }
    let (_, json, _) = diff(&folder, &["m.ssb", "other.ssb", "--json"]);
    let json: Value = serde_json::from_str(&json).unwrap();
    let cost = |name: &str| {
        let cost: Value = serde_json::from_str(&succeeds(&folder, &["cost", name, "--json"])).unwrap();
        let entry = cost["entries"].as_array().unwrap().iter().find(|e| e["entry"] == "prefill.8").unwrap().clone();
        (entry["rounds"].as_f64(), entry["material_bytes"].as_f64())
    };
    let entry = json["entries"].as_array().unwrap().iter().find(|e| e["name"] == "prefill.8").unwrap();
    let figure = |name: &str, when: &str| {
        entry["costs"].as_array().unwrap().iter().find(|c| c["name"] == name).unwrap()[when].as_f64()
    };
    for (when, program) in [("before", "m.ssb"), ("after", "other.ssb")] {
        assert_eq!((figure("rounds", when), figure("dealt_bytes", when)), cost(program), "{when}");
    }
    let nodes = entry["layers"].as_array().unwrap().iter().flat_map(|l| l["nodes"].as_array().unwrap());
    let changes: Vec<String> = nodes
        .flat_map(|node| node["changes"].as_array().unwrap())
        .map(|change| change["name"].as_str().unwrap().to_owned())
        .collect();
    assert!(changes.iter().any(|name| name == "range of open"), "{changes:?}");
    assert!(changes.iter().any(|name| name == "scale of down" || name == "width of down"), "{changes:?}");
    assert!(changes.iter().any(|name| name == "spline"), "{changes:?}");
    assert_eq!(json["equal"], false);

    // Errors have a code of their own.
    let (code, said, error) = diff(&folder, &["m.ssb", "missing.ssb"]);
    assert_eq!((code, said.as_str()), (Some(2), ""));
    assert!(error.contains("error[SSC0001]"), "{error}");
}

#[test]
fn lists_and_explanations() {
    let folder = tempfile::tempdir().unwrap();
    let listed = succeeds(&folder, &["ops"]);
    for name in ["LayerNormalization", "operator sets 7 to", "rotary position embedding", "softplus"] {
        assert!(listed.contains(name), "{name}\n{listed}");
    }
    assert!(succeeds(&folder, &["explain", "SSC0405"]).starts_with("# SSC0405: "));
    assert!(succeeds(&folder, &["explain", "102"]).starts_with("# SSC0102: "));
    let said = fails(&folder, &["explain", "SSC0499"]);
    assert!(said.contains("error[SSC0802]") && said.contains("sscc explain SSC0405"), "{said}");
}
