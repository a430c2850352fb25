//! What an identity has asked of this server today, durably: a restart forgets nothing.
//!
//! Files   `used/` in the state directory has a file for each identity that has a limit of the day: day, texts, passes and tokens, and
//!         BLAKE3 of these. All processes on one state directory count together.
//! Day     of UTC. A clock that is set back begins no new day.
//! Tokens  are entered [`AHEAD`] at a time and the rest given back when the text ends, so a crash counts too many and never too few, and a
//!         token waits for no disk.

use std::io;
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use ir::Program;

use super::{RunError, State};
use crate::handshake::hex;
use crate::limits::{Count, Limits};
use crate::net::Refusal;

/// Tokens that are entered before they are asked for.
const AHEAD: u64 = 16;

/// Seconds of a day.
const DAY: u64 = 86_400;

/// Bytes of a file.
const LENGTH: usize = 32 + 32;

/// A count that cannot be kept.
#[derive(thiserror::Error, Debug)]
#[error("the count of what an identity has asked for today, {}", path.display())]
pub struct UsageError {
    path: PathBuf,
    source: io::Error,
}

/// What was asked for on a day.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Used {
    /// Since 1970.
    day: u64,
    sessions: u64,
    passes: u64,
    tokens: u64,
}

/// The counts of one text or pass, while it lasts.
pub(super) struct Tally<'a> {
    state: &'a State,
    who: [u8; 32],
    limits: Limits,
    /// Tokens that are entered and were not asked for, and the day of that.
    ahead: u64,
    day: u64,
    /// Steps that were let through.
    pub(super) steps: u32,
}

impl<'a> Tally<'a> {
    /// Enters a text or a pass of the identity with this key, unless it has had all of its day.
    pub(super) fn begin(state: &'a State, who: [u8; 32], limits: Limits, what: Count) -> Result<Tally<'a>, RunError> {
        Tally::begin_at(state, who, limits, what, now())
    }

    fn begin_at(state: &'a State, who: [u8; 32], limits: Limits, what: Count, now: u64) -> Result<Tally<'a>, RunError> {
        let tally = Tally { state, who, limits, ahead: 0, day: 0, steps: 0 };
        if tally.limits.daily() {
            tally.change(now, |used| {
                let (count, name) = match what {
                    Count::Passes => (&mut used.passes, "passes"),
                    _ => (&mut used.sessions, "texts"),
                };
                take(count, 1, tally.limits.most(what), name, now)?;
                // A text without a token is none.
                if what != Count::Passes {
                    take(&mut used.tokens.clone(), 1, tally.limits.most(Count::Tokens), "tokens", now)?;
                }
                Ok(())
            })?;
        }
        Ok(tally)
    }

    /// Lets a step of a text run, and enters its token before.
    pub(super) fn step(&mut self, entry: &Program) -> Result<(), RunError> {
        self.limits.allow(entry)?;
        self.token_at(now())?;
        self.steps += 1;
        Ok(())
    }

    fn token_at(&mut self, now: u64) -> Result<(), RunError> {
        if !self.limits.daily() {
            return Ok(());
        }
        if self.ahead == 0 {
            let limit = self.limits.most(Count::Tokens);
            let (taken, day) = self.change(now, |used| {
                let taken = take(&mut used.tokens, AHEAD, limit, "tokens", now)?;
                Ok((taken, used.day))
            })?;
            (self.ahead, self.day) = (taken, day);
        }
        self.ahead -= 1;
        Ok(())
    }

    /// Changes what is on disk, or leaves it as it was.
    fn change<T>(&self, now: u64, by: impl FnOnce(&mut Used) -> Result<T, Refusal>) -> Result<T, RunError> {
        let _lock = self.state.ledger.lock()?;
        let mut used = self.read()?;
        if now / DAY > used.day {
            used = Used { day: now / DAY, ..Used::default() };
        }
        let changed = by(&mut used)?;
        let path = self.path();
        let failed = |source| UsageError { path: path.clone(), source };
        std::fs::create_dir_all(path.parent().expect("a file lies in a directory")).map_err(failed)?;
        self.state.disk.replace(&path, &used.encode()).map_err(failed)?;
        Ok(changed)
    }

    fn read(&self) -> Result<Used, UsageError> {
        let path = self.path();
        match std::fs::read(&path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Used::default()),
            Err(source) => Err(UsageError { path, source }),
            Ok(bytes) => Used::decode(&bytes).ok_or_else(|| {
                let source = io::Error::new(io::ErrorKind::InvalidData, "it changed on disk");
                UsageError { path, source }
            }),
        }
    }

    fn path(&self) -> PathBuf {
        let mut hasher = blake3::Hasher::new_derive_key("ssvm 2026-11 file of what an identity used");
        let digest = hasher.update(&self.who).finalize();
        self.state.directory().join("used").join(hex(&digest.as_bytes()[..16]))
    }
}

impl Drop for Tally<'_> {
    fn drop(&mut self) {
        if self.ahead == 0 {
            return;
        }
        let (day, ahead) = (self.day, self.ahead);
        let given = self.change(day * DAY, |used| {
            if used.day == day {
                used.tokens = used.tokens.saturating_sub(ahead);
            }
            Ok(())
        });
        if let Err(error) = given {
            tracing::warn!("{ahead} tokens too many are counted: {}", super::chain(&error));
        }
    }
}

/// Takes up to `wanted` and at least one of what a limit leaves; gives how many.
fn take(count: &mut u64, wanted: u64, limit: Option<u64>, name: &str, now: u64) -> Result<u64, Refusal> {
    let left = limit.map_or(wanted, |limit| limit.saturating_sub(*count).min(wanted));
    if let (0, Some(limit)) = (left, limit) {
        return Err(Refusal::Limit { what: format!("{limit} {name} a day"), seconds: (DAY - now % DAY) as u32 });
    }
    *count = count.saturating_add(left);
    Ok(left)
}

