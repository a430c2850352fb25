//! Calibration samples: read from an npz file, or made up.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Read;
use std::path::Path;

use ndarray::{ArrayD, Axis, IxDyn, OwnedRepr, Slice};
use ndarray_npy::{NpzReader, ReadDataError, ReadNpyError, ReadNpyExt, ReadNpzError, ReadableElement};
use py_literal::Value as PyValue;

use crate::diagnostic::{Code, Diagnostic};
use crate::graph::kernel::from_vec;
use crate::graph::{DType, Graph, NodeId, Op, Tensor};
use crate::onnx::half;

/// Arrays by name.
pub type Arrays = BTreeMap<String, Tensor>;

/// Samples that are made up where none are given.
const MADE_UP: usize = 8;

/// Samples that ranges should come from at least.
pub const ENOUGH: usize = 32;

/// How much samples tell of the ranges of other inputs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Worth {
    /// Number of samples.
    pub samples: usize,
    /// Different ones among them. Those that hold one number throughout count as one: they tell nothing of a text.
    pub distinct: usize,
    /// They were made up.
    pub made_up: bool,
}

impl Worth {
    /// Of samples.
    pub fn of(samples: &[Arrays], made_up: bool) -> Worth {
        let distinct: BTreeSet<_> = samples.iter().map(fingerprint).collect();
        Worth { samples: samples.len(), distinct: distinct.len(), made_up }
    }

    /// What margins grow by. On trained models inputs left the ranges of 16 others by less than the usual margins, those
    /// of 4 by up to twice as much.
    pub fn margin(&self) -> f64 {
        match self.distinct {
            _ if self.made_up => 2.0,
            ..4 => 4.0,
            4..8 => 2.0,
            8..16 => 1.5,
            _ => 1.0,
        }
    }

    /// Too few to say how far an activation reaches.
    pub fn is_thin(&self) -> bool {
        self.distinct < 8
    }

    /// What to tell the user, one line and a way out for each.
    pub fn warnings(&self) -> Vec<String> {
        const HELP: &str = "--calibrate X.npz with at least 32 inputs of the length that will be asked";
        let margins = match self.margin() {
            1.0 => String::new(),
            margin => format!(", with margins {margin} times the usual"),
        };
        if self.made_up {
            let title = format!("warning: ranges come from {} made-up inputs{margins}", self.samples);
            return vec![format!("{title}; real text is a far better guide\n  try: {HELP}")];
        }
        let mut warnings = Vec::new();
        if self.distinct < self.samples {
            let what = "repeat others or hold one number throughout, and tell nothing of other inputs";
            warnings.push(format!(
                "warning: {} of {} calibration rows {what}",
                self.samples - self.distinct,
                self.samples
            ));
        }
        if self.distinct < ENOUGH {
            let rows = if self.distinct == 1 { "row" } else { "different rows" };
            let title = format!("warning: ranges come from {} {rows}{margins}", self.distinct);
            warnings.push(format!("{title}; inputs unlike them may leave the ranges\n  try: {HELP}"));
        }
        warnings
    }
}

/// Equal for samples that are alike; see [`Worth::distinct`].
fn fingerprint(sample: &Arrays) -> Option<[u8; 32]> {
    let mut hasher = blake3::Hasher::new();
    let mut constant = true;
    for tensor in sample.values() {
        let values = crate::graph::kernel::floats(tensor);
        let mut bits = values.iter().map(|v| v.to_bits());
        let first = bits.next();
        constant &= values.len() > 1 && bits.all(|bits| Some(bits) == first);
        for value in &values {
            hasher.update(&value.to_le_bytes());
        }
    }
    (!constant).then(|| hasher.finalize().into())
}

