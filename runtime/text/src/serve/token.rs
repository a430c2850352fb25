//! The bearer token: where it comes from, and how it is compared.
//!
//! It is read from a file, or from the environment variable `SSVM_TOKEN`, or else made once and kept in the state
//! directory, readable by its owner alone. What is kept in memory is its hash; a request's token is hashed too and the
//! hashes are compared in constant time, so time tells nothing about either.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use subtle::ConstantTimeEq;
use zeroize::{Zeroize, Zeroizing};

use processes::disk::sync_directory;
use processes::keys::readable_by_others;

/// The environment variable.
const VARIABLE: &str = "SSVM_TOKEN";

/// The file's name in the state directory.
const FILE: &str = "api-token";

/// Least and greatest length of a token, in bytes.
const LENGTHS: std::ops::RangeInclusive<usize> = 16..=512;

/// What requests must bring.
pub struct Token([u8; 32]);

/// Where a token came from, for the user.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum TokenSource {
    /// This file.
    File(PathBuf),
    /// The environment.
    Environment,
}

/// Why there is no token. No token is in the error.
#[derive(thiserror::Error, Debug)]
#[allow(missing_docs)]
pub enum TokenError {
    #[error("{} can be read by others (mode {mode:03o})", path.display())]
    Mode { path: PathBuf, mode: u32 },
    #[error("the token in {place} is not 16 to 512 printable ASCII characters without spaces")]
    Form { place: String },
    #[error("{}", path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error("the operating system gives no randomness: {0}")]
    Random(getrandom::Error),
}

impl TokenError {
    /// A way out, for the user.
    pub fn hint(&self) -> &'static str {
        match self {
            TokenError::Mode { .. } => "`chmod 600` on it if nobody has read it, else another token",
            TokenError::Form { .. } => "a random token, for example from `openssl rand -hex 32`",
            TokenError::Io { .. } => "a file that can be read, or `--state DIR` with a directory that can be written",
            TokenError::Random(_) => "a system with a random number generator",
        }
    }
}

impl Token {
    /// The token of a file; else that of the environment; else that of the state directory, made if need be.
    pub fn find(file: Option<&Path>, state: &Path) -> Result<(Token, TokenSource), TokenError> {
        if let Some(file) = file {
            return Ok((Token::read(file)?, TokenSource::File(file.to_owned())));
        }
        if let Some(given) = std::env::var_os(VARIABLE) {
            let given = Zeroizing::new(given.into_encoded_bytes());
            return Ok((Token::of(&given, VARIABLE)?, TokenSource::Environment));
        }
        let path = state.join(FILE);
        let token = match Token::read(&path) {
            Err(TokenError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                Token::create(&path)?;
                // Another process may have been faster; what lies there counts.
                Token::read(&path)?
            }
            read => read?,
        };
        Ok((token, TokenSource::File(path)))
    }

    /// Whether this is the token.
    pub fn matches(&self, given: &[u8]) -> bool {
        self.0.ct_eq(&hash(given)).into()
    }

    /// The token of these bytes, which may end with a line end.
    fn of(bytes: &[u8], place: impl ToString) -> Result<Token, TokenError> {
        let token = bytes.trim_ascii_end();
        match LENGTHS.contains(&token.len()) && token.iter().all(u8::is_ascii_graphic) {
            true => Ok(Token(hash(token))),
            false => Err(TokenError::Form { place: place.to_string() }),
        }
    }

    fn read(path: &Path) -> Result<Token, TokenError> {
        let failed = |source| TokenError::Io { path: path.to_owned(), source };
        let file = File::open(path).map_err(failed)?;
        if let Some(mode) = readable_by_others(&file).map_err(failed)? {
            return Err(TokenError::Mode { path: path.to_owned(), mode });
        }
        let mut bytes = Zeroizing::new(Vec::with_capacity(1024));
        file.take(1024).read_to_end(&mut bytes).map_err(failed)?;
        Token::of(&bytes, path.display())
    }

    /// Writes a fresh token under another name and renames it, unless the name is taken.
    fn create(path: &Path) -> Result<(), TokenError> {
        let failed = |source| TokenError::Io { path: path.to_owned(), source };
        let directory = path.parent().expect("a file in a directory");
        std::fs::create_dir_all(directory).map_err(failed)?;
        let mut random = Zeroizing::new([0; 32]);
        getrandom::fill(&mut *random).map_err(TokenError::Random)?;
        let mut token = processes::handshake::hex(&*random);
        // Temporary files are created with mode 0600.
        let mut file = tempfile::NamedTempFile::new_in(directory).map_err(failed)?;
        let written = writeln!(file, "{token}").and_then(|()| file.as_file().sync_all());
        token.zeroize();
        written.map_err(failed)?;
        match file.persist_noclobber(path) {
            Err(e) if e.error.kind() != io::ErrorKind::AlreadyExists => Err(failed(e.error)),
            _ => sync_directory(directory).map_err(failed),
        }
    }
}

fn hash(token: &[u8]) -> [u8; 32] {
    blake3::derive_key("ssvm 2026-11 bearer token", token)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_made_once_and_readable_by_its_owner_alone() {
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path().join("new");
        let (token, source) = Token::find(None, &state).unwrap();
        let path = state.join(FILE);
        assert_eq!(source, TokenSource::File(path.clone()));
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text.trim_end().len(), 64);
        assert!(token.matches(text.trim_end().as_bytes()));
        assert!(!token.matches(text.as_bytes()) && !token.matches(b"") && !token.matches(&text.as_bytes()[..63]));
        let (again, _) = Token::find(None, &state).unwrap();
        assert!(again.matches(text.trim_end().as_bytes()));
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
            assert!(matches!(Token::find(None, &state), Err(TokenError::Mode { mode: 0o644, .. })));
        }
    }

    #[test]
    fn a_file_counts_before_the_state() {
        let folder = tempfile::tempdir().unwrap();
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(b"a token of one's own".as_slice()).unwrap();
        assert!(matches!(Token::find(Some(file.path()), folder.path()), Err(TokenError::Form { .. })));
        std::fs::write(file.path(), "sk-0123456789abcdef\n").unwrap();
        let (token, source) = Token::find(Some(file.path()), folder.path()).unwrap();
        assert!(token.matches(b"sk-0123456789abcdef"));
        assert_eq!(source, TokenSource::File(file.path().to_owned()));
        let missing = Token::find(Some(&folder.path().join("none")), folder.path());
        assert!(matches!(missing, Err(TokenError::Io { .. })), "a file that was named is not made");
        for bad in ["", "short", "with\nlines-and-more-lines", &"x".repeat(513)] {
            assert!(matches!(Token::of(bad.as_bytes(), "it"), Err(TokenError::Form { .. })));
        }
    }
}
