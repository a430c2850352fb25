//! Who is at the server: how many sessions an identity has at one time, and a line for each on the log.
//!
//! The line says who asked (the name of its pin, and its key's fingerprint), for what, how many tokens it got, whether from a stock, how long
//! that took, and how it ended. Nothing of a prompt or a text is in it: the server has none. On insecure links all are `anybody`.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use super::{Purpose, RunError, chain};
use crate::handshake::Session;
use crate::limits::{Count, Limits};
use crate::net::{Conn, Refusal};

/// Sessions by key, zero for all whose key is not known.
pub(super) struct Guests {
    /// Of those who have none of their own.
    limits: Limits,
    running: Mutex<BTreeMap<[u8; 32], u64>>,
}

/// A session at the server, for as long as this lasts.
pub(super) struct Place<'a> {
    guests: &'a Guests,
    key: [u8; 32],
}

impl Guests {
    pub(super) fn new(limits: Limits) -> Guests {
        Guests { limits, running: Mutex::default() }
    }

    /// What the other end may ask for.
    pub(super) fn limits(&self, conn: &Conn) -> Limits {
        conn.known().map_or(self.limits.clone(), |known| known.limits.or(&self.limits))
    }

    /// Lets one more session of an identity in.
    pub(super) fn come(&self, key: [u8; 32], limits: &Limits) -> Result<Place<'_>, Refusal> {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let count = running.entry(key).or_default();
        match limits.most(Count::AtOnce) {
            Some(limit) if *count >= limit => {
                let what = format!("{limit} texts and passes at one time are allowed, which are running");
                Err(Refusal::Busy { what })
            }
            _ => {
                *count += 1;
                Ok(Place { guests: self, key })
            }
        }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut running = self.guests.running.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = running.get_mut(&self.key) {
            *count -= 1;
            if *count == 0 {
                running.remove(&self.key);
            }
        }
    }
}

/// What the line of a session will say.
pub(super) struct Audit {
    begin: Instant,
    session: Session,
    name: String,
    fingerprint: String,
    what: &'static str,
    pub(super) entry: String,
    pub(super) tokens: u32,
    pub(super) stock: bool,
}

impl Audit {
    pub(super) fn begin(conn: &Conn, session: Session) -> Audit {
        let (name, fingerprint) = match conn.known() {
            Some(known) => (known.name.clone(), known.key.fingerprint()),
            None => ("anybody".to_owned(), "none".to_owned()),
        };
        let (what, entry) = ("nothing", String::new());
        Audit { begin: Instant::now(), session, name, fingerprint, what, entry, tokens: 0, stock: false }
    }

    pub(super) fn asked(&mut self, purpose: Purpose, entry: &str) {
        entry.clone_into(&mut self.entry);
        self.what = match purpose {
            Purpose::Run(_) => "pass",
            Purpose::Generate => "text",
            Purpose::Prepare => "stock",
        };
    }

    /// Tells how it ended.
    pub(super) fn tell<T>(&self, trust: &str, done: &Result<T, RunError>) {
        let Audit { session, name, fingerprint, what, entry, tokens, stock, .. } = self;
        let seconds = (self.begin.elapsed().as_secs_f64() * 1000.0).round() / 1000.0;
        macro_rules! line {
            ($level:ident, $($outcome:tt)*) => {
                tracing::$level!(
                    target: "audit",
                    peer = name, key = fingerprint, what, entry, tokens, stock, seconds, %session, trust, $($outcome)*
                )
            };
        }
        match done {
            Ok(_) => line!(info, "served"),
            // It was of use, or nothing went wrong.
            Err(error @ (RunError::Taken | RunError::Refused(_) | RunError::Idle { .. })) => line!(info, "{error}"),
            Err(error) => line!(warn, "failed: {}", chain(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_has_so_many_places_and_others_have_theirs() {
        let guests = Guests::new(Limits::default());
        let two = Limits::of(["sessions=2".parse().unwrap()]);
        let [anna, bert] = [[1; 32], [2; 32]];
        let first = guests.come(anna, &two).unwrap();
        let _second = guests.come(anna, &two).unwrap();
        assert!(matches!(guests.come(anna, &two), Err(Refusal::Busy { .. })));
        let _other = guests.come(bert, &two).unwrap();
        drop(first);
        let again = guests.come(anna, &two).unwrap();
        drop(again);
        let free: Vec<Place> = (0..100).map(|_| guests.come(anna, &Limits::default()).unwrap()).collect();
        drop(free);
        assert_eq!(guests.running.lock().unwrap().len(), 2);
    }
}
