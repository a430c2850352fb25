//! `tojson` as `transformers` gives it to templates: Python's `json.dumps`, with its spaces, its numbers and its order of keys.

use std::fmt::Write;

use minijinja::value::{Kwargs, ValueKind};
use minijinja::{Error, ErrorKind, Value};

use super::python::{fault, float, integer, is_view, kwargs};

/// Deepest nesting that is written.
const DEPTH: usize = 100;

/// What `json.dumps` is told.
struct Form {
    ensure_ascii: bool,
    indent: Option<String>,
    item: String,
    key: String,
    sort_keys: bool,
}

/// The filter. Arguments are those of `transformers`, in its order.
pub(super) fn tojson(value: &Value, arguments: &[Value]) -> Result<Value, Error> {
    let (mut given, named): (&[Value], Kwargs) = kwargs(arguments)?;
    let mut argument = |name: &'static str| -> Result<Option<Value>, Error> {
        let found = match given.split_first() {
            Some((first, rest)) => {
                given = rest;
                Some(first.clone())
            }
            None => named.get(name)?,
        };
        Ok(found.filter(|value| !value.is_none()))
    };
    let ensure_ascii = argument("ensure_ascii")?;
    let indent = argument("indent")?;
    let separators = argument("separators")?;
    let sort_keys = argument("sort_keys")?;
    if !given.is_empty() {
        return Err(fault("`tojson` takes four arguments"));
    }
    named.assert_all_used()?;
    let indent = match indent {
        None => None,
        Some(text) if text.as_str().is_some() => text.as_str().map(str::to_owned),
        Some(count) => {
            let count = integer(&count).ok_or_else(|| fault("`indent` is to be a number or a text"))?;
            Some(" ".repeat(usize::try_from(count.clamp(0, 64)).expect("small")))
        }
    };
    let (item, key) = match separators {
        None => (if indent.is_some() { "," } else { ", " }.to_owned(), ": ".to_owned()),
        Some(pair) => {
            let pair: Vec<Value> = pair.try_iter()?.collect();
            match pair.as_slice() {
                [item, key] => match (item.as_str(), key.as_str()) {
                    (Some(item), Some(key)) => (item.to_owned(), key.to_owned()),
                    _ => return Err(fault("`separators` are two texts")),
                },
                _ => return Err(fault("`separators` are two texts")),
            }
        }
    };
    let truth = |value: Option<Value>| value.is_some_and(|value| value.is_true());
    let form = Form { ensure_ascii: truth(ensure_ascii), indent, item, key, sort_keys: truth(sort_keys) };
    let mut out = String::new();
    form.write(&mut out, value, 0)?;
    Ok(Value::from(out))
}

impl Form {
    fn write(&self, out: &mut String, value: &Value, depth: usize) -> Result<(), Error> {
        if depth > DEPTH {
            return Err(fault("JSON is nested too deep"));
        }
        match value.kind() {
            ValueKind::None => out.push_str("null"),
            ValueKind::Bool => out.push_str(if value.is_true() { "true" } else { "false" }),
            ValueKind::Number => out.push_str(&number(value)),
            ValueKind::String => self.string(out, value.as_str().unwrap_or_default()),
            ValueKind::Seq | ValueKind::Iterable if !is_view(value) => {
                let items: Vec<Value> = value.try_iter()?.collect();
                self.list(out, ['[', ']'], items.iter(), depth, |form, out, item| form.write(out, item, depth + 1))?;
            }
            ValueKind::Map => self.map(out, value, depth)?,
            kind => return Err(Error::new(ErrorKind::BadSerialization, format!("{kind} is no JSON"))),
        }
        Ok(())
    }

    fn map(&self, out: &mut String, value: &Value, depth: usize) -> Result<(), Error> {
        let mut pairs: Vec<(Value, Value)> =
            value.try_iter()?.map(|key| Ok((key.clone(), value.get_item(&key)?))).collect::<Result<_, Error>>()?;
        if self.sort_keys {
            if pairs.iter().any(|(key, _)| key.as_str().is_none()) {
                return Err(fault("`sort_keys` sorts texts alone"));
            }
            pairs.sort_by(|a, b| a.0.as_str().cmp(&b.0.as_str()));
        }
        self.list(out, ['{', '}'], pairs.iter(), depth, |form, out, (key, value)| {
            let name = match key.kind() {
                ValueKind::String => key.as_str().unwrap_or_default().to_owned(),
                ValueKind::Bool => key.is_true().to_string(),
                ValueKind::None => "null".to_owned(),
                ValueKind::Number => number(key),
                _ => return Err(fault("a key that JSON does not have")),
            };
            form.string(out, &name);
            out.push_str(&form.key);
            form.write(out, value, depth + 1)
        })
    }

    fn list<T>(
        &self,
        out: &mut String,
        [open, close]: [char; 2],
        items: impl ExactSizeIterator<Item = T>,
        depth: usize,
        mut each: impl FnMut(&Form, &mut String, T) -> Result<(), Error>,
    ) -> Result<(), Error> {
        out.push(open);
        let some = items.len() > 0;
        for (number, item) in items.enumerate() {
            if number > 0 {
                out.push_str(&self.item);
            }
            self.line(out, depth + 1);
            each(self, out, item)?;
        }
        if some {
            self.line(out, depth);
        }
        out.push(close);
        Ok(())
    }

    fn line(&self, out: &mut String, depth: usize) {
        if let Some(indent) = &self.indent {
            out.push('\n');
            out.extend(std::iter::repeat_n(indent.as_str(), depth));
        }
    }

    fn string(&self, out: &mut String, text: &str) {
        out.push('"');
        for c in text.chars() {
            match c {
                '"' => out.push_str("\\\""),
                '\\' => out.push_str("\\\\"),
                '\n' => out.push_str("\\n"),
                '\r' => out.push_str("\\r"),
                '\t' => out.push_str("\\t"),
                '\u{8}' => out.push_str("\\b"),
                '\u{c}' => out.push_str("\\f"),
                c if c < ' ' || (self.ensure_ascii && c > '~') => {
                    for unit in c.encode_utf16(&mut [0; 2]) {
                        let _ = write!(out, "\\u{unit:04x}");
                    }
                }
                c => out.push(c),
            }
        }
        out.push('"');
    }
}

/// A number as `json.dumps` writes it.
fn number(value: &Value) -> String {
    match float(value) {
        None => value.to_string(),
        Some(number) if number.is_nan() => "NaN".to_owned(),
        Some(number) if number.is_infinite() => if number > 0.0 { "Infinity" } else { "-Infinity" }.to_owned(),
        Some(number) => super::python::float_text(number),
    }
}
