//! The text form of the float graph (`.ssir`).
//!
//! ```text
//! graph @gpt2 {
//!   v0 = input "input_ids" : i64[1,64] client
//!   v1 = weight "transformer.wte.weight" : f32[1024,128] server, blake3 0123456789abcdef
//!   v2 = gather v1, v0 {axis 0} : f32[1,64,128] shared from "/transformer/wte/Gather"
//!   v3 = const [0.5] : f32[] public
//!   v4 = mul v2, v3 : f32[1,64,128] shared from "/Mul"
//!   outputs "logits" = v4
//! }
//! ```
//!
//! One line a node: inputs first, then operands before readers, weights and constants before the first; numbers are
//! dense. Text after `;` up to the end of the
//! line is a comment. Weights stand by name, constants of more than [`PRINTED`] elements by the head of their BLAKE3
//! digest; parsing takes both from a [`Store`]. A weight's digest may be left out of a hand-written text; where it
//! stands it is checked. `parse(print(g))` equals `g` up to node numbers. Types, owners and shapes are
//! parsed as written; whether they fit is the verifier's business.

use std::collections::{HashMap, HashSet};
use std::fmt::{self, Write};
use std::sync::Arc;

use ndarray::ArrayD;

use super::ops::{self, family};
use super::verify::Stage;
use super::{DType, Graph, Node, NodeId, Op, Owner, Tensor};

/// Constants of at most as many elements are printed in full.
pub const PRINTED: usize = 64;

impl DType {
    /// Name in the text form.
    pub fn name(self) -> &'static str {
        match self {
            DType::F32 => "f32",
            DType::I64 => "i64",
            DType::Bool => "bool",
        }
    }
}

impl Owner {
    /// Name in the text form.
    pub fn name(self) -> &'static str {
        match self {
            Owner::Public => "public",
            Owner::Client => "client",
            Owner::Server => "server",
            Owner::Shared => "shared",
        }
    }
}

impl Op {
    /// Name in the text form.
    pub fn name(&self) -> &'static str {
        (family(self).name)(self)
    }

    /// Attributes in the text form, without braces; empty where there are none.
    fn attributes(&self) -> String {
        (family(self).attributes)(self)
    }
}

/// Items between commas.
pub(super) fn list<T: fmt::Display>(items: &[T]) -> String {
    items.iter().map(T::to_string).collect::<Vec<_>>().join(", ")
}

fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '\n' => out.push_str("\\n"),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// Head of the BLAKE3 digest of a tensor's type, shape and little-endian elements, in hexadecimal.
fn digest(tensor: &Tensor) -> String {
    match tensor {
        Tensor::F32(a) => digest_f32(a),
        Tensor::I64(a) => digest_of(DType::I64, a.shape(), a.iter().map(|x| x.to_le_bytes())),
        Tensor::Bool(a) => digest_of(DType::Bool, a.shape(), a.iter().map(|&x| [u8::from(x)])),
    }
}

fn digest_f32(value: &ArrayD<f32>) -> String {
    digest_of(DType::F32, value.shape(), value.iter().map(|x| x.to_le_bytes()))
}

fn digest_of<const N: usize>(dtype: DType, shape: &[usize], elements: impl Iterator<Item = [u8; N]>) -> String {
    let mut hasher = blake3::Hasher::new();
    hasher.update(format!("{}{shape:?}", dtype.name()).as_bytes());
    let mut buffer = Vec::with_capacity(1 << 16);
    for element in elements {
        buffer.extend_from_slice(&element);
        if buffer.len() >= 1 << 16 {
            hasher.update(&buffer);
            buffer.clear();
        }
    }
    hasher.update(&buffer);
    hasher.finalize().to_hex()[..16].to_owned()
}

/// Values that the text form names instead of spelling them out.
#[derive(Clone, Default)]
pub struct Store {
    /// Weights by name.
    pub weights: HashMap<String, Arc<ArrayD<f32>>>,
    /// Constants by digest.
    constants: HashMap<String, Arc<Tensor>>,
}

