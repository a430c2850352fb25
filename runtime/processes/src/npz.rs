//! Arrays by name in `.npz` files, as numpy writes them, compressed or not.
//!
//! Element types: integers and booleans (read as `I64`), float16, float32 and float64 (read as `F32`). The file is the user's own but may be damaged or not what it
//! claims, so sizes are checked before anything is allocated and no name may occur twice.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Cursor, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use ndarray::{ArrayD, IxDyn, ShapeBuilder};
use ndarray_npy::npy::header::Header;
use ndarray_npy::{NpzWriter, WriteNpzError};
use zip::ZipArchive;

/// Most arrays in a file.
const MAX_ARRAYS: usize = 64;

/// Most elements of all arrays in a file.
const MAX_ELEMENTS: usize = 1 << 27;

/// Most bytes of an array's header. numpy's take 128 or little more; the header's parser recurses on what it reads.
const MAX_HEADER: usize = 1024;

/// An array of one of the element types that programs take.
#[derive(Clone, PartialEq, Debug)]
pub enum Array {
    /// Integers.
    I64(ArrayD<i64>),
    /// Real numbers.
    F32(ArrayD<f32>),
}

impl Array {
    /// Dimensions.
    pub fn shape(&self) -> &[usize] {
        match self {
            Array::I64(a) => a.shape(),
            Array::F32(a) => a.shape(),
        }
    }
}

/// Why a file was not read or written.
#[derive(thiserror::Error, Debug)]
#[error("{}: {fault}", path.display())]
pub struct NpzError {
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it.
    pub fault: NpzFault,
}

/// See [`NpzError`].
#[derive(thiserror::Error, Debug)]
#[allow(missing_docs)]
pub enum NpzFault {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("not an .npz file ({0})")]
    Zip(#[from] zip::result::ZipError),
    #[error("{0} arrays, more than {MAX_ARRAYS}")]
    TooMany(usize),
    #[error("array `{0}` occurs more than once")]
    Duplicate(String),
    #[error("two arrays have the same name")]
    DuplicateEntry,
    #[error("array `{name}`: {what}")]
    Array { name: String, what: String },
    #[error("cannot be written: {0}")]
    Write(#[from] WriteNpzError),
}

/// Reads all arrays of a file.
pub fn read(path: &Path) -> Result<BTreeMap<String, Array>, NpzError> {
    File::open(path)
        .map_err(NpzFault::from)
        .and_then(|file| read_from(BufReader::new(file)))
        .map_err(|fault| NpzError { path: path.to_owned(), fault })
}

/// Writes arrays of real numbers, not compressed.
pub fn write<'a>(path: &Path, arrays: impl IntoIterator<Item = (&'a String, &'a ArrayD<f32>)>) -> Result<(), NpzError> {
    let written = || -> Result<(), NpzFault> {
        let mut npz = NpzWriter::new(BufWriter::new(File::create(path)?));
        for (name, array) in arrays {
            npz.add_array(name.as_str(), array)?;
        }
        npz.finish()?;
        Ok(())
    };
    written().map_err(|fault| NpzError { path: path.to_owned(), fault })
}

fn read_from(mut file: impl Read + Seek) -> Result<BTreeMap<String, Array>, NpzFault> {
    let entries = directory_entries(&mut file)?;
    let mut archive = ZipArchive::new(file)?;
    // The archive keeps the last of several entries with one name and does not tell.
    if entries.is_some_and(|n| n != archive.len()) {
        return Err(NpzFault::DuplicateEntry);
    }
    if archive.len() > MAX_ARRAYS {
        return Err(NpzFault::TooMany(archive.len()));
    }
    let (mut arrays, mut left) = (BTreeMap::new(), MAX_ELEMENTS);
    for index in 0..archive.len() {
        let entry = archive.by_index(index)?;
        let name = entry.name().strip_suffix(".npy").unwrap_or(entry.name()).to_owned();
        let array = read_array(entry, left).map_err(|what| NpzFault::Array { name: name.clone(), what })?;
        left -= array.shape().iter().product::<usize>();
        if arrays.insert(name.clone(), array).is_some() {
            return Err(NpzFault::Duplicate(name));
        }
    }
    Ok(arrays)
}

