//! Progress of long transfers, for a person at a terminal.

use std::io::IsTerminal;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// A progress bar on stderr, or nothing if that is no terminal.
pub(super) struct Progress(ProgressBar);

impl Progress {
    /// For a transfer of `total` bytes.
    pub(super) fn bytes(what: &'static str, total: u64) -> Progress {
        let shown = std::io::stderr().is_terminal() && total > 0;
        let target = if shown { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let style = ProgressStyle::with_template("{msg:9} {bar:30} {bytes}/{total_bytes} {binary_bytes_per_sec}")
            .expect("a well-formed template");
        Progress(ProgressBar::with_draw_target(Some(total), target).with_style(style).with_message(what))
    }

    /// For nobody.
    pub(super) fn none() -> Progress {
        Progress(ProgressBar::hidden())
    }

    /// For making material of so many tokens: at what rate, and how long it will take.
    pub(super) fn tokens(what: &'static str, total: u64) -> Progress {
        let shown = std::io::stderr().is_terminal() && total > 0;
        let target = if shown { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let style = ProgressStyle::with_template("{msg:9} {bar:30} {pos}/{len} tokens, {per_sec}, {eta} left")
            .expect("a well-formed template");
        Progress(ProgressBar::with_draw_target(Some(total), target).with_style(style).with_message(what))
    }

    /// Counts bytes, or tokens.
    pub(super) fn add(&self, done: usize) {
        self.0.inc(done as u64);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