impl Store {
    /// Everything that the text of `graph` refers to.
    pub fn of(graph: &Graph) -> Store {
        let mut store = Store::default();
        for node in graph.dag.node_weights() {
            match &node.op {
                Op::Weight { name, value } => drop(store.weights.insert(name.clone(), value.clone())),
                Op::Const(value) if value.shape().iter().product::<usize>() > PRINTED => {
                    store.constants.insert(digest(value), value.clone());
                }
                _ => {}
            }
        }
        store
    }
}

/// A graph with what stands at the head of its listing.
#[derive(Clone, Debug)]
pub struct Listing {
    /// Stage.
    pub stage: Stage,
    /// Name, after `@`.
    pub name: String,
    /// The graph.
    pub graph: Graph,
}

/// Writes a graph; see the module head. `name` consists of letters, digits and `_`, `.`, `-`.
pub fn print(graph: &Graph, stage: Stage, name: &str) -> String {
    let order = printed_order(graph);
    let number: HashMap<NodeId, usize> = order.iter().enumerate().map(|(i, &id)| (id, i)).collect();
    let mut out = format!("{} @{name} {{\n", stage.name());
    for (i, &id) in order.iter().enumerate() {
        let node = graph.node(id);
        write!(out, "  v{i} = {}", node.op.name()).expect("a string grows");
        match &node.op {
            Op::Input { name } | Op::Weight { name, .. } => out += &format!(" {}", quoted(name)),
            Op::Const(value) => out += &format!(" {}", constant_text(value)),
            _ => {}
        }
        let operands: Vec<String> = graph.operands(id).iter().map(|o| format!("v{}", number[o])).collect();
        if !operands.is_empty() {
            out += &format!(" {}", operands.join(", "));
        }
        let attributes = node.op.attributes();
        if !attributes.is_empty() {
            out += &format!(" {{{attributes}}}");
        }
        let shape: Vec<String> = node.shape.iter().map(usize::to_string).collect();
        out += &format!(" : {}[{}] {}", node.dtype.name(), shape.join(","), node.owner.name());
        if let Op::Weight { value, .. } = &node.op {
            out += &format!(", blake3 {}", digest_f32(value));
        }
        if node.origin != default_origin(&node.op) {
            out += &format!(" from {}", quoted(&node.origin));
        }
        out.push('\n');
    }
    for (name, id) in &graph.outputs {
        out += &format!("  outputs {} = v{}\n", quoted(name), number[id]);
    }
    out + "}\n"
}

/// Inputs, then operands before readers; constants and weights stand before their first reader.
pub fn printed_order(graph: &Graph) -> Vec<NodeId> {
    let mut order = graph.inputs.clone();
    let mut seen: HashSet<NodeId> = order.iter().copied().collect();
    let mut sources = Vec::new();
    for id in graph.order() {
        let operands = graph.operands(id);
        if operands.is_empty() {
            sources.push(id);
        } else {
            order.extend(operands.into_iter().chain([id]).filter(|&id| seen.insert(id)));
        }
    }
    // A source may be an output without a reader.
    order.extend(sources.into_iter().filter(|&id| seen.insert(id)));
    order
}

/// The origin that is not printed.
fn default_origin(op: &Op) -> &str {
    match op {
        Op::Input { name } | Op::Weight { name, .. } => name,
        _ => "",
    }
}

fn constant_text(value: &Tensor) -> String {
    if value.shape().iter().product::<usize>() > PRINTED {
        return format!("blake3 {}", digest(value));
    }
    let elements: Vec<String> = match value {
        Tensor::F32(a) => a.iter().map(|x| format!("{x:?}")).collect(),
        Tensor::I64(a) => a.iter().map(i64::to_string).collect(),
        Tensor::Bool(a) => a.iter().map(bool::to_string).collect(),
    };
    format!("[{}]", elements.join(", "))
}

