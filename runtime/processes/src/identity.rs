//! Who a process is: an Ed25519 key, which proves itself on every link (`net::tls`).
//!
//! Directory  `identity.key` is the private key, as PKCS#8, readable by its owner alone; `identity.pub` is what others pin, a line of
//!            text; `pins` has the keys of others ([`crate::pins`]).
//! Names      A key has no certificate and no date. Whoever pins it decides what it is for, and for how long. Its fingerprint
//!            is BLAKE3 of the key, 160 bits, for people to compare.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use data_encoding::{BASE32_NOPAD_NOCASE, Encoding};
use ring::rand::SystemRandom;
use ring::signature::{ED25519_PUBLIC_KEY_LEN, Ed25519KeyPair};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use rustls::sign::CertifiedKey;
use zeroize::Zeroizing;

use crate::keys::{create_private, readable_by_others};
use crate::vault::StorageKey;

/// The private key.
const KEY: &str = "identity.key";

/// The public key, for others.
const PUBLIC: &str = "identity.pub";

/// First word of a file that hands a public key over.
const HEAD: &str = "ssvm-identity-1";

/// Greatest size of a file that is read here. Real ones are shorter.
pub(crate) const MAX_FILE: u64 = 1 << 16;

/// How keys and fingerprints are written; either case is read.
const TEXT: Encoding = BASE32_NOPAD_NOCASE;

/// What stands before an Ed25519 key in its `SubjectPublicKeyInfo` (RFC 8410, §4).
const SPKI_PREFIX: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// The public half of an identity.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct PublicKey([u8; ED25519_PUBLIC_KEY_LEN]);

impl PublicKey {
    /// The key in a `SubjectPublicKeyInfo`, if it is of Ed25519.
    pub(crate) fn from_spki(spki: &[u8]) -> Option<PublicKey> {
        Some(PublicKey(spki.strip_prefix(&SPKI_PREFIX)?.try_into().ok()?))
    }

    /// The key's bytes.
    pub fn bytes(&self) -> &[u8; ED25519_PUBLIC_KEY_LEN] {
        &self.0
    }

    /// For people to compare: 32 letters and digits, in groups of four.
    pub fn fingerprint(&self) -> String {
        let mut digest = [0; 20];
        let mut hasher = blake3::Hasher::new_derive_key("ssvm 2026-11 fingerprint of an identity");
        hasher.update(&self.0).finalize_xof().fill(&mut digest);
        let text = TEXT.encode(&digest).to_lowercase();
        let groups: Vec<&str> = (0..text.len()).step_by(4).map(|at| &text[at..at + 4]).collect();
        groups.join("-")
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&TEXT.encode(&self.0).to_lowercase())
    }
}

impl FromStr for PublicKey {
    type Err = ();

    fn from_str(text: &str) -> Result<PublicKey, ()> {
        let bytes = TEXT.decode(text.as_bytes()).map_err(|_| ())?;
        Ok(PublicKey(bytes.try_into().map_err(|_| ())?))
    }
}

/// A key pair of this machine's user.
#[derive(Clone)]
pub struct Identity {
    public: PublicKey,
    certified: Arc<CertifiedKey>,
    storage: StorageKey,
}

/// Why there is no identity.
#[derive(thiserror::Error, Debug)]
#[allow(missing_docs)]
pub enum IdentityError {
    #[error("there is no identity in {}", directory.display())]
    None { directory: PathBuf },
    #[error("there is an identity in {} already: {fingerprint}", directory.display())]
    Exists { directory: PathBuf, fingerprint: String },
    #[error("{} can be read by others (mode {mode:03o})", path.display())]
    Mode { path: PathBuf, mode: u32 },
    #[error("{} is damaged: it holds no Ed25519 key", path.display())]
    Damaged { path: PathBuf },
    #[error("{} is not the public key of an identity", path.display())]
    NotPublic { path: PathBuf },
    #[error("{}", path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error("the operating system gives no randomness")]
    Random,
}

