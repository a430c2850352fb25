//! Python's methods of strings, lists and mappings, those that change nothing. Others are unknown, as in jinja2's sandbox.

use std::sync::Arc;

use minijinja::value::{Enumerator, Kwargs, Object, ObjectRepr, Tuple, ValueKind};
use minijinja::{Error, ErrorKind, State, Value};

use super::python::{fault, integer, is_space, kwargs, text_of};

/// Longest text that a method makes, in bytes.
const LONGEST: usize = 1 << 24;

/// Answers a method call that minijinja has no answer to.
pub(super) fn call(state: &mut State, value: &Value, name: &str, given: &[Value]) -> Result<Value, Error> {
    let arguments = Arguments::new(given)?;
    let found = match (value.kind(), value.as_str()) {
        (ValueKind::String, Some(text)) => string(state, text, name, &arguments)?,
        (ValueKind::Map, _) => mapping(value, name, &arguments)?,
        (ValueKind::Seq | ValueKind::Iterable, _) => sequence(value, name, &arguments)?,
        _ => None,
    };
    let found = found.ok_or_else(|| Error::from(ErrorKind::UnknownMethod))?;
    arguments.all_used()?;
    Ok(found)
}

/// Arguments of a call, by place or by name.
struct Arguments<'a> {
    placed: &'a [Value],
    named: Kwargs,
    most: std::cell::Cell<usize>,
}

