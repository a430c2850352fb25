//! Panics of the library `tokenizers`, as errors.
//!
//! It panics on some tokenizers that it reads without complaint. What it says then can have a piece of the text in it, so nothing of
//! it is printed or kept.

use std::cell::Cell;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Once;

thread_local! {
    static QUIET: Cell<bool> = const { Cell::new(false) };
}

/// What a call gives, or nothing if it panics.
pub(super) fn guarded<T>(call: impl FnOnce() -> T) -> Option<T> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if !QUIET.get() {
                before(info);
            }
        }));
    });
    let outer = QUIET.replace(true);
    // What a panic leaves behind is not used again: the tokenizer's parts that change are caches behind locks.
    let done = panic::catch_unwind(AssertUnwindSafe(call));
    QUIET.set(outer);
    done.ok()
}
