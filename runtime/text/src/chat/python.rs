//! What makes minijinja answer as jinja2 does in Python.
//!
//! minijinja is close; here is what it lacks or does otherwise: the text of values, methods, some filters and tests. [`set_up`] takes
//! away what would answer otherwise than Python and cannot be made equal.

use std::fmt::Write;

use minijinja::value::{Kwargs, Rest, ValueKind, ValueOrKwargs};
use minijinja::{AutoEscape, Environment, Error, ErrorKind, Output, State, Value, escape_formatter};

use super::json;
use super::methods::{self, View, as_text};

/// Deepest nesting of a value that has a text.
const DEPTH: usize = 100;

/// Makes an environment Python's.
pub(super) fn set_up(environment: &mut Environment) {
    environment.set_unknown_method_callback(methods::call);
    environment.set_formatter(put);
    environment.add_filter("tojson", |value: &Value, arguments: Rest<ValueOrKwargs>| {
        json::tojson(value, &arguments.into_values())
    });
    environment.add_filter(ITERATE, iterate);
    environment.add_filter(FORMAT, percent);
    environment.add_filter("string", |value: &Value| as_text(value));
    environment.add_filter("trim", trim);
    environment.add_filter("title", title);
    environment.add_filter("join", join);
    environment.add_filter("default", default);
    environment.add_filter("d", default);
    environment.add_filter("int", int);
    environment.add_filter("float", |value: &Value, otherwise: Option<f64>| {
        let text = value.as_str().map(|text| text.trim_matches(is_space).parse().ok());
        text.unwrap_or_else(|| f64::try_from(value.clone()).ok()).unwrap_or(otherwise.unwrap_or(0.0))
    });
    // An attribute, which an item is not.
    environment.add_filter("attr", |value: &Value, name: &str| match value.kind() {
        ValueKind::Plain => value.get_attr(name),
        _ => Ok(Value::UNDEFINED),
    });
    environment.add_test("callable", |value: &Value| matches!(value.kind(), ValueKind::Plain | ValueKind::Undefined));
    let contains = |value: &Value| match value.kind() {
        // Of what can be gone through, slices are lists.
        ValueKind::Iterable => !is_view(value),
        kind => matches!(kind, ValueKind::String | ValueKind::Seq | ValueKind::Map | ValueKind::Undefined),
    };
    environment.add_test("sequence", contains);
    environment.add_test("iterable", move |value: &Value| contains(value) || value.kind() == ValueKind::Iterable);
    environment.add_function("joiner", minijinja_contrib::globals::joiner);
    for other in ["pprint", "bool", "split", "lines", "chain", "zip"] {
        environment.remove_filter(other);
    }
}

/// The name of the filter that a loop's list passes through.
pub(super) const ITERATE: &str = "__iterate";

/// The name of the filter that a text with `%` passes through.
pub(super) const FORMAT: &str = "__format";

/// `text % operand`: a tuple has the arguments, a mapping has them by name, all else is the one argument.
fn percent(state: &mut State, text: &Value, operand: &Value) -> Result<Value, Error> {
    let arguments = match operand.is_tuple() {
        true => operand.try_iter()?.collect(),
        false => vec![operand.clone()],
    };
    let plain = |value: Value| match value.kind() {
        ValueKind::Seq | ValueKind::None | ValueKind::Bool => as_text(&value).map(Value::from),
        _ => Ok(value),
    };
    let arguments = arguments.into_iter().map(plain).collect::<Result<Vec<Value>, Error>>()?;
    state.apply_filter("format", &[vec![text.clone()], arguments].concat())
}

/// A list of what Python would go through: so a loop knows its length, and nothing that has no items is empty in silence.
fn iterate(value: &Value) -> Result<Value, Error> {
    match value.kind() {
        ValueKind::Undefined => Ok(Value::from(Vec::<Value>::new())),
        ValueKind::String => {
            Ok(value.as_str().unwrap_or_default().chars().map(String::from).map(Value::from).collect())
        }
        ValueKind::Seq | ValueKind::Map => Ok(value.clone()),
        ValueKind::Iterable => value.try_iter()?.checked().collect(),
        kind => Err(Error::new(ErrorKind::InvalidOperation, format!("{kind} cannot be gone through"))),
    }
}

