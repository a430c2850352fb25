//! GPT-2 models of any size as ONNX files, with random weights: no download and no Python, for tests and measurements.
//!
//! Structure  That of a stock export at opset 17 with free `batch` and `sequence`: token and position rows by `Gather`,
//!            `LayerNormalization`, `MatMul` + `Add`, `Split`, heads by `Reshape` and `Transpose`, scores by `MatMul`,
//!            `Div`, `Where` under a sliced triangle and `Softmax`, the GELU from primitive operators, and a head that is
//!            a transposed copy of the token embedding. Input `input_ids` [batch, sequence], output `logits`.
//! Weights    As GPT-2 begins its training: normal with deviation 0.02, projections into the residual stream divided by
//!            sqrt(2·layers) (Radford et al. 2019, §2.3). Gains, offsets and biases are near 1, 0 and 0 and not equal to
//!            them, so that what a compiler folds matters. The same seed gives the same file.

use std::f64::consts::{FRAC_2_PI, TAU};
use std::io::{self, Write};

use prost::Message;
use prost::bytes::Bytes;
use sscc::onnx::proto::{
    AttributeProto, AttributeType, DataType, DimensionProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto,
    TensorProto, TensorShapeProto, TensorTypeProto, TypeProto, ValueInfoProto,
};

/// Sizes of a model.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Gpt2Shape {
    /// Number of layers.
    pub layers: u32,
    /// Width of the residual stream, a multiple of `heads`.
    pub width: u32,
    /// Attention heads.
    pub heads: u32,
    /// Number of tokens.
    pub vocabulary: u32,
    /// Greatest number of positions.
    pub context: u32,
}

/// Why a model cannot be made or written.
#[derive(Debug, thiserror::Error)]
pub enum Gpt2Error {
    /// A size is zero.
    #[error("every size of a model is at least 1: {0:?}")]
    Zero(Gpt2Shape),
    /// Heads do not divide the width.
    #[error("width {} is not a multiple of {} heads; try width {}", .0.width, .0.heads, .0.width.next_multiple_of(.0.heads))]
    Heads(Gpt2Shape),
    /// A protobuf message holds less than 2 GiB.
    #[error(
        "{0} bytes of weights do not fit an ONNX file, which ends at 2 GiB; try fewer layers, a smaller width or vocabulary"
    )]
    TooLarge(u64),
    /// The file cannot be written.
    #[error(transparent)]
    Write(#[from] io::Error),
}

impl Gpt2Shape {
    /// GPT-2 small (124 million parameters) at a context of 128.
    pub const SMALL: Gpt2Shape = Gpt2Shape { layers: 12, width: 768, heads: 12, vocabulary: 50257, context: 128 };

    /// Bytes of all initializers, the copy of the embedding and the mask among them.
    fn weight_bytes(&self) -> u64 {
        let [layers, d, vocabulary, context] = [self.layers, self.width, self.vocabulary, self.context].map(u128::from);
        let layer = 12 * d * d + 13 * d;
        let bytes = 4 * (layers * layer + 2 * vocabulary * d + context * d + 2 * d) + context * context;
        u64::try_from(bytes).unwrap_or(u64::MAX)
    }

    fn check(&self) -> Result<(), Gpt2Error> {
        if [self.layers, self.width, self.heads, self.vocabulary, self.context].contains(&0) {
            return Err(Gpt2Error::Zero(*self));
        }
        if !self.width.is_multiple_of(self.heads) {
            return Err(Gpt2Error::Heads(*self));
        }
        // Names and nodes take far less than the mebibyte that is left.
        if self.weight_bytes() > (i32::MAX as u64) - (1 << 20) {
            return Err(Gpt2Error::TooLarge(self.weight_bytes()));
        }
        Ok(())
    }
}

