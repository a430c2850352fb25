//! Constant tensors of a model file: element types, the fields that may hold the data, data in another file.
//!
//! float16, bfloat16 and float64 become 32-bit floats, every integer type becomes 64-bit. No memory is reserved on the word
//! of a file: the number of bytes that is there is compared with the declared shape first.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Component, Path};

use prost::bytes::Bytes;

use super::proto::{DataType, TensorProto};
use crate::graph::kernel::from_vec;
use crate::graph::shape::check_size;
use crate::graph::{DType, Tensor};

/// The element type that stands for an ONNX one.
pub fn dtype(data_type: i32) -> Result<DType, String> {
    use DataType::*;
    match DataType::try_from(data_type) {
        Ok(Float | Float16 | Bfloat16 | Double) => Ok(DType::F32),
        Ok(Int8 | Int16 | Int32 | Int64 | Uint8 | Uint16 | Uint32 | Uint64) => Ok(DType::I64),
        Ok(Bool) => Ok(DType::Bool),
        Ok(other) => Err(format!("element type {other:?} is not supported")),
        Err(_) => Err(format!("element type {data_type} is not supported")),
    }
}

/// Reads a tensor; `dir` is the folder of the model file.
pub fn read(proto: &TensorProto, dir: &Path) -> Result<Tensor, String> {
    let shape: Vec<usize> = proto
        .dims
        .iter()
        .map(|&d| usize::try_from(d).map_err(|_| format!("dimension {d} is negative")))
        .collect::<Result<_, _>>()?;
    check_size(&shape)?;
    let count: usize = shape.iter().product();
    let data_type = proto.data_type();
    let dtype = dtype(data_type)?;
    let data_type = DataType::try_from(data_type).expect("it has a `dtype`");

    let fields = [
        proto.data_location == Some(TensorProto::EXTERNAL),
        proto.raw_data.as_ref().is_some_and(|raw| !raw.is_empty()),
        !proto.float_data.is_empty(),
        !proto.int32_data.is_empty(),
        !proto.int64_data.is_empty(),
        !proto.double_data.is_empty(),
        !proto.uint64_data.is_empty(),
    ];
    if fields.iter().filter(|&&filled| filled).count() > 1 {
        return Err("it has data in several places".into());
    }

    let raw = if proto.data_location == Some(TensorProto::EXTERNAL) {
        Some(external(proto, dir, count * size_of(data_type))?)
    } else {
        proto.raw_data.clone()
    };
    if let Some(raw) = raw {
        if raw.len() != count * size_of(data_type) {
            return Err(format!(
                "shape {shape:?} of {data_type:?} takes {} bytes, the data has {}",
                count * size_of(data_type),
                raw.len()
            ));
        }
        return Ok(from_bytes(&shape, data_type, &raw));
    }

    use DataType::*;
    let floats: Vec<f32> = match data_type {
        Float => proto.float_data.clone(),
        Double => proto.double_data.iter().map(|&x| x as f32).collect(),
        Float16 => proto.int32_data.iter().map(|&x| half(x as u16)).collect(),
        Bfloat16 => proto.int32_data.iter().map(|&x| f32::from_bits((x as u32) << 16)).collect(),
        _ => Vec::new(),
    };
    let integers: Vec<i64> = match data_type {
        Int64 => proto.int64_data.clone(),
        Uint32 | Uint64 => proto.uint64_data.iter().map(|&x| x as i64).collect(),
        _ if dtype != DType::F32 => proto.int32_data.iter().map(|&x| i64::from(x)).collect(),
        _ => Vec::new(),
    };
    let found = if dtype == DType::F32 { floats.len() } else { integers.len() };
    if found != count {
        return Err(format!("shape {shape:?} has {count} elements, the data has {found}"));
    }
    Ok(match dtype {
        DType::F32 => Tensor::F32(from_vec(&shape, floats)),
        DType::I64 => Tensor::I64(from_vec(&shape, integers)),
        DType::Bool => Tensor::Bool(from_vec(&shape, integers.into_iter().map(|x| x != 0).collect())),
    })
}

/// Bytes per element of raw data.
fn size_of(data_type: DataType) -> usize {
    use DataType::*;
    match data_type {
        Double | Int64 | Uint64 => 8,
        Float | Int32 | Uint32 => 4,
        Float16 | Bfloat16 | Int16 | Uint16 => 2,
        _ => 1,
    }
}

