//! Entries for generation: which sizes a module has, and the graph of each.
//!
//! A session runs one `prefill.N`, whose N slots hold the prompt and padding, and then a `decode.C` for every token more:
//! any whose C slots hold all that came before and the new one. Padding takes slots too, so a context of T tokens needs
//! more than T of them; [`Plan::slots`] says how many at most.

use crate::diagnostic::{Code, Diagnostic};
use crate::graph::Graph;
use crate::lower::{Reveal, Step};
use crate::pass::resize::{self, Positions};

/// What the user may choose about generation.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Generation {
    /// Greatest number of tokens, prompt included; else as many as the model has positions.
    pub max_context: Option<usize>,
    /// Sizes of prompts; none for the default ones.
    pub prefill: Vec<usize>,
    /// Numbers of slots; none for the default ones.
    pub decode: Vec<usize>,
    /// What the client learns.
    pub reveal: Reveal,
}

/// Sizes, ascending.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Plan {
    /// Greatest number of tokens.
    pub context: usize,
    /// Sizes of prompts.
    pub prefill: Vec<usize>,
    /// Numbers of slots.
    pub decode: Vec<usize>,
}

/// An entry before it is lowered.
pub struct Entry {
    /// Its name.
    pub name: String,
    /// What it is.
    pub step: Step,
    /// What it computes.
    pub graph: Graph,
}

impl Plan {
    /// Sorts and checks the wanted sizes; fills in those that are not given.
    pub fn new(context: usize, generation: &Generation) -> Result<Plan, Diagnostic> {
        let sorted = |sizes: &[usize]| {
            let mut sizes = sizes.to_vec();
            sizes.sort_unstable();
            sizes.dedup();
            sizes
        };
        let mut plan = Plan { context, prefill: sorted(&generation.prefill), decode: sorted(&generation.decode) };
        if plan.prefill.is_empty() {
            plan.prefill = grow(16, 4, context);
        }
        if let Some(&size) = plan.prefill.iter().find(|&&size| size == 0 || size > context) {
            return Err(Diagnostic::new(Code::EntrySize, format!("--prefill {size} is not a size of a prompt"))
                .because(format!("Prompts have 1 to {context} tokens, the context.")));
        }
        if plan.decode.is_empty() {
            plan.decode = grow(32, 2, plan.slots());
            plan.decode.retain(|&slots| slots > plan.prefill[0]);
        }
        // A step looks at the least prefill and itself at least.
        let least = plan.prefill[0] + 1;
        if let Some(&slots) = plan.decode.iter().find(|&&slots| slots < least) {
            return Err(Diagnostic::new(Code::EntrySize, format!("--decode {slots} has no room for a prompt"))
                .because(format!("The least prefill and one token more take {least} slots.")));
        }
        Ok(plan)
    }

    /// Slots of the longest session: a prompt that just misses a prefill's size, continued to the end of the context.
    pub fn slots(&self) -> usize {
        let before = [0].into_iter().chain(self.prefill.iter().copied());
        let longest = self.prefill.iter().zip(before).map(|(&size, before)| size + self.context - (before + 1));
        longest.max().expect("a plan has a prefill")
    }

    /// The entries, all made of one fused graph.
    pub fn entries(&self, graph: &Graph, positions: &Positions) -> Vec<Entry> {
        let prefill = self.prefill.iter().map(|&size| Entry {
            name: format!("prefill.{size}"),
            step: Step::Prefill,
            graph: resize::first(graph, positions, size),
        });
        let decode = self.decode.iter().map(|&slots| Entry {
            name: format!("decode.{slots}"),
            step: Step::Decode { capacity: slots as u32 },
            graph: resize::one(graph, positions),
        });
        prefill.chain(decode).collect()
    }
}

/// `first`, then `factor` times as much each time, up to and with `last`.
fn grow(first: usize, factor: usize, last: usize) -> Vec<usize> {
    let mut sizes: Vec<usize> =
        std::iter::successors(Some(first), |n| n.checked_mul(factor)).take_while(|&n| n < last).collect();
    sizes.push(last);
    sizes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(context: usize, prefill: &[usize], decode: &[usize]) -> Result<Plan, Diagnostic> {
        let (prefill, decode) = (prefill.to_vec(), decode.to_vec());
        Plan::new(context, &Generation { max_context: None, prefill, decode, reveal: Reveal::Token })
    }

    #[test]
    fn default_sizes() {
        let defaults = plan(128, &[], &[]).unwrap();
        assert_eq!((defaults.prefill, defaults.decode), (vec![16, 64, 128], vec![32, 64, 128, 191]));
        let short = plan(8, &[], &[]).unwrap();
        assert_eq!((short.prefill, short.decode), (vec![8], vec![15]));
    }

    #[test]
    fn slots_of_the_longest_session() {
        // A prompt of one token takes 16 slots, and 127 tokens more fit the context.
        assert_eq!(plan(128, &[16], &[]).unwrap().slots(), 143);
        assert_eq!(plan(128, &[128, 1, 1], &[]).unwrap().slots(), 254);
    }

    #[test]
    fn sizes_without_sense() {
        for (prefill, decode) in [(&[0][..], &[][..]), (&[129], &[]), (&[16, 32], &[16])] {
            assert!(plan(128, prefill, decode).is_err(), "{prefill:?} {decode:?}");
        }
    }
}