/// Makes a model.
pub fn build(shape: Gpt2Shape, seed: u64) -> Result<ModelProto, Gpt2Error> {
    shape.check()?;
    let mut builder = Builder { graph: GraphProto::default(), random: Random { state: seed, spare: None } };
    builder.model(shape);
    let free = |name: &str| DimensionProto { dim_param: Some(name.into()), dim_value: None };
    let fixed = |size: u32| DimensionProto { dim_param: None, dim_value: Some(i64::from(size)) };
    let value = |name: &str, elem_type: DataType, dim| ValueInfoProto {
        name: Some(name.into()),
        r#type: Some(TypeProto {
            tensor_type: Some(TensorTypeProto {
                elem_type: Some(elem_type as i32),
                shape: Some(TensorShapeProto { dim }),
            }),
        }),
    };
    let graph = GraphProto {
        name: Some("gpt2".into()),
        input: vec![value("input_ids", DataType::Int64, vec![free("batch"), free("sequence")])],
        output: vec![value("logits", DataType::Float, vec![free("batch"), free("sequence"), fixed(shape.vocabulary)])],
        ..builder.graph
    };
    Ok(ModelProto {
        ir_version: Some(8),
        producer_name: Some("make-gpt2".into()),
        producer_version: Some(env!("CARGO_PKG_VERSION").into()),
        graph: Some(graph),
        opset_import: vec![OperatorSetIdProto { domain: Some(String::new()), version: Some(17) }],
        ..ModelProto::default()
    })
}

/// Writes a model as an ONNX file. The encoder works on one initializer at a time, so memory holds the model once and not
/// twice.
pub fn write(mut model: ModelProto, out: &mut impl Write) -> Result<(), Gpt2Error> {
    const GRAPH: u8 = 7 << 3 | 2; // Field 7 of a model and 5 of a graph, both with a length.
    const INITIALIZER: u8 = 5 << 3 | 2;
    let mut graph = model.graph.take().unwrap_or_default();
    let length = graph.encoded_len();
    let initializers = std::mem::take(&mut graph.initializer);
    out.write_all(&model.encode_to_vec())?;
    out.write_all(&[GRAPH])?;
    let mut prefix = Vec::new();
    prost::encode_length_delimiter(length, &mut prefix).expect("a vector grows");
    out.write_all(&prefix)?;
    out.write_all(&graph.encode_to_vec())?;
    for tensor in initializers {
        out.write_all(&[INITIALIZER])?;
        out.write_all(&tensor.encode_length_delimited_to_vec())?;
    }
    Ok(out.flush()?)
}

/// A graph that grows node by node.
struct Builder {
    graph: GraphProto,
    random: Random,
}

impl Builder {
    fn model(&mut self, shape: Gpt2Shape) {
        let [d, vocabulary, context] = [shape.width, shape.vocabulary, shape.context].map(|n| n as usize);
        let embedding = self.random.normal(vocabulary * d, 0.0, 0.02);
        let head = transposed(&embedding, vocabulary, d);
        self.floats("transformer.wte.weight", &[vocabulary, d], &embedding);
        self.floats("lm_head.weight", &[d, vocabulary], &head);
        drop((embedding, head));
        let positions = self.random.normal(context * d, 0.0, 0.02);
        self.floats("transformer.wpe.weight", &[context, d], &positions);
        let triangle: Vec<u8> = (0..context * context).map(|i| u8::from(i % context <= i / context)).collect();
        self.tensor("causal", DataType::Bool, &[1, 1, context, context], triangle);
        for (name, values) in [
            ("first", &[0][..]),
            ("second", &[1]),
            ("token_axis", &[2, 3]),
            ("origin", &[0, 0]),
            ("thirds", &[shape.width.into(); 3]),
            ("heads", &[0, 0, shape.heads.into(), (shape.width / shape.heads).into()]),
            ("joined", &[0, 0, shape.width.into()]),
        ] {
            self.integers(name, &[values.len()], values);
        }
        self.integers("zero", &[], &[0]);
        self.integers("one", &[], &[1]);
        for (name, value) in [
            ("head_root", f64::from(shape.width / shape.heads).sqrt()),
            ("masked", f64::from(f32::MIN)),
            ("half", 0.5),
            ("unit", 1.0),
            ("three", 3.0),
            ("gelu_cubic", 0.044715),
            ("gelu_root", FRAC_2_PI.sqrt()),
        ] {
            self.floats(name, &[], &[value as f32]);
        }

        // The number of positions, as a scalar for the position ids and as a vector for the mask.
        let dims = self.node("Shape", "/transformer/Shape", &["input_ids"], &[]);
        let length = self.node("Gather", "/transformer/Gather", &[&dims, "one"], &[("axis", Attribute::Int(0))]);
        let tokens = self.node("Gather", "/transformer/Gather_1", &[&dims, "second"], &[("axis", Attribute::Int(0))]);
        let square = self.node("Concat", "/transformer/Concat", &[&tokens, &tokens], &[("axis", Attribute::Int(0))]);
        let mask = self.node("Slice", "/transformer/Slice", &["causal", "origin", &square, "token_axis"], &[]);
        let ids = self.node("Range", "/transformer/Range", &["zero", &length, "one"], &[]);

        let tokens = self.node("Gather", "/transformer/wte/Gather", &["transformer.wte.weight", "input_ids"], &[]);
        let positions = self.node("Gather", "/transformer/wpe/Gather", &["transformer.wpe.weight", &ids], &[]);
        let mut x = self.node("Add", "/transformer/Add", &[&tokens, &positions], &[]);
        for layer in 0..shape.layers {
            x = self.layer(shape, layer, &x, &mask);
        }
        let x = self.layer_norm("transformer.ln_f", &x, d);
        self.push("MatMul", "/lm_head/MatMul", &[&x, "lm_head.weight"], &["logits".into()], &[]);
    }