impl<'a> Arguments<'a> {
    fn new(given: &'a [Value]) -> Result<Arguments<'a>, Error> {
        let (placed, named) = kwargs(given)?;
        Ok(Arguments { placed, named, most: 0.into() })
    }

    /// One that may be missing; none counts as missing.
    fn optional(&self, place: usize, name: &str) -> Result<Option<Value>, Error> {
        self.most.set(self.most.get().max(place + 1));
        let found = match self.placed.get(place) {
            Some(value) => Some(value.clone()),
            None => self.named.get(name)?,
        };
        Ok(found.filter(|value: &Value| !value.is_none()))
    }

    fn text(&self, place: usize) -> Result<String, Error> {
        let found = self.optional(place, "")?;
        found.as_ref().and_then(Value::as_str).map(str::to_owned).ok_or_else(|| fault("a method needs a text"))
    }

    fn text_or(&self, place: usize, name: &str) -> Result<Option<String>, Error> {
        match self.optional(place, name)? {
            None => Ok(None),
            Some(value) => {
                value.as_str().map(|text| Some(text.to_owned())).ok_or_else(|| fault("a method needs a text"))
            }
        }
    }

    fn number(&self, place: usize, name: &str, otherwise: i64) -> Result<i64, Error> {
        match self.optional(place, name)? {
            None => Ok(otherwise),
            Some(value) => integer(&value).ok_or_else(|| fault("a method needs a whole number")),
        }
    }

    fn all_used(&self) -> Result<(), Error> {
        if self.placed.len() > self.most.get() {
            return Err(fault("a method has too many arguments"));
        }
        self.named.assert_all_used()
    }
}

fn string(state: &State, text: &str, name: &str, arguments: &Arguments) -> Result<Option<Value>, Error> {
    if let Some(found) = cases(text, name).or_else(|| kinds(text, name).map(Value::from)) {
        return Ok(Some(found));
    }
    let within = |arguments: &Arguments| window(text, arguments.number(1, "", 0)?, arguments.number(2, "", i64::MAX)?);
    Ok(Some(match name {
        "strip" | "lstrip" | "rstrip" => {
            let letters = arguments.text_or(0, "")?;
            let goes = |c: char| letters.as_ref().map_or(is_space(c), |letters| letters.contains(c));
            let text = if name == "rstrip" { text } else { text.trim_start_matches(goes) };
            Value::from(if name == "lstrip" { text } else { text.trim_end_matches(goes) })
        }
        "split" | "rsplit" => {
            let (separator, most) = (arguments.text_or(0, "sep")?, arguments.number(1, "maxsplit", -1)?);
            split(text, separator.as_deref(), most, name == "rsplit")?
        }
        "splitlines" => {
            let keep = arguments.optional(0, "keepends")?.is_some_and(|keep| keep.is_true());
            lines(text, keep).into_iter().map(Value::from).collect()
        }
        "replace" => replace(text, &arguments.text(0)?, &arguments.text(1)?, arguments.number(2, "count", -1)?)?,
        "count" => {
            let (wanted, (text, _)) = (arguments.text(0)?, within(arguments)?);
            Value::from(if wanted.is_empty() { text.chars().count() + 1 } else { text.matches(&wanted).count() })
        }
        "find" | "rfind" | "index" | "rindex" => {
            let (wanted, (part, before)) = (arguments.text(0)?, within(arguments)?);
            let at = if name.starts_with('r') { part.rfind(&wanted) } else { part.find(&wanted) };
            match at {
                Some(at) => Value::from(before + part[..at].chars().count()),
                None if name.ends_with("index") => return Err(fault("the text is not there")),
                None => Value::from(-1),
            }
        }
        "startswith" | "endswith" => {
            let wanted = arguments.optional(0, "")?.ok_or_else(|| fault("a method needs a text"))?;
            let (part, _) = within(arguments)?;
            let has = |text: &str| if name == "startswith" { part.starts_with(text) } else { part.ends_with(text) };
            let all: Vec<Value> = match wanted.as_str() {
                Some(_) => vec![wanted],
                None if wanted.is_tuple() => wanted.try_iter()?.collect(),
                None => return Err(fault("a text, or a tuple of texts")),
            };
            let all: Option<Vec<&str>> = all.iter().map(Value::as_str).collect();
            Value::from(all.ok_or_else(|| fault("a text, or a tuple of texts"))?.into_iter().any(has))
        }
        "join" => join(text, &arguments.optional(0, "")?.ok_or_else(|| fault("a list to join"))?)?,
        "removeprefix" => Value::from(text.strip_prefix(&arguments.text(0)?[..]).unwrap_or(text)),
        "removesuffix" => Value::from(text.strip_suffix(&arguments.text(0)?[..]).unwrap_or(text)),
        "center" | "ljust" | "rjust" | "zfill" => {
            let width = arguments.number(0, "", 0)?;
            let fill = if name == "zfill" { Some("0".to_owned()) } else { arguments.text_or(1, "")? };
            padded(text, name, width, &fill.unwrap_or_else(|| " ".to_owned()))?
        }
        "partition" | "rpartition" => {
            let separator = arguments.text(0)?;
            let parts = if name == "partition" { text.split_once(&separator) } else { text.rsplit_once(&separator) };
            let parts = match parts {
                _ if separator.is_empty() => return Err(fault("an empty separator")),
                Some((before, after)) => [before, &separator, after],
                None if name == "partition" => [text, "", ""],
                None => ["", "", text],
            };
            Value::from(Tuple::from(parts.map(Value::from)))
        }
        // What both write alike; signs of conversion are texts of their own kind.
        "format" => {
            arguments.most.set(usize::MAX);
            let given: Vec<Value> = arguments.placed.to_vec();
            let named = arguments.named.args().map(|name| Ok((name.to_owned(), arguments.named.get(name)?)));
            let named = named.collect::<Result<Vec<(String, Value)>, Error>>()?;
            let given: Vec<Value> = given.into_iter().chain([Value::from(Kwargs::from_iter(named))]).collect();
            minijinja_contrib::pycompat::unknown_method_callback(
                &mut state.env().empty_state(),
                &Value::from(text),
                name,
                &given,
            )?
        }
        _ => return Ok(None),
    }))
}

/// Methods that change case.
fn cases(text: &str, name: &str) -> Option<Value> {
    Some(Value::from(match name {
        "upper" => text.to_uppercase(),
        "lower" => text.to_lowercase(),
        "casefold" => text.to_lowercase().replace('ß', "ss"),
        "swapcase" => text
            .chars()
            .flat_map(|c| {
                if c.is_uppercase() { c.to_lowercase().collect::<String>() } else { c.to_uppercase().collect() }
                    .chars()
                    .collect::<Vec<_>>()
            })
            .collect(),
        "capitalize" => {
            let mut letters = text.chars();
            let first: String = letters.next().into_iter().flat_map(char::to_uppercase).collect();
            first + &letters.as_str().to_lowercase()
        }
        "title" => {
            let mut within = false;
            let mut out = String::with_capacity(text.len());
            for c in text.chars() {
                let cased = c.is_uppercase() || c.is_lowercase();
                match within {
                    true => out.extend(c.to_lowercase()),
                    false => out.extend(c.to_uppercase()),
                }
                within = cased;
            }
            out
        }
        _ => return None,
    }))
}

/// Methods that ask what a text is of.
fn kinds(text: &str, name: &str) -> Option<bool> {
    let all = |of: fn(char) -> bool| !text.is_empty() && text.chars().all(of);
    let some = |of: fn(char) -> bool| text.chars().any(of);
    Some(match name {
        "isdecimal" => all(|c| c.is_ascii_digit()),
        "isdigit" => all(|c| c.is_ascii_digit() || "²³¹⁰⁴⁵⁶⁷⁸⁹₀₁₂₃₄₅₆₇₈₉".contains(c)),
        "isnumeric" => all(char::is_numeric),
        "isalnum" => all(char::is_alphanumeric),
        "isalpha" => all(char::is_alphabetic),
        "isascii" => text.is_ascii(),
        "isspace" => all(is_space),
        "islower" => some(char::is_lowercase) && !some(char::is_uppercase),
        "isupper" => some(char::is_uppercase) && !some(char::is_lowercase),
        _ => return None,
    })
}

/// Part of a text between two places that Python counts in characters, and how many come before.
fn window(text: &str, begin: i64, end: i64) -> Result<(&str, usize), Error> {
    if (begin, end) == (0, i64::MAX) {
        return Ok((text, 0));
    }
    let length = i64::try_from(text.chars().count()).map_err(|_| fault("a text that is too long"))?;
    let place = |at: i64| if at < 0 { (at + length).max(0) } else { at.min(length) };
    let (begin, end) = (place(begin), place(end));
    let byte = |at: i64| text.char_indices().nth(at as usize).map_or(text.len(), |(byte, _)| byte);
    Ok((text.get(byte(begin)..byte(end)).unwrap_or(""), begin as usize))
}

fn split(text: &str, separator: Option<&str>, most: i64, from_end: bool) -> Result<Value, Error> {
    let most = usize::try_from(most).ok();
    let mut parts: Vec<&str> = match separator {
        Some("") => return Err(fault("an empty separator")),
        Some(separator) => match (most, from_end) {
            (None, _) => text.split(separator).collect(),
            (Some(most), false) => text.splitn(most.saturating_add(1), separator).collect(),
            (Some(most), true) => text.rsplitn(most.saturating_add(1), separator).collect(),
        },
        None => words(text, most, from_end),
    };
    if from_end && (most.is_some() || separator.is_none()) {
        parts.reverse();
    }
    Ok(parts.into_iter().map(Value::from).collect())
}

/// Words between spaces, the last one with what is left; from the end backwards.
fn words(text: &str, most: Option<usize>, from_end: bool) -> Vec<&str> {
    let trim = |rest: &'_ str| -> usize { rest.len() - rest.trim_start_matches(is_space).len() };
    let mut found = Vec::new();
    let mut rest = if from_end { text.trim_end_matches(is_space) } else { &text[trim(text)..] };
    while !rest.is_empty() {
        if most == Some(found.len()) {
            found.push(if from_end { rest.trim_end_matches(is_space) } else { rest });
            break;
        }
        let at = if from_end { rest.rfind(is_space) } else { rest.find(is_space) };
        let Some(at) = at else {
            found.push(rest);
            break;
        };
        if from_end {
            let space = rest[at..].chars().next().map_or(1, char::len_utf8);
            found.push(&rest[at + space..]);
            rest = rest[..at].trim_end_matches(is_space);
        } else {
            found.push(&rest[..at]);
            rest = rest[at..].trim_start_matches(is_space);
        }
    }
    found
}

/// Lines by Python's line ends.
fn lines(text: &str, keep: bool) -> Vec<&str> {
    let ends = |c: char| matches!(c, '\n'..='\r' | '\u{1c}'..='\u{1e}' | '\u{85}' | '\u{2028}' | '\u{2029}');
    let (mut found, mut rest) = (Vec::new(), text);
    while !rest.is_empty() {
        let at = rest.find(ends).unwrap_or(rest.len());
        let end = match rest[at..].chars().next() {
            Some('\r') if rest[at + 1..].starts_with('\n') => at + 2,
            Some(c) => at + c.len_utf8(),
            None => at,
        };
        found.push(&rest[..if keep { end } else { at }]);
        rest = &rest[end..];
    }
    found
}

fn replace(text: &str, old: &str, new: &str, count: i64) -> Result<Value, Error> {
    let places = text.len() / old.len().max(1) + 1;
    if text.len().saturating_add(places.saturating_mul(new.len())) > LONGEST {
        return Err(fault("a text that is too long"));
    }
    Ok(Value::from(match usize::try_from(count) {
        Ok(count) => text.replacen(old, new, count),
        Err(_) => text.replace(old, new),
    }))
}

fn join(separator: &str, list: &Value) -> Result<Value, Error> {
    let mut out = String::new();
    for (number, item) in list.try_iter()?.enumerate() {
        if number > 0 {
            out += separator;
        }
        out += item.as_str().ok_or_else(|| fault("`join` takes texts alone"))?;
        if out.len() > LONGEST {
            return Err(fault("a text that is too long"));
        }
    }
    Ok(Value::from(out))
}

fn padded(text: &str, name: &str, width: i64, fill: &str) -> Result<Value, Error> {
    let width = usize::try_from(width).unwrap_or(0);
    if fill.chars().count() != 1 || width > LONGEST / 4 {
        return Err(fault("one character to fill with, and a width that is not too great"));
    }
    let length = text.chars().count();
    let room = width.saturating_sub(length);
    let left = match name {
        "ljust" => 0,
        // Python puts the odd one to the left if the width is odd.
        "center" => room / 2 + (room & width & 1),
        _ => room,
    };
    let (sign, rest) = match name {
        "zfill" if text.starts_with(['+', '-']) => text.split_at(1),
        _ => ("", text),
    };
    Ok(Value::from(format!("{sign}{}{rest}{}", fill.repeat(left), fill.repeat(room - left))))
}

/// Keys, values or items of a mapping: to be gone through, and no list, so they have no text.
#[derive(Debug)]
pub(super) struct View(Vec<Value>);

impl View {
    fn of(items: impl Iterator<Item = Value>) -> Value {
        Value::from_object(View(items.collect()))
    }
}

impl Object for View {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Iterable
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Values(self.0.clone())
    }

