//! How the paths of one element's points branch.

use super::evaluate::refill;
use super::lanes::Lanes;
use ir::dcf::Layout;

/// How the paths of one element's points branch. A run of neighbouring points that agree in the bits so far has one node.
/// A point that differs from the point before it from some step on gets a node of its own there, a copy of the run's.
/// Nodes are numbered in the order in which they appear.
#[derive(Default)]
pub struct Paths {
    /// For each point, its node.
    numbers: Vec<u32>,
    /// For each node, the node that it is a copy of.
    parents: Vec<u32>,
    /// For each step, and beyond the last one, the nodes there are.
    ends: Vec<u32>,
    /// For each point the step that it takes first, from 1; the first has 0.
    steps: Vec<u8>,
    /// Points that the next one may branch from, by ascending step.
    stack: Vec<u32>,
}

impl Paths {
    /// Points that ascend or descend, cyclically, share most. The element's lanes, from `first` on, get
    /// their points.
    pub fn sort(&mut self, layout: Layout, points: &[u64], lanes: &mut Lanes, first: usize) {
        let steps = layout.steps();
        let step_of = |pair: &[u64]| {
            let difference = (pair[0] ^ pair[1]) >> layout.leaf_log2;
            (steps + 1 - (64 - difference.leading_zeros() as usize).div_ceil(2)) as u8
        };
        refill(&mut self.steps, std::iter::once(0).chain(points.windows(2).map(step_of)));
        // Counted, `ends[step]` begins as the first number of the step.
        let mut counts = [0u32; 34];
        self.steps.iter().for_each(|&step| counts[usize::from(step)] += 1);
        self.ends.clear();
        let mut before = 0;
        for count in &counts[..steps + 2] {
            self.ends.push(before);
            before += count;
        }
        self.numbers.resize(points.len(), 0);
        self.parents.resize(points.len(), 0);
        self.stack.clear();
        for (p, (&step, &y)) in self.steps.iter().zip(points).enumerate() {
            let end = &mut self.ends[usize::from(step)];
            let number = *end;
            *end += 1;
            // The run that it leaves begins with the last point of a lower step.
            while self.stack.last().is_some_and(|&q| self.steps[q as usize] >= step) {
                self.stack.pop();
            }
            let parent = self.stack.last().map_or(0, |&q| self.numbers[q as usize]);
            (self.numbers[p], lanes.points[first + number as usize]) = (number, [y; 2]);
            self.parents[number as usize] = parent;
            self.stack.push(p as u32);
        }
    }

    /// For each point, its node.
    pub fn numbers(&self) -> &[u32] {
        &self.numbers
    }

    /// Appends the nodes that appear before a step to the element's lanes, from lane `first` on, and says how many there are.
    pub fn branch(&self, step: usize, lanes: &mut Lanes, first: usize) -> usize {
        let start = if step == 0 { 1 } else { self.ends[step] as usize };
        let end = self.ends[step + 1] as usize;
        for (new, &parent) in (first + start..).zip(&self.parents[start..end]) {
            lanes.copy(first + parent as usize, new);
        }
        end
    }
}
