//! The `.ssw` file: encoded weights, for the server alone.
//!
//! ```text
//! magic "SSW\x1a" | version | bytes of the header | header, a protocol buffer | zeros up to a multiple of 64 | data
//! ```
//!
//! Numbers are 4 bytes, little endian. Data are the tensors in the header's order, row-major, little-endian integers of
//! 2, 4 or 8 bytes, each tensor at a multiple of 64 bytes from the start of the data, so that the file can be used in
//! memory as it lies. Values are integers at the tensor's scale.
//!
//! The bytecode commits to the weights: to names, shapes, scales and the digest of the data, under a random salt, since
//! a bare hash would confirm a guessed checkpoint. The file in turn names the program that it was made for.

use crate::bytecode::Module;
use crate::types::{Scale, Shape};
use prost::Message;

/// Marks a file as weights.
pub const MAGIC: [u8; 4] = *b"SSW\x1a";

/// Version of the format.
pub const VERSION: u32 = 1;

/// Tensors start at multiples of this many bytes.
pub const ALIGNMENT: u64 = 64;

/// Bytes before the header.
const PREFIX: usize = 12;

/// How a tensor's integers are stored.
#[derive(Clone, Copy, PartialEq, Eq, Debug, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum Element {
    /// Two bytes.
    I16 = 0,
    /// Four bytes.
    I32 = 1,
    /// Eight bytes.
    I64 = 2,
}

impl Element {
    /// Bytes of an element.
    pub fn bytes(self) -> u64 {
        2 << self as u64
    }

    /// The smallest that holds every value.
    pub fn smallest(values: &[i64]) -> Element {
        let fits = |bits: u32| values.iter().all(|v| v << (64 - bits) >> (64 - bits) == *v);
        if fits(16) {
            Element::I16
        } else if fits(32) {
            Element::I32
        } else {
            Element::I64
        }
    }
}

/// A tensor in the file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Tensor {
    /// Its name, as in [`crate::program::WeightDecl`].
    pub name: String,
    /// Dimensions.
    pub shape: Shape,
    /// Fractional bits.
    pub scale: Scale,
    /// How it is stored.
    pub element: Element,
    /// Bytes from the start of the data.
    pub offset: u64,
}

impl Tensor {
    /// Bytes of the tensor, or `None` if that overflows.
    pub fn bytes(&self) -> Option<u64> {
        self.shape.elements()?.checked_mul(self.element.bytes())
    }
}

/// What a `.ssw` file says about itself.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Header {
    /// Hash of the bytecode file; see [`crate::bytecode::hash`].
    pub program: [u8; 32],
    /// Random; makes the commitment hide what it commits to.
    pub salt: [u8; 32],
    /// BLAKE3 of the data.
    pub digest: [u8; 32],
    /// The tensors.
    pub tensors: Vec<Tensor>,
}

/// A `.ssw` file that cannot serve.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum WeightsError {
    /// Something else than weights.
    #[error("not a weights file (.ssw): its first bytes are not those of one")]
    Magic,
    /// Another version.
    #[error("weights version {0}, this program reads version {VERSION}; compile the model again")]
    Version(u32),
    /// Fewer bytes than the header says.
    #[error("the weights file has {found} bytes instead of {expected}")]
    Length {
        /// Bytes there.
        found: u64,
        /// Bytes that there should be.
        expected: u64,
    },
    /// A header that makes no sense.
    #[error("malformed header of the weights file: {0}")]
    Malformed(String),
    /// The data changed.
    #[error("the digest of the weights does not match: the file is damaged")]
    Digest,
    /// Weights of another program.
    #[error("the weights were compiled for another program; compile the model again")]
    Program,
    /// Weights that the program does not commit to.
    #[error("the program commits to other weights; compile the model again")]
    Commitment,
    /// A weight that the program reads and the file lacks.
    #[error("entry {entry:?} reads weight {name:?}: {reason}")]
    Missing {
        /// Name of the entry.
        entry: String,
        /// Name of the weight.
        name: String,
        /// What is wrong.
        reason: String,
    },
}

