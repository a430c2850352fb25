//! The importer on models that are changed at random: nothing panics, runs long or takes much memory.
//!
//! One minute here; longer with `BOLERO_RANDOM_TEST_TIME_MS=3600000 cargo test --test fuzz`. Each run starts elsewhere, and a
//! failure is shrunk and printed with the changes that lead to it. Changes are made to the decoded model more often than to
//! its bytes, so that most get past the reader.

#[allow(dead_code)]
mod common;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::LazyLock;
use std::time::Duration;

use bolero::TypeGenerator;
use common::*;
use peak_alloc::PeakAlloc;
use prost::Message;
use sscc::entries::Generation;
use sscc::lower::Reveal;
use sscc::lower::variant::Link;
use sscc::onnx::proto::*;
use sscc::pass::Logits;
use sscc::pipeline::{self, Options};

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

/// Bytes that a file may take beside twice its own size.
const ROOM: usize = 64 << 20;

/// What a file may take; generous, since other tests and builds may run beside.
const LIMIT: Duration = Duration::from_secs(2);

/// Numbers that are likely to be at an edge of something.
const EDGES: [i64; 24] = [
    0,
    1,
    -1,
    2,
    -2,
    3,
    4,
    7,
    8,
    -8,
    16,
    63,
    64,
    255,
    65_536,
    1 << 20,
    1 << 31,
    i32::MAX as i64,
    i32::MIN as i64,
    1 << 40,
    1 << 62,
    i64::MAX,
    i64::MAX - 1,
    i64::MIN,
];

/// One change of a model. Indices are taken modulo what there is.
#[derive(Clone, Debug, TypeGenerator)]
enum Change {
    /// A byte of the encoded file.
    Byte {
        at: u32,
        value: u8,
    },
    /// The encoded file ends here.
    Cut {
        at: u32,
    },
    /// A node computes another op, one that some model of the collection has.
    Op {
        node: u16,
        op: u16,
    },
    /// A node of another model is put in, reading values of this one.
    Graft {
        model: u16,
        node: u16,
        at: u16,
        operands: [u16; 3],
    },
    Drop {
        node: u16,
    },
    /// An operand of a node is another value, perhaps a later one.
    Operand {
        node: u16,
        operand: u8,
        value: u16,
    },
    OperandLess {
        node: u16,
    },
    Attribute {
        node: u16,
        attribute: u8,
        at: u8,
        value: u8,
    },
    AttributeLess {
        node: u16,
        attribute: u8,
    },
    /// A dimension of an initializer or input.
    Dim {
        tensor: u16,
        axis: u8,
        value: u8,
    },
    InputDim {
        input: u8,
        axis: u8,
        value: u8,
    },
    /// All input dimensions of one size have another: often a legal model of greater sizes.
    Grow {
        input: u8,
        axis: u8,
        value: u8,
    },
    Rank {
        tensor: u16,
        dims: u8,
    },
    Kind {
        tensor: u16,
        kind: u8,
    },
    Element {
        tensor: u16,
        at: u16,
        value: u8,
    },
    /// Elements are not those that the shape asks for.
    Short {
        tensor: u16,
        bytes: u8,
    },
    Opset {
        version: u8,
    },
    /// An output is another value.
    Output {
        value: u16,
    },
}

/// A model of the collection and what is done to it.
#[derive(Clone, Debug, TypeGenerator)]
struct Case {
    model: u16,
    changes: [Change; 3],
    /// How many of them are made, less one.
    made: u8,
    generate: bool,
    last: bool,
}

/// The committed files of ops, faults and the smaller dialects.
static COLLECTION: LazyLock<Vec<ModelProto>> = LazyLock::new(|| {
    let mut found = Vec::new();
    for dir in ["nodes", "faults", "dialects"] {
        let files = std::fs::read_dir(models().join(dir)).unwrap().map(|entry| entry.unwrap().path());
        let mut files: Vec<_> = files.filter(|path| path.extension().is_some_and(|e| e == "onnx")).collect();
        files.sort();
        let bytes = files.iter().map(|path| std::fs::read(path).unwrap()).filter(|bytes| bytes.len() < 500_000);
        found.extend(bytes.map(|bytes| ModelProto::decode(&bytes[..]).unwrap()));
    }
    found
});

static OPS: LazyLock<Vec<(Option<String>, Option<String>)>> = LazyLock::new(|| {
    let nodes = COLLECTION.iter().flat_map(|model| &model.graph.as_ref().unwrap().node);
    let mut ops: Vec<_> = nodes.map(|node| (node.domain.clone(), node.op_type.clone())).collect();
    ops.sort();
    ops.dedup();
    ops
});

