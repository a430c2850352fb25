//! The one-time setup: masked weights W - B, sent by the server once per model and kept by the client.
//!
//! Shapes    One piece per weight that a `linear` of any entry reads, in the order of their declarations: its elements at the
//!           greatest width of those products, packed and padded to a byte. It serves every entry; which pieces there are
//!           and how long follows from the module.
//! Digest    BLAKE3 of the BLAKE3 of each piece. The server says it in its greeting, and a setup serves whose pieces have it alone:
//!           not that of another key, nor one that arrived or was kept damaged.
//! Cache     One file per program and commitment: magic, digest, salt, and the pieces, sealed under the storage key with the digest (`vault`).
//!           It is written under another name, made durable and renamed; read into memory (`memory`) and opened there. What opens is
//!           what arrived and had that digest. A file that has another digest than the server's, or does not open, is fetched anew.
//!
//! Masked weights are uniform to whoever lacks B, and so is their digest. To whoever has B, a dealer, the digest would confirm a
//! guessed checkpoint: greetings to a dealer have none. Files are private all the same.

use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use bytes::Bytes;
use ir::{Program, Weight, Width};
use rayon::prelude::*;
use tempfile::NamedTempFile;

use super::RunError;
use crate::disk::sync_directory;
use crate::handshake::{Mismatch, hex};
use crate::manifest::Sealing;
use crate::memory::read_with;
use crate::stock::is_locked;
use crate::vault::{SALT, StorageKey, tags};
use kernels::prg::Seed;
use kernels::ring;
use protocols::linear::{WeightMask, mask_weight};
use protocols::weights::{MaskedWeights, ServerWeights, WeightsError, masked};

/// The last byte is the format's version: 2 has the digest of the pieces, 3 is sealed.
const MAGIC: &[u8; 8] = b"SSVMSET\x03";

/// Bytes before the pieces.
const HEAD: usize = MAGIC.len() + 32 + SALT;

/// What a setup is called until it is whole, and the age from which one that nobody writes is left over.
const PART: &str = "part-";
const LEFT: Duration = Duration::from_secs(60);

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

/// What tells a setup from any other: a digest of its pieces.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct SetupDigest(pub [u8; 32]);

impl SetupDigest {
    /// That of what a server sends, which is masked once for it.
    pub fn of_server(entries: &[Program], seed: &Seed, weights: &dyn ServerWeights) -> SetupDigest {
        let piece = |piece: &Piece| {
            let (mask, mut hasher) = (WeightMask::new(seed, (piece.weight, piece.width)), blake3::Hasher::new());
            mask_weight(mask, weights.integers(piece.weight), &mut hasher).expect("a digest takes all bytes");
            hasher.finalize()
        };
        SetupDigest::of(&layout(entries).par_iter().map(piece).collect::<Vec<_>>())
    }

    fn of(pieces: &[blake3::Hash]) -> SetupDigest {
        let mut hasher = blake3::Hasher::new();
        for piece in pieces {
            hasher.update(piece.as_bytes());
        }
        SetupDigest(hasher.finalize().into())
    }
}

/// A directory of setups.
#[derive(Clone)]
pub struct Cache {
    directory: PathBuf,
    key: StorageKey,
    /// The setup that was read last, as long as somebody uses it: sessions of a process share one.
    last: Arc<Mutex<Weak<Masked>>>,
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

/// A module's masked weights, in memory.
pub struct Masked {
    /// All pieces. None for a module without `linear`: an empty setup has no file.
    bytes: Bytes,
    pieces: Vec<Piece>,
    /// What they were checked against.
    digest: SetupDigest,
}

impl MaskedWeights for Masked {
    fn masked(&self, weight: Weight) -> Result<ring::Packed<'_>, WeightsError> {
        let piece = self.pieces.iter().find(|p| p.weight == weight).ok_or(WeightsError::Missing(weight.0))?;
        Ok(ring::Packed::new(&self.bytes[piece.bytes.clone()], piece.width))
    }
}

/// The setup of a model that a server offers.
#[derive(Clone, Copy)]
pub struct Model<'a> {
    /// Hash of the `.ssb` file.
    pub hash: &'a [u8; 32],
    /// Commitment to the weights.
    pub commitment: &'a [u8; 32],
    /// Its entries.
    pub entries: &'a [Program],
    /// What the server says of the setup.
    pub digest: SetupDigest,
}

impl Cache {
    /// The cache in `directory`, which is created if need be.
    /// What a process that was killed left there is removed.
    pub fn open(directory: &Path, key: StorageKey) -> Result<Cache, CacheError> {
        let sweep = || {
            std::fs::create_dir_all(directory)?;
            for file in std::fs::read_dir(directory)?.filter_map(Result::ok) {
                let part = file.file_name().to_str().is_some_and(|name| name.starts_with(PART));
                let old = || Some(file.metadata().ok()?.modified().ok()?.elapsed().ok()? > LEFT);
                if part && old() == Some(true) && !is_locked(&file.path()) {
                    std::fs::remove_file(file.path())?;
                }
            }
            Ok(())
        };
        sweep().map_err(|source| CacheError { path: directory.to_owned(), source })?;
        Ok(Cache { directory: directory.to_owned(), key, last: Arc::default() })
    }

