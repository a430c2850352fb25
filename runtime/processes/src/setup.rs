//! The one-time setup: masked weights W - B, sent by the server once per model and kept by the client.
//!
//! Shapes    One piece per weight that a `linear` of any entry reads, in the order of their declarations: its elements at the
//!           greatest width of those products, packed and padded to a byte. It serves every entry; which pieces there are
//!           and how long follows from the module.
//! Cache     One file per program and commitment: magic, pieces, BLAKE3 of all before. It is written under another
//!           name, made durable and renamed, checked when it is loaded and then mapped into memory. A damaged file counts as
//!           missing.
//!
//! Masked weights are uniform to whoever lacks B, but files are private all the same.

use std::io::{self, BufWriter, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};

use ir::{Program, Weight, Width};
use memmap2::Mmap;
use tempfile::NamedTempFile;

use crate::handshake::hex;
use crate::ledger::sync_directory;
use crate::mapped::map;
use kernels::ring;
use protocols::weights::{MaskedWeights, WeightsError, masked};

const MAGIC: &[u8; 8] = b"SSVMSET\x01";
const DIGEST: usize = 32;

/// A weight that the client holds masked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Piece {
    /// The weight.
    pub weight: Weight,
    /// Greatest width of its products in bits.
    pub width: Width,
    /// Where its bytes lie in the setup.
    pub bytes: Range<usize>,
}

/// The pieces of a verified module's setup, one after another.
pub fn layout(entries: &[Program]) -> Vec<Piece> {
    let mut end = 0;
    let piece = |(weight, width, elements)| {
        let start = end;
        end += ring::packed_len(elements, width);
        Piece { weight, width, bytes: start..end }
    };
    masked(entries).map(piece).collect()
}

/// A directory of setups.
#[derive(Clone)]
pub struct Cache {
    directory: PathBuf,
}

/// A cache that cannot be used.
#[derive(thiserror::Error, Debug)]
#[error("setup cache {}", path.display())]
pub struct CacheError {
    /// The file or directory.
    pub path: PathBuf,
    /// Why.
    pub source: io::Error,
}

/// A module's masked weights, mapped into memory.
pub struct Masked {
    /// None for a module without `linear`: an empty setup has no file.
    map: Option<Mmap>,
    pieces: Vec<Piece>,
}

impl MaskedWeights for Masked {
    fn masked(&self, weight: Weight) -> Result<ring::Packed<'_>, WeightsError> {
        let piece = self.pieces.iter().find(|p| p.weight == weight).ok_or(WeightsError::Missing(weight.0))?;
        let map = self.map.as_ref().ok_or(WeightsError::Missing(weight.0))?;
        let bytes = &map[MAGIC.len() + piece.bytes.start..MAGIC.len() + piece.bytes.end];
        Ok(ring::Packed::new(bytes, piece.width))
    }
}

/// What tells one setup from another.
#[derive(Clone, Copy)]
pub struct Model<'a> {
    /// Hash of the `.ssb` file.
    pub hash: &'a [u8; 32],
    /// Commitment to the weights.
    pub commitment: &'a [u8; 32],
    /// Its entries.
    pub entries: &'a [Program],
}

impl Cache {
    /// The cache in `directory`, which is created if need be.
    pub fn open(directory: &Path) -> Result<Cache, CacheError> {
        std::fs::create_dir_all(directory).map_err(|source| CacheError { path: directory.to_owned(), source })?;
        Ok(Cache { directory: directory.to_owned() })
    }

    /// The setup of a model, if it is there and whole.
    pub fn load(&self, model: Model<'_>) -> Result<Option<Masked>, CacheError> {
        let pieces = layout(model.entries);
        if pieces.is_empty() {
            return Ok(Some(Masked { map: None, pieces }));
        }
        let path = self.path(model);
        let map = match map(&path) {
            Ok(map) => map,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(CacheError { path, source }),
        };
        let data = pieces.last().map_or(0, |p| p.bytes.end);
        let whole = map.len() == MAGIC.len() + data + DIGEST
            && map.starts_with(MAGIC)
            && blake3::hash(&map[..map.len() - DIGEST]).as_bytes()[..] == map[map.len() - DIGEST..];
        if !whole {
            tracing::warn!("{} is damaged; the masked weights are sent anew", path.display());
        }
        Ok(whole.then_some(Masked { map: Some(map), pieces }))
    }

    /// Begins to keep the setup of a model.
    pub fn store(&self, model: Model<'_>) -> Result<Store, CacheError> {
        let path = self.path(model);
        let begin = || {
            let mut store = Store {
                file: BufWriter::with_capacity(1 << 20, NamedTempFile::new_in(&self.directory)?),
                hasher: blake3::Hasher::new(),
                path: path.clone(),
            };
            store.put(MAGIC)?;
            Ok(store)
        };
        begin().map_err(|source| CacheError { path: path.clone(), source })
    }

    fn path(&self, model: Model<'_>) -> PathBuf {
        let mut hasher = blake3::Hasher::new();
        hasher.update(model.hash).update(model.commitment);
        self.directory.join(format!("{}.setup", hex(&hasher.finalize().as_bytes()[..16])))
    }
}

/// A setup on its way into the cache.
pub struct Store {
    file: BufWriter<NamedTempFile>,
    hasher: blake3::Hasher,
    path: PathBuf,
}

impl Store {
    /// Appends bytes.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), CacheError> {
        self.put(bytes).map_err(|source| CacheError { path: self.path.clone(), source })
    }

    /// Makes the setup durable under its name.
    pub fn finish(mut self, model: Model<'_>) -> Result<Masked, CacheError> {
        let digest = self.hasher.finalize();
        let path = self.path;
        let finish = || {
            self.file.write_all(digest.as_bytes())?;
            let file = self.file.into_inner().map_err(io::IntoInnerError::into_error)?;
            file.as_file().sync_all()?;
            file.persist(&path)?;
            sync_directory(path.parent().expect("the file lies in the cache's directory"))?;
            map(&path)
        };
        match finish() {
            Ok(map) => Ok(Masked { map: Some(map), pieces: layout(model.entries) }),
            Err(source) => Err(CacheError { path, source }),
        }
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.hasher.update(bytes);
        self.file.write_all(bytes)
    }
}
