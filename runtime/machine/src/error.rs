//! Why a run ends early. Every error names the instruction and the ONNX node where there is one, never a value.

use crate::link::LinkError;
use protocols::cache::SessionError;
use protocols::material::MaterialError;
use protocols::weights::WeightsError;

/// Why a run ended early. The run is over: its material must not be used again.
#[derive(Debug, thiserror::Error)]
pub enum VmError {
    /// Not as many inputs as the program declares.
    #[error("the program takes {expected} inputs from the client, {got} were given")]
    Inputs {
        /// Declared.
        expected: usize,
        /// Given.
        got: usize,
    },
    /// An input of another shape.
    #[error("input {name:?} has another shape than the program was compiled for")]
    Input {
        /// The input.
        name: String,
    },
    /// Not as many public numbers as the program declares.
    #[error("the program takes {expected} public numbers, {got} were given")]
    Publics {
        /// Declared.
        expected: usize,
        /// Given.
        got: usize,
    },
    /// A public number out of bounds.
    #[error("public number {name:?} is {got}, it must be below {bound}")]
    Public {
        /// Its name.
        name: String,
        /// What was given.
        got: u32,
        /// Its bound.
        bound: u32,
    },
    /// The session has no such next step.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// An instruction could not be done.
    #[error(transparent)]
    At(Box<Failure>),
}

/// What went wrong at an instruction.
#[derive(Debug)]
pub struct Failure {
    /// What happened.
    pub cause: Cause,
    /// The instruction as it prints.
    pub line: String,
    /// The ONNX node that it comes from.
    pub origin: Option<String>,
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.cause)?;
        if let Some(origin) = &self.origin {
            write!(f, "\n  node {origin:?}")?;
        }
        write!(f, "\n  {}", self.line)
    }
}

impl std::error::Error for Failure {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.cause.source()
    }
}

/// Who did not do its part.
#[derive(Debug, thiserror::Error)]
pub enum Cause {
    /// The peer.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// The dealer.
    #[error(transparent)]
    Material(#[from] MaterialError),
    /// The masked weights.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// The peer's halves of comparisons.
    #[error("the other party's comparisons are those of no order; it does not follow the protocol")]
    Ranking,
}
