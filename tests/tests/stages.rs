//! Snapshots of what every stage of the compiler makes of a small GPT-2.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::BufWriter;

use sscc::graph::text::Store;
use sscc::graph::{Graph, Stage, text};
use sscc::pipeline::{self, Compiled};
use tests::gpt2::{self, Gpt2Shape};
use tests::private::options;

fn compiled() -> (Graph, Compiled) {
    let shape = Gpt2Shape { layers: 1, width: 128, heads: 4, vocabulary: 50, context: 8 };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("one_layer.onnx");
    gpt2::write(gpt2::build(shape, 1).unwrap(), &mut BufWriter::new(File::create(&path).unwrap())).unwrap();
    let mut options = options(&path, None);
    options.dims = BTreeMap::from([("sequence".to_owned(), 8)]);
    let (_, imported) = pipeline::import(&options).unwrap_or_else(|e| panic!("{e}"));
    (imported.graph, pipeline::compile(&options).unwrap_or_else(|e| panic!("{e}")))
}

fn graph_text(graph: &Graph, stage: Stage) -> String {
    let printed = text::print(graph, stage, "one_layer");
    let again = text::parse(&printed, &Store::of(graph)).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(text::print(&again.graph, stage, "one_layer"), printed);
    printed
}

fn program_text(program: &ir::Program) -> String {
    let printed = ir::print::program(program);
    let again = ir::parse(&printed).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(again, *program);
    assert_eq!(ir::print::program(&again), printed);
    shortened(&printed)
}

/// Lists of more than 12 elements, as tables have them, with their first two elements and their length: what the fits
/// compute has tests of its own.
fn shortened(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(start) = rest.find('[') {
        let (before, list) = rest.split_at(start + 1);
        out.push_str(before);
        let end = list.find(']').expect("lists end");
        let elements: Vec<&str> = list[..end].split(',').map(str::trim).collect();
        if elements.len() > 12 {
            out += &format!("{}, {}, .. {} in all", elements[0], elements[1], elements.len());
        } else {
            out.push_str(&list[..end]);
        }
        rest = &list[end..];
    }
    out + rest
}

#[test]
fn every_stage() {
    let (graph, compiled) = compiled();
    insta::assert_snapshot!("graph", graph_text(&graph, Stage::Graph));
    insta::assert_snapshot!("fused", graph_text(&compiled.fused, Stage::Fused));
    insta::assert_snapshot!("program", program_text(&compiled.programs[0]));
    insta::assert_snapshot!("schedule", program_text(&compiled.schedules[0]));
}