    fn layer(&mut self, shape: Gpt2Shape, layer: u32, x: &str, mask: &str) -> String {
        let d = shape.width as usize;
        let residual = 0.02 / f64::from(2 * shape.layers).sqrt();
        let module = format!("transformer.h.{layer}");
        let at = |name: &str| format!("/transformer/h.{layer}/{name}");

        let y = self.layer_norm(&format!("{module}.ln_1"), x, d);
        let qkv = self.linear(&format!("{module}.attn.c_attn"), &y, (d, 3 * d), 0.02);
        let parts = ["q", "k", "v"].map(|part| at(&format!("attn/Split_{part}")));
        self.push("Split", &at("attn/Split"), &[&qkv, "thirds"], &parts, &[("axis", Attribute::Int(2))]);
        // The key is transposed for the product in the same step.
        let orders = [[0, 2, 1, 3], [0, 2, 3, 1], [0, 2, 1, 3]];
        let mut heads = Vec::new();
        for (i, (part, order)) in parts.iter().zip(orders).enumerate() {
            let split = self.node("Reshape", &at(&format!("attn/Reshape_{i}")), &[part, "heads"], &[]);
            let perm = [("perm", Attribute::Ints(&order))];
            heads.push(self.node("Transpose", &at(&format!("attn/Transpose_{i}")), &[&split], &perm));
        }
        let scores = self.node("MatMul", &at("attn/MatMul"), &[&heads[0], &heads[1]], &[]);
        let scores = self.node("Div", &at("attn/Div"), &[&scores, "head_root"], &[]);
        let scores = self.node("Where", &at("attn/Where"), &[mask, &scores, "masked"], &[]);
        let weights = self.node("Softmax", &at("attn/Softmax"), &[&scores], &[("axis", Attribute::Int(-1))]);
        let o = self.node("MatMul", &at("attn/MatMul_1"), &[&weights, &heads[2]], &[]);
        let o = self.node("Transpose", &at("attn/Transpose_3"), &[&o], &[("perm", Attribute::Ints(&[0, 2, 1, 3]))]);
        let o = self.node("Reshape", &at("attn/Reshape_3"), &[&o, "joined"], &[]);
        let o = self.linear(&format!("{module}.attn.c_proj"), &o, (d, d), residual);
        let x = self.node("Add", &at("Add"), &[&o, x], &[]);

        let y = self.layer_norm(&format!("{module}.ln_2"), &x, d);
        let y = self.linear(&format!("{module}.mlp.c_fc"), &y, (d, 4 * d), 0.02);
        let y = self.gelu(&at("mlp/act"), &y);
        let y = self.linear(&format!("{module}.mlp.c_proj"), &y, (4 * d, d), residual);
        self.node("Add", &at("Add_1"), &[&x, &y], &[])
    }