/// Why a text is no graph, and where. Line and column count from 1.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{line}:{column}: {message}")]
pub struct ParseError {
    /// Line.
    pub line: usize,
    /// Column, in characters.
    pub column: usize,
    /// What is wrong there.
    pub message: String,
}

/// Reads what [`print()`] writes.
pub fn parse(text: &str, store: &Store) -> Result<Listing, ParseError> {
    let mut parser = Parser { text, at: 0 };
    let stage = parser.choice("`graph` or `fused`", |word| match word {
        "graph" => Some(Stage::Graph),
        "fused" => Some(Stage::Fused),
        _ => None,
    })?;
    parser.expect('@')?;
    let name = parser.word("a name")?.to_owned();
    parser.expect('{')?;
    let mut graph = Graph::default();
    while !parser.eat('}') {
        let start = parser.mark();
        match parser.word("`v0 = ..`, `outputs` or `}`")? {
            "outputs" => loop {
                let name = parser.string()?;
                parser.expect('=')?;
                let id = parser.value(&graph)?;
                graph.outputs.push((name, id));
                if !parser.eat(',') {
                    break;
                }
            },
            word => {
                let next = format!("v{}", graph.dag.node_count());
                if word != next {
                    return Err(parser.error(start, format!("expected {next}, found {word}")));
                }
                parser.expect('=')?;
                parser.node(&mut graph, store)?;
            }
        }
    }
    match parser.rest().is_empty() {
        true => Ok(Listing { stage, name, graph }),
        false => Err(parser.error(parser.at, "expected the end of the text".into())),
    }
}

