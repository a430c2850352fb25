//! A stock while it is made: step by step, what is whole of it durable.
//!
//! Durable   is the first step at once, what follows every [`GRAIN`] and when the making ends: steps that a dealer deals take less
//!           than making them durable. A crash costs what was made since.
//! Apart     Until its first step is whole it lies in a directory `making-...`, and most of that time nowhere at all: there is
//!           none before there is something to write. Dropped, that is removed.
//! In place  From then on it lies under its session's name, and whoever finds it may take it. Its maker comes upon that with the
//!           next step, and ends.
//! Masks     While it grows it has a third file, `masks`: the party's shares of the masks of what the session keeps, step by
//!           step (`rows`). Whoever goes on making it needs them. When it has all its steps, they are removed.
//! Lock      Its maker holds that of the material: nobody else makes it meanwhile.

use std::fs::{File, TryLockError};
use std::io::{self, BufWriter, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use ir::Program;
use tempfile::TempDir;

use super::RunError;
use super::material::Dealt;
use super::rows::{self, Kept};
use super::stock::{MANIFEST, MASKS, MATERIAL, Manifest, Mark, PRODUCTS, Seeds, StockError, Stocks, changed};
use crate::handshake::Session;
use crate::ledger::sync_directory;
use protocols::Maker;
use protocols::step::Step;

/// Time between steps that are made durable at once and those that wait.
const GRAIN: Duration = Duration::from_millis(250);

/// Age of what nobody is at, which is there for an instant else.
const LEFT: Duration = Duration::from_secs(600);

/// See the module head.
pub(super) struct Growth {
    stocks: Stocks,
    session: Session,
    seeds: Seeds,
    /// Of the steps that are whole.
    entries: Vec<u32>,
    wanted: u32,
    /// What is written of the steps that are whole, and of those that will be.
    marks: AllMarks,
    folder: Option<Folder>,
    /// When what is whole was made durable.
    settled: Option<Instant>,
    /// Something could not be made durable. The system tells that once, so nothing more is counted.
    broken: bool,
}

/// What a file has of each step, and the step that is being written.
#[derive(Default)]
struct Marks {
    steps: Vec<Mark>,
    step: blake3::Hasher,
}

impl Marks {
    fn end(&mut self) {
        self.steps.push(Mark::of(&std::mem::take(&mut self.step)));
    }
}

/// Of all files.
#[derive(Default)]
struct AllMarks {
    material: Marks,
    products: Marks,
    masks: Marks,
}

impl AllMarks {
    /// As a manifest has them.
    fn each(&self) -> [&[Mark]; 3] {
        [&self.material, &self.products, &self.masks].map(|marks| &marks.steps[..])
    }

    fn of(manifest: &Manifest) -> AllMarks {
        let [material, products, masks] = manifest.marks().map(|steps| Marks { steps, step: blake3::Hasher::new() });
        AllMarks { material, products, masks }
    }

    /// Forgets those of steps from `end` on.
    fn cut(&mut self, end: usize) {
        for marks in [&mut self.material, &mut self.products, &mut self.masks] {
            marks.steps.truncate(end);
        }
    }
}

struct Folder {
    path: PathBuf,
    /// Until the first step is whole.
    apart: Option<TempDir>,
    products: BufWriter<File>,
    masks: BufWriter<File>,
    /// With the lock: the last that is written and closed.
    material: BufWriter<File>,
}

impl Growth {
    /// Of a stock that has no step yet.
    pub(super) fn begin(stocks: Stocks, session: Session, seeds: Seeds, wanted: u32) -> Growth {
        let (entries, marks) = (Vec::new(), AllMarks::default());
        Growth { stocks, session, seeds, entries, wanted, marks, folder: None, settled: None, broken: false }
    }

    /// Of one that has some, if it is there.
    pub(super) fn find(stocks: Stocks, session: Session) -> Result<Option<Growth>, RunError> {
        let path = stocks.place(session);
        let failed = |source| StockError { path: path.clone(), source };
        let part = |name| File::options().read(true).write(true).open(path.join(name));
        let files = part(MATERIAL).and_then(|material| Ok([material, part(PRODUCTS)?, part(MASKS)?]));
        let [material, products, masks] = match files {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            files => files.map_err(failed)?.map(BufWriter::new),
        };
        match material.get_ref().try_lock() {
            Err(TryLockError::WouldBlock) => return Err(RunError::Growing),
            Err(TryLockError::Error(source)) => return Err(failed(source).into()),
            Ok(()) => {}
        }
        let manifest = stocks.manifest(&path).map_err(failed)?;
        if !stocks.is_of(session, &manifest) {
            return Ok(None);
        }
        let (seeds, (entries, wanted)) = (manifest.seeds(), manifest.steps());
        let marks = AllMarks::of(&manifest);
        let folder = Some(Folder { path, apart: None, material, products, masks });
        Ok(Some(Growth { stocks, session, seeds, entries, wanted, marks, folder, settled: None, broken: false }))
    }

    /// Goes back to the end of so many steps, which there are, of a program of these entries; gives the masks of what they keep,
    /// if two parties made it. What follows takes `fresh` seeds, if that is given, and there are to be `wanted` steps.
    pub(super) fn rewind(
        &mut self,
        programs: &[Program],
        steps: u32,
        fresh: Option<kernels::prg::Seed>,
    ) -> Result<Option<Kept>, RunError> {
        let maker = self.stocks.maker;
        let shorter = (steps as usize) < self.entries.len();
        self.entries.truncate(steps as usize);
        self.marks.cut(steps as usize);
        self.seeds.cut(steps);
        if shorter {
            // Before anything is cut off that it counts.
            self.describe()?;
        }
        let step = |(number, &entry): (u32, &u32)| Step { entries: programs, entry, number };
        let whole: Vec<Step> = (0..).zip(&self.entries).map(step).collect();
        let lengths = self.marks.each().map(|steps| steps.iter().map(|mark| mark.bytes()).sum::<u64>());
        let folder = self.folder.as_mut().expect("it has steps");
        let failed = |source| StockError { path: folder.path.clone(), source };
        let parts = [&mut folder.material, &mut folder.products, &mut folder.masks];
        for (part, length) in parts.into_iter().zip(lengths) {
            let file = part.get_mut();
            if file.metadata().map_err(failed)?.len() < length {
                let what = io::Error::new(io::ErrorKind::UnexpectedEof, "a file of it was cut short; remove it");
                return Err(failed(what).into());
            }
            file.set_len(length).and_then(|()| file.seek(SeekFrom::End(0))).map_err(failed)?;
        }
        let kept = match maker {
            Maker::Dealer => None,
            Maker::Pair => {
                let file = folder.masks.get_mut();
                let bytes = file.rewind().and_then(|()| rows::read(file)).map_err(failed)?;
                let kept = match rows::are(&self.marks.masks.steps, &bytes) {
                    true => rows::restore(&whole, &bytes)?,
                    false => None,
                };
                let path = folder.path.join(MASKS);
                let what = || StockError { path, source: changed("it changed on disk; remove the stock".to_owned()) };
                Some(kept.ok_or_else(what)?)
            }
        };
        if let Some(seed) = fresh {
            self.seeds.then(steps, seed);
        }
        Ok(kept)
    }

    /// How many steps there are to be.
    pub(super) fn want(&mut self, wanted: u32) {
        self.wanted = wanted;
    }

    pub(super) fn session(&self) -> Session {
        self.session
    }

    /// Whether a text took it.
    pub(super) fn is_taken(&self) -> bool {
        self.folder.as_ref().is_some_and(|folder| folder.apart.is_none() && !folder.path.exists())
    }

    /// The entries of the steps that are whole.
    pub(super) fn entries(&self) -> &[u32] {
        &self.entries
    }

    /// How many they are.
    pub(super) fn steps(&self) -> u32 {
        self.entries.len() as u32
    }

    pub(super) fn seeds(&self) -> &Seeds {
        &self.seeds
    }

    /// Its steps, none of which is to run.
    pub(super) fn dealt(&self) -> Option<Dealt> {
        Some(Dealt { entries: self.entries.clone(), material: None })
    }

    /// Appends material of the next step.
    pub(super) fn material(&mut self, bytes: &[u8]) -> Result<(), StockError> {
        self.marks.material.step.update(bytes);
        self.append(|folder| folder.material.write_all(bytes))
    }

    /// Appends products of the next step that has none yet: all of them.
    pub(super) fn products(&mut self, bytes: &[u8]) -> Result<(), StockError> {
        self.marks.products.step.update(bytes);
        self.marks.products.end();
        self.append(|folder| folder.products.write_all(bytes))
    }

    /// Appends the masks of what the next step keeps.
    pub(super) fn masks(&mut self, bytes: &[u8]) -> Result<(), StockError> {
        self.marks.masks.step.update(bytes);
        self.append(|folder| folder.masks.write_all(bytes))
    }

    /// Material and masks of the next step are all there.
    pub(super) fn made(&mut self) {
        self.marks.material.end();
        self.marks.masks.end();
    }

    /// The next steps are whole, of these entries.
    pub(super) fn whole(&mut self, entries: &[u32]) -> Result<(), RunError> {
        self.entries.extend_from_slice(entries);
        match self.settled {
            Some(settled) if settled.elapsed() < GRAIN => Ok(()),
            _ => self.settle(),
        }
    }

    /// Makes durable what is whole. To be called when the making ends, however it does.
    pub(super) fn settle(&mut self) -> Result<(), RunError> {
        if self.entries.is_empty() || self.broken {
            return Ok(());
        }
        self.broken = true;
        self.append(|folder| {
            for part in [&mut folder.products, &mut folder.masks, &mut folder.material] {
                part.flush()?;
                part.get_ref().sync_data()?;
            }
            Ok(())
        })?;
        self.describe()?;
        let (directory, place) = (&self.stocks.directory, self.stocks.place(self.session));
        let folder = self.folder.as_mut().expect("made durable");
        if let Some(apart) = &folder.apart {
            let failed = |source| StockError { path: place.clone(), source };
            std::fs::rename(apart.path(), &place).map_err(failed)?;
            // It has another name now, and stays.
            let _ = folder.apart.take().map(TempDir::keep);
            folder.path = place.clone();
            sync_directory(directory).map_err(failed)?;
        }
        (self.settled, self.broken) = (Some(Instant::now()), false);
        Ok(())
    }

    /// Ends the making of what is settled. With all its steps it will not grow, so its masks are of no more use.
    pub(super) fn end(self) -> Result<(), StockError> {
        let Some(folder) = self.folder.filter(|_| self.entries.len() >= self.wanted as usize) else { return Ok(()) };
        match std::fs::remove_file(folder.path.join(MASKS)) {
            // A text took it at once.
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            removed => removed.map_err(|source| StockError { path: folder.path, source }),
        }
    }

    /// Writes the manifest anew, at once or not at all.
    fn describe(&mut self) -> Result<(), RunError> {
        // Steps that were made and wait for their products do not count yet. Some files have nothing of any step.
        let nothing = std::iter::repeat(Mark::nothing());
        let whole = |steps: &[Mark]| steps.iter().copied().chain(nothing.clone()).take(self.entries.len()).collect();
        let marks = self.marks.each().map(whole);
        let manifest = self.stocks.describe(self.session, (&self.entries, self.wanted), &self.seeds, marks);
        let folder = self.folder.as_ref().expect("it has steps");
        match replace(&folder.path, &manifest) {
            // A stock in its place goes away in one way alone.
            Err(e) if e.kind() == io::ErrorKind::NotFound && folder.apart.is_none() => Err(RunError::Taken),
            written => Ok(written.map_err(|source| StockError { path: folder.path.clone(), source })?),
        }
    }

    fn append(&mut self, write: impl FnOnce(&mut Folder) -> io::Result<()>) -> Result<(), StockError> {
        let folder = match &mut self.folder {
            Some(folder) => folder,
            empty => {
                let made = Folder::make(&self.stocks.directory);
                empty.insert(made.map_err(|source| StockError { path: self.stocks.directory.clone(), source })?)
            }
        };
        write(folder).map_err(|source| StockError { path: folder.path.clone(), source })
    }
}

impl Folder {
    fn make(directory: &Path) -> io::Result<Folder> {
        std::fs::create_dir_all(directory)?;
        sweep(directory)?;
        let apart = TempDir::with_prefix_in("making-", directory)?;
        let path = apart.path().to_owned();
        let part = |name| io::Result::Ok(BufWriter::with_capacity(1 << 20, private(&path.join(name))?));
        let [material, products, masks] = [part(MATERIAL)?, part(PRODUCTS)?, part(MASKS)?];
        material.get_ref().lock()?;
        Ok(Folder { path, apart: Some(apart), material, products, masks })
    }
}

/// Removes what a process left that was killed while it began a stock, or took one.
fn sweep(directory: &Path) -> io::Result<()> {
    for file in std::fs::read_dir(directory)?.filter_map(Result::ok) {
        let (path, name) = (file.path(), file.file_name());
        let kind = |prefix: &str| name.to_str().is_some_and(|name| name.starts_with(prefix));
        let old =
            file.metadata().and_then(|data| data.modified()).is_ok_and(|at| at.elapsed().is_ok_and(|age| age > LEFT));
        let held = || File::open(path.join(MATERIAL)).is_ok_and(|material| material.try_lock_shared().is_err());
        if old && (kind("making-") || kind("taken-")) && !held() {
            // Another may be as fast.
            let _ = std::fs::remove_dir_all(&path);
        }
    }
    Ok(())
}

/// Puts a manifest in a stock's directory, in place of the one that is there.
fn replace(stock: &Path, manifest: &Manifest) -> io::Result<()> {
    let (new, place) = (stock.join("manifest.new"), stock.join(MANIFEST));
    match std::fs::remove_file(&new) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let mut file = private(&new)?;
    file.write_all(&manifest.encode()?)?;
    file.sync_all()?;
    std::fs::rename(&new, &place)?;
    sync_directory(stock)
}

/// A new file that its owner alone can read.
fn private(path: &Path) -> io::Result<File> {
    let mut options = File::options();
    options.read(true).write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}