/// What attributes that are words say.
static WORDS: LazyLock<Vec<prost::bytes::Bytes>> = LazyLock::new(|| {
    let nodes = COLLECTION.iter().flat_map(|model| &model.graph.as_ref().unwrap().node);
    let mut words: Vec<_> = nodes.flat_map(|node| &node.attribute).filter_map(|a| a.s.clone()).collect();
    words.sort();
    words.dedup();
    words
});

fn pick<T>(from: &[T], at: impl Into<u64>) -> Option<&T> {
    (!from.is_empty()).then(|| &from[(at.into() % from.len() as u64) as usize])
}

fn pick_mut<T>(from: &mut [T], at: impl Into<u64>) -> Option<&mut T> {
    let length = from.len() as u64;
    (length > 0).then(|| &mut from[(at.into() % length) as usize])
}

fn edge(value: u8) -> i64 {
    EDGES[value as usize % EDGES.len()]
}

/// Names of all values of a graph, in order.
fn values(graph: &GraphProto) -> Vec<String> {
    let inputs = graph.input.iter().filter_map(|input| input.name.clone());
    let initializers = graph.initializer.iter().filter_map(|tensor| tensor.name.clone());
    inputs.chain(initializers).chain(graph.node.iter().flat_map(|node| node.output.clone())).collect()
}

/// The dimensions of an input.
fn dims(input: &mut ValueInfoProto) -> Option<&mut TensorShapeProto> {
    input.r#type.as_mut()?.tensor_type.as_mut()?.shape.as_mut()
}

/// Changes the decoded model; changes of bytes are left for later.
fn alter(model: &mut ModelProto, change: &Change) -> Option<()> {
    if let Change::Opset { version } = change {
        model.opset_import.first_mut()?.version = Some(*version as i64 % 30);
        return Some(());
    }
    let graph = model.graph.as_mut()?;
    let names = values(graph);
    match *change {
        Change::Byte { .. } | Change::Cut { .. } | Change::Opset { .. } => {}
        Change::Op { node, op } => {
            let (domain, op) = pick(&OPS, op)?.clone();
            let node = pick_mut(&mut graph.node, node)?;
            (node.domain, node.op_type) = (domain, op);
        }
        Change::Graft { model, node, at, operands } => {
            let mut node = pick(&pick(&COLLECTION, model)?.graph.as_ref()?.node, node)?.clone();
            for (name, &operand) in node.input.iter_mut().zip(operands.iter().cycle()) {
                *name = pick(&names, operand)?.clone();
            }
            let at = at as usize % (graph.node.len() + 1);
            // The values that it makes take the place of those of the node before it.
            if let Some(before) = at.checked_sub(1).map(|before| &mut graph.node[before]) {
                for (name, old) in node.output.iter_mut().zip(&mut before.output) {
                    *name = std::mem::replace(old, format!("{old}_before"));
                }
            }
            graph.node.insert(at, node);
        }
        Change::Drop { node } => {
            let at = node as usize % graph.node.len().max(1);
            (at < graph.node.len()).then(|| graph.node.remove(at))?;
        }
        Change::Operand { node, operand, value } => {
            *pick_mut(&mut pick_mut(&mut graph.node, node)?.input, operand)? = pick(&names, value)?.clone();
        }
        Change::OperandLess { node } => {
            pick_mut(&mut graph.node, node)?.input.pop()?;
        }
        Change::Attribute { node, attribute, at, value } => {
            let attribute = pick_mut(&mut pick_mut(&mut graph.node, node)?.attribute, attribute)?;
            attribute.i = attribute.i.map(|_| edge(value));
            attribute.f = attribute.f.map(|_| f32::from_bits((value as u32) << 24 | (at as u32) << 16));
            if let Some(i) = pick_mut(&mut attribute.ints, at) {
                *i = edge(value);
            }
            // A word of some other attribute, mostly one that is not known here.
            if let (Some(word), Some(other)) = (&mut attribute.s, pick(&WORDS, value)) {
                *word = other.clone();
            }
        }
        Change::AttributeLess { node, attribute } => {
            let node = pick_mut(&mut graph.node, node)?;
            let at = attribute as usize % node.attribute.len().max(1);
            (at < node.attribute.len()).then(|| node.attribute.remove(at))?;
        }
        Change::Dim { tensor, axis, value } => {
            *pick_mut(&mut pick_mut(&mut graph.initializer, tensor)?.dims, axis)? = edge(value);
        }
        Change::InputDim { input, axis, value } => {
            let dim = pick_mut(&mut dims(pick_mut(&mut graph.input, input)?)?.dim, axis)?;
            *dim = DimensionProto { dim_value: Some(edge(value)), dim_param: None };
        }
        Change::Grow { input, axis, value } => {
            let old = pick_mut(&mut dims(pick_mut(&mut graph.input, input)?)?.dim, axis)?.dim_value?;
            for dim in graph.input.iter_mut().filter_map(dims).flat_map(|shape| &mut shape.dim) {
                if dim.dim_value == Some(old) {
                    dim.dim_value = Some(edge(value));
                }
            }
        }
        Change::Rank { tensor, dims } => {
            pick_mut(&mut graph.initializer, tensor)?.dims.resize(dims as usize % 12, 1);
        }
        Change::Kind { tensor, kind } => {
            pick_mut(&mut graph.initializer, tensor)?.data_type = Some(kind as i32 % 25);
        }
        Change::Element { tensor, at, value } => {
            let tensor = pick_mut(&mut graph.initializer, tensor)?;
            if let Some(i) = pick_mut(&mut tensor.int64_data, at) {
                *i = edge(value);
            }
            if let Some(x) = pick_mut(&mut tensor.float_data, at) {
                *x = edge(value) as f32 * 1e30;
            }
            if let Some(raw) = &tensor.raw_data {
                let mut raw = raw.to_vec();
                let slots = raw.len() / 8;
                if slots > 0 {
                    let slot = at as usize % slots * 8;
                    raw[slot..slot + 8].copy_from_slice(&edge(value).to_le_bytes());
                }
                tensor.raw_data = Some(raw.into());
            }
        }
        Change::Short { tensor, bytes } => {
            let tensor = pick_mut(&mut graph.initializer, tensor)?;
            if let Some(raw) = &mut tensor.raw_data {
                *raw = raw.slice(..raw.len().saturating_sub(bytes as usize));
            }
            tensor.float_data.truncate(bytes as usize);
        }
        Change::Output { value } => graph.output.first_mut()?.name = pick(&names, value).cloned(),
    }
    Some(())
}

