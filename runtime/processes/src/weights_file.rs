//! The server's `.ssw` file, mapped into memory.

use std::path::{Path, PathBuf};

use ir::bytecode::Module;
use ir::weights::{Element, Weights};
use ir::{Program, Weight};
use memmap2::Mmap;

use crate::mapped::map;
use protocols::weights::{Integers, ServerWeights};

/// A weights file that belongs to the program: header and digest are checked.
pub struct WeightsFile {
    map: Mmap,
}

/// A weights file that cannot serve.
#[derive(thiserror::Error, Debug)]
#[allow(missing_docs)]
pub enum WeightsFileError {
    #[error("weights {}", path.display())]
    Open { path: PathBuf, source: std::io::Error },
    #[error("weights {}", path.display())]
    Content { path: PathBuf, source: ir::weights::WeightsError },
}

impl WeightsFile {
    /// Opens the weights of `module`, whose file has the hash `program`. Reads all data once, to check them.
    pub fn open(path: &Path, module: &Module, program: [u8; 32]) -> Result<WeightsFile, WeightsFileError> {
        let map = map(path).map_err(|source| WeightsFileError::Open { path: path.to_owned(), source })?;
        let checked = Weights::open(&map).and_then(|weights| {
            weights.header.check(module, program)?;
            weights.check_data()
        });
        checked.map_err(|source| WeightsFileError::Content { path: path.to_owned(), source })?;
        Ok(WeightsFile { map })
    }

    /// The weights of an entry of the module that the file was opened for.
    pub fn of<'a>(&'a self, program: &Program) -> EntryWeights<'a> {
        let weights = Weights::open(&self.map).expect("checked when opened");
        let integers = |name: &str| {
            let (tensor, bytes) = weights.tensor(name).expect("checked when opened");
            match tensor.element {
                Element::I16 => Integers::Two(bytes.as_chunks().0),
                Element::I32 => Integers::Four(bytes.as_chunks().0),
                Element::I64 => Integers::Eight(bytes.as_chunks().0),
            }
        };
        EntryWeights(program.weights.iter().map(|w| integers(&w.name)).collect())
    }
}

/// The weights of one entry, by their index in the program.
pub struct EntryWeights<'a>(Vec<Integers<'a>>);

impl ServerWeights for EntryWeights<'_> {
    fn integers(&self, weight: Weight) -> Integers<'_> {
        self.0[weight.index()]
    }
}
