//! What an identity may ask of a server: in its pin ([`crate::pins`]), or for all who have nothing of the kind in theirs.
//!
//! A limit is written `KEY=VALUE`. Whoever deviates from the protocol learns weights from outputs, the faster the more it asks, so an
//! owner bounds how much that is. Making material beforehand reveals no output and is not counted; `--stock` bounds what is kept of it.

use std::fmt;
use std::str::FromStr;

use ir::Program;

use crate::net::Refusal;

/// Keys of numbers, by [`Count`].
const COUNTS: [&str; 4] = ["sessions", "sessions-a-day", "passes-a-day", "tokens-a-day"];

/// Keys of lists.
const LISTS: [&str; 2] = ["entries", "outputs"];
const ENTRIES: usize = 0;
const OUTPUTS: usize = 1;

/// In the place of a value: no limit.
const ANY: &str = "any";

/// Most names of a list, and bytes of one.
const MOST: usize = 64;

/// What is counted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Count {
    /// Texts and passes at one time, those that wait for a place among them.
    AtOnce,
    /// Texts a day.
    Sessions,
    /// Passes a day: runs of programs that were not compiled for generation.
    Passes,
    /// Tokens a day.
    Tokens,
}

/// One limit, or its absence.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Limit {
    /// Of a number.
    Count(usize, Option<u64>),
    /// Of names.
    List(usize, Option<Vec<String>>),
}

/// The limits of an identity. What has none is not limited.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Limits {
    counts: [Option<u64>; COUNTS.len()],
    lists: [Option<Vec<String>>; LISTS.len()],
}

impl FromStr for Limit {
    type Err = String;

    fn from_str(text: &str) -> Result<Limit, String> {
        let (key, value) = text.split_once('=').ok_or("KEY=VALUE is needed, for example `tokens-a-day=5000`")?;
        let given = (value != ANY).then_some(value);
        if let Some(index) = COUNTS.iter().position(|known| *known == key) {
            let number = |value: &str| value.parse().map_err(|_| format!("`{key}` takes a number, or `{ANY}`"));
            return Ok(Limit::Count(index, given.map(number).transpose()?));
        }
        let Some(index) = LISTS.iter().position(|known| *known == key) else {
            return Err(format!("there is no limit of this name: {}, {}", COUNTS.join(", "), LISTS.join(", ")));
        };
        let names = |value: &str| -> Result<Vec<String>, String> {
            let names: Vec<String> = value.split(',').map(str::to_owned).collect();
            let sound = |name: &String| (1..=MOST).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_graphic());
            match names.len() <= MOST && names.iter().all(sound) {
                true => Ok(names),
                false => Err(format!("`{key}` takes up to {MOST} names with commas between them, or `{ANY}`")),
            }
        };
        Ok(Limit::List(index, given.map(names).transpose()?))
    }
}

impl Limits {
    /// Sets one.
    pub fn set(&mut self, limit: Limit) {
        match limit {
            Limit::Count(index, number) => self.counts[index] = number,
            Limit::List(index, names) => self.lists[index] = names,
        }
    }

    /// Those of the list, in order.
    pub fn of(all: impl IntoIterator<Item = Limit>) -> Limits {
        let mut limits = Limits::default();
        all.into_iter().for_each(|limit| limits.set(limit));
        limits
    }

    /// These, and where there is none that of `others`.
    pub fn or(&self, others: &Limits) -> Limits {
        let mut both = self.clone();
        both.counts.iter_mut().zip(others.counts).for_each(|(own, other)| *own = own.or(other));
        both.lists.iter_mut().zip(&others.lists).for_each(|(own, other)| *own = own.take().or_else(|| other.clone()));
        both
    }

    /// The limit of a number.
    pub fn most(&self, count: Count) -> Option<u64> {
        self.counts[count as usize]
    }

    /// Whether something is counted over the day.
    pub fn daily(&self) -> bool {
        [Count::Sessions, Count::Passes, Count::Tokens].into_iter().any(|count| self.most(count).is_some())
    }

    /// Whether an entry may be asked for, and all that it reveals. The count of elements out of their ranges always may.
    pub fn allow(&self, entry: &Program) -> Result<(), Refusal> {
        let lacks = |list: usize, name: &str| {
            self.lists[list].as_ref().is_some_and(|names| !names.iter().any(|known| known == name))
        };
        if lacks(ENTRIES, &entry.name) {
            return Err(Refusal::NotAllowed { what: format!("entry `{}`", entry.name) });
        }
        let outside = entry.outside().map(|outside| outside.index());
        let outputs = entry.outputs.iter().enumerate().filter(|(index, _)| Some(*index) != outside);
        match outputs.map(|(_, output)| &output.name).find(|name| lacks(OUTPUTS, name)) {
            Some(name) => Err(Refusal::NotAllowed { what: format!("output `{name}` of entry `{}`", entry.name) }),
            None => Ok(()),
        }
    }
}

/// As they are written, with a space between them; nothing if there are none.
impl fmt::Display for Limits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts = COUNTS.iter().zip(&self.counts).filter_map(|(key, n)| Some(format!("{key}={}", (*n)?)));
        let lists =
            LISTS.iter().zip(&self.lists).filter_map(|(key, n)| Some(format!("{key}={}", n.as_ref()?.join(","))));
        f.write_str(&counts.chain(lists).collect::<Vec<_>>().join(" "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(text: &str) -> Limits {
        Limits::of(text.split_whitespace().map(|limit| limit.parse().unwrap()))
    }

    #[test]
    fn limits_are_read_as_they_are_written() {
        let text = "sessions=2 sessions-a-day=50 tokens-a-day=0 entries=prefill.4,decode.16 outputs=token";
        assert_eq!(limits(text).to_string(), text);
        assert_eq!(Limits::default().to_string(), "");
        assert_eq!(limits("sessions=2 sessions=any"), Limits::default());
        for bad in
            ["", "sessions", "sessions=", "sessions=-1", "tokens=5", "entries=", "entries=a,,b", "outputs=a\u{1b}"]
        {
            assert!(bad.parse::<Limit>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn own_limits_go_before_those_of_all() {
        let both = limits("sessions=5 outputs=y").or(&limits("sessions=2 tokens-a-day=9 outputs=x"));
        assert_eq!(both, limits("sessions=5 tokens-a-day=9 outputs=y"));
        assert!(both.daily() && !limits("sessions=5 outputs=y").daily());
    }

    #[test]
    fn entries_and_outputs_are_allowed_by_name() {
        let text = "schedule @main {\n  in0 = input \"x\" [1,4] fixed : share<32.8>[1,4]\n  out0 = output \"y\" [1,4] to client\n\n  \
                    v0 = input in0 : share<32.8>[1,4]\n  reveal v0, out0 {to=client}\n}\n";
        let program = ir::parse(text).unwrap_or_else(|e| panic!("{e}"));
        for good in ["", "entries=main", "entries=other,main outputs=y", "sessions=0"] {
            assert_eq!(limits(good).allow(&program), Ok(()), "{good}");
        }
        for bad in ["entries=other", "outputs=z", "entries=main outputs=z,Y"] {
            assert!(matches!(limits(bad).allow(&program), Err(Refusal::NotAllowed { .. })), "{bad}");
        }
    }
}
