//! How near a private pass comes to the float evaluator, on text that calibration has not seen.

use ndarray::Array2;
use ndarray_npy::NpzReader;
use std::fs::File;
use tests::private::{Private, options};
use tests::processes::repository;

fn windows(name: &str) -> Array2<i64> {
    let path = repository().join("models/tiny-shakespeare").join(name);
    NpzReader::new(File::open(path).unwrap()).unwrap().by_name("input_ids").unwrap()
}

fn greatest(logits: &[f32]) -> usize {
    (0..logits.len()).max_by(|&a, &b| logits[a].total_cmp(&logits[b])).unwrap()
}

#[test]
fn tiny_shakespeare() {
    let folder = repository().join("models/tiny-shakespeare");
    let private = Private::compile(&options(&folder.join("model.onnx"), Some(folder.join("calibration.npz")))).unwrap();
    let windows = windows("validation.npz");
    let (mut equal, mut worst) = (0, Vec::new());
    for ids in windows.rows() {
        let ids = ids.to_vec();
        let [client, _] = private.run(&ids);
        let (got, want) = (private.logits(&client), private.float(&ids));
        equal += usize::from(greatest(&got) == greatest(&want));
        worst.push(got.iter().zip(&want).map(|(g, w)| (g - w).abs()).fold(0.0, f32::max));
    }
    worst.sort_by(f32::total_cmp);
    let (median, greatest) = (worst[worst.len() / 2], worst[worst.len() - 1]);
    println!("next token equal in {equal} of {}; greatest logit error: median {median:.4}, worst {greatest:.4}", worst.len());
    assert!(equal * 1000 >= worst.len() * 995, "next token equal in {equal} of {}", worst.len());
    assert!(median <= 0.02 && greatest <= 0.08, "logit errors: median {median}, worst {greatest}");
}
