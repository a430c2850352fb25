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
//! Lock      Its maker holds that of the material: nobody else makes it meanwhile. Who goes on making one has it reserved until it is
//!           cut to what both have: nobody names the steps that go.

use std::fs::{File, TryLockError};
use std::io::{self, BufWriter, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use ir::Program;
use tempfile::TempDir;
use zeroize::Zeroizing;

use super::RunError;
use super::manifest::{Bond, Manifest, Mark, Sealing, Seeds, place};
use super::material::Dealt;
use super::origin::{self, ANCHOR};
use super::part::{Sealed, changed};
use super::rows::{self, Kept};
use super::stock::{
    MANIFEST, MASKS, Named, OF_MASKS, OF_MATERIAL, OF_PRODUCTS, PARTS, Reserved, StockError, Stocks, nothing,
};
use crate::disk::private;
use crate::handshake::Session;
use crate::vault::{StorageKey, Witness};
use protocols::Maker;
use protocols::step::Step;

/// Time between steps that are made durable at once and those that wait.
const GRAIN: Duration = Duration::from_millis(250);

/// See the module head.
pub(super) struct Growth {
    stocks: Stocks,
    session: Session,
    seeds: Seeds,
    /// With the other party's witness.
    key: StorageKey,
    bond: Bond,
    /// Of the steps that are whole.
    entries: Vec<u32>,
    wanted: u32,
    /// What is written of the steps that are whole, and of those that will be.
    marks: [Vec<Mark>; 3],
    /// The steps that are being written.
    sealing: [Option<Sealing>; 3],
    folder: Option<Folder>,
    /// When what is whole was made durable.
    settled: Option<Instant>,
    /// Something could not be made durable. The system tells that once, so nothing more is counted.
    broken: bool,
}

struct Folder {
    path: PathBuf,
    /// Until the first step is whole.
    apart: Option<TempDir>,
    origin: [u8; 32],
    /// In the order of [`PARTS`]; the first has the lock.
    parts: [BufWriter<File>; 3],
}

/// A stock that has some steps, before its seeds can be read.
pub(super) struct Begun {
    reserved: Reserved,
    stocks: Stocks,
    folder: Folder,
}

impl Begun {
    /// One that is there, if it can grow.
    pub(super) fn find(reserved: Reserved, stocks: &Stocks) -> Result<Option<Begun>, RunError> {
        let path = reserved.place();
        let failed = |source| StockError { path: path.clone(), source };
        let open = |name| File::options().read(true).write(true).open(path.join(name));
        let files = open(PARTS[0]).and_then(|material| Ok([material, open(PARTS[1])?, open(PARTS[2])?]));
        let parts = match files {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            files => files.map_err(failed)?.map(BufWriter::new),
        };
        match parts[OF_MATERIAL].get_ref().try_lock() {
            Err(TryLockError::WouldBlock) => return Err(RunError::Growing),
            Err(TryLockError::Error(source)) => return Err(failed(source).into()),
            Ok(()) => {}
        }
        let folder = Folder { origin: reserved.manifest().origin, path, apart: None, parts };
        Ok(Some(Begun { reserved, stocks: stocks.clone(), folder }))
    }

    pub(super) fn bond(&self) -> &Bond {
        self.reserved.bond()
    }

    /// As it is told to the other party.
    pub(super) fn named(&self) -> Named {
        self.reserved.named()
    }

    /// Removes it.
    pub(super) fn discard(self) -> Result<(), StockError> {
        self.reserved.discard()
    }

    /// Goes back to the end of so many steps, which there are, of a program of these entries; gives the masks of what they keep,
    /// if two parties made it. What follows takes `fresh` seeds, if that is given.
    pub(super) fn rewind(
        self,
        witness: &Witness,
        programs: &[Program],
        steps: u32,
        fresh: Option<kernels::prg::Seed>,
    ) -> Result<(Growth, Option<Kept>), RunError> {
        let Begun { reserved, stocks, folder } = self;
        let (session, manifest) = (reserved.named().session, reserved.manifest());
        let key = stocks.state.key.with(witness);
        let seeds = Seeds::open(&key, session.0, &manifest.seeds);
        let seeds = seeds.ok_or_else(|| {
            let what = changed("its seeds are not of this witness; remove the stock".to_owned());
            StockError { path: folder.path.clone(), source: what }
        })?;
        let (entries, marks) = (manifest.entries.clone(), manifest.marks.clone());
        let mut growth = Growth {
            wanted: manifest.wanted,
            folder: Some(folder),
            ..Growth::empty(stocks, session, seeds, key, manifest.bond.clone(), (entries, marks))
        };
        let kept = growth.cut(programs, steps, fresh)?;
        Ok((growth, kept))
    }
}

impl Growth {
    /// Of a stock that has no step yet; the other party's witness is for what is written.
    pub(super) fn begin(stocks: Stocks, session: Session, seeds: Seeds, bond: Bond, witness: &Witness) -> Growth {
        let key = stocks.state.key.with(witness);
        Growth::empty(stocks, session, seeds, key, bond, Default::default())
    }

    fn empty(
        stocks: Stocks,
        session: Session,
        seeds: Seeds,
        key: StorageKey,
        bond: Bond,
        (entries, marks): (Vec<u32>, [Vec<Mark>; 3]),
    ) -> Growth {
        let sealing = [const { None }; 3];
        let (wanted, folder, settled, broken) = (0, None, None, false);
        Growth { stocks, session, seeds, key, bond, entries, wanted, marks, sealing, folder, settled, broken }
    }

    fn cut(
        &mut self,
        programs: &[Program],
        steps: u32,
        fresh: Option<kernels::prg::Seed>,
    ) -> Result<Option<Kept>, RunError> {
        let maker = self.stocks.maker;
        let shorter = (steps as usize) < self.entries.len();
        self.entries.truncate(steps as usize);
        self.marks.iter_mut().for_each(|marks| marks.truncate(steps as usize));
        self.seeds.cut(steps);
        if shorter {
            // Before anything is cut off that it counts.
            self.describe()?;
        }
        let step = |(number, &entry): (u32, &u32)| Step { entries: programs, entry, number };
        let whole: Vec<Step> = (0..).zip(&self.entries).map(step).collect();
        let disk = self.stocks.state.disk.clone();
        let folder = self.folder.as_mut().expect("it has steps");
        let failed = |source| StockError { path: folder.path.clone(), source };
        for (part, marks) in folder.parts.iter_mut().zip(&self.marks) {
            let (file, length) = (part.get_mut(), marks.iter().map(Mark::length).sum::<u64>());
            if file.metadata().map_err(failed)?.len() < length {
                let what = io::Error::new(io::ErrorKind::UnexpectedEof, "a file of it was cut short; remove it");
                return Err(failed(what).into());
            }
            disk.cut(file, length).and_then(|()| file.seek(SeekFrom::End(0))).map_err(failed)?;
        }
        let kept = match maker {
            Maker::Dealer => None,
            Maker::Pair => {
                let path = folder.path.join(MASKS);
                let bytes = masks(&path, &self.key, self.session, &self.marks[OF_MASKS]);
                let bytes = bytes.map_err(|source| StockError { path, source })?;
                Some(rows::restore(&whole, &bytes)?.ok_or_else(|| failed(changed("it keeps other masks".to_owned())))?)
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
        self.append(OF_MATERIAL, bytes)
    }

    /// Appends products of the next step that has none yet: all of them.
    pub(super) fn products(&mut self, bytes: &[u8]) -> Result<(), StockError> {
        self.append(OF_PRODUCTS, bytes)?;
        self.end_step(OF_PRODUCTS)
    }

    /// Appends the masks of what the next step keeps.
    pub(super) fn masks(&mut self, bytes: &[u8]) -> Result<(), StockError> {
        self.append(OF_MASKS, bytes)
    }

    /// Material and masks of the next step are all there.
    pub(super) fn made(&mut self) -> Result<(), StockError> {
        self.end_step(OF_MATERIAL)?;
        self.end_step(OF_MASKS)
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
        let disk = self.stocks.state.disk.clone();
        let folder = self.folder()?;
        let failed = |source| StockError { path: folder.path.clone(), source };
        for part in &mut folder.parts {
            io::Write::flush(part).and_then(|()| disk.sync(part.get_ref())).map_err(failed)?;
        }
        self.describe()?;
        let (directory, place) = (&self.stocks.directory, self.stocks.place(self.session));
        let folder = self.folder.as_mut().expect("made durable");
        if let Some(apart) = &folder.apart {
            let failed = |source| StockError { path: place.clone(), source };
            disk.rename(apart.path(), &place).map_err(failed)?;
            // It has another name now, and stays.
            let _ = folder.apart.take().map(TempDir::keep);
            folder.path = place.clone();
            disk.sync_directory(directory).map_err(failed)?;
        }
        (self.settled, self.broken) = (Some(Instant::now()), false);
        Ok(())
    }

    /// Ends the making of what is settled. With all its steps it will not grow, so its masks are of no more use.
    pub(super) fn end(self) -> Result<(), StockError> {
        let Some(folder) = self.folder.filter(|_| self.entries.len() >= self.wanted as usize) else { return Ok(()) };
        let removed = self.stocks.state.disk.remove(&folder.path.join(MASKS));
        removed.map_err(|source| StockError { path: folder.path, source })
    }

    /// Writes the manifest anew, at once or not at all.
    fn describe(&mut self) -> Result<(), RunError> {
        let folder = self.folder.as_ref().expect("it has steps");
        // Steps that were made and wait for their products do not count yet. Some files have nothing of any step.
        let whole = |steps: &Vec<Mark>| steps.iter().copied().chain(nothing()).take(self.entries.len()).collect();
        let manifest = Manifest {
            entries: self.entries.clone(),
            wanted: self.wanted,
            seeds: self.seeds.seal(&self.key, self.session.0).map_err(RunError::Random)?,
            marks: self.marks.each_ref().map(whole),
            ..self.stocks.describe(self.session, self.bond.clone(), folder.origin)
        };
        let state = &self.stocks.state;
        let written =
            manifest.encode(&state.key).and_then(|bytes| state.disk.replace(&folder.path.join(MANIFEST), &bytes));
        match written {
            // A stock in its place goes away in one way alone.
            Err(e) if e.kind() == io::ErrorKind::NotFound && folder.apart.is_none() => Err(RunError::Taken),
            written => Ok(written.map_err(|source| StockError { path: folder.path.clone(), source })?),
        }
    }

    fn append(&mut self, part: usize, bytes: &[u8]) -> Result<(), StockError> {
        let (key, step) = (self.key.clone(), place(self.session.0, part, self.marks[part].len()));
        self.seal(part, |sealing, write| {
            let sealing = match sealing {
                Some(sealing) => sealing,
                none => none.insert(Sealing::begin(&key, step)?),
            };
            sealing.add(bytes, write)
        })
    }

    fn end_step(&mut self, part: usize) -> Result<(), StockError> {
        let mut mark = Mark::nothing();
        if self.sealing[part].is_some() {
            self.seal(part, |sealing, write| {
                mark = sealing.take().expect("looked at").end(write)?;
                Ok(())
            })?;
        }
        self.marks[part].push(mark);
        Ok(())
    }

    fn seal(
        &mut self,
        part: usize,
        with: impl FnOnce(&mut Option<Sealing>, &mut dyn FnMut(&[u8]) -> io::Result<()>) -> io::Result<()>,
    ) -> Result<(), StockError> {
        self.folder()?;
        let disk = &self.stocks.state.disk;
        let folder = self.folder.as_mut().expect("just made");
        let done = with(&mut self.sealing[part], &mut |bytes| disk.write(&mut folder.parts[part], bytes));
        done.map_err(|source| StockError { path: folder.path.clone(), source })
    }

    /// Its files, which are made when there is something to write.
    fn folder(&mut self) -> Result<&mut Folder, StockError> {
        let empty = match &mut self.folder {
            Some(folder) => return Ok(folder),
            empty => empty,
        };
        let made = Folder::make(&self.stocks);
        Ok(empty.insert(made.map_err(|source| StockError { path: self.stocks.directory.clone(), source })?))
    }
}

impl Folder {
    fn make(stocks: &Stocks) -> io::Result<Folder> {
        std::fs::create_dir_all(&stocks.directory)?;
        // Nobody sweeps between the directory and the lock in it.
        let _lock = stocks.state.ledger.lock().map_err(io::Error::other)?;
        let apart = TempDir::with_prefix_in("making-", &stocks.directory)?;
        let path = apart.path().to_owned();
        private(&path.join(ANCHOR))?;
        let part = |name| io::Result::Ok(BufWriter::with_capacity(1 << 20, private(&path.join(name))?));
        let parts = [part(PARTS[0])?, part(PARTS[1])?, part(PARTS[2])?];
        parts[OF_MATERIAL].get_ref().lock()?;
        Ok(Folder { origin: origin::of(&path)?, path, apart: Some(apart), parts })
    }
}

/// The masks of all steps, opened.
fn masks(path: &Path, key: &StorageKey, session: Session, marks: &[Mark]) -> io::Result<Zeroizing<Vec<u8>>> {
    let sealed = Sealed { file: File::open(path)?, key: key.clone(), session: session.0, part: OF_MASKS };
    let mut bytes = Zeroizing::new(Vec::new());
    for (number, mark) in marks.iter().enumerate() {
        bytes.extend_from_slice(&sealed.read(number, *mark)?);
    }
    Ok(bytes)
}
