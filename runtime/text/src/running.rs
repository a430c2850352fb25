//! A session over several texts, and what its state holds.
//!
//! State   The tokens that ran, in order; the one that was chosen last is no part of it until the next step takes it.
//! Reuse   A text goes on with a session if its tokens are those of the state and more. What the model wrote keeps the ids that it
//!         was written with, also where the tokenizer would cut the same text otherwise: the two are held equal as text, from
//!         the first id on in which they differ. A state has no way back: with a token too many it is of no use.
//! Given   What is not chosen by the model is given to the session, a step each. The model's choice there is passed over.

use super::text::{Text, TextError};
use super::{Cancel, GenerateError, Model, Noise, Session};
use processes::generation::Step;

/// See the module head. It is secret: no `Debug`.
pub struct Running {
    session: Box<dyn Session>,
    held: Vec<u32>,
    chosen: Option<u32>,
    /// Steps that it has room for.
    left: usize,
}

impl Running {
    /// A session that begins with so many of these tokens as a prompt may have, and those that are to be given to it.
    pub fn begin<'t>(
        model: &dyn Model,
        tokens: &'t [u32],
        noise: Noise,
        cancel: &Cancel,
    ) -> Result<(Running, &'t [u32]), GenerateError> {
        let limits = model.limits();
        let (prompt, rest) = tokens.split_at(tokens.len().min(limits.prompt()));
        let session = model.begin(prompt, noise, cancel)?;
        Ok((Running { session, held: prompt.to_vec(), chosen: None, left: limits.room(prompt.len()) }, rest))
    }

    /// Whether the step is due that reads the prompt.
    pub(super) fn is_fresh(&self) -> bool {
        self.chosen.is_none()
    }

    /// The token after `given`, or after the one that was chosen last.
    pub(super) fn step(&mut self, given: Option<u32>) -> Result<Step, GenerateError> {
        let step = self.session.next(given)?;
        self.held.extend(given.or(self.chosen));
        self.chosen = Some(step.token);
        self.left = self.left.saturating_sub(1);
        Ok(step)
    }

    /// Tokens of the state.
    pub fn held(&self) -> usize {
        self.held.len()
    }

    /// Tokens that it has room for.
    pub fn left(&self) -> usize {
        self.left
    }

    /// All tokens with those that are to be given.
    pub(super) fn with(&self, rest: &[u32]) -> Vec<u32> {
        [&self.held, rest].concat()
    }

    /// Most tokens of an answer after so many that are given.
    pub fn room(&self, given: usize) -> usize {
        (self.left + usize::from(!self.is_fresh())).saturating_sub(given)
    }

    /// What is to be given so that the state holds these tokens; none if it holds others.
    pub fn rest(&self, text: &Text, wanted: &[u32]) -> Result<Option<Vec<u32>>, TextError> {
        // What was chosen last belongs to the text if the text has it.
        let with_chosen = [&self.held[..], self.chosen.as_slice()].concat();
        for have in [&with_chosen, &self.held] {
            if let Some(from) = after(text, have, wanted)? {
                let rest = [&have[self.held.len()..], &wanted[from..]].concat();
                return Ok(Some(rest).filter(|rest| !rest.is_empty()));
            }
        }
        Ok(None)
    }
}

/// The place in `wanted` up to which it is the text of `have`.
fn after(text: &Text, have: &[u32], wanted: &[u32]) -> Result<Option<usize>, TextError> {
    let same = have.iter().zip(wanted).take_while(|(a, b)| a == b).count();
    if same == have.len() {
        return Ok(Some(same));
    }
    // From a token before: what stands first may have its space stripped.
    let from = same.saturating_sub(1);
    let written = text.decode(&have[from..])?;
    if written.contains(char::REPLACEMENT_CHARACTER) {
        // Parts of characters, of which several look the same.
        return Ok(None);
    }
    for to in same..=wanted.len() {
        let cut = text.decode(&wanted[from..to])?;
        if cut == written {
            return Ok(Some(to));
        }
        if !cut.contains(char::REPLACEMENT_CHARACTER) && !written.starts_with(&cut) {
            break;
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHIPPED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../models/tiny-shakespeare/tokenizer.json");

    #[test]
    fn a_text_is_found_however_it_is_cut_into_tokens() {
        let text = Text::load(SHIPPED.as_ref()).unwrap();
        let one_by_one =
            |whole: &str| -> Vec<u32> { whole.chars().flat_map(|c| text.encode(&c.to_string()).unwrap()).collect() };
        let (said, next) = ("First Citizen:\nSpeak,", "\nAll: é");
        let wanted = text.encode(&format!("{said}{next}")).unwrap();
        let own = text.encode(said).unwrap();
        assert_eq!(after(&text, &own, &wanted).unwrap(), Some(own.len()), "the same ids");
        let cut = [text.encode("First").unwrap(), one_by_one(" Citizen:\nSpeak,")].concat();
        assert_ne!(cut, own);
        let from = after(&text, &cut, &wanted).unwrap().unwrap();
        assert_eq!(text.decode(&wanted[from..]).unwrap(), next);
        // Another text, a longer one, one that ends within a token, parts of a character.
        for other in ["First Citizen:\nSpeak.", "First Citizen:\nSpeak,\nAll: éx", "First Citi"] {
            assert_eq!(after(&text, &one_by_one(other), &wanted).unwrap(), None, "{other}");
        }
        let part = text.encode("é").unwrap()[..1].to_vec();
        assert_eq!(after(&text, &[one_by_one(said), one_by_one("\nAll: "), part].concat(), &wanted).unwrap(), None);
    }
}
