//! A file of a stock, read step by step. The next step is read, and opened in memory, while this one runs.

use std::fs::File;
use std::io::{self, Read};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use bytes::Bytes;

use super::StockError;
use super::manifest::{Mark, place};
use crate::memory;
use crate::vault::{StorageKey, tags};

/// See the module head.
pub(super) struct Part {
    sealed: Arc<Sealed>,
    /// Where the file lay, for messages: it has no name any more.
    path: PathBuf,
    /// The number of the step that is read next.
    step: usize,
    /// Of all steps.
    marks: Vec<Mark>,
    ahead: Option<JoinHandle<io::Result<Bytes>>>,
}

/// A file, and what its steps are opened with.
pub(super) struct Sealed {
    pub(super) file: File,
    pub(super) key: StorageKey,
    pub(super) session: [u8; 16],
    /// The number of the file.
    pub(super) part: usize,
}

impl Part {
    pub(super) fn new(sealed: Sealed, path: PathBuf, marks: Vec<Mark>) -> Part {
        Part { sealed: Arc::new(sealed), path, step: 0, marks, ahead: None }
    }

    /// The bytes of the next step, which has so many, as they were when they were written.
    pub(super) fn read(&mut self, bytes: usize) -> Result<Bytes, StockError> {
        let number = self.step;
        let failed = |source| StockError { path: self.path.clone(), source };
        let mark = match self.marks.get(number) {
            Some(mark) if mark.bytes == bytes as u64 => *mark,
            Some(mark) => {
                return Err(failed(changed(format!("step {number} has {} bytes, not {bytes}", mark.bytes))));
            }
            None => return Err(failed(changed(format!("it has no step {number}")))),
        };
        let read = match self.ahead.take() {
            Some(ahead) => ahead.join().expect("reading does not panic"),
            None => self.sealed.read(number, mark),
        };
        let read = read.map_err(failed)?;
        self.step += 1;
        let next = self.marks.get(self.step).copied().filter(|next| next.bytes > 0);
        self.ahead = next.and_then(|next| {
            let (sealed, number) = (self.sealed.clone(), self.step);
            // Without a thread the step is read when it is asked for.
            thread::Builder::new().spawn(move || sealed.read(number, next)).ok()
        });
        Ok(read)
    }
}

impl Sealed {
    /// Reads a step, which comes next in the file.
    pub(super) fn read(&self, number: usize, mark: Mark) -> io::Result<Bytes> {
        let length = usize::try_from(mark.bytes).map_err(io::Error::other)?;
        memory::read_with(&mut &self.file, length, |bytes, file| {
            let mut behind = vec![0; tags(mark.bytes) as usize];
            file.read_exact(&mut behind)?;
            let opened = self.key.cipher(&mark.salt).open(bytes, &place(self.session, self.part, number), &behind);
            opened.map_err(|_| changed(format!("step {number} changed on disk")))
        })
    }
}

/// A file that is not what was written.
pub(super) fn changed(what: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}