/// Reads tokens.
pub(super) struct Parser<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Parser<'a> {
    pub(super) fn error(&self, at: usize, message: String) -> ParseError {
        let before = &self.text[..at];
        let line_start = before.rfind('\n').map_or(0, |i| i + 1);
        ParseError { line: before.matches('\n').count() + 1, column: before[line_start..].chars().count() + 1, message }
    }

    /// What follows white space and comments.
    fn rest(&mut self) -> &'a str {
        loop {
            let rest = &self.text[self.at..];
            let trimmed = rest.trim_start();
            self.at += rest.len() - trimmed.len();
            if !trimmed.starts_with(';') {
                return trimmed;
            }
            self.at += trimmed.find('\n').unwrap_or(trimmed.len());
        }
    }

    /// Where the next token begins.
    pub(super) fn mark(&mut self) -> usize {
        self.rest();
        self.at
    }

    pub(super) fn eat(&mut self, c: char) -> bool {
        let found = self.rest().starts_with(c);
        self.at += if found { c.len_utf8() } else { 0 };
        found
    }

    pub(super) fn expect(&mut self, c: char) -> Result<(), ParseError> {
        match self.eat(c) {
            true => Ok(()),
            false => Err(self.unexpected(&format!("`{c}`"))),
        }
    }

    fn unexpected(&mut self, wanted: &str) -> ParseError {
        let found = match self.rest().chars().next() {
            Some(c) => format!("`{c}`"),
            None => "the end of the text".into(),
        };
        self.error(self.at, format!("expected {wanted}, found {found}"))
    }

    pub(super) fn peek_word(&mut self) -> &'a str {
        let rest = self.rest();
        let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || "_.+-".contains(c))).unwrap_or(rest.len());
        &rest[..end]
    }

    pub(super) fn word(&mut self, wanted: &str) -> Result<&'a str, ParseError> {
        let word = self.peek_word();
        if word.is_empty() {
            return Err(self.unexpected(wanted));
        }
        self.at += word.len();
        Ok(word)
    }

    /// A word that `decide` accepts.
    pub(super) fn choice<T>(&mut self, wanted: &str, decide: impl Fn(&'a str) -> Option<T>) -> Result<T, ParseError> {
        let start = self.mark();
        let word = self.word(wanted)?;
        decide(word).ok_or_else(|| self.error(start, format!("expected {wanted}, found `{word}`")))
    }

    pub(super) fn keyword(&mut self, keyword: &'static str) -> Result<(), ParseError> {
        self.choice(&format!("`{keyword}`"), |word| (word == keyword).then_some(()))
    }

    pub(super) fn number<T: std::str::FromStr>(&mut self) -> Result<T, ParseError> {
        self.choice("a number", |word| word.parse().ok())
    }

    fn string(&mut self) -> Result<String, ParseError> {
        let start = self.mark();
        self.expect('"')?;
        let mut out = String::new();
        let mut chars = self.text[self.at..].char_indices();
        while let Some((i, c)) = chars.next() {
            match c {
                '"' => {
                    self.at += i + 1;
                    return Ok(out);
                }
                '\\' => match chars.next() {
                    Some((_, 'n')) => out.push('\n'),
                    Some((_, c @ ('"' | '\\'))) => out.push(c),
                    _ => return Err(self.error(self.at + i, "unknown escape".into())),
                },
                '\n' => break,
                c => out.push(c),
            }
        }
        Err(self.error(start, "the string does not end on its line".into()))
    }

    /// Items up to a closing `end`, separated by commas.
    fn items<T>(&mut self, end: char, item: impl Fn(&mut Self) -> Result<T, ParseError>) -> Result<Vec<T>, ParseError> {
        let mut items = Vec::new();
        while !self.eat(end) {
            if !items.is_empty() {
                self.expect(',')?;
            }
            items.push(item(self)?);
        }
        Ok(items)
    }

    fn value(&mut self, graph: &Graph) -> Result<NodeId, ParseError> {
        let start = self.mark();
        let word = self.word("a value")?;
        match word.strip_prefix('v').and_then(|n| n.parse::<u32>().ok()) {
            Some(n) if (n as usize) < graph.dag.node_count() => Ok(NodeId::new(n as usize)),
            _ => Err(self.error(start, format!("{word} is no earlier value"))),
        }
    }

    /// Everything after `v0 =`.
    fn node(&mut self, graph: &mut Graph, store: &Store) -> Result<(), ParseError> {
        let start = self.mark();
        let name = self.word("an operation")?;
        // Sources have a name or elements where others have operands; elements need the type that follows them.
        let label = if matches!(name, "input" | "weight") { self.string()? } else { String::new() };
        let literal = if name == "const" { Some(self.literal()?) } else { None };
        let mut operands = Vec::new();
        while self.peek_word().starts_with('v') {
            operands.push(self.value(graph)?);
            if !self.eat(',') {
                break;
            }
        }
        let fixed = self.operation(start, name)?;
        self.expect(':')?;
        let dtype = self.choice("an element type", |word| {
            [DType::F32, DType::I64, DType::Bool].into_iter().find(|d| d.name() == word)
        })?;
        self.expect('[')?;
        let shape: Vec<usize> = self.items(']', |p| p.number())?;
        let owner = self.choice("an owner", |word| {
            [Owner::Public, Owner::Client, Owner::Server, Owner::Shared].into_iter().find(|o| o.name() == word)
        })?;
        let op = match (name, literal, fixed) {
            ("input", ..) => Op::Input { name: label },
            ("weight", ..) => {
                let Some(value) = store.weights.get(&label) else {
                    return Err(self.error(start, format!("no weight is called {label:?}")));
                };
                if self.eat(',') {
                    self.keyword("blake3")?;
                    let wanted = self.word("a digest")?;
                    if digest_f32(value) != wanted {
                        return Err(self.error(start, format!("weight {label:?} has another digest than {wanted}")));
                    }
                }
                Op::Weight { name: label, value: value.clone() }
            }
            (_, Some(literal), _) => {
                Op::Const(literal.tensor(dtype, &shape, store).map_err(|message| self.error(start, message))?)
            }
            (_, _, Some(op)) => op,
            (_, None, None) => return Err(self.error(start, format!("no operation is called {name}"))),
        };
        let mut origin = default_origin(&op).to_owned();
        if self.peek_word() == "from" {
            self.keyword("from")?;
            origin = self.string()?;
        }
        let is_input = matches!(op, Op::Input { .. });
        let id = graph.add(Node { op, shape, dtype, owner, origin }, &operands);
        if is_input {
            graph.inputs.push(id);
        }
        Ok(())
    }

    fn literal(&mut self) -> Result<Literal<'a>, ParseError> {
        if self.eat('[') {
            return Ok(Literal::Elements(self.items(']', |p| p.word("an element"))?));
        }
        self.keyword("blake3")?;
        Ok(Literal::Digest(self.word("a digest")?))
    }

    /// An operation with its attributes; none for a source or an unknown name.
    fn operation(&mut self, start: usize, name: &str) -> Result<Option<Op>, ParseError> {
        let braces = self.eat('{');
        let op = ops::parse(self, name, braces)?;
        let attributes = op.as_ref().is_some_and(|op| !op.attributes().is_empty());
        match (braces, attributes) {
            (true, true) => self.expect('}').map(|()| op),
            (true, false) => Err(self.error(start, format!("{name} has no attributes"))),
            (false, true) => Err(self.error(start, format!("{name} needs attributes"))),
            (false, false) => Ok(op),
        }
    }

    /// A number after a keyword.
    pub(super) fn named<T: std::str::FromStr>(&mut self, keyword: &'static str) -> Result<T, ParseError> {
        self.keyword(keyword)?;
        self.number()
    }

    /// Whether a word and a comma stand next, which are read.
    pub(super) fn flag(&mut self, name: &'static str) -> Result<bool, ParseError> {
        if self.peek_word() != name {
            return Ok(false);
        }
        self.keyword(name)?;
        self.expect(',').map(|()| true)
    }

    /// Numbers between commas, at least one.
    pub(super) fn numbers<T: std::str::FromStr>(&mut self) -> Result<Vec<T>, ParseError> {
        let mut numbers = vec![self.number()?];
        while self.eat(',') {
            numbers.push(self.number()?);
        }
        Ok(numbers)
    }

    pub(super) fn pair<T: std::str::FromStr>(&mut self, separator: &str, wanted: &str) -> Result<(T, T), ParseError> {
        self.choice(wanted, |word| {
            let (a, b) = word.split_once(separator)?;
            Some((a.parse().ok()?, b.parse().ok()?))
        })
    }

    pub(super) fn range<T: std::str::FromStr>(&mut self) -> Result<(T, T), ParseError> {
        self.pair("..", "a range such as 0..8")
    }
}

