//! `sscc cost --making`: what the two parties exchange to make what a run or a text takes.

use std::path::Path;

use ir::bytecode::Module;
use ir::weights::Weights;
use ir::{Program, Weight, pair};
use serde_json::{Value, json};

use crate::accuracy::Files;
use crate::diagnostic::{Code, Diagnostic};
use crate::lower::variant::Link;
use crate::predict::making::{Making, Session, square_bits};
use crate::report::size;

const HEAD: &str = "made by both";

/// What is made over one connection: a run, or the steps of a text.
pub(super) struct Made {
    /// For people, by what there is after how many steps.
    stages: Vec<(String, Making)>,
    link: Option<Link>,
}

impl Made {
    /// Of a program whose weights lie beside it: its only entry once, or the least prompt and a text of `tokens`.
    pub(super) fn new(
        (program, module, hash): (&Path, Module, [u8; 32]),
        tokens: usize,
        link: Option<Link>,
    ) -> Result<Made, Diagnostic> {
        if let Some(entry) = module.entries.iter().find(|entry| pair::unmade(entry).is_some()) {
            return Err(Diagnostic::new(Code::Unmade, "two parties cannot make the material of this program")
                .at(program.display().to_string())
                .because(format!("Entry {} was compiled for a dealer.", entry.name))
                .help("compile it with --material pair"));
        }
        let files = Files::read(program, module, hash)?;
        let (module, weights) = files.parts();
        let steps = steps(&module.entries, tokens);
        let bits = squares(&module.entries[0], &weights);
        let squares = |weight: Weight| bits[weight.index()];
        let mut session = Session::new(steps.clone(), &squares, link.unwrap_or(Link::LAN));
        let mut stages = Vec::new();
        for (number, step) in steps.iter().enumerate() {
            session.step().map_err(|error| {
                Diagnostic::new(Code::Unmade, format!("two parties cannot make the material of {}: {error}", step.name))
                    .at(program.display().to_string())
            })?;
            match number {
                0 => stages.push((step.name.clone(), session.spent())),
                _ if number + 1 == steps.len() => stages.push((format!("and {number} tokens more"), session.spent())),
                _ => {}
            }
        }
        Ok(Made { stages, link })
    }

    /// For people.
    pub(super) fn text(&self) -> String {
        let width = self.stages.iter().map(|(name, _)| name.len()).max().unwrap_or(0).max(HEAD.len());
        let row = |name: &str, [client, server, messages, transfers]: [&str; 4]| {
            format!("{name:<width$}  {client:>12}  {server:>12}  {messages:>8}  {transfers:>9}\n")
        };
        let mut out = row(HEAD, ["client sends", "server sends", "messages", "transfers"]);
        for (name, making) in &self.stages {
            let [client, server] = making.sent_bytes.map(size);
            let transfers = format!("{:.1} M", making.transfers as f64 / 1e6);
            out += &row(name, [&client, &server, &making.messages.to_string(), &transfers]);
        }
        if let (Some(link), Some((_, all))) = (self.link, self.stages.last()) {
            out +=
                &format!("messages alone take {:.1} s on {link}; what the cores take comes on top\n", all.link_seconds);
        }
        out
    }

    /// As JSON: `stages`, an object for each, each with those before it.
    pub(super) fn json(&self) -> Value {
        let stage = |(name, making): &(String, Making)| {
            json!({
                "after": name,
                "client_sent_bytes": making.sent_bytes[0],
                "server_sent_bytes": making.sent_bytes[1],
                "messages": making.messages,
                "transfers": making.transfers,
                "link_seconds": self.link.map(|_| making.link_seconds),
            })
        };
        json!({ "stages": self.stages.iter().map(stage).collect::<Vec<_>>() })
    }
}

/// The entries of the steps of a text after the least prompt, as many as there are; or the only entry.
fn steps(entries: &[Program], tokens: usize) -> Vec<&Program> {
    let sizes = |kind: &str| {
        let size = |entry: &Program| entry.name.strip_prefix(kind)?.parse::<usize>().ok();
        let mut list: Vec<_> = entries.iter().filter_map(|entry| Some((size(entry)?, entry))).collect();
        list.sort_by_key(|(size, _)| *size);
        list
    };
    let (prefill, decode) = (sizes("prefill."), sizes("decode."));
    let Some(&(prompt, first)) = prefill.first() else { return vec![&entries[0]] };
    let step = |number: usize| decode.iter().find(|(room, _)| *room >= prompt + number).map(|(_, entry)| *entry);
    std::iter::once(first).chain((1..tokens).map_while(step)).collect()
}

/// Bits of the greatest sum of squares of a column, of each matrix.
fn squares(program: &Program, weights: &Weights) -> Vec<u64> {
    let of = |declared: &ir::program::WeightDecl| {
        let (tensor, bytes) = weights.tensor(&declared.name).expect("checked: every declared weight is there");
        let columns = declared.shape.0.last().map_or(1, |&columns| columns as usize);
        square_bits(ir::weights::decode_values(tensor.element, bytes), columns)
    };
    program.weights.iter().map(of).collect()
}