/// Number of entries by the end of the zip file (APPNOTE 4.3.16), if it is there in its plain form.
fn directory_entries(file: &mut (impl Read + Seek)) -> io::Result<Option<usize>> {
    const END: usize = 22;
    let length = file.seek(SeekFrom::End(0))?;
    // The end record may be followed by a comment of up to 2^16 - 1 bytes.
    let tail = length.min((END + usize::from(u16::MAX)) as u64);
    file.seek(SeekFrom::End(-(tail as i64)))?;
    let mut bytes = Vec::new();
    file.take(tail).read_to_end(&mut bytes)?;
    file.seek(SeekFrom::Start(0))?;
    let end = bytes.windows(END).rev().find(|w| w.starts_with(b"PK\x05\x06"));
    Ok(end.map(|w| usize::from(u16::from_le_bytes([w[10], w[11]]))).filter(|n| *n < usize::from(u16::MAX)))
}

fn read_array(mut file: impl Read, most: usize) -> Result<Array, String> {
    let mut start = [0; 12];
    file.read_exact(&mut start).map_err(|e| e.to_string())?;
    let header_length = match start[6] {
        1 => u32::from(u16::from_le_bytes([start[8], start[9]])),
        _ => u32::from_le_bytes([start[8], start[9], start[10], start[11]]),
    };
    if header_length as usize > MAX_HEADER {
        return Err(format!("a header of {header_length} bytes, more than {MAX_HEADER}"));
    }
    let mut file = Cursor::new(start).chain(file);
    let header = Header::from_reader(&mut file).map_err(|e| e.to_string())?;
    let elements = header.shape.iter().try_fold(1usize, |n, d| n.checked_mul(*d)).filter(|n| *n <= most);
    let elements =
        elements.ok_or_else(|| format!("shape {:?} exceeds the limit of {MAX_ELEMENTS} elements", header.shape))?;
    let dtype = header.type_descriptor.as_string().map_or("a structure", String::as_str);
    macro_rules! integers {
        ($ty:ty) => {
            elements_of(file, elements, |b| i64::from(<$ty>::from_le_bytes(b)))
                .and_then(|v| shaped(&header, v))
                .map(Array::I64)
        };
    }
    macro_rules! reals {
        ($of:expr) => {
            elements_of(file, elements, $of).and_then(|v| shaped(&header, v)).map(Array::F32)
        };
    }
    match dtype {
        "<i8" => integers!(i64),
        "<i4" => integers!(i32),
        "<i2" => integers!(i16),
        "|i1" => integers!(i8),
        "<u4" => integers!(u32),
        "<u2" => integers!(u16),
        "|u1" | "|b1" => integers!(u8),
        "<f2" => reals!(|b| half(u16::from_le_bytes(b))),
        "<f4" => reals!(f32::from_le_bytes),
        "<f8" => reals!(|b| f64::from_le_bytes(b) as f32),
        _ => Err(format!("element type `{dtype}`; integers, booleans or floats of 16 to 64 bits are needed")),
    }
}

/// A float16 as a float32, exactly.
fn half(bits: u16) -> f32 {
    let (exponent, fraction) = (bits >> 10 & 0x1f, f32::from(bits & 0x3ff));
    let magnitude = match exponent {
        0 => fraction * (-24f32).exp2(),
        0x1f if fraction == 0.0 => f32::INFINITY,
        0x1f => f32::NAN,
        _ => (1.0 + fraction / 1024.0) * (f32::from(exponent) - 15.0).exp2(),
    };
    if bits >> 15 == 1 { -magnitude } else { magnitude }
}

fn elements_of<T, const N: usize>(
    file: impl Read,
    elements: usize,
    of: impl Fn([u8; N]) -> T,
) -> Result<Vec<T>, String> {
    let mut bytes = Vec::new();
    // One byte more than is due shows whether too many are there. Memory grows with what is really read.
    file.take((elements * N) as u64 + 1).read_to_end(&mut bytes).map_err(|e| e.to_string())?;
    let (chunks, rest) = bytes.as_chunks::<N>();
    if chunks.len() != elements || !rest.is_empty() {
        return Err(format!("its data does not have the {} bytes that its shape implies", elements * N));
    }
    Ok(chunks.iter().map(|chunk| of(*chunk)).collect())
}