    /// 0.5·x·(1 + tanh(sqrt(2/π)·(x + 0.044715·x³))).
    fn gelu(&mut self, at: &str, x: &str) -> String {
        let half = self.node("Mul", &format!("{at}/Mul"), &[x, "half"], &[]);
        let cube = self.node("Pow", &format!("{at}/Pow"), &[x, "three"], &[]);
        let cube = self.node("Mul", &format!("{at}/Mul_1"), &[&cube, "gelu_cubic"], &[]);
        let inner = self.node("Add", &format!("{at}/Add"), &[x, &cube], &[]);
        let inner = self.node("Mul", &format!("{at}/Mul_2"), &[&inner, "gelu_root"], &[]);
        let tanh = self.node("Tanh", &format!("{at}/Tanh"), &[&inner], &[]);
        let gate = self.node("Add", &format!("{at}/Add_1"), &[&tanh, "unit"], &[]);
        self.node("Mul", &format!("{at}/Mul_3"), &[&half, &gate], &[])
    }

    fn layer_norm(&mut self, module: &str, x: &str, d: usize) -> String {
        let [weight, bias] = ["weight", "bias"].map(|part| format!("{module}.{part}"));
        let values = self.random.normal(d, 1.0, 0.1);
        self.floats(&weight, &[d], &values);
        let values = self.random.normal(d, 0.0, 0.05);
        self.floats(&bias, &[d], &values);
        let attributes = [("axis", Attribute::Int(-1)), ("epsilon", Attribute::Float(1e-5))];
        self.node("LayerNormalization", &path(module, "LayerNormalization"), &[x, &weight, &bias], &attributes)
    }

    fn linear(&mut self, module: &str, x: &str, (from, to): (usize, usize), deviation: f64) -> String {
        let [weight, bias] = ["weight", "bias"].map(|part| format!("{module}.{part}"));
        let values = self.random.normal(from * to, 0.0, deviation);
        self.floats(&weight, &[from, to], &values);
        let values = self.random.normal(to, 0.0, 0.02);
        self.floats(&bias, &[to], &values);
        let product = self.node("MatMul", &path(module, "MatMul"), &[x, &weight], &[]);
        self.node("Add", &path(module, "Add"), &[&bias, &product], &[])
    }

    /// Adds a node with one result, whose name it returns.
    fn node(&mut self, operator: &str, name: &str, inputs: &[&str], attributes: &[(&str, Attribute)]) -> String {
        let output = format!("{name}_output_0");
        self.push(operator, name, inputs, std::slice::from_ref(&output), attributes);
        output
    }

    fn push(
        &mut self,
        operator: &str,
        name: &str,
        inputs: &[&str],
        outputs: &[String],
        attributes: &[(&str, Attribute)],
    ) {
        self.graph.node.push(NodeProto {
            input: inputs.iter().map(|&input| input.into()).collect(),
            output: outputs.to_vec(),
            name: Some(name.into()),
            op_type: Some(operator.into()),
            attribute: attributes.iter().map(|(name, value)| value.proto(name)).collect(),
            domain: None,
        });
    }

    fn floats(&mut self, name: &str, dims: &[usize], values: &[f32]) {
        let bytes = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        self.tensor(name, DataType::Float, dims, bytes);
    }

    fn integers(&mut self, name: &str, dims: &[usize], values: &[i64]) {
        let bytes = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        self.tensor(name, DataType::Int64, dims, bytes);
    }

    fn tensor(&mut self, name: &str, data_type: DataType, dims: &[usize], bytes: Vec<u8>) {
        self.graph.initializer.push(TensorProto {
            dims: dims.iter().map(|&d| d as i64).collect(),
            data_type: Some(data_type as i32),
            name: Some(name.into()),
            raw_data: Some(Bytes::from(bytes)),
            ..TensorProto::default()
        });
    }
}

/// Value of a node's attribute.
enum Attribute<'a> {
    Int(i64),
    Float(f32),
    Ints(&'a [i64]),
}