fn from_bytes(shape: &[usize], data_type: DataType, raw: &[u8]) -> Tensor {
    macro_rules! numbers {
        ($ty:ty, $f:expr) => {{
            let (words, _) = raw.as_chunks::<{ size_of::<$ty>() }>();
            from_vec(shape, words.iter().map(|&w| $f(<$ty>::from_le_bytes(w))).collect())
        }};
    }
    use DataType::*;
    use std::mem::size_of;
    match data_type {
        Float => Tensor::F32(numbers!(f32, |x| x)),
        Double => Tensor::F32(numbers!(f64, |x| x as f32)),
        Float16 => Tensor::F32(numbers!(u16, half)),
        Bfloat16 => Tensor::F32(numbers!(u16, |x| f32::from_bits(u32::from(x) << 16))),
        Int64 => Tensor::I64(numbers!(i64, |x| x)),
        Uint64 => Tensor::I64(numbers!(u64, |x| x as i64)),
        Int32 => Tensor::I64(numbers!(i32, i64::from)),
        Uint32 => Tensor::I64(numbers!(u32, i64::from)),
        Int16 => Tensor::I64(numbers!(i16, i64::from)),
        Uint16 => Tensor::I64(numbers!(u16, i64::from)),
        Int8 => Tensor::I64(numbers!(i8, i64::from)),
        Uint8 => Tensor::I64(numbers!(u8, i64::from)),
        Bool => Tensor::Bool(numbers!(u8, |x| x != 0)),
        Undefined | String | Complex64 | Complex128 => unreachable!("refused by `dtype`"),
    }
}

/// IEEE 754 binary16.
pub fn half(bits: u16) -> f32 {
    let (sign, exponent, fraction) = (bits >> 15, (bits >> 10) & 31, f32::from(bits & 1023) / 1024.0);
    let magnitude = match exponent {
        0 => fraction * 2f32.powi(-14),
        31 => {
            if fraction == 0.0 {
                f32::INFINITY
            } else {
                f32::NAN
            }
        }
        e => (1.0 + fraction) * 2f32.powi(i32::from(e) - 15),
    };
    if sign == 1 { -magnitude } else { magnitude }
}

/// Where data in another file lies, which must be in the model's folder or below it.
fn location(proto: &TensorProto) -> Result<&Path, String> {
    let entry = proto.external_data.iter().find(|e| e.key() == "location");
    let location = entry.ok_or("external data: no location is given")?.value();
    let path = Path::new(location);
    if location.is_empty() || !path.components().all(|c| matches!(c, Component::Normal(_) | Component::CurDir)) {
        return Err(format!("external data: `{location}` is outside the model's folder"));
    }
    Ok(path)
}

/// Size of the other files in which data of these tensors lies; what is not there counts as nothing.
pub fn size_of_others(tensors: &[TensorProto], dir: &Path) -> usize {
    let external = tensors.iter().filter(|t| t.data_location == Some(TensorProto::EXTERNAL));
    let files: BTreeSet<&Path> = external.filter_map(|t| location(t).ok()).collect();
    files.iter().filter_map(|path| std::fs::metadata(dir.join(path)).ok()).map(|data| data.len() as usize).sum()
}

/// Reads data that lies in another file.
fn external(proto: &TensorProto, dir: &Path, expected: usize) -> Result<Bytes, String> {
    let entry = |key: &str| proto.external_data.iter().find(|e| e.key() == key).map(|e| e.value());
    let number = |key: &str| match entry(key) {
        None => Ok(None),
        Some(text) => {
            text.parse::<u64>().map(Some).map_err(|_| format!("external data: {key} `{text}` is not a number"))
        }
    };
    let path = location(proto)?;
    let location = path.display();
    let (offset, length) = (number("offset")?.unwrap_or(0), number("length")?.unwrap_or(expected as u64));
    if length != expected as u64 {
        return Err(format!("external data: {length} bytes are declared, the shape takes {expected}"));
    }
    let failed = |e: std::io::Error| format!("external data: `{location}`: {e}");
    let mut file = File::open(dir.join(path)).map_err(failed)?;
    let size = file.metadata().map_err(failed)?.len();
    if offset.checked_add(length).is_none_or(|end| end > size) {
        return Err(format!(
            "external data: {length} bytes from {offset} do not lie in `{location}`, which has {size}"
        ));
    }
    file.seek(SeekFrom::Start(offset)).map_err(failed)?;
    let mut bytes = vec![0; expected];
    file.read_exact(&mut bytes).map_err(failed)?;
    Ok(bytes.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_floats() {
        for (bits, value) in
            [(0x3c00, 1.0), (0xc000, -2.0), (0x7bff, 65504.0), (0x0001, 5.9604645e-8), (0xfc00, f32::NEG_INFINITY)]
        {
            assert_eq!(half(bits), value);
        }
        assert!(half(0x7e00).is_nan());
    }
}