/// The value of a constant before its type is known.
enum Literal<'a> {
    Elements(Vec<&'a str>),
    Digest(&'a str),
}

impl Literal<'_> {
    fn tensor(&self, dtype: DType, shape: &[usize], store: &Store) -> Result<Arc<Tensor>, String> {
        fn array<T: std::str::FromStr>(words: &[&str], shape: &[usize]) -> Result<ArrayD<T>, String> {
            let parsed: Result<Vec<T>, String> =
                words.iter().map(|w| w.parse().map_err(|_| format!("`{w}` is no element of that type"))).collect();
            let count = words.len();
            ArrayD::from_shape_vec(shape, parsed?).map_err(|_| format!("{count} elements do not fill {shape:?}"))
        }
        match self {
            Literal::Elements(words) => Ok(Arc::new(match dtype {
                DType::F32 => Tensor::F32(array(words, shape)?),
                DType::I64 => Tensor::I64(array(words, shape)?),
                DType::Bool => Tensor::Bool(array(words, shape)?),
            })),
            Literal::Digest(wanted) => match store.constants.get(*wanted) {
                Some(value) if value.shape() == shape && value.dtype() == dtype => Ok(value.clone()),
                Some(_) => Err(format!("constant {wanted} has another type or shape")),
                None => Err(format!("no constant has digest {wanted}")),
            },
        }
    }
}
