//! A generation in the clear, step by step.

use ir::eval::Session;
use ir::program::{Encoding, Input, Public};
use ir::slots::Slots;
use ndarray::{ArrayD, IxDyn};

use super::{Exact, Outcome};
use crate::diagnostic::{Code, Diagnostic};
use crate::graph::Tensor;

/// A session, and what its slots hold.
pub struct Decoding<'a> {
    exact: &'a Exact<'a>,
    session: Session,
    slots: Slots,
}

impl<'a> Decoding<'a> {
    /// Begins a session with a prompt, padded with `padding`, and the client's noise (none for zeros).
    pub fn begin(
        exact: &'a Exact<'a>,
        prompt: &[i64],
        padding: i64,
        noise: &[f32],
    ) -> Result<(Decoding<'a>, Outcome), Diagnostic> {
        let (entry, size) = entry(exact, "prefill.", prompt.len() as u32)?;
        let mut ids = prompt.to_vec();
        ids.resize(size as usize, padding);
        let slots = Slots { prompt: prompt.len() as u32, prefill: size, used: size };
        let mut decoding = Decoding { exact, session: Session::default(), slots };
        let outcome = decoding.step(entry, slots, &ids, noise)?;
        Ok((decoding, outcome))
    }

    /// Takes one token more.
    pub fn next(&mut self, token: i64, noise: &[f32]) -> Result<Outcome, Diagnostic> {
        let slots = Slots { used: self.slots.used + 1, ..self.slots };
        let (entry, _) = entry(self.exact, "decode.", slots.used)?;
        let outcome = self.step(entry, slots, &[token], noise)?;
        self.slots = slots;
        Ok(outcome)
    }

    fn step(&mut self, entry: usize, slots: Slots, ids: &[i64], noise: &[f32]) -> Result<Outcome, Diagnostic> {
        let program = &self.exact.entries[entry];
        let array = |input: &Input| {
            let shape: Vec<usize> = input.shape.0.iter().map(|&d| d as usize).collect();
            let count = shape.iter().product();
            let array = match input.encoding {
                Encoding::OneHot { .. } => ArrayD::from_shape_vec(IxDyn(&shape), ids.to_vec()).map(Tensor::I64),
                Encoding::Fixed => {
                    let noise = (0..count).map(|i| noise.get(i).copied().unwrap_or(0.0)).collect();
                    ArrayD::from_shape_vec(IxDyn(&shape), noise).map(Tensor::F32)
                }
            };
            array.map(|array| (input.name.clone(), array)).map_err(|_| {
                let (got, name) = (ids.len(), &input.name);
                unfit(format!("entry {} takes {count} numbers as \"{name}\", not {got}", program.name))
            })
        };
        let sample = program.inputs.iter().map(array).collect::<Result<_, _>>()?;
        let public = |public: &Public| {
            let unknown = || unfit(format!("entry {} asks for the public number {:?}", program.name, public.name));
            slots.public(&public.name).ok_or_else(unknown)
        };
        let publics = program.publics.iter().map(public).collect::<Result<Vec<u32>, _>>()?;
        self.exact.step(&mut self.session, entry, &sample, &publics, &mut |_, _| {})
    }
}

/// The least entry of a kind that has room for `size`, and its size.
fn entry(exact: &Exact, kind: &str, size: u32) -> Result<(usize, u32), Diagnostic> {
    let sizes =
        exact.entries.iter().enumerate().filter_map(|(i, p)| Some((i, p.name.strip_prefix(kind)?.parse().ok()?)));
    let none = || unfit(format!("no entry {kind}N has room for {size}"));
    sizes.filter(|s| s.1 >= size).min_by_key(|s| s.1).ok_or_else(none)
}

fn unfit(why: String) -> Diagnostic {
    Diagnostic::new(Code::InputValue, "the program cannot run on this input").because(format!("{why}."))
}