fn bytes(case: &Case) -> Vec<u8> {
    let mut model = pick(&COLLECTION, case.model).unwrap().clone();
    let changes = &case.changes[..1 + case.made as usize % case.changes.len()];
    for change in changes {
        // A change that finds nothing to change leaves the model as it is.
        let _ = alter(&mut model, change);
    }
    let mut bytes = model.encode_to_vec();
    for change in changes {
        match *change {
            Change::Byte { at, value } if !bytes.is_empty() => {
                let at = at as usize % bytes.len();
                bytes[at] = value;
            }
            Change::Cut { at } => bytes.truncate(at as usize % (bytes.len() + 1)),
            _ => {}
        }
    }
    bytes
}

/// Time that this thread has computed: a busy machine makes no test fail.
fn spent() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    Duration::from_nanos(text.split_whitespace().next().and_then(|word| word.parse().ok()).unwrap_or(0))
}

/// Compiles up to the program's plan, within the limits.
fn check(path: PathBuf, generate: bool, last: bool) {
    let generation = Generation { max_context: Some(16), prefill: vec![], decode: vec![], reveal: Reveal::Token };
    let length = std::fs::metadata(&path).unwrap().len() as usize;
    let options = Options {
        model: path,
        dims: BTreeMap::new(),
        bind: BTreeMap::new(),
        logits: if last { Logits::Last } else { Logits::All },
        calibrate: None,
        link: Link::LAN,
        maker: ir::pair::Maker::Dealer,
        generation: generate.then_some(generation),
    };
    let before = MEMORY.current_usage();
    MEMORY.reset_peak_usage();
    let began = spent();
    let outcome = pipeline::front(&options, &BTreeMap::new());
    let (time, memory) = (spent() - began, MEMORY.peak_usage().saturating_sub(before));
    if let Err(report) = outcome {
        assert!(report.faults().iter().all(|fault| !fault.title.is_empty()), "a refusal without words");
    }
    assert!(time < LIMIT, "took {time:?}");
    assert!(memory < 2 * length + ROOM, "took {memory} bytes for {length} of file");
}

/// First what longer runs have found (`tests/found`), then models that no run has seen. One test: memory is counted for the
/// whole process.
#[test]
fn changed_models() {
    let found = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/found")).unwrap();
    for path in found.map(|entry| entry.unwrap().path()) {
        println!("{}", path.display());
        check(path.clone(), false, false);
        check(path, true, true);
    }
    let file = File::new(&[]);
    // Made before memory is counted.
    let _ = (COLLECTION.len(), OPS.len(), WORDS.len());
    bolero::check!().with_test_time(Duration::from_secs(60)).with_type::<Case>().for_each(|case| {
        std::fs::write(file.path(), bytes(case)).unwrap();
        check(file.path(), case.generate, case.last);
    });
}