fn shaped<T>(header: &Header, values: Vec<T>) -> Result<ArrayD<T>, String> {
    let shape = IxDyn(&header.shape).set_f(header.layout.is_fortran());
    ArrayD::from_shape_vec(shape, values).map_err(|e| e.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;

    fn npz(arrays: &[(&str, &[u8])]) -> Cursor<Vec<u8>> {
        let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
        for (name, bytes) in arrays {
            zip.start_file(*name, zip::write::SimpleFileOptions::default()).unwrap();
            io::Write::write_all(&mut zip, bytes).unwrap();
        }
        zip.finish().unwrap()
    }

    fn npy(descr: &str, fortran: &str, shape: &str, data: &[u8]) -> Vec<u8> {
        let text = format!("{{'descr': {descr}, 'fortran_order': {fortran}, 'shape': {shape}, }}\n");
        let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
        bytes.extend((text.len() as u16).to_le_bytes());
        bytes.extend(text.as_bytes());
        bytes.extend(data);
        bytes
    }

    #[test]
    fn other_types_widen() {
        let file = npz(&[
            ("half", &npy("'<f2'", "False", "(5,)", &[0x00, 0x3c, 0x00, 0xc0, 0x01, 0x00, 0xff, 0x7b, 0x00, 0xfc])),
            ("double", &npy("'<f8'", "False", "(1,)", &0.1f64.to_le_bytes())),
            ("bools", &npy("'|b1'", "False", "(2,)", &[1, 0])),
            ("bytes", &npy("'|i1'", "False", "(2,)", &[255, 7])),
            ("words", &npy("'<u2'", "False", "(1,)", &[255, 255])),
        ]);
        let arrays = read_from(file).unwrap();
        assert_eq!(arrays["half"], Array::F32(array![1.0, -2.0, 5.9604645e-8, 65504.0, f32::NEG_INFINITY].into_dyn()));
        assert_eq!(arrays["double"], Array::F32(array![0.1].into_dyn()));
        assert_eq!(arrays["bools"], Array::I64(array![1, 0].into_dyn()));
        assert_eq!(arrays["bytes"], Array::I64(array![-1, 7].into_dyn()));
        assert_eq!(arrays["words"], Array::I64(array![65535].into_dyn()));
    }

    #[test]
    fn reads_the_three_types_and_both_orders() {
        let ids: Vec<u8> = [1i64, -2].iter().flat_map(|x| x.to_le_bytes()).collect();
        let small: Vec<u8> = [1i32, 2, 3, 4].iter().flat_map(|x| x.to_le_bytes()).collect();
        let reals: Vec<u8> = [0.5f32].iter().flat_map(|x| x.to_le_bytes()).collect();
        let file = npz(&[
            ("ids.npy", &npy("'<i8'", "False", "(1, 2)", &ids)),
            ("small.npy", &npy("'<i4'", "True", "(2, 2)", &small)),
            ("reals", &npy("'<f4'", "False", "(1,)", &reals)),
        ]);
        let arrays = read_from(file).unwrap();
        assert_eq!(arrays["ids"], Array::I64(array![[1, -2]].into_dyn()));
        assert_eq!(arrays["small"], Array::I64(array![[1, 3], [2, 4]].into_dyn()));
        assert_eq!(arrays["reals"], Array::F32(array![0.5].into_dyn()));
    }

    #[test]
    fn refuses_what_does_not_fit() {
        let fault = |npy: &[u8]| read_from(npz(&[("x.npy", npy)])).unwrap_err().to_string();
        insta::assert_snapshot!(
            [
                fault(&npy("'<c8'", "False", "(1,)", &[0; 8])),
                fault(&npy("[('a', '<i4')]", "False", "(1,)", &[0; 4])),
                fault(&npy("'<f4'", "False", "(2,)", &[0; 4])),
                fault(&npy("'<f4'", "False", "(2,)", &[0; 12])),
                fault(&npy("'<f4'", "False", "(99999999, 99999999, 99999999)", &[])),
                fault(&npy("'<f4'", "False", "(200000000,)", &[])),
                fault(b"\x93NUMPY\x02\x00\xff\xff\xff\xff"),
                fault(b"text"),
                read_from(Cursor::new(b"no zip".to_vec())).unwrap_err().to_string(),
            ]
            .join("\n")
        );
    }

    #[test]
    fn refuses_a_name_that_occurs_twice() {
        let array = npy("'<f4'", "False", "(1,)", &[0; 4]);
        assert!(matches!(read_from(npz(&[("x.npy", &array), ("x", &array)])), Err(NpzFault::Duplicate(_))));
        // The library refuses to write two entries of one name, so rename the second in place.
        let mut bytes = npz(&[("x.npy", &array), ("y.npy", &array)]).into_inner();
        for at in 0..bytes.len() - 5 {
            if bytes[at..].starts_with(b"y.npy") {
                bytes[at] = b'x';
            }
        }
        assert!(matches!(read_from(Cursor::new(bytes)), Err(NpzFault::DuplicateEntry)));
    }

    #[test]
    fn writes_what_it_reads() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("y.npz");
        let arrays = BTreeMap::from([("logits".to_owned(), array![[1.0f32, -2.5]].into_dyn())]);
        write(&path, &arrays).unwrap();
        assert_eq!(read(&path).unwrap()["logits"], Array::F32(arrays["logits"].clone()));
    }
}