    /// The setup of a model, if it is there, whole and the server's.
    pub fn load(&self, model: Model<'_>) -> Result<Option<Arc<Masked>>, CacheError> {
        let (pieces, digest) = (layout(model.entries), model.digest);
        // Held while the file is read: who waits takes what was read.
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(masked) = last.upgrade().filter(|masked| masked.digest == digest && masked.pieces == pieces) {
            return Ok(Some(masked));
        }
        let masked = self.read(model, pieces)?.map(Arc::new);
        if let Some(masked) = &masked {
            *last = Arc::downgrade(masked);
        }
        Ok(masked)
    }

    fn read(&self, model: Model<'_>, pieces: Vec<Piece>) -> Result<Option<Masked>, CacheError> {
        let digest = model.digest;
        if pieces.is_empty() {
            return Ok(Some(Masked { bytes: Bytes::new(), pieces, digest }));
        }
        let path = self.path(model);
        let failed = |source| CacheError { path: path.clone(), source };
        let mut file = match File::open(&path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            file => file.map_err(failed)?,
        };
        let data = pieces.last().map_or(0, |p| p.bytes.end);
        let mut head = [0; HEAD];
        let whole = file.metadata().map_err(failed)?.len() == HEAD as u64 + data as u64 + tags(data as u64);
        if !whole || file.read_exact(&mut head).is_err() || !head.starts_with(MAGIC) {
            tracing::warn!("{} is damaged or of another release; the masked weights are sent anew", path.display());
            return Ok(None);
        }
        let (said, salt) = head[MAGIC.len()..].split_at(32);
        if said != digest.0 {
            tracing::info!("{} is not of the server's key; its masked weights are sent anew", path.display());
            return Ok(None);
        }
        let cipher = self.key.cipher(salt.try_into().expect("the rest of the head"));
        let mut opens = true;
        let bytes = read_with(&mut file, data, |bytes, file| {
            let mut behind = vec![0; tags(data as u64) as usize];
            file.read_exact(&mut behind)?;
            opens = cipher.open(bytes, &name(digest), &behind).is_ok();
            Ok(())
        });
        let bytes = bytes.map_err(failed)?;
        if !opens {
            tracing::warn!(
                "{} is damaged, or was kept under another key; the masked weights are sent anew",
                path.display()
            );
            return Ok(None);
        }
        Ok(Some(Masked { bytes, pieces, digest }))
    }

    /// Begins to keep the setup of a model.
    pub fn store(&self, model: Model<'_>) -> Result<Store, CacheError> {
        let path = self.path(model);
        let begin = || {
            let file = tempfile::Builder::new().prefix(PART).tempfile_in(&self.directory)?;
            file.as_file().lock()?;
            let mut file = BufWriter::with_capacity(1 << 20, file);
            let sealing = Sealing::begin(&self.key, name(model.digest))?;
            file.write_all(&[&MAGIC[..], &model.digest.0, sealing.salt()].concat())?;
            Ok(Store { file, sealing, piece: blake3::Hasher::new(), pieces: Vec::new(), path: path.clone() })
        };
        begin().map_err(|source| CacheError { path: path.clone(), source })
    }

    fn path(&self, model: Model<'_>) -> PathBuf {
        let mut hasher = blake3::Hasher::new();
        hasher.update(model.hash).update(model.commitment);
        self.directory.join(format!("{}.setup", hex(&hasher.finalize().as_bytes()[..16])))
    }
}

/// What the pieces are sealed with.
fn name(digest: SetupDigest) -> Vec<u8> {
    [&MAGIC[..], &digest.0].concat()
}

/// A setup on its way into the cache.
pub struct Store {
    file: BufWriter<NamedTempFile>,
    sealing: Sealing,
    /// Of the piece that comes.
    piece: blake3::Hasher,
    pieces: Vec<blake3::Hash>,
    path: PathBuf,
}

impl Store {
    /// Appends bytes of a piece.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), CacheError> {
        self.piece.update(bytes);
        let file = &mut self.file;
        self.sealing
            .add(bytes, &mut |sealed| file.write_all(sealed))
            .map_err(|source| CacheError { path: self.path.clone(), source })
    }

    /// Ends a piece.
    pub fn end_piece(&mut self) {
        self.pieces.push(std::mem::take(&mut self.piece).finalize());
    }

    /// Makes the setup durable under its name, if it is what the server said, and reads it as any later session does.
    pub fn finish(self, cache: &Cache, model: Model<'_>) -> Result<Arc<Masked>, RunError> {
        let Store { mut file, sealing, pieces, path, .. } = self;
        if SetupDigest::of(&pieces) != model.digest {
            return Err(Mismatch::Setup.into());
        }
        let kept = path.clone();
        let keep = move || {
            sealing.end(&mut |sealed| file.write_all(sealed))?;
            let file = file.into_inner().map_err(io::IntoInnerError::into_error)?;
            file.as_file().sync_all()?;
            file.persist(&kept)?;
            sync_directory(kept.parent().expect("the file lies in the cache's directory"))
        };
        keep().map_err(|source| CacheError { path: path.clone(), source })?;
        let changed = || io::Error::new(io::ErrorKind::InvalidData, "it changed when it had been written");
        Ok(cache.load(model)?.ok_or_else(|| CacheError { path, source: changed() })?)
    }
}
