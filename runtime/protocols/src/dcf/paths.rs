//! How the paths of one element's points branch.

use super::evaluate::refill;
use super::lanes::Lanes;
use ir::dcf::Layout;

/// Greatest number that `Paths::steps` has, and one: a point has at most 63 bits.
const STEPS: usize = 33;

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
        // Counted by even and odd points, which need not wait for each other. `ends[step]` begins as the step's first number.
        let mut counts = [[0u32; STEPS]; 2];
        self.steps.iter().enumerate().for_each(|(p, &step)| counts[p % 2][usize::from(step)] += 1);
        let mut ends = [0; STEPS];
        let mut before = 0;
        for (end, (even, odd)) in ends.iter_mut().zip(counts[0].iter().zip(counts[1])) {
            *end = before;
            before += even + odd;
        }
        self.numbers.resize(points.len(), 0);
        self.parents.resize(points.len(), 0);
        // By step the last point's node, and a bit for each step whose last point has come after that of all lower ones.
        let (mut last, mut steps_of_last) = ([0; STEPS], 1u64);
        for ((number, &step), &y) in self.numbers.iter_mut().zip(&self.steps).zip(points) {
            let step = usize::from(step);
            *number = ends[step];
            ends[step] += 1;
            // The run that it leaves begins with the last point of a lower step.
            steps_of_last = steps_of_last & ((1 << step) - 1) | 1;
            self.parents[*number as usize] = last[steps_of_last.ilog2() as usize];
            lanes.points[first + *number as usize] = [y; 2];
            last[step] = *number;
            steps_of_last |= 1 << step;
        }
        refill(&mut self.ends, ends[..steps + 2].iter().copied());
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