impl Attribute<'_> {
    fn proto(&self, name: &str) -> AttributeProto {
        let mut proto = AttributeProto { name: Some(name.into()), ..AttributeProto::default() };
        let kind = match *self {
            Attribute::Int(i) => {
                proto.i = Some(i);
                AttributeType::Int
            }
            Attribute::Float(f) => {
                proto.f = Some(f);
                AttributeType::Float
            }
            Attribute::Ints(ints) => {
                proto.ints = ints.to_vec();
                AttributeType::Ints
            }
        };
        proto.r#type = Some(kind as i32);
        proto
    }
}

/// Node name of an operator of a module: `transformer.h.0.attn.c_attn` gives `/transformer/h.0/attn/c_attn/MatMul`.
fn path(module: &str, operator: &str) -> String {
    format!("/{}/{operator}", module.replace('.', "/").replace("/h/", "/h."))
}

/// Transpose of a rows x columns matrix.
fn transposed(matrix: &[f32], rows: usize, columns: usize) -> Vec<f32> {
    (0..columns).flat_map(|j| (0..rows).map(move |i| matrix[i * columns + j])).collect()
}

/// Normal numbers from a seed: SplitMix64 (Steele, Lea and Flood, OOPSLA 2014) under the Box-Muller transform.
struct Random {
    state: u64,
    /// The second number of the last pair.
    spare: Option<f64>,
}

impl Random {
    fn normal(&mut self, count: usize, mean: f64, deviation: f64) -> Vec<f32> {
        (0..count).map(|_| (mean + deviation * self.standard()) as f32).collect()
    }

    fn standard(&mut self) -> f64 {
        if let Some(spare) = self.spare.take() {
            return spare;
        }
        let radius = (-2.0 * (1.0 - self.unit()).ln()).sqrt(); // 1 - unit is never zero.
        let (sin, cos) = (TAU * self.unit()).sin_cos();
        self.spare = Some(radius * sin);
        radius * cos
    }

    /// Uniform in [0, 1).
    fn unit(&mut self) -> f64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / 2f64.powi(53)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use ndarray::{Array2, ArrayD, Axis};
    use sscc::graph::{Owner, Tensor, eval};
    use sscc::onnx::{Bindings, Imported, import};
    use sscc::pass::{Options, run_all};

    use super::*;

    const TINY: Gpt2Shape = Gpt2Shape { layers: 2, width: 16, heads: 4, vocabulary: 20, context: 8 };

    #[test]
    fn a_file_decodes_to_the_model() {
        let model = build(TINY, 7).unwrap();
        let mut file = Vec::new();
        write(model.clone(), &mut file).unwrap();
        assert_eq!(ModelProto::decode(Bytes::from(file)).unwrap(), model);
        assert_eq!(build(TINY, 7).unwrap(), model, "the same seed gives the same model");
        assert_ne!(build(TINY, 8).unwrap(), model);
    }

    #[test]
    fn weights_are_as_announced() {
        let shape = Gpt2Shape { layers: 2, width: 96, ..TINY };
        let graph = build(shape, 1).unwrap().graph.unwrap();
        let values = |name: &str| -> Vec<f64> {
            let tensor = graph.initializer.iter().find(|t| t.name() == name).unwrap();
            let raw = tensor.raw_data.as_ref().unwrap();
            assert_eq!(raw.len() as i64, 4 * tensor.dims.iter().product::<i64>());
            raw.chunks_exact(4).map(|b| f64::from(f32::from_le_bytes(b.try_into().unwrap()))).collect()
        };
        for (name, mean, deviation) in [
            ("transformer.wte.weight", 0.0, 0.02),
            ("transformer.h.1.attn.c_attn.weight", 0.0, 0.02),
            ("transformer.h.1.attn.c_proj.weight", 0.0, 0.01),
            ("transformer.h.0.mlp.c_proj.weight", 0.0, 0.01),
            ("transformer.h.0.ln_1.weight", 1.0, 0.1),
            ("transformer.ln_f.bias", 0.0, 0.05),
            ("transformer.h.1.mlp.c_fc.bias", 0.0, 0.02),
        ] {
            let v = values(name);
            let n = v.len() as f64;
            let m = v.iter().sum::<f64>() / n;
            let s = (v.iter().map(|x| (x - m).powi(2)).sum::<f64>() / n).sqrt();
            // Five standard errors.
            assert!((m - mean).abs() < 5.0 * deviation / n.sqrt(), "{name}: mean {m}");
            assert!((s / deviation - 1.0).abs() < 5.0 / (2.0 * n).sqrt(), "{name}: deviation {s}");
        }
        let (embedding, head) = (values("transformer.wte.weight"), values("lm_head.weight"));
        assert!((0..20 * 96).all(|i| embedding[i] == head[i % 96 * 20 + i / 96]));
        let floats: u64 = graph.initializer.iter().map(|t| t.raw_data.as_ref().unwrap().len() as u64).sum();
        assert!(floats - shape.weight_bytes() < 400, "constants beside the weights are few");
    }

