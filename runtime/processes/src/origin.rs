//! Where a directory was made: what a copy, a clone or a restored backup of it does not have.
//!
//! File      The directory's number in its file system and the time at which it came about, which nobody can set; where the system does not
//!           tell that time, number and last change of a file in it that is never touched.
//! Machine   The system's own number (`/etc/machine-id`), which a clone of a machine is given anew; nothing where there is none.
//!
//! A disk that is put back block by block has all of these. The other party notices, unless it was put back, too.

use std::fs::Metadata;
use std::io;
use std::path::Path;

/// The file in a directory that is never touched once it is there.
pub(super) const ANCHOR: &str = "reserved";

/// A digest of where a directory was made.
pub(super) fn of(directory: &Path) -> io::Result<[u8; 32]> {
    let (whole, anchor) = (std::fs::metadata(directory)?, std::fs::metadata(directory.join(ANCHOR))?);
    let mut hasher = blake3::Hasher::new_derive_key("ssvm 2026-11 where a directory was made");
    match whole.created().ok().and_then(|at| at.duration_since(std::time::UNIX_EPOCH).ok()) {
        Some(at) => hasher.update(b"made").update(&at.as_nanos().to_le_bytes()).update(&number(&whole)),
        None => hasher.update(b"touched").update(&changed(&anchor)).update(&number(&anchor)),
    };
    let machine = std::fs::read("/etc/machine-id").unwrap_or_default();
    Ok(*hasher.update(machine.trim_ascii()).finalize().as_bytes())
}

#[cfg(unix)]
fn number(of: &Metadata) -> [u8; 8] {
    std::os::unix::fs::MetadataExt::ino(of).to_le_bytes()
}

#[cfg(not(unix))]
fn number(_: &Metadata) -> [u8; 8] {
    [0; 8]
}

#[cfg(unix)]
fn changed(of: &Metadata) -> [u8; 24] {
    use std::os::unix::fs::MetadataExt;
    let mut bytes = [0; 24];
    for (part, value) in bytes.chunks_exact_mut(8).zip([of.ctime(), of.ctime_nsec(), of.dev() as i64]) {
        part.copy_from_slice(&value.to_le_bytes());
    }
    bytes
}

#[cfg(not(unix))]
fn changed(of: &Metadata) -> [u8; 24] {
    let mut bytes = [0; 24];
    let at = of.modified().ok().and_then(|at| at.duration_since(std::time::UNIX_EPOCH).ok());
    bytes[..16].copy_from_slice(&at.unwrap_or_default().as_nanos().to_le_bytes());
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_is_from_elsewhere_and_a_new_name_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let [a, b, c] = ["a", "b", "c"].map(|name| folder.path().join(name));
        std::fs::create_dir(&a).unwrap();
        std::fs::write(a.join(ANCHOR), []).unwrap();
        let first = of(&a).unwrap();
        std::fs::rename(&a, &b).unwrap();
        std::fs::write(b.join("more"), [1]).unwrap();
        assert_eq!(of(&b).unwrap(), first);
        std::fs::create_dir(&c).unwrap();
        std::fs::copy(b.join(ANCHOR), c.join(ANCHOR)).unwrap();
        assert_ne!(of(&c).unwrap(), first);
        // In the place of what was removed, where a file system may give the same number again.
        std::fs::remove_dir_all(&b).unwrap();
        std::fs::create_dir(&b).unwrap();
        std::fs::rename(c.join(ANCHOR), b.join(ANCHOR)).unwrap();
        assert_ne!(of(&b).unwrap(), first);
    }
}
