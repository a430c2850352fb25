//! A trained chat model of the LLaMA family, where `models/smollm2.py` has made it:
//!
//! SMOLLM2=DIR cargo test --release -p sscc --test smollm2 -- --ignored

use std::collections::BTreeMap;
use std::path::PathBuf;

use sscc::entries::Generation;
use sscc::exact::{Decoding, Exact};
use sscc::lower::Reveal;
use sscc::lower::variant::Link;
use sscc::pass::Logits;
use sscc::pipeline::{self, Options};

/// Texts that are compared; of all twenty, two depart from float at near ties.
const TEXTS: usize = 5;

#[test]
#[ignore = "needs the model of models/smollm2.py in the folder that SMOLLM2 names"]
fn greedy_answers_are_those_of_float() {
    let folder = PathBuf::from(std::env::var_os("SMOLLM2").expect("SMOLLM2 names a folder")).join("onnx");
    let options = Options {
        model: folder.join("model.onnx"),
        dims: BTreeMap::new(),
        bind: BTreeMap::new(),
        logits: Logits::Last,
        calibrate: Some(folder.join("calibration.npz")),
        link: Link::LAN,
        maker: ir::pair::Maker::Dealer,
        generation: Some(Generation {
            max_context: Some(256),
            prefill: vec![128],
            decode: vec![256],
            reveal: Reveal::Token,
        }),
    };
    let compiled = pipeline::compile(&options).unwrap_or_else(|e| panic!("{e}"));
    let model = Exact::of(&compiled);
    let prompts = std::fs::read(folder.join("prompts.json")).unwrap();
    let prompts: serde_json::Value = serde_json::from_slice(&prompts).unwrap();
    let numbers = |list: &serde_json::Value| -> Vec<i64> {
        list.as_array().unwrap().iter().map(|number| number.as_i64().unwrap()).collect()
    };
    let mut equal = 0;
    for prompt in prompts.as_array().unwrap().iter().take(TEXTS) {
        let (ids, wanted) = (numbers(&prompt["input_ids"]), numbers(&prompt["tokens"]));
        let (mut generation, mut step) = Decoding::begin(&model, &ids, 0, &[]).unwrap();
        let mut got = Vec::new();
        loop {
            assert!(step.broken.is_empty(), "claims hold, the massive channel's among them");
            got.push(step.values()[0] as i64);
            if got.len() == wanted.len() || got.last() != wanted.get(got.len() - 1) {
                break;
            }
            step = generation.next(got[got.len() - 1], &[]).unwrap();
        }
        equal += usize::from(got == wanted);
    }
    assert!(equal + 1 >= TEXTS, "{equal} of {TEXTS} texts are float's");
}