impl IdentityError {
    /// A way out, for the user.
    pub fn hint(&self) -> &'static str {
        match self {
            IdentityError::None { .. } => {
                "`ssvm keygen`, then `ssvm pair` with the other side; or `--identity DIR` if it lies elsewhere"
            }
            IdentityError::Exists { .. } => "use it; or `--identity DIR` for another one beside it",
            IdentityError::Mode { .. } => {
                "`chmod 600` on it if nobody has read it, else remove it, `ssvm keygen`, and pair anew"
            }
            IdentityError::Damaged { .. } => "restore it, or remove it, `ssvm keygen`, and pair anew",
            IdentityError::NotPublic { .. } => "the other side's `identity.pub`, as `ssvm keygen` wrote it, unchanged",
            IdentityError::Io { .. } => "`--identity DIR` with a directory that can be read and written",
            IdentityError::Random => "a system with a random number generator",
        }
    }
}

impl Identity {
    /// Makes an identity in a directory, which is created if need be; never in the place of another.
    pub fn generate(directory: &Path) -> Result<Identity, IdentityError> {
        let failed = |source| IdentityError::Io { path: directory.to_owned(), source };
        make_private(directory).map_err(failed)?;
        let document = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).map_err(|_| IdentityError::Random)?;
        let document = Zeroizing::new(document.as_ref().to_vec());
        if !create_private(&directory.join(KEY), &document).map_err(failed)? {
            let fingerprint = match Identity::open(directory) {
                Ok(identity) => identity.public.fingerprint(),
                Err(error) => error.to_string(),
            };
            return Err(IdentityError::Exists { directory: directory.to_owned(), fingerprint });
        }
        let identity = Identity::open(directory)?;
        let path = Identity::public_file(directory);
        std::fs::write(&path, identity.public.line()).map_err(|source| IdentityError::Io { path, source })?;
        Ok(identity)
    }

    /// Reads the identity in a directory.
    pub fn open(directory: &Path) -> Result<Identity, IdentityError> {
        let path = directory.join(KEY);
        let failed = |source| IdentityError::Io { path: path.clone(), source };
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                return Err(IdentityError::None { directory: directory.to_owned() });
            }
            Err(source) => return Err(failed(source)),
        };
        if let Some(mode) = readable_by_others(&file).map_err(failed)? {
            return Err(IdentityError::Mode { path, mode });
        }
        let mut bytes = Zeroizing::new(Vec::with_capacity(256));
        file.take(MAX_FILE).read_to_end(&mut bytes).map_err(failed)?;
        let damaged = || IdentityError::Damaged { path: path.clone() };
        // Both halves are in the file, so a flipped bit of either shows.
        Ed25519KeyPair::from_pkcs8(&bytes).map_err(|_| damaged())?;
        let key =
            rustls::crypto::ring::sign::any_eddsa_type(&PrivatePkcs8KeyDer::from(&bytes[..])).map_err(|_| damaged())?;
        let spki = key.public_key().ok_or_else(damaged)?;
        let public = PublicKey::from_spki(&spki).ok_or_else(damaged)?;
        let certified = CertifiedKey::new(vec![CertificateDer::from(spki.to_vec())], key);
        let mut hasher = blake3::Hasher::new_derive_key("ssvm 2026-11 storage key of an identity");
        let storage = StorageKey::new(*hasher.update(&bytes).finalize().as_bytes());
        Ok(Identity { public, certified: Arc::new(certified), storage })
    }

    /// Where the public half lies, to be handed over.
    pub fn public_file(directory: &Path) -> PathBuf {
        directory.join(PUBLIC)
    }

    /// The public half.
    pub fn public(&self) -> PublicKey {
        self.public
    }

    /// The key that what this identity keeps is sealed under.
    pub fn storage(&self) -> StorageKey {
        self.storage.clone()
    }

    pub(crate) fn certified(&self) -> Arc<CertifiedKey> {
        self.certified.clone()
    }
}

