//! The server's `.ssw` file, in memory of the process's own (`memory`): what was checked is what is masked and multiplied, whatever
//! becomes of the file.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use ir::bytecode::Module;
use ir::weights::{Element, Weights};
use ir::{Program, Weight};

use crate::memory::whole;
use protocols::weights::{Integers, ServerWeights};

/// Weights that belong to the program: header and digest are checked.
pub struct WeightsFile {
    bytes: Bytes,
    digest: [u8; 32],
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
    /// Reads the weights of `module`, whose file has the hash `program`, and then checks what was read.
    pub fn open(path: &Path, module: &Module, program: [u8; 32]) -> Result<WeightsFile, WeightsFileError> {
        let bytes = whole(path).map_err(|source| WeightsFileError::Open { path: path.to_owned(), source })?;
        let checked = Weights::open(&bytes).and_then(|weights| {
            weights.header.check(module, program)?;
            weights.check_data()?;
            Ok(weights.header.hash())
        });
        match checked {
            Ok(digest) => Ok(WeightsFile { bytes, digest }),
            Err(source) => Err(WeightsFileError::Content { path: path.to_owned(), source }),
        }
    }

    /// Tells these weights from any others: a digest of all that was read.
    pub fn digest(&self) -> &[u8; 32] {
        &self.digest
    }

    /// The weights of an entry of the module that the file was opened for.
    pub fn of<'a>(&'a self, program: &Program) -> EntryWeights<'a> {
        let weights = Weights::open(&self.bytes).expect("checked when opened");
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