/// Writes what an expression gives.
fn put(out: &mut Output, state: &mut State, value: &Value) -> Result<(), Error> {
    if value.as_str().is_some() || *state.auto_escape() != AutoEscape::None {
        return escape_formatter(out, state, value);
    }
    Ok(out.write_str(&as_text(value)?)?)
}

/// Arguments in their order, and those that are named.
pub(super) fn kwargs(arguments: &[Value]) -> Result<(&[Value], Kwargs), Error> {
    match arguments.split_last() {
        Some((last, before)) if last.is_kwargs() => Ok((before, Kwargs::try_from(last.clone())?)),
        _ => Ok((arguments, Kwargs::from_iter(std::iter::empty::<(String, Value)>()))),
    }
}

/// Whether something is to be gone through and nothing else.
pub(super) fn is_view(value: &Value) -> bool {
    value.downcast_object_ref::<View>().is_some()
}

pub(super) fn fault(what: &'static str) -> Error {
    Error::new(ErrorKind::InvalidOperation, what)
}

/// What Python takes for a space.
pub(super) fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c)
}

/// A float that is no whole number to Python.
pub(super) fn float(value: &Value) -> Option<f64> {
    (value.kind() == ValueKind::Number && !value.is_integer()).then(|| f64::try_from(value.clone()).ok()).flatten()
}

/// A whole number, or a truth value as one.
pub(super) fn integer(value: &Value) -> Option<i64> {
    match value.kind() {
        ValueKind::Bool => Some(value.is_true().into()),
        _ => value.as_i64().filter(|_| value.is_integer()),
    }
}

/// A float as Python's `repr` writes it: the shortest digits that give it back, with an exponent below 1e-4 and from 1e16 on.
pub(super) fn float_text(number: f64) -> String {
    if number.is_nan() {
        return "nan".to_owned();
    }
    if number.is_infinite() {
        return if number > 0.0 { "inf" } else { "-inf" }.to_owned();
    }
    if number == 0.0 || (1e-4..1e16).contains(&number.abs()) {
        return format!("{number:?}");
    }
    let text = format!("{number:e}");
    let (digits, exponent) = text.split_once('e').expect("an exponent");
    let (sign, exponent) = match exponent.strip_prefix('-') {
        Some(exponent) => ('-', exponent),
        None => ('+', exponent),
    };
    format!("{digits}e{sign}{exponent:0>2}")
}

/// Appends Python's `str` of a value.
pub(super) fn text_of(out: &mut String, value: &Value) -> Result<(), Error> {
    match value.kind() {
        ValueKind::Undefined => Ok(()),
        ValueKind::String => {
            out.push_str(value.as_str().unwrap_or_default());
            Ok(())
        }
        _ => repr(out, value, 0),
    }
}

/// Appends Python's `repr` of a value. Iterators and functions have none that means anything.
fn repr(out: &mut String, value: &Value, depth: usize) -> Result<(), Error> {
    if depth > DEPTH {
        return Err(fault("a value is nested too deep"));
    }
    match value.kind() {
        ValueKind::Undefined => out.push_str("Undefined"),
        ValueKind::None => out.push_str("None"),
        ValueKind::Bool => out.push_str(if value.is_true() { "True" } else { "False" }),
        ValueKind::Number => match float(value) {
            Some(number) => out.push_str(&float_text(number)),
            None => out.push_str(&value.to_string()),
        },
        ValueKind::String => quoted(out, value.as_str().unwrap_or_default()),
        ValueKind::Seq | ValueKind::Iterable if !is_view(value) => {
            let (open, close) = if value.is_tuple() { ('(', ')') } else { ('[', ']') };
            out.push(open);
            let items: Vec<Value> = value.try_iter()?.collect();
            for (number, item) in items.iter().enumerate() {
                out.push_str(if number > 0 { ", " } else { "" });
                repr(out, item, depth + 1)?;
            }
            out.push_str(if value.is_tuple() && items.len() == 1 { "," } else { "" });
            out.push(close);
        }
        ValueKind::Map => {
            out.push('{');
            for (number, key) in value.try_iter()?.enumerate() {
                out.push_str(if number > 0 { ", " } else { "" });
                repr(out, &key, depth + 1)?;
                out.push_str(": ");
                repr(out, &value.get_item(&key)?, depth + 1)?;
            }
            out.push('}');
        }
        kind => return Err(Error::new(ErrorKind::InvalidOperation, format!("{kind} has no text; make it a `list`"))),
    }
    Ok(())
}

