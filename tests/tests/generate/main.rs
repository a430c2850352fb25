//! Private generation over sockets: parties and dealer in threads, whose seeds a test can foresee, and as processes that die.

#[cfg(unix)]
mod chat;
mod checked;
mod common;
mod limits;
#[cfg(unix)]
mod making;
mod pair;
#[cfg(unix)]
mod processes;
mod restored;
mod sessions;
mod stocks;
mod talk;