    fn imported(shape: Gpt2Shape, sequence: usize) -> Imported {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("gpt2.onnx");
        write(build(shape, 5).unwrap(), &mut std::fs::File::create(&file).unwrap()).unwrap();
        let dims = BTreeMap::from([("batch".to_string(), 1), ("sequence".to_string(), sequence)]);
        import(&file, &Bindings { dims, ..Bindings::default() }).unwrap_or_else(|e| panic!("{e}"))
    }

    fn logits(model: &Imported, ids: &[i64]) -> ArrayD<f32> {
        let ids = Array2::from_shape_vec((1, ids.len()), ids.to_vec()).unwrap().into_dyn();
        let inputs = BTreeMap::from([("input_ids".to_string(), Tensor::I64(ids))]);
        let outputs = eval::evaluate(&model.graph, &inputs, None, &mut |_, _| {}).unwrap_or_else(|e| panic!("{e}"));
        match &outputs[..] {
            [(name, Tensor::F32(logits))] if name == "logits" => logits.clone(),
            other => panic!("not one output: {other:?}"),
        }
    }

    #[test]
    fn imported_models_are_causal() {
        for (layers, sequence) in [(1, 8), (2, 5)] {
            let model = imported(Gpt2Shape { layers, ..TINY }, sequence);
            assert_eq!(model.tied.len(), 1, "the head is a copy of the embedding");
            let output = model.graph.outputs[0].1;
            assert_eq!(model.graph.node(output).owner, Owner::Shared);
            let mut ids: Vec<i64> = (0..sequence as i64).map(|i| 3 * i % 20).collect();
            let before = logits(&model, &ids);
            assert_eq!(before.shape(), [1, sequence, 20]);
            assert!(before.iter().all(|v| v.is_finite()));
            ids[sequence - 2] = 19;
            let after = logits(&model, &ids);
            for (i, (b, a)) in before.axis_iter(Axis(1)).zip(after.axis_iter(Axis(1))).enumerate() {
                // Every position from the changed one on sees the change.
                assert_eq!(a == b, i < sequence - 2, "position {i}");
            }
        }
    }

    #[test]
    fn imported_models_fuse() {
        let mut model = imported(TINY, 8);
        let ids = [1, 4, 4, 0, 19, 7, 2, 3];
        let before = logits(&model, &ids);
        run_all(&mut model.graph, &Options::default()).unwrap_or_else(|e| panic!("{e}"));
        let after = logits(&model, &ids);
        let last = before.index_axis(Axis(1), 7);
        let kept = after.index_axis(Axis(1), after.shape()[1] - 1);
        let worst = last.iter().zip(kept).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(worst < 1e-5, "gains, offsets and biases fold exactly: {worst}");
    }

    #[test]
    fn bad_sizes_are_errors() {
        assert!(matches!(build(Gpt2Shape { heads: 3, ..TINY }, 1), Err(Gpt2Error::Heads(_))));
        assert!(matches!(build(Gpt2Shape { context: 0, ..TINY }, 1), Err(Gpt2Error::Zero(_))));
        let large = Gpt2Shape { layers: 36, width: 1280, heads: 20, ..Gpt2Shape::SMALL };
        assert!(matches!(build(large, 1), Err(Gpt2Error::TooLarge(_))));
        assert!(Gpt2Shape::SMALL.check().is_ok() && Gpt2Shape::SMALL.weight_bytes() == 649_412_608);
    }
}
