//! What a process does to the files of its state directory, a step at a time: each step is one call of the system, or one that no crash
//! divides. Tests end a process after any of them.

use std::fs::{File, TryLockError};
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Longest wait for another process that is at the same files, which takes milliseconds.
const PATIENCE: Duration = Duration::from_secs(10);

/// See the module head.
#[derive(Clone, Default)]
pub struct Disk(Option<Arc<AtomicUsize>>);

impl Disk {
    /// One that does so many steps and none after them, as if the process had ended there: for tests.
    pub fn ending_after(steps: usize) -> Disk {
        Disk(Some(Arc::new(AtomicUsize::new(steps))))
    }

    /// Whether it has done its steps.
    pub fn ended(&self) -> bool {
        self.0.as_ref().is_some_and(|left| left.load(Ordering::SeqCst) == 0)
    }

    fn step(&self) -> io::Result<()> {
        let Some(left) = &self.0 else { return Ok(()) };
        let counted = left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
        counted.map(drop).map_err(|_| io::Error::other("the process was ended by a test"))
    }

    /// Writes all bytes where the file stands.
    pub fn write(&self, file: &mut impl Write, bytes: &[u8]) -> io::Result<()> {
        self.step()?;
        file.write_all(bytes)
    }

    /// Makes a file's bytes durable.
    pub fn sync(&self, file: &File) -> io::Result<()> {
        self.step()?;
        file.sync_data()
    }

    /// Cuts a file off.
    pub fn cut(&self, file: &File, length: u64) -> io::Result<()> {
        self.step()?;
        file.set_len(length)
    }

    /// Gives a file or directory another name.
    pub fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.step()?;
        std::fs::rename(from, to)
    }

    /// Removes a file, if it is there.
    pub fn remove(&self, path: &Path) -> io::Result<()> {
        self.step()?;
        match std::fs::remove_file(path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            removed => removed,
        }
    }

    /// Removes a directory of files, to which somebody may just be adding one.
    pub fn remove_directory(&self, path: &Path) -> io::Result<()> {
        for _ in 0..3 {
            let files = match std::fs::read_dir(path) {
                Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
                files => files?,
            };
            for file in files {
                self.remove(&file?.path())?;
            }
            self.step()?;
            match std::fs::remove_dir(path) {
                Err(e) if e.kind() == io::ErrorKind::DirectoryNotEmpty => {}
                Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
                removed => return removed,
            }
        }
        Err(io::ErrorKind::DirectoryNotEmpty.into())
    }

    /// Makes the names in a directory durable.
    pub fn sync_directory(&self, directory: &Path) -> io::Result<()> {
        self.step()?;
        sync_directory(directory)
    }

    /// Puts a private file in the place of the one that is there, at once or not at all. One process at a time.
    pub fn replace(&self, path: &Path, content: &[u8]) -> io::Result<()> {
        let mut new = path.as_os_str().to_owned();
        new.push(".new");
        let new = Path::new(&new);
        self.remove(new)?;
        self.step()?;
        let mut file = private(new)?;
        self.write(&mut file, content)?;
        self.sync(&file)?;
        self.rename(new, path)?;
        self.sync_directory(path.parent().expect("a file lies in a directory"))
    }
}

/// A new file that its owner alone can read.
pub(crate) fn private(path: &Path) -> io::Result<File> {
    let mut options = File::options();
    options.read(true).write(true).create_new(true);
    owners_alone(&mut options).open(path)
}

/// Makes files with these options the owner's alone.
pub(crate) fn owners_alone(options: &mut std::fs::OpenOptions) -> &mut std::fs::OpenOptions {
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(options, 0o600);
    options
}

/// Locks a file for one process at a time, in which the lock ends with the file.
pub(crate) fn lock(file: &File) -> io::Result<()> {
    let begin = Instant::now();
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(()),
            Err(TryLockError::Error(error)) => return Err(error),
            Err(TryLockError::WouldBlock) if begin.elapsed() < PATIENCE => thread::sleep(Duration::from_millis(2)),
            Err(TryLockError::WouldBlock) => {
                return Err(io::Error::new(io::ErrorKind::TimedOut, "another process holds it for long"));
            }
        }
    }
}

/// Makes the names in a directory durable. Only unix can, and needs to.
pub fn sync_directory(directory: &Path) -> io::Result<()> {
    if cfg!(unix) { File::open(directory)?.sync_all() } else { Ok(()) }
}
