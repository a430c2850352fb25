//! Files mapped into memory: weights and masked weights, which are larger than a process wants to copy.

use std::fs::File;
use std::io;
use std::path::Path;

use memmap2::Mmap;

/// Maps a whole file for reading.
#[allow(unsafe_code)]
pub fn map(path: &Path) -> io::Result<Mmap> {
    let file = File::open(path)?;
    // SAFETY: the mapping is sound as long as nobody changes the file while it is mapped. sscc and ssvm write such files
    // under another name and rename them when they are complete, so a file that has its name is replaced but not changed.
    // Its bytes are only ever read as bytes, for which every value is valid.
    unsafe { Mmap::map(&file) }
}
