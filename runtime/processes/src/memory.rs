//! Files read into memory of the process's own: weights, masked weights, material of stocks.
//!
//! What is checked there is what is used. A file that is mapped instead can be changed by whoever can write it, after it was
//! checked, and whoever cuts it short ends the process with a signal. Checking a mapped file at every use would take longer
//! than using it: a step of a generation reads all weights.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use bytes::Bytes;
use memmap2::MmapMut;

/// The next bytes of a file, which it must have.
pub fn read(file: &mut impl Read, length: usize) -> io::Result<Bytes> {
    read_with(file, length, |_, _| Ok(()))
}

/// The next bytes of a file, as `change` makes them, which may read what stands behind them.
pub fn read_with<R: Read>(
    file: &mut R,
    length: usize,
    change: impl FnOnce(&mut [u8], &mut R) -> io::Result<()>,
) -> io::Result<Bytes> {
    if length == 0 {
        return Ok(Bytes::new());
    }
    // Anonymous memory: it belongs to no file, comes in large pages where the system has them, and goes back at once.
    let mut memory = MmapMut::map_anon(length)?;
    #[cfg(target_os = "linux")]
    if let Err(refused) = memory.advise(memmap2::Advice::HugePage) {
        tracing::debug!("a file lies in small pages: {refused}");
    }
    file.read_exact(&mut memory)?;
    change(&mut memory, file)?;
    Ok(Bytes::from_owner(memory))
}

/// A whole file.
pub fn whole(path: &Path) -> io::Result<Bytes> {
    let mut file = File::open(path)?;
    let data = file.metadata()?;
    if !data.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file"));
    }
    let length = usize::try_from(data.len()).map_err(io::Error::other)?;
    let bytes = read(&mut file, length)?;
    match file.read(&mut [0])? {
        0 => Ok(bytes),
        _ => Err(io::Error::new(io::ErrorKind::InvalidData, "it grew while it was read")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_read_stays_whatever_becomes_of_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let content: Vec<u8> = (0..100_000u32).map(|i| i as u8).collect();
        std::fs::write(&path, &content).unwrap();
        let bytes = whole(&path).unwrap();
        // In place: the file that was opened is the one that changes.
        std::fs::write(&path, vec![7; 100_000]).unwrap();
        assert!(bytes[..] == content[..]);
        File::options().write(true).open(&path).unwrap().set_len(10).unwrap();
        assert!(bytes[..] == content[..]);
    }

    #[test]
    fn what_is_not_there_is_not_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        assert_eq!(whole(&path).unwrap_err().kind(), io::ErrorKind::NotFound);
        assert!(whole(folder.path()).is_err(), "a folder");
        std::fs::write(&path, [1, 2, 3]).unwrap();
        let mut file = File::open(&path).unwrap();
        assert_eq!(read(&mut file, 2).unwrap()[..], [1, 2]);
        assert!(read(&mut file, 0).unwrap().is_empty());
        assert_eq!(read(&mut file, 2).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        std::fs::write(&path, []).unwrap();
        assert!(whole(&path).unwrap().is_empty());
    }
}