/// The arrays with padding replaced: where an array `attention_mask` says that positions of a row hold no text, the row's
/// own text takes their place, again and again. A program that is compiled for a mask of ones looks at all positions, so
/// padding would be taken for text. `bound` are the public inputs and their values.
pub fn without_padding(graph: &Graph, mut arrays: Arrays, bound: &Arrays, path: &Path) -> Result<Arrays, Diagnostic> {
    const MASK: &str = "attention_mask";
    for &id in &graph.inputs {
        let name = input_name(graph, id);
        let Some(mask) = name.strip_suffix("input_ids").map(|prefix| format!("{prefix}{MASK}")) else { continue };
        let all_ones = |tensor: &Tensor| crate::graph::kernel::floats(tensor).iter().all(|&v| v == 1.0);
        if bound.get(&mask).is_some_and(|bound| !all_ones(bound)) {
            // The program leaves out the same positions.
            continue;
        }
        let Some(values) = arrays.get(&mask).map(crate::graph::kernel::floats) else { continue };
        let Some(Tensor::I64(ids)) = arrays.get_mut(name) else { continue };
        let fault = |why: String| {
            Diagnostic::new(Code::CalibrationArrays, format!("calibration array \"{mask}\" does not fit \"{name}\""))
                .at(path.display().to_string())
                .because(why)
        };
        // With a past, the mask covers it and then the ids.
        let fits = ids.ndim() == 2
            && values.ndim() == 2
            && values.shape()[0] == ids.shape()[0]
            && values.shape()[1] >= ids.shape()[1];
        if !fits {
            return Err(fault(format!("They have shapes {:?} and {:?}.", values.shape(), ids.shape())));
        }
        let past = values.shape()[1] - ids.shape()[1];
        let values = values.slice_axis(Axis(1), Slice::from(past..));
        for (row, (mut ids, mask)) in ids.outer_iter_mut().zip(values.outer_iter()).enumerate() {
            let text: Vec<i64> = ids.iter().zip(&mask).filter(|(_, m)| **m != 0.0).map(|(id, _)| *id).collect();
            if text.is_empty() {
                return Err(fault(format!("Row {row} has no text at all.")));
            }
            if text.len() < ids.len() {
                ids.iter_mut().zip(text.iter().cycle()).for_each(|(id, text)| *id = *text);
            }
        }
    }
    Ok(arrays)
}

/// Reads every array of an npz file; integers become 64-bit, floats 32-bit.
pub fn read(path: &Path) -> Result<Arrays, Diagnostic> {
    let fault = |title: String| Diagnostic::new(Code::BrokenArrays, title).at(path.display().to_string());
    let file = File::open(path).map_err(|e| {
        Diagnostic::new(Code::FileUnreadable, format!("the calibration file cannot be opened: {e}"))
            .at(path.display().to_string())
    })?;
    let unreadable = |e: ReadNpzError| {
        fault(format!("the calibration file is not a readable npz archive: {e}"))
            .help("write it with numpy.savez(\"calibration.npz\", input_ids=ids)")
    };
    let mut npz = NpzReader::new(file).map_err(unreadable)?;
    let names = npz.names().map_err(unreadable)?;
    let mut arrays = Arrays::new();
    for name in names {
        let tensor = read_one(&mut npz, &name).map_err(unreadable)?;
        arrays.insert(name.trim_end_matches(".npy").to_owned(), tensor);
    }
    if arrays.is_empty() {
        return Err(fault("the calibration file holds no array".to_owned()));
    }
    Ok(arrays)
}

fn read_one(npz: &mut NpzReader<File>, name: &str) -> Result<Tensor, ReadNpzError> {
    macro_rules! attempt {
        ($ty:ty, $make:expr) => {
            match npz.by_name::<OwnedRepr<$ty>, IxDyn>(name) {
                Ok(array) => return Ok($make(array)),
                Err(ReadNpzError::Npy(ReadNpyError::WrongDescriptor(_))) => {}
                Err(e) => return Err(e),
            }
        };
    }
    attempt!(i64, Tensor::I64);
    attempt!(i32, |a: ArrayD<i32>| Tensor::I64(a.mapv(i64::from)));
    attempt!(i16, |a: ArrayD<i16>| Tensor::I64(a.mapv(i64::from)));
    attempt!(u16, |a: ArrayD<u16>| Tensor::I64(a.mapv(i64::from)));
    attempt!(i8, |a: ArrayD<i8>| Tensor::I64(a.mapv(i64::from)));
    attempt!(u8, |a: ArrayD<u8>| Tensor::I64(a.mapv(i64::from)));
    attempt!(u32, |a: ArrayD<u32>| Tensor::I64(a.mapv(i64::from)));
    attempt!(f32, Tensor::F32);
    attempt!(f64, |a: ArrayD<f64>| Tensor::F32(a.mapv(|v| v as f32)));
    attempt!(Half, |a: ArrayD<Half>| Tensor::F32(a.mapv(|v| half(v.0))));
    npz.by_name::<OwnedRepr<bool>, IxDyn>(name).map(Tensor::Bool)
}