impl PublicKey {
    /// The line that hands a key over. The fingerprint in it shows a slip of the pen.
    pub fn line(&self) -> String {
        format!("{HEAD} {self} {}\n", self.fingerprint())
    }

    /// Reads a file that hands a key over.
    pub fn read(path: &Path) -> Result<PublicKey, IdentityError> {
        let mut text = String::new();
        let read = File::open(path).and_then(|file| file.take(MAX_FILE).read_to_string(&mut text));
        match read {
            Err(e) if e.kind() != io::ErrorKind::InvalidData => {
                return Err(IdentityError::Io { path: path.to_owned(), source: e });
            }
            _ => {}
        }
        let key = match text.split_whitespace().collect::<Vec<_>>()[..] {
            [HEAD, key, fingerprint] => key.parse().ok().filter(|key: &PublicKey| key.fingerprint() == fingerprint),
            _ => None,
        };
        key.ok_or_else(|| IdentityError::NotPublic { path: path.to_owned() })
    }
}

/// A directory that only its owner can enter, unless it was there.
fn make_private(directory: &Path) -> io::Result<()> {
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(directory)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_lasts_and_is_never_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let at = directory.path().join("new");
        assert!(matches!(Identity::open(&at), Err(IdentityError::None { .. })));
        let made = Identity::generate(&at).unwrap();
        let key = std::fs::read(at.join(KEY)).unwrap();
        let error = Identity::generate(&at).err().unwrap();
        assert!(error.to_string().ends_with(&made.public().fingerprint()), "{error}");
        assert_eq!(std::fs::read(at.join(KEY)).unwrap(), key);
        assert_eq!(Identity::open(&at).unwrap().public(), made.public());
        assert_eq!(PublicKey::read(&at.join(PUBLIC)).unwrap(), made.public());
        let other = Identity::generate(&directory.path().join("other")).unwrap();
        assert_ne!(other.public(), made.public());
        assert_eq!(made.public().fingerprint().len(), 39);
        assert_eq!(made.public().to_string().parse(), Ok(made.public()));
    }

    #[test]
    fn damaged_and_readable_keys_are_refused() {
        let directory = tempfile::tempdir().unwrap();
        Identity::generate(directory.path()).unwrap();
        let (key, public) = (directory.path().join(KEY), directory.path().join(PUBLIC));
        let (good, line) = (std::fs::read(&key).unwrap(), std::fs::read(&public).unwrap());
        let mut wrong = 0;
        for bit in 0..8 * good.len() {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            std::fs::write(&key, bad).unwrap();
            match Identity::open(directory.path()) {
                Err(IdentityError::Damaged { .. }) => wrong += 1,
                // Tags that mean the same, if any, give the same key.
                Ok(identity) => assert_eq!(identity.public().line().as_bytes(), line),
                Err(other) => panic!("{other}"),
            }
        }
        assert!(wrong >= 8 * 64, "every bit of the key's two halves matters, and {wrong} did");
        for length in [0, 1, good.len() - 1] {
            std::fs::write(&key, &good[..length]).unwrap();
            assert!(matches!(Identity::open(directory.path()), Err(IdentityError::Damaged { .. })));
        }
        for bit in 0..8 * (line.len() - 1) {
            let mut bad = line.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            std::fs::write(&public, &bad).unwrap();
            match PublicKey::read(&public) {
                // The letter in the other case.
                Ok(key) => assert_eq!(key.line().as_bytes(), line),
                Err(error) => assert!(matches!(error, IdentityError::NotPublic { .. }), "{error}"),
            }
        }
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            std::fs::write(&key, &good).unwrap();
            for mode in [0o640, 0o604] {
                std::fs::set_permissions(&key, std::fs::Permissions::from_mode(mode)).unwrap();
                assert!(matches!(Identity::open(directory.path()), Err(IdentityError::Mode { .. })));
            }
        }
    }
}