/// Seconds since 1970.
fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

impl Used {
    fn encode(self) -> [u8; LENGTH] {
        let Used { day, sessions, passes, tokens } = self;
        let numbers = [day, sessions, passes, tokens].map(u64::to_le_bytes).concat();
        let all = [&numbers[..], blake3::hash(&numbers).as_bytes()].concat();
        all.try_into().expect("four numbers and a digest")
    }

    fn decode(bytes: &[u8]) -> Option<Used> {
        let bytes: &[u8; LENGTH] = bytes.try_into().ok()?;
        let (numbers, digest) = bytes.split_at(32);
        let at = |index: usize| u64::from_le_bytes(numbers[8 * index..][..8].try_into().expect("8 bytes"));
        let used = Used { day: at(0), sessions: at(1), passes: at(2), tokens: at(3) };
        (blake3::hash(numbers).as_bytes() == digest).then_some(used)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vault::StorageKey;

    const ANNA: [u8; 32] = [1; 32];
    const BERT: [u8; 32] = [2; 32];
    const NOON: u64 = 20_000 * DAY + DAY / 2;

    fn limits(text: &str) -> Limits {
        Limits::of(text.split_whitespace().map(|limit| limit.parse().unwrap()))
    }

    fn refused<T>(done: Result<T, RunError>) -> String {
        match done.err() {
            Some(RunError::Refused(refusal)) => refusal.to_string(),
            other => panic!("{other:?}"),
        }
    }

    fn open(directory: &std::path::Path) -> State {
        State::open(directory, StorageKey::new([5; 32])).unwrap()
    }

    #[test]
    fn a_day_has_its_end_and_a_restart_does_not_begin_another() {
        let directory = tempfile::tempdir().unwrap();
        let limits = limits("sessions-a-day=2 passes-a-day=1 tokens-a-day=20");
        let begin = |state: &State, who, what, now| Tally::begin_at(state, who, limits.clone(), what, now).map(drop);
        let state = open(directory.path());
        begin(&state, ANNA, Count::Sessions, NOON).unwrap();
        begin(&state, ANNA, Count::Passes, NOON).unwrap();
        drop(state);
        let state = open(directory.path());
        begin(&state, ANNA, Count::Sessions, NOON).unwrap();
        let said = refused(begin(&state, ANNA, Count::Sessions, NOON));
        assert_eq!(said, "limit reached: 2 texts a day; again at 00:00 UTC, in 12 h 0 min");
        assert!(refused(begin(&state, ANNA, Count::Passes, NOON)).starts_with("limit reached: 1 passes a day"));
        // A clock that is set back; somebody else; the next day.
        refused(begin(&state, ANNA, Count::Sessions, NOON - DAY));
        begin(&state, BERT, Count::Sessions, NOON).unwrap();
        begin(&state, ANNA, Count::Sessions, NOON + DAY / 2).unwrap();
    }

    #[test]
    fn tokens_are_given_back_when_a_text_ends_and_not_when_the_process_does() {
        let directory = tempfile::tempdir().unwrap();
        let (state, limits) = (open(directory.path()), limits("tokens-a-day=20"));
        let begin = || Tally::begin_at(&state, ANNA, limits.clone(), Count::Sessions, NOON);
        let mut first = begin().unwrap();
        first.token_at(NOON).unwrap();
        // Two at a time share what is left.
        let mut second = begin().unwrap();
        (0..4).for_each(|_| second.token_at(NOON).unwrap());
        refused(second.token_at(NOON));
        drop(first);
        (0..15).for_each(|_| second.token_at(NOON).unwrap());
        assert!(refused(second.token_at(NOON)).starts_with("limit reached: 20 tokens a day"));
        drop(second);
        refused(begin());
        // The next day has its own, of which those of the day before are not taken off.
        let mut late = Tally::begin_at(&state, BERT, limits.clone(), Count::Sessions, NOON).unwrap();
        late.token_at(NOON).unwrap();
        Tally::begin_at(&state, BERT, limits.clone(), Count::Sessions, NOON + DAY)
            .unwrap()
            .token_at(NOON + DAY)
            .unwrap();
        drop(late);
        let mut crashed = Tally::begin_at(&state, BERT, limits.clone(), Count::Sessions, NOON + DAY).unwrap();
        crashed.token_at(NOON + DAY).unwrap();
        std::mem::forget(crashed);
        let used = Tally::begin_at(&state, BERT, limits.clone(), Count::Sessions, NOON + DAY).unwrap().read().unwrap();
        assert_eq!(used.tokens, 1 + AHEAD);
    }

    #[test]
    fn without_a_limit_of_the_day_nothing_is_written_and_a_damaged_count_ends_the_session() {
        let directory = tempfile::tempdir().unwrap();
        let state = open(directory.path());
        let mut free = Tally::begin(&state, ANNA, limits("sessions=1 outputs=y"), Count::Sessions).unwrap();
        free.token_at(now()).unwrap();
        assert!(!directory.path().join("used").exists());
        let limited = || Tally::begin(&state, ANNA, limits("sessions-a-day=9"), Count::Sessions);
        let path = limited().unwrap().path();
        let good = std::fs::read(&path).unwrap();
        for bit in 0..8 * good.len() {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            std::fs::write(&path, bad).unwrap();
            assert!(matches!(limited().err(), Some(RunError::Usage(_))), "bit {bit}");
        }
        std::fs::write(&path, good).unwrap();
        limited().unwrap();
    }
}