#[derive(Clone, PartialEq, Message)]
struct HeaderEntry {
    #[prost(bytes = "vec", tag = "1")]
    program: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    salt: Vec<u8>,
    #[prost(bytes = "vec", tag = "3")]
    digest: Vec<u8>,
    #[prost(message, repeated, tag = "4")]
    tensors: Vec<TensorEntry>,
}

#[derive(Clone, PartialEq, Message)]
struct TensorEntry {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(uint32, repeated, tag = "2")]
    shape: Vec<u32>,
    #[prost(sint32, tag = "3")]
    scale: i32,
    #[prost(enumeration = "Element", tag = "4")]
    element: i32,
}

/// Places tensors one after another: their offsets, and the bytes of the data. `None` if that overflows.
pub fn layout(tensors: &mut [Tensor]) -> Option<u64> {
    let mut end = 0u64;
    for tensor in tensors {
        tensor.offset = end.checked_next_multiple_of(ALIGNMENT)?;
        end = tensor.offset.checked_add(tensor.bytes()?)?;
    }
    Some(end)
}

impl Header {
    /// What the bytecode stores: a commitment to everything but `program`.
    pub fn commitment(&self) -> [u8; 32] {
        let named = HeaderEntry { program: Vec::new(), salt: Vec::new(), ..self.entry() };
        blake3::keyed_hash(&self.salt, &named.encode_to_vec()).into()
    }

    /// Tells the file from any other, once its data are checked: the header has their digest.
    pub fn hash(&self) -> [u8; 32] {
        blake3::hash(&self.encode()).into()
    }

    /// The file up to the start of the data.
    pub fn encode(&self) -> Vec<u8> {
        let header = self.entry().encode_to_vec();
        let len = u32::try_from(header.len()).expect("a header has less than 4 GiB");
        let mut out = [&MAGIC[..], &VERSION.to_le_bytes(), &len.to_le_bytes(), &header].concat();
        out.resize(out.len().next_multiple_of(ALIGNMENT as usize), 0);
        out
    }

    /// Checks that these are the weights of `module`, whose file has the hash `program`.
    pub fn check(&self, module: &Module, program: [u8; 32]) -> Result<(), WeightsError> {
        if self.program != program {
            return Err(WeightsError::Program);
        }
        if self.commitment() != module.commitment {
            return Err(WeightsError::Commitment);
        }
        for entry in &module.entries {
            for weight in &entry.weights {
                let reason = match self.tensors.iter().find(|t| t.name == weight.name) {
                    None => "it is not in the file".to_owned(),
                    Some(t) if (t.scale, &t.shape) != (weight.scale, &weight.shape) => format!(
                        "scale {} and shape {}, the file has {} and {}",
                        weight.scale, weight.shape, t.scale, t.shape
                    ),
                    Some(_) => continue,
                };
                let (entry, name) = (entry.name.clone(), weight.name.clone());
                return Err(WeightsError::Missing { entry, name, reason });
            }
        }
        Ok(())
    }

    fn entry(&self) -> HeaderEntry {
        let tensor = |t: &Tensor| TensorEntry {
            name: t.name.clone(),
            shape: t.shape.0.clone(),
            scale: t.scale.into(),
            element: t.element.into(),
        };
        HeaderEntry {
            program: self.program.to_vec(),
            salt: self.salt.to_vec(),
            digest: self.digest.to_vec(),
            tensors: self.tensors.iter().map(tensor).collect(),
        }
    }

