//! A person's wish to stop, from a signal to the answer that runs.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::Cancel;

/// Stops answers. Clones are one.
#[derive(Clone, Default)]
pub struct Interrupt(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    answering: bool,
    stopped: bool,
    ended: bool,
    /// Of the session that answers.
    cancel: Cancel,
}

impl Interrupt {
    /// Stops the answer that runs at its next token, which keeps its session; asked again, ends the session at once. False: no
    /// answer runs.
    pub fn interrupt(&self) -> bool {
        let mut state = self.state();
        if state.answering && state.stopped {
            state.cancel.cancel();
        }
        state.stopped = true;
        state.answering
    }

    /// Ends whatever runs, and all that would begin later.
    pub fn end(&self) {
        let mut state = self.state();
        (state.stopped, state.ended) = (true, true);
        state.cancel.cancel();
    }

    /// An answer begins, and runs for as long as what is given lasts.
    pub(super) fn answering(&self) -> Answering {
        let mut state = self.state();
        (state.answering, state.stopped) = (true, state.ended);
        Answering(self.clone())
    }

    /// What ends a session that begins, or goes on, for the answer.
    pub(super) fn session(&self, cancel: Cancel) -> Cancel {
        let mut state = self.state();
        if state.ended {
            cancel.cancel();
        }
        state.cancel = cancel.clone();
        cancel
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.state().stopped
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An answer that runs.
pub(super) struct Answering(Interrupt);

impl Drop for Answering {
    fn drop(&mut self) {
        self.0.state().answering = false;
    }
}
