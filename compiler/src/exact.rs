//! A generation in the clear: what the entries of a module give, step by step, with the integers of a private run up to the
//! rounding of `down` and `series`.

use ir::eval::{Arguments, EvalError, Session};
use ir::program::Encoding;
use ir::slots::Slots;
use ir::{OutputId, Program};

use crate::emit;
use crate::pipeline::Compiled;

/// Entries of a module for generation and the server's weights as integers.
pub struct Model<'a> {
    entries: &'a [Program],
    weights: Vec<Vec<i64>>,
}

/// A session, and what its slots hold.
pub struct Generation<'a> {
    model: &'a Model<'a>,
    session: Session,
    slots: Slots,
}

/// What a step gives.
pub struct Step {
    /// Real values of the revealed output: the token, or logits.
    pub values: Vec<f32>,
    /// Elements that left their tables, as the program counts them.
    pub outside: u64,
    /// Elements of openings that left their claims.
    pub broken: usize,
}

/// A step that could not be made.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// The module has no entry with room for a prompt or context of that many tokens.
    #[error("no entry {kind}N has room for {size}")]
    NoEntry {
        /// `prefill.` or `decode.`
        kind: &'static str,
        /// Tokens or slots.
        size: u32,
    },
    /// A public number that is none of a generation's.
    #[error("entry {entry} asks for the public number {name:?}")]
    Public {
        /// The entry.
        entry: String,
        /// Its name.
        name: String,
    },
    /// The entry does not take what it is given.
    #[error(transparent)]
    Eval(#[from] EvalError),
}

impl<'a> Model<'a> {
    /// Of a compilation.
    pub fn of(compiled: &'a Compiled) -> Model<'a> {
        let declared = compiled.schedules.first().map_or(&[][..], |entry| &entry.weights);
        let weights = declared.iter().zip(compiled.weights());
        let weights = weights.map(|(decl, value)| emit::integers(value, decl.scale)).collect();
        Model::new(&compiled.schedules, weights)
    }

    /// `weights` are those that the entries declare, as integers at their scales.
    pub fn new(entries: &'a [Program], weights: Vec<Vec<i64>>) -> Model<'a> {
        Model { entries, weights }
    }

    /// Begins a session with a prompt, padded with `padding`, and the client's noise (none for zeros).
    pub fn begin(&self, prompt: &[i64], padding: i64, noise: &[f32]) -> Result<(Generation<'_>, Step), Fault> {
        let (entry, size) = self.entry("prefill.", prompt.len() as u32)?;
        let mut ids = prompt.to_vec();
        ids.resize(size as usize, padding);
        let slots = Slots { prompt: prompt.len() as u32, prefill: size, used: size };
        let mut session = Session::default();
        let step = self.run(entry, &mut session, slots, &ids, noise)?;
        Ok((Generation { model: self, session, slots }, step))
    }

    /// The least entry of a kind that has room for `size`.
    fn entry(&self, kind: &'static str, size: u32) -> Result<(&Program, u32), Fault> {
        let sizes = self.entries.iter().filter_map(|p| Some((p, p.name.strip_prefix(kind)?.parse().ok()?)));
        sizes.filter(|s| s.1 >= size).min_by_key(|s| s.1).ok_or(Fault::NoEntry { kind, size })
    }

    fn run(
        &self,
        program: &Program,
        session: &mut Session,
        slots: Slots,
        ids: &[i64],
        noise: &[f32],
    ) -> Result<Step, Fault> {
        let one_hot = |classes: u32| move |&id: &i64| (0..i64::from(classes)).map(move |c| i64::from(c == id));
        let inputs: Vec<Vec<i64>> = program
            .inputs
            .iter()
            .map(|input| match input.encoding {
                Encoding::OneHot { classes } => ids.iter().flat_map(one_hot(classes)).collect(),
                Encoding::Fixed => {
                    let (unit, count) = (f32::from(input.ty.scale).exp2(), input.shape.elements().unwrap_or(0));
                    (0..count as usize).map(|i| (noise.get(i).unwrap_or(&0.0) * unit).round() as i64).collect()
                }
            })
            .collect();
        let public = |public: &ir::program::Public| {
            let unknown = || Fault::Public { entry: program.name.clone(), name: public.name.clone() };
            slots.public(&public.name).ok_or_else(unknown)
        };
        let publics = program.publics.iter().map(public).collect::<Result<Vec<u32>, Fault>>()?;
        let arguments = Arguments { inputs: &inputs, weights: &self.weights, publics: &publics };
        let got = session.step(program, arguments)?;
        let scale = program.output_scale(OutputId(0));
        let unit = f64::from(scale.unwrap_or(0)).exp2();
        let values = got.outputs.first().map_or(&[][..], |output| output).iter();
        let outside = got.outside(program).map_or(0, i64::unsigned_abs);
        let broken = got.broken_claims.iter().map(|b| b.1).sum();
        Ok(Step { values: values.map(|&v| (v as f64 / unit) as f32).collect(), outside, broken })
    }
}

impl Generation<'_> {
    /// Takes one token more.
    pub fn next(&mut self, token: i64, noise: &[f32]) -> Result<Step, Fault> {
        let slots = Slots { used: self.slots.used + 1, ..self.slots };
        let (entry, _) = self.model.entry("decode.", slots.used)?;
        let step = self.model.run(entry, &mut self.session, slots, &[token], noise)?;
        self.slots = slots;
        Ok(step)
    }
}