    fn enumerator_len(self: &Arc<Self>) -> Option<usize> {
        Some(self.0.len())
    }
}

fn mapping(value: &Value, name: &str, arguments: &Arguments) -> Result<Option<Value>, Error> {
    let Some(object) = value.as_object() else { return Ok(None) };
    Ok(Some(match name {
        "keys" => View::of(object.try_iter().into_iter().flatten()),
        "values" => View::of(object.try_iter_pairs().into_iter().flatten().map(|(_, value)| value)),
        "items" => {
            let pairs = object.try_iter_pairs().into_iter().flatten();
            View::of(pairs.map(|(key, value)| Value::from(Tuple::from([key, value]))))
        }
        "get" => {
            let key = arguments.placed.first().ok_or_else(|| fault("`get` needs a key"))?;
            arguments.most.set(2);
            let otherwise = || arguments.placed.get(1).cloned().unwrap_or_else(|| Value::from(()));
            object.get_value(key).unwrap_or_else(otherwise)
        }
        "copy" => value.clone(),
        _ => return Ok(None),
    }))
}

fn sequence(value: &Value, name: &str, arguments: &Arguments) -> Result<Option<Value>, Error> {
    let wanted = arguments.placed.first();
    arguments.most.set(1);
    Ok(Some(match (name, wanted) {
        ("copy", None) => value.clone(),
        ("count", Some(wanted)) => Value::from(value.try_iter()?.filter(|item| item == wanted).count()),
        ("index", Some(wanted)) => {
            let at = value.try_iter()?.position(|item| item == *wanted);
            Value::from(at.ok_or_else(|| fault("the list does not have it"))?)
        }
        _ => return Ok(None),
    }))
}

/// The text of something as Python's `str` gives it, for filters that take anything for a text.
pub(super) fn as_text(value: &Value) -> Result<String, Error> {
    let mut out = String::new();
    text_of(&mut out, value)?;
    Ok(out)
}
