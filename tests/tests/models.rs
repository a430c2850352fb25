//! Every GPT-2 of the repository, from each exporter: a private run against the float evaluator, and its meter against
//! the cost that the program promises.

use std::fs::File;

use ndarray::Array2;
use ndarray_npy::NpzReader;
use sscc::pass::Logits;
use tests::private::{Private, generation, meter_equals_cost, options};
use tests::processes::repository;

/// Greatest error of a logit of the trained model, and of those with random weights, whose logits are small.
const TRAINED: f32 = 0.03;
const RANDOM: f32 = 0.004;

/// The first recorded row of token ids beside a model.
fn recorded(file: &str, input: &str) -> Vec<i64> {
    let path = repository().join("models").join(format!("{file}.io.npz"));
    let ids: Array2<i64> = NpzReader::new(File::open(path).unwrap()).unwrap().by_name(input).unwrap();
    ids.row(0).to_vec()
}

/// Compiles with made-up inputs and runs once. `dims` are bound to the number of ids.
fn agrees(file: &str, dims: &[&str], ids: &[i64], logits: Logits) {
    let mut options = options(&repository().join("models").join(format!("{file}.onnx")), None);
    options.dims = dims.iter().map(|&name| (name.to_owned(), ids.len())).collect();
    options.logits = logits;
    let private = Private::compile(&options).unwrap_or_else(|e| panic!("{file}\n{e}"));
    let parties = private.run(ids);

    let (got, want) = (private.logits(&parties[0]), private.float(ids));
    assert_eq!(got.len(), want.len(), "{file}");
    let rows = if logits == Logits::All { ids.len() } else { 1 };
    assert_eq!(private.module.entries[0].outputs[0].shape.0[1], rows as u32, "{file}");
    let bound = if file.starts_with("tiny-shakespeare") { TRAINED } else { RANDOM };
    let worst = got.iter().zip(&want).map(|(g, w)| (g - w).abs()).fold(0.0, f32::max);
    println!("{file}, {rows} rows: greatest logit error {worst:.4}");
    assert!(worst <= bound, "{file}: a logit is off by {worst}");
    meter_equals_cost(file, &private.module.entries[0], &parties);
}

#[test]
fn trained() {
    let ids = recorded("tiny-shakespeare/model", "in_input_ids");
    for logits in [Logits::Last, Logits::All] {
        agrees("tiny-shakespeare/model", &["seq"], &ids, logits);
    }
}

#[test]
fn transformers_exports() {
    for (file, dim) in
        [("gpt2__dyn18", "s70"), ("gpt2__leg17", "seq"), ("gpt2_eager__leg11", "seq"), ("gpt2_eager__leg13", "seq")]
    {
        let file = format!("dialects/{file}");
        agrees(&file, &[dim], &recorded(&file, "in_input_ids"), Logits::Last);
    }
}

#[test]
fn fixed_sizes_and_weights_in_another_file() {
    let file = "dialects/gpt2_nomask__leg17_static";
    let ids = recorded(file, "in_input_ids");
    agrees(file, &[], &ids, Logits::All);
    // The same weights; its recorded ids fit too.
    agrees("dialects/x_external_gpt2", &["seq"], &ids[..12], Logits::Last);
}

#[test]
fn nano_gpts() {
    for (file, logits) in [("nanogpt__leg17", Logits::All), ("nanogpt_manual__leg14", Logits::Last)] {
        let file = format!("dialects/{file}");
        agrees(&file, &["seq"], &recorded(&file, "in_idx"), logits);
    }
}

/// A private generation in one process: a padded prompt, then tokens one by one, each what the float evaluator finds
/// likeliest, at the cost that its entry promises.
#[test]
fn generations() {
    let window = recorded("tiny-shakespeare/model", "in_input_ids");
    for file in ["tiny-shakespeare/model", "tiny-shakespeare/model_with_past"] {
        let path = repository().join("models").join(format!("{file}.onnx"));
        let calibration = repository().join("models/tiny-shakespeare/calibration.npz");
        let private = Private::compile(&generation(&path, Some(calibration), &[8], &[9, 10, 11, 12]))
            .unwrap_or_else(|e| panic!("{file}\n{e}"));
        let mut ids = window[..6].to_vec();
        let tokens = private.generate(&ids, 5, |program, parties| meter_equals_cost(&program.name, program, parties));
        for token in tokens {
            assert_eq!(token, private.likeliest(&ids), "{file}: after {ids:?}");
            ids.push(token);
        }
    }
}
