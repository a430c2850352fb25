//! Files mapped into memory: weights, masked weights and material, which are larger than a process wants to copy.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::path::Path;

use memmap2::{Mmap, MmapOptions};

/// Maps a whole file for reading.
#[allow(unsafe_code)]
pub fn map(path: &Path) -> io::Result<Mmap> {
    let file = File::open(path)?;
    // SAFETY: the mapping is sound as long as nobody changes the file while it is mapped. sscc and ssvm write such files
    // under another name and rename them when they are complete, so a file that has its name is replaced but not changed.
    // Its bytes are only ever read as bytes, for which every value is valid.
    unsafe { Mmap::map(&file) }
}

/// Maps a part of a file for reading, which the file must have.
#[allow(unsafe_code)]
pub fn map_part(file: &File, bytes: Range<u64>) -> io::Result<Mmap> {
    if bytes.end > file.metadata()?.len() {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let length = usize::try_from(bytes.end - bytes.start).map_err(io::Error::other)?;
    // SAFETY: as above; a part of a stock is mapped when the file has no name any more, so nobody can open it to change it.
    unsafe { MmapOptions::new().offset(bytes.start).len(length).map(file) }
}