/// A text in quotes, with escapes for what Python does not print.
fn quoted(out: &mut String, text: &str) {
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    out.push(quote);
    for c in text.chars() {
        match c {
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c == '\\' || c == quote => out.extend(['\\', c]),
            c if printable(c) => out.push(c),
            c => {
                let _ = match u32::from(c) {
                    code @ ..0x100 => write!(out, "\\x{code:02x}"),
                    code @ ..0x10000 => write!(out, "\\u{code:04x}"),
                    code => write!(out, "\\U{code:08x}"),
                };
            }
        }
    }
    out.push(quote);
}

/// Whether Python prints a character as itself: no controls, no spaces but the one, no format signs, nothing private.
fn printable(c: char) -> bool {
    let format = matches!(c, '\u{ad}' | '\u{600}'..='\u{605}' | '\u{61c}' | '\u{6dd}' | '\u{70f}' | '\u{180e}' | '\u{200b}'..='\u{200f}'
        | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0001}'..='\u{e007f}');
    let private = matches!(c, '\u{e000}'..='\u{f8ff}' | '\u{f0000}'..);
    !(c.is_control() || (c != ' ' && c.is_whitespace()) || format || private)
}

/// `trim`, of anything's text.
fn trim(value: &Value, letters: Option<&str>) -> Result<String, Error> {
    let goes = |c: char| letters.map_or(is_space(c), |letters| letters.contains(c));
    Ok(as_text(value)?.trim_matches(goes).to_owned())
}

/// `title`: the first letter of each word, which begins after a space, a hyphen or an opening bracket.
fn title(value: &Value) -> Result<String, Error> {
    let (mut out, mut begins) = (String::new(), true);
    for c in as_text(value)?.chars() {
        match begins {
            true => out.extend(c.to_uppercase()),
            false => out.extend(c.to_lowercase()),
        }
        begins = is_space(c) || "-({[<".contains(c);
    }
    Ok(out)
}

/// `join`, of the texts of anything.
fn join(value: &Value, separator: Option<&str>, named: Kwargs) -> Result<String, Error> {
    let (attribute, d): (Option<&str>, Option<&str>) = (named.get("attribute")?, named.get("d")?);
    named.assert_all_used()?;
    let separator = separator.or(d).unwrap_or_default();
    let mut out = String::new();
    for (number, item) in iterate(value)?.try_iter()?.enumerate() {
        out.push_str(if number > 0 { separator } else { "" });
        let item = match attribute {
            Some(path) => path.split('.').try_fold(item, |item, name| item.get_attr(name))?,
            None => item,
        };
        text_of(&mut out, &item)?;
    }
    Ok(out)
}

/// `default`, by place or by name.
fn default(value: &Value, arguments: Rest<ValueOrKwargs>) -> Result<Value, Error> {
    let arguments = arguments.into_values();
    let (placed, named) = kwargs(&arguments)?;
    let otherwise = match placed.first() {
        Some(given) => given.clone(),
        None => named.get::<Option<Value>>("default_value")?.unwrap_or_else(|| Value::from("")),
    };
    let falsy = match placed.get(1) {
        Some(given) => given.is_true(),
        None => named.get::<Option<bool>>("boolean")?.unwrap_or(false),
    };
    named.assert_all_used()?;
    Ok(if value.is_undefined() || (falsy && !value.is_true()) { otherwise } else { value.clone() })
}

/// `int`: digits in a base, a float cut off, or else something else.
fn int(value: &Value, otherwise: Option<i64>, base: Option<u32>) -> Value {
    let base = base.unwrap_or(10);
    let read = match value.as_str() {
        Some(text) => {
            let text = text.trim_matches(is_space);
            let bare = match base {
                16 => text.trim_start_matches("0x").trim_start_matches("0X"),
                8 => text.trim_start_matches("0o"),
                2 => text.trim_start_matches("0b"),
                _ => text,
            };
            let whole = (2..=36).contains(&base).then(|| i64::from_str_radix(bare, base).ok()).flatten();
            whole.or_else(|| text.parse::<f64>().ok().filter(|number| number.is_finite()).map(|number| number as i64))
        }
        None if value.is_integer() => return value.clone(),
        None => float(value).filter(|number| number.is_finite()).map(|number| number as i64).or_else(|| integer(value)),
    };
    Value::from(read.unwrap_or(otherwise.unwrap_or(0)))
}
