//! Lasting secrets: the server's, from which the masks of its weights derive, and the storage key of a state directory without an identity.
//!
//! The server's is one file of 32 random bytes beside the weights, readable by its owner alone. The seed of the masks B is derived from
//! it, the program's hash and the digest of the weights that this process has read: another program (so other encodings or
//! widths) or other weights never meet the same B, which would give the client the difference of two weights. All entries of a
//! program share B.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use crate::disk::sync_directory;
use crate::vault::StorageKey;
use kernels::prg::Seed;

/// The server's secret.
pub struct MasterKey(Zeroizing<[u8; 32]>);

/// Why the secret is not there.
#[derive(thiserror::Error, Debug)]
#[allow(missing_docs)]
pub enum KeyError {
    #[error("{} can be read by others (mode {mode:03o})", path.display())]
    Mode { path: PathBuf, mode: u32 },
    #[error("{} does not have 32 bytes", path.display())]
    Length { path: PathBuf },
    #[error("{}", path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error("the operating system gives no randomness: {0}")]
    Random(getrandom::Error),
}

impl KeyError {
    /// A way out, for the user.
    pub fn hint(&self) -> &'static str {
        match self {
            KeyError::Mode { .. } => {
                "`chmod 600` on it if nobody has read it, else remove it, and what was kept under it"
            }
            KeyError::Length { .. } => "remove it, and what was kept under it",
            KeyError::Io { .. } => "weights, or `--state DIR`, in a directory that can be written",
            KeyError::Random(_) => "a system with a random number generator",
        }
    }
}

impl MasterKey {
    /// Reads the secret that belongs to the weights file, or makes one.
    pub fn beside(weights: &Path) -> Result<MasterKey, KeyError> {
        let mut path = weights.as_os_str().to_owned();
        path.push(".key");
        MasterKey::at(Path::new(&path))
    }

    /// Reads a secret, or makes one.
    fn at(path: &Path) -> Result<MasterKey, KeyError> {
        match MasterKey::read(path) {
            Err(KeyError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                MasterKey::create(path)?;
                // Another process may have been faster; what lies there counts.
                MasterKey::read(path)
            }
            read => read,
        }
    }

    /// The seed of the masks of a program's weights, which have this digest ([`crate::weights_file::WeightsFile::digest`]).
    pub fn mask_seed(&self, program: &[u8; 32], weights: &[u8; 32]) -> Seed {
        let mut hasher = blake3::Hasher::new_derive_key("ssvm 2026-11 masks of the server's weights");
        hasher.update(&*self.0).update(program).update(weights);
        Seed::new(*hasher.finalize().as_bytes())
    }

    /// The storage key of a state directory that has no identity, which is made there if need be.
    pub fn storage(state: &Path) -> Result<StorageKey, KeyError> {
        std::fs::create_dir_all(state).map_err(|source| KeyError::Io { path: state.to_owned(), source })?;
        Ok(StorageKey::new(*MasterKey::at(&state.join("storage.key"))?.0))
    }

    fn read(path: &Path) -> Result<MasterKey, KeyError> {
        let failed = |source| KeyError::Io { path: path.to_owned(), source };
        let mut file = File::open(path).map_err(failed)?;
        if let Some(mode) = readable_by_others(&file).map_err(failed)? {
            return Err(KeyError::Mode { path: path.to_owned(), mode });
        }
        let mut key = Zeroizing::new([0; 33]);
        let mut length = 0;
        while length < key.len() {
            match file.read(&mut key[length..]).map_err(failed)? {
                0 => break,
                n => length += n,
            }
        }
        match key.first_chunk() {
            Some(head) if length == 32 => Ok(MasterKey(Zeroizing::new(*head))),
            _ => Err(KeyError::Length { path: path.to_owned() }),
        }
    }

    /// Writes a fresh secret under another name and renames it, unless the name is taken.
    fn create(path: &Path) -> Result<(), KeyError> {
        let failed = |source| KeyError::Io { path: path.to_owned(), source };
        let mut key = Zeroizing::new([0; 32]);
        getrandom::fill(&mut *key).map_err(KeyError::Random)?;
        create_private(path, &*key).map(drop).map_err(failed)
    }
}

/// Writes a file that its owner alone can read under another name, and renames it durably; false if the name is taken, and then
/// nothing has changed.
pub fn create_private(path: &Path, content: &[u8]) -> io::Result<bool> {
    let directory = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // Temporary files are created with mode 0600.
    let mut file = tempfile::NamedTempFile::new_in(directory)?;
    file.write_all(content)?;
    file.as_file().sync_all()?;
    match file.persist_noclobber(path) {
        Ok(_) => sync_directory(directory).map(|()| true),
        Err(e) if e.error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(e) => Err(e.error),
    }
}

/// The mode of a file that others than its owner may read.
#[cfg(unix)]
pub fn readable_by_others(file: &File) -> io::Result<Option<u32>> {
    use std::os::unix::fs::PermissionsExt;
    let mode = file.metadata()?.permissions().mode() & 0o777;
    Ok((mode & 0o077 != 0).then_some(mode))
}

#[cfg(not(unix))]
pub fn readable_by_others(_: &File) -> io::Result<Option<u32>> {
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_lasts_and_separates_programs_and_weights() {
        let directory = tempfile::tempdir().unwrap();
        let weights = directory.path().join("m.ssw");
        let key = MasterKey::beside(&weights).unwrap();
        let again = MasterKey::beside(&weights).unwrap();
        let seed = key.mask_seed(&[1; 32], &[5; 32]);
        let seed = seed.expose();
        assert_eq!(seed, again.mask_seed(&[1; 32], &[5; 32]).expose());
        assert_ne!(seed, key.mask_seed(&[2; 32], &[5; 32]).expose());
        assert_ne!(seed, key.mask_seed(&[1; 32], &[6; 32]).expose());
        let other = MasterKey::beside(&directory.path().join("n.ssw")).unwrap();
        assert_ne!(seed, other.mask_seed(&[1; 32], &[5; 32]).expose());
    }

    #[test]
    fn a_damaged_or_readable_key_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let weights = directory.path().join("m.ssw");
        let path = directory.path().join("m.ssw.key");
        MasterKey::beside(&weights).unwrap();
        for length in [0, 31, 33, 100] {
            std::fs::write(&path, vec![7; length]).unwrap();
            assert!(matches!(MasterKey::beside(&weights), Err(KeyError::Length { .. })));
        }
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            for mode in [0o640, 0o604] {
                std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
                assert!(matches!(MasterKey::beside(&weights), Err(KeyError::Mode { .. })));
            }
        }
    }
}