    fn of(entry: HeaderEntry) -> Result<Header, WeightsError> {
        let malformed = |what: &str| WeightsError::Malformed(what.to_owned());
        let hash = |bytes: Vec<u8>| bytes.try_into().map_err(|_| malformed("a hash has 32 bytes"));
        let tensor = |t: TensorEntry| {
            Ok(Tensor {
                name: t.name,
                shape: Shape(t.shape),
                scale: t.scale.try_into().map_err(|_| malformed("a scale is out of range"))?,
                element: t.element.try_into().map_err(|_| malformed("an unknown element type"))?,
                offset: 0,
            })
        };
        Ok(Header {
            program: hash(entry.program)?,
            salt: hash(entry.salt)?,
            digest: hash(entry.digest)?,
            tensors: entry.tensors.into_iter().map(tensor).collect::<Result<_, WeightsError>>()?,
        })
    }
}

/// A `.ssw` file in memory.
pub struct Weights<'a> {
    /// What it says about itself.
    pub header: Header,
    /// The data.
    pub data: &'a [u8],
}

impl<'a> Weights<'a> {
    /// Reads the header and checks the length of the file. The data are not read: see [`Weights::check_data`].
    pub fn open(file: &'a [u8]) -> Result<Weights<'a>, WeightsError> {
        let length = |expected: usize| WeightsError::Length { found: file.len() as u64, expected: expected as u64 };
        let (prefix, rest) = file.split_first_chunk::<PREFIX>().ok_or(length(PREFIX))?;
        let [m0, m1, m2, m3, v0, v1, v2, v3, len @ ..] = *prefix;
        if [m0, m1, m2, m3] != MAGIC {
            return Err(WeightsError::Magic);
        }
        let version = u32::from_le_bytes([v0, v1, v2, v3]);
        if version != VERSION {
            return Err(WeightsError::Version(version));
        }
        let len = u32::from_le_bytes(len) as usize;
        let start = len.saturating_add(PREFIX + ALIGNMENT as usize - 1) & !(ALIGNMENT as usize - 1);
        let (Some(header), Some((head, data))) = (rest.get(..len), file.split_at_checked(start)) else {
            return Err(length(start));
        };
        let entry = HeaderEntry::decode(header).map_err(|e| WeightsError::Malformed(e.to_string()))?;
        let mut header = Header::of(entry)?;
        if header.encode() != head {
            return Err(WeightsError::Malformed("it is not in its canonical form".to_owned()));
        }
        let bytes = layout(&mut header.tensors)
            .ok_or_else(|| WeightsError::Malformed("the tensors are too large to count".to_owned()))?;
        if data.len() as u64 != bytes {
            let expected = (start as u64).saturating_add(bytes);
            return Err(WeightsError::Length { found: file.len() as u64, expected });
        }
        Ok(Weights { header, data })
    }

    /// Checks the digest of the data, which reads all of them.
    pub fn check_data(&self) -> Result<(), WeightsError> {
        if blake3::hash(self.data) == self.header.digest { Ok(()) } else { Err(WeightsError::Digest) }
    }

    /// A tensor and its bytes.
    pub fn tensor(&self, name: &str) -> Option<(&Tensor, &'a [u8])> {
        let tensor = self.header.tensors.iter().find(|t| t.name == name)?;
        let bytes = usize::try_from(tensor.bytes()?).ok()?;
        let start = usize::try_from(tensor.offset).ok()?;
        Some((tensor, self.data.get(start..)?.get(..bytes)?))
    }
}

/// Integers as the file stores them. Values beyond the element's range lose their high bits.
pub fn encode_values(element: Element, values: &[i64], out: &mut Vec<u8>) {
    for v in values {
        out.extend(&v.to_le_bytes()[..element.bytes() as usize]);
    }
}

/// Integers of a tensor's bytes.
pub fn decode_values(element: Element, bytes: &[u8]) -> impl Iterator<Item = i64> {
    let size = element.bytes() as usize;
    let unused = 64 - 8 * size as u32;
    bytes.chunks_exact(size).map(move |chunk| {
        let mut word = [0u8; 8];
        word[..size].copy_from_slice(chunk);
        i64::from_le_bytes(word) << unused >> unused
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Program;
    use crate::program::WeightDecl;

    fn tensor(name: &str, shape: &[u32], element: Element) -> Tensor {
        Tensor { name: name.to_owned(), shape: Shape(shape.to_vec()), scale: 12, element, offset: 0 }
    }

    /// A file with two tensors, its header, and the module that it belongs to.
    fn example() -> (Vec<u8>, Header, Module) {
        let (a, b) = (vec![1, -2, 3, i64::from(i16::MIN), 5, 6], vec![1 << 40, -1]);
        let mut tensors = vec![tensor("a", &[2, 3], Element::smallest(&a)), tensor("b", &[2], Element::smallest(&b))];
        assert_eq!(layout(&mut tensors), Some(64 + 16));
        let mut data = Vec::new();
        encode_values(tensors[0].element, &a, &mut data);
        data.resize(64, 0);
        encode_values(tensors[1].element, &b, &mut data);
        let header = Header { program: [7; 32], salt: [9; 32], digest: blake3::hash(&data).into(), tensors };
        let weights = ["a", "b"].map(|n| {
            let t = header.tensors.iter().find(|t| t.name == n).unwrap();
            WeightDecl { name: n.to_owned(), scale: t.scale, shape: t.shape.clone() }
        });
        let entry = Program { name: "main".to_owned(), weights: weights.to_vec(), ..Program::default() };
        let module = Module { commitment: header.commitment(), entries: vec![entry], ..Module::default() };
        ([header.encode(), data].concat(), header, module)
    }

    #[test]
    fn round_trip() {
        let (file, header, module) = example();
        let weights = Weights::open(&file).unwrap();
        assert!(weights.header == header);
        weights.check_data().unwrap();
        weights.header.check(&module, [7; 32]).unwrap();
        let (t, bytes) = weights.tensor("a").unwrap();
        assert_eq!(t.element, Element::I16);
        assert_eq!(decode_values(t.element, bytes).collect::<Vec<_>>(), [1, -2, 3, -32768, 5, 6]);
        let (t, bytes) = weights.tensor("b").unwrap();
        assert_eq!((t.element, t.offset), (Element::I64, 64));
        assert_eq!(decode_values(t.element, bytes).collect::<Vec<_>>(), [1 << 40, -1]);
        assert!(weights.tensor("c").is_none());
    }

    #[test]
    fn another_program_or_commitment_is_refused() {
        let (_, header, mut module) = example();
        assert_eq!(header.check(&module, [8; 32]), Err(WeightsError::Program));
        let salted = Header { salt: [10; 32], ..header.clone() };
        assert_eq!(salted.check(&module, [7; 32]), Err(WeightsError::Commitment));
        module.entries[0].weights[1].scale = 13;
        assert!(matches!(header.check(&module, [7; 32]), Err(WeightsError::Missing { .. })));
        module.entries[0].weights[1].name = "z".to_owned();
        let text = header.check(&module, [7; 32]).unwrap_err().to_string();
        assert_eq!(text, "entry \"main\" reads weight \"z\": it is not in the file");
    }

    #[test]
    fn damage_is_refused() {
        let (file, header, module) = example();
        for len in 0..file.len() {
            assert!(Weights::open(&file[..len]).is_err(), "cut to {len} bytes");
        }
        assert!(Weights::open(&[&file[..], &[0]].concat()).is_err());
        for bit in 0..8 * file.len() {
            let mut bad = file.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            if let Ok(weights) = Weights::open(&bad) {
                assert!(weights.header.check(&module, [7; 32]).is_err() || weights.check_data().is_err(), "bit {bit}");
            }
        }
        let mut huge = header;
        huge.tensors[0].shape = Shape(vec![u32::MAX; 3]);
        assert!(matches!(Weights::open(&huge.encode()), Err(WeightsError::Malformed(_))));
    }
}
