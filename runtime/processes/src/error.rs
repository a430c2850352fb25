//! Why a run ended early.

use std::io;
use std::path::PathBuf;

use super::{StockError, UsageError};
use crate::handshake::{HandshakeError, Mismatch};
use crate::identity::IdentityError;
use crate::inputs::InputError;
use crate::keys::KeyError;
use crate::ledger::LedgerError;
use crate::net::{NetError, Refusal};
use crate::npz::NpzError;
use crate::pins::PinError;
use crate::setup::CacheError;
use crate::weights_file::WeightsFileError;
use kernels::codec::CodecError;
use machine::VmError;
use protocols::cache::SessionError;
use protocols::pair::PairError;
use protocols::weights::WeightsError;

/// See the module head. Texts name the place and hold no secret.
#[derive(thiserror::Error, Debug)]
#[allow(missing_docs)]
pub enum RunError {
    #[error(transparent)]
    Net(#[from] NetError),
    #[error(transparent)]
    Mismatch(#[from] Mismatch),
    #[error("{}", path.display())]
    File { path: PathBuf, source: io::Error },
    #[error("program {}: {what}", path.display())]
    Program { path: PathBuf, what: String },
    #[error(transparent)]
    Weights(#[from] WeightsFileError),
    #[error(transparent)]
    Key(#[from] KeyError),
    #[error(transparent)]
    Identity(#[from] IdentityError),
    #[error(transparent)]
    Pins(#[from] PinError),
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    #[error(transparent)]
    Cache(#[from] CacheError),
    #[error(transparent)]
    Npz(#[from] NpzError),
    #[error(transparent)]
    Input(#[from] InputError),
    #[error(transparent)]
    Encode(#[from] CodecError),
    #[error(transparent)]
    Vm(#[from] VmError),
    #[error(transparent)]
    Masked(#[from] WeightsError),
    #[error("no threads: {0}")]
    Threads(rayon::ThreadPoolBuildError),
    #[error(transparent)]
    Stock(#[from] StockError),
    #[error(
        "the server keeps material for at most {limit} tokens (`--stock`): it has promised {kept}, and {more} more are asked for"
    )]
    Enough { limit: u64, kept: u64, more: u64 },
    #[error("somebody else is making this stock")]
    Growing,
    #[error("a text took the stock while it was made")]
    Taken,
    #[error(
        "this stock was used before, as the {peer} remembers: the state directory here is older than that use, and has lost the stock"
    )]
    UsedBefore { peer: &'static str },
    #[error("the state directory {} was restored: sessions were burnt since that it does not know of", path.display())]
    Restored { path: PathBuf },
    #[error("the {peer}'s state directory was restored: it has burnt sessions that it does not know of")]
    PeerRestored { peer: &'static str },
    #[error("there is no entry for {tokens} tokens after a prompt of {prefill} slots: at most {most} have room")]
    NoRoom { tokens: usize, prefill: usize, most: usize },
    #[error("the program has no prefill of {size} slots, only of {sizes}")]
    NoPrefill { size: usize, sizes: String },
    #[error("entry `{entry}` cannot be the next step")]
    Step {
        entry: String,
        #[source]
        error: SessionError,
    },
    #[error("program {}: {what}", path.display())]
    NotForGeneration { path: PathBuf, what: String },
    #[error("refused: {0}")]
    Refused(#[from] Refusal),
    #[error(transparent)]
    Usage(#[from] UsageError),
    #[error("no token was asked for within {seconds} s (`--idle` of the server)")]
    Idle { seconds: f64 },
    #[error("the operating system gives no randomness: {0}")]
    Random(getrandom::Error),
    #[error("setting up transfers with the peer")]
    Transfers(#[source] ot::Error),
    #[error(transparent)]
    Making(#[from] PairError),
    #[error("program {}: two parties cannot make the material of `{op}` in entry `{entry}`", path.display())]
    Unmade { path: PathBuf, entry: String, op: &'static str },
}

impl From<HandshakeError> for RunError {
    fn from(error: HandshakeError) -> RunError {
        match error {
            HandshakeError::Net(e) => RunError::Net(e),
            HandshakeError::Mismatch(e) => RunError::Mismatch(e),
        }
    }
}

impl RunError {
    /// A way out, for the user.
    pub fn hint(&self) -> String {
        match self {
            RunError::Net(e) => e.hint(),
            RunError::Mismatch(e) => e.hint().to_owned(),
            RunError::File { .. } => "check the path and its permissions".to_owned(),
            RunError::Program { .. } => "compile the model again with the same release of sscc".to_owned(),
            RunError::Weights(_) => "the `.ssw` file that was compiled together with this `.ssb` file".to_owned(),
            RunError::Key(e) => e.hint().to_owned(),
            RunError::Identity(e) => e.hint().to_owned(),
            RunError::Pins(e) => e.hint(),
            RunError::Ledger(e) => e.hint().to_owned(),
            RunError::Cache(_) => "`--cache DIR` with a directory that can be written and has room".to_owned(),
            RunError::Npz(_) => "numpy.savez with int64, int32 or float32 arrays, one per input".to_owned(),
            RunError::Input(e) => e.hint(),
            RunError::Encode(_) => "values within the ranges that the program was compiled for".to_owned(),
            RunError::Vm(_) => "the same program on both sides; the other side's log may say more".to_owned(),
            RunError::Masked(_) => "the same program on both sides".to_owned(),
            RunError::Threads(_) => "a larger process limit".to_owned(),
            RunError::Stock(e) => e.hint().to_owned(),
            RunError::Enough { .. } => "use what there is, or a server with a greater `--stock`".to_owned(),
            RunError::Growing => "again when the other has ended".to_owned(),
            RunError::Taken => "run it again, for another stock".to_owned(),
            RunError::UsedBefore { .. } => "run it again; do not restore state directories, begin with an empty one".to_owned(),
            RunError::Restored { .. } => {
                "run it again: its stocks with this party are removed. Do not restore state directories, begin with an empty one".to_owned()
            }
            RunError::PeerRestored { .. } => {
                "run it again: the other side was told, and removes the stocks that it may have used".to_owned()
            }
            RunError::NoRoom { .. } => "fewer tokens, or a program that was compiled for more".to_owned(),
            RunError::NoPrefill { .. } => "`--prefill` with one of these".to_owned(),
            RunError::Step { .. } => "a new session".to_owned(),
            RunError::NotForGeneration { .. } => {
                "`ssvm run --party 0 --input FILE.npz` for a program of one pass; for text, `sscc compile MODEL.onnx --generate`"
                    .to_owned()
            }
            RunError::Refused(refusal) => refusal.hint().to_owned(),
            RunError::Usage(_) => "a state directory that can be written; a damaged file of it is removed by its owner".to_owned(),
            RunError::Idle { .. } => "ask again, in a new session; or a server with a greater `--idle`".to_owned(),
            RunError::Transfers(_) | RunError::Making(_) => {
                "run again: what was made of this step is dropped on both sides".to_owned()
            }
            RunError::Unmade { .. } => {
                "`sscc compile --material pair`, or a dealer on both sides: `--dealer ADDRESS`".to_owned()
            }
            RunError::Random(_) => "a system with a random number generator".to_owned(),
        }
    }

    /// The reason that the other sides are told: nothing about this side's files.
    pub fn for_peer(&self) -> String {
        match self {
            RunError::Net(NetError::Pins(_)) => "trouble with its own files or system".to_owned(),
            RunError::Net(e) => e.to_string(),
            RunError::Mismatch(e) => e.to_string(),
            RunError::Step { .. } | RunError::Refused(_) | RunError::Enough { .. } => self.to_string(),
            RunError::Growing | RunError::Taken | RunError::UsedBefore { .. } | RunError::Idle { .. } => {
                self.to_string()
            }
            RunError::Restored { .. } => {
                "its state directory was restored; it has removed its stocks with this side, and can go on".to_owned()
            }
            RunError::PeerRestored { peer } => {
                format!("the {peer}'s state directory was restored, and its stocks with this side must not be used")
            }
            RunError::Transfers(_) | RunError::Making(_) => "what it received was no part of the making".to_owned(),
            RunError::Ledger(LedgerError::Replayed { .. }) => "the session was burnt before".to_owned(),
            RunError::Vm(_) => "the program could not be run to its end".to_owned(),
            _ => "trouble with its own files or system".to_owned(),
        }
    }
}

/// An error and its causes.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