/// Reads the array of an npy file, as [`read`] does.
pub fn read_npy(path: &Path) -> Result<Tensor, Diagnostic> {
    let bytes = std::fs::read(path).map_err(|e| {
        Diagnostic::new(Code::FileUnreadable, format!("the array cannot be read: {e}")).at(path.display().to_string())
    })?;
    macro_rules! attempt {
        ($($ty:ty => $make:expr),*) => {
            $( match ArrayD::<$ty>::read_npy(&bytes[..]) {
                Ok(array) => return Ok($make(array)),
                Err(ReadNpyError::WrongDescriptor(_)) => {}
                Err(e) => {
                    return Err(Diagnostic::new(Code::BrokenArrays, format!("this is not a readable npy file: {e}"))
                        .at(path.display().to_string())
                        .help("write it with numpy.save(\"value.npy\", value)"));
                }
            } )*
        };
    }
    attempt!(
        i64 => Tensor::I64,
        i32 => |a: ArrayD<i32>| Tensor::I64(a.mapv(i64::from)),
        f32 => Tensor::F32,
        f64 => |a: ArrayD<f64>| Tensor::F32(a.mapv(|v| v as f32)),
        bool => Tensor::Bool
    );
    Err(Diagnostic::new(Code::BrokenArrays, "the elements of the array have a type that is not supported")
        .at(path.display().to_string())
        .help("write int64, int32, float32, float64 or bool"))
}

/// The bits of a float16, numpy's `f2`.
#[derive(Clone, Copy)]
struct Half(u16);

impl ReadableElement for Half {
    fn read_to_end_exact_vec<R: Read>(
        mut reader: R,
        descriptor: &PyValue,
        count: usize,
    ) -> Result<Vec<Half>, ReadDataError> {
        let order: fn([u8; 2]) -> u16 = match descriptor {
            PyValue::String(text) if text == "<f2" => u16::from_le_bytes,
            PyValue::String(text) if text == ">f2" => u16::from_be_bytes,
            other => return Err(ReadDataError::WrongDescriptor(other.clone())),
        };
        let mut bytes = Vec::new();
        reader.read_to_end(&mut bytes).map_err(ReadDataError::Io)?;
        match bytes.len().checked_sub(2 * count) {
            None => Err(ReadDataError::MissingData),
            Some(0) => Ok(bytes.chunks_exact(2).map(|b| Half(order([b[0], b[1]]))).collect()),
            Some(extra) => Err(ReadDataError::ExtraBytes(extra)),
        }
    }
}

/// Shapes to bind free dimensions by: those of the arrays, one row a sample.
pub fn shapes(arrays: &Arrays) -> BTreeMap<String, Vec<usize>> {
    let one_row = |shape: &[usize]| {
        let mut shape = shape.to_vec();
        if let Some(rows) = shape.first_mut() {
            *rows = 1;
        }
        shape
    };
    arrays.iter().map(|(name, tensor)| (name.clone(), one_row(tensor.shape()))).collect()
}

/// Cuts the arrays into samples of the graph's batch size; a rest that fills no batch is left out.
pub fn split(graph: &Graph, arrays: &Arrays, path: &Path) -> Result<Vec<Arrays>, Diagnostic> {
    let mut samples: Vec<Arrays> = Vec::new();
    for &id in &graph.inputs {
        let (name, node) = (input_name(graph, id), graph.node(id));
        let Some(array) = arrays.get(name) else {
            let names: Vec<&str> = arrays.keys().map(String::as_str).collect();
            return Err(Diagnostic::new(
                Code::CalibrationArrays,
                format!("the calibration file has no array \"{name}\""),
            )
            .at(path.display().to_string())
            .because(format!("it holds {}", names.join(", "))));
        };
        let batch = node.shape.first().copied().unwrap_or(1);
        if array.shape().len() != node.shape.len()
            || array.shape().get(1..) != node.shape.get(1..)
            || array.shape().first().is_some_and(|&rows| rows < batch)
        {
            return Err(Diagnostic::new(
                Code::CalibrationArrays,
                format!("calibration array \"{name}\" does not fit the bound shape"),
            )
            .at(path.display().to_string())
            .because(format!(
                "it has shape {:?}; the graph is bound to {:?}, and rows are samples",
                array.shape(),
                node.shape
            ))
            .help("bind the size with --dim NAME=N, or give samples of the bound length"));
        }
        // What has no elements is one sample, like what has no axes.
        let rows = if batch == 0 { 1 } else { array.shape().first().map_or(1, |&rows| rows / batch) };
        if samples.is_empty() {
            samples.resize(rows, Arrays::new());
        } else if samples.len() != rows {
            return Err(Diagnostic::new(Code::CalibrationArrays, "calibration arrays have different numbers of rows")
                .at(path.display().to_string()));
        }
        for (i, sample) in samples.iter_mut().enumerate() {
            let value =
                if array.shape().is_empty() { array.clone() } else { rows_of(array, i * batch, (i + 1) * batch) };
            sample.insert(name.to_owned(), value);
        }
    }
    Ok(samples)
}

/// Cuts rows of token ids into samples as long as the graph's sequence; a rest that fills none is left out.
pub fn windows(graph: &Graph, arrays: &Arrays, path: &Path) -> Result<Vec<Arrays>, Diagnostic> {
    let length = graph.node(graph.inputs[0]).shape[1];
    let cut = |tensor: &Tensor| match tensor {
        Tensor::I64(ids) if ids.ndim() == 2 && ids.shape()[1] > length => {
            let rows = ids.outer_iter().flat_map(|row| {
                let row: Vec<i64> = row.iter().copied().collect();
                row.chunks_exact(length).flatten().copied().collect::<Vec<_>>()
            });
            let ids: Vec<i64> = rows.collect();
            Tensor::I64(from_vec(&[ids.len() / length, length], ids))
        }
        other => other.clone(),
    };
    split(graph, &arrays.iter().map(|(name, tensor)| (name.clone(), cut(tensor))).collect(), path)
}

/// Samples below this number all go into calibration.
const LEAST_HELD_BACK: usize = 8;

/// Takes away the last tenth of the samples, at least one, for a check of what the others led to; nothing of a few.
pub fn hold_back(samples: &mut Vec<Arrays>) -> Vec<Arrays> {
    match samples.len() {
        0..LEAST_HELD_BACK => Vec::new(),
        count => samples.split_off(count - (count / 10).max(1)),
    }
}

/// Rows of an array; all of it if it has no dimensions.
pub fn rows_of(tensor: &Tensor, from: usize, to: usize) -> Tensor {
    fn cut<T: Clone>(a: &ArrayD<T>, from: usize, to: usize) -> ArrayD<T> {
        a.slice_axis(Axis(0), Slice::from(from..to)).to_owned()
    }
    match tensor {
        Tensor::F32(a) => Tensor::F32(cut(a, from, to)),
        Tensor::I64(a) => Tensor::I64(cut(a, from, to)),
        Tensor::Bool(a) => Tensor::Bool(cut(a, from, to)),
    }
}

/// Uniform token ids (and standard normal numbers for float inputs), the same on every call. A poor guide to the ranges
/// of text, so margins double.
pub fn make_up(graph: &Graph) -> Vec<Arrays> {
    let mut reader = blake3::Hasher::new().update(b"sscc calibration").finalize_xof();
    let mut next = move || {
        let mut bytes = [0; 8];
        reader.fill(&mut bytes);
        u64::from_le_bytes(bytes)
    };
    (0..MADE_UP)
        .map(|_| {
            let sample = graph.inputs.iter().map(|&id| {
                let node = graph.node(id);
                let shape = IxDyn(&node.shape);
                let tensor = match node.dtype {
                    DType::F32 => Tensor::F32(ArrayD::from_shape_simple_fn(shape, || normal(&mut next))),
                    DType::I64 | DType::Bool => {
                        let classes = classes(graph, id);
                        Tensor::I64(ArrayD::from_shape_simple_fn(shape, || (next() % classes) as i64))
                    }
                };
                (input_name(graph, id).to_owned(), tensor)
            });
            sample.collect()
        })
        .collect()
}

/// Twelve uniform numbers, summed and centred: near enough to a standard normal one.
fn normal(next: &mut impl FnMut() -> u64) -> f32 {
    (0..12).map(|_| (next() >> 40) as f32 / (1 << 24) as f32).sum::<f32>() - 6.0
}

fn input_name(graph: &Graph, id: NodeId) -> &str {
    match &graph.node(id).op {
        Op::Input { name } => name,
        other => panic!("a graph input is an Input, not {other:?}"),
    }
}

/// Rows of the table that an integer input indexes.
fn classes(graph: &Graph, input: NodeId) -> u64 {
    let tables = graph.readers(input).into_iter().filter(|&r| graph.node(r).op == Op::Embed);
    tables.map(|r| graph.node(graph.operands(r)[1]).shape[0] as u64).min().unwrap_or(2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn float16_is_read() {
        // A stored archive of one array, as numpy.savez writes it: 1, -2 and the least subnormal number.
        let header = format!("{:<117}\n", "{'descr': '<f2', 'fortran_order': False, 'shape': (3,), }");
        let mut npy = b"\x93NUMPY\x01\x00".to_vec();
        npy.extend((header.len() as u16).to_le_bytes());
        npy.extend(header.as_bytes());
        npy.extend([0x00, 0x3c, 0x00, 0xc0, 0x01, 0x00]);
        let mut reader = ndarray_npy::ReadNpyExt::read_npy(&npy[..]).map(|a: ArrayD<Half>| a.mapv(|v| half(v.0)));
        assert_eq!(reader.as_mut().unwrap().as_slice().unwrap(), [1.0, -2.0, 5.9604645e-8]);
        npy.pop();
        let short: Result<ArrayD<Half>, _> = ndarray_npy::ReadNpyExt::read_npy(&npy[..]);
        assert!(matches!(short, Err(ReadNpyError::MissingData)));
    }

    fn worth(rows: &[&[i64]], made_up: bool) -> Worth {
        let sample =
            |row: &&[i64]| Arrays::from([("ids".to_owned(), Tensor::I64(from_vec(&[1, row.len()], row.to_vec())))]);
        Worth::of(&rows.iter().map(sample).collect::<Vec<_>>(), made_up)
    }

    #[test]
    fn rows_that_tell_nothing_do_not_count() {
        let one = worth(&[&[1, 2, 3], &[4, 4, 4], &[1, 2, 3], &[5, 5, 5]], false);
        assert_eq!((one.samples, one.distinct, one.margin(), one.is_thin()), (4, 2, 4.0, true));
        assert_eq!(
            one.warnings(),
            [
                "warning: 2 of 4 calibration rows repeat others or hold one number throughout, and tell nothing of other inputs",
                "warning: ranges come from 2 different rows, with margins 4 times the usual; inputs unlike them may leave the \
                 ranges\n  try: --calibrate X.npz with at least 32 inputs of the length that will be asked",
            ]
        );
        let rows: Vec<[i64; 2]> = (0..32).map(|i| [i, i + 1]).collect();
        let rows: Vec<&[i64]> = rows.iter().map(|row| &row[..]).collect();
        assert!(worth(&rows, false).warnings().is_empty());
        assert_eq!(worth(&rows, false).margin(), 1.0);
        assert_eq!(worth(&rows[..31], false).warnings().len(), 1);
        assert_eq!(worth(&rows[..10], false).margin(), 1.5);
        assert_eq!((worth(&rows, true).warnings().len(), worth(&rows, true).margin()), (1, 2.0));
    }
}
