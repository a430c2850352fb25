//! The requests of one instruction, or of a block of it, one after another.

use crate::digits::{DIGITS, PRODUCTS, SETS};
use crate::material::unit;
use crate::ops::Place;
use crate::types::{Party, Width};

/// Correlated transfers: each of the client's choices goes with a row of numbers of the server's, and the reverse.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Transfers {
    /// Choices, the client's first.
    pub choices: [u64; 2],
    /// Numbers of a row.
    pub row: u64,
    /// Bits of a number.
    pub width: Width,
}

/// A network of switches for a permutation of one party's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Network {
    /// Whose permutation.
    pub owner: Party,
    /// Wires, 1 or more.
    pub wires: u64,
    /// Bits of a number.
    pub width: Width,
}

impl Network {
    /// Switches, of each of which the owner has a bit. Of n wires: n/2 switches on the way in and as many on the way out, and the
    /// networks of both halves.
    pub fn switches(&self) -> u64 {
        fn of(wires: u64) -> u64 {
            match wires {
                0 | 1 => 0,
                n => 2 * (n / 2) + of(n / 2) + of(n - n / 2),
            }
        }
        of(self.wires)
    }
}

/// Products of private matrices, of which the client has the left ones.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Factors {
    /// How many, of the same sizes.
    pub count: u64,
    /// Rows, depth and columns.
    pub sizes: [u64; 3],
    /// Bits of a result.
    pub width: Width,
}

/// What a job asks for at a time.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Request {
    /// Transfers.
    Transfers(Vec<Transfers>),
    /// Networks of switches.
    Switches(Vec<Network>),
    /// Products of private matrices.
    Products(Vec<Factors>),
    /// Numbers as they are.
    Tell {
        /// Who sends them.
        from: Party,
        /// How many.
        count: u64,
        /// Bits of each.
        width: Width,
    },
}

/// All requests of an instruction or a block.
pub type Job = Vec<Request>;

/// Numbers that a message of transfers has, about.
const AT_ONCE: u64 = 1 << 22;

/// An instruction, or a block of it, whose requests are listed.
#[derive(Clone, Copy)]
pub(crate) struct Making<'a> {
    /// The instruction.
    pub at: Place<'a>,
    /// Elements of the block, of what is made block by block.
    pub block: u64,
    /// Of an opening: whether nothing is made of its mask, see [`crate::pair::own_masks`].
    pub own_mask: bool,
    /// Of an opening that `exp` reads: bits of the number of a cell.
    pub cells: Option<Width>,
    /// Of a product of matrices: whether it was made before the step.
    pub ready: bool,
}

/// Lists requests as the arithmetic of `protocols::pair` makes them.
#[derive(Default)]
pub(crate) struct Requests(pub Job);

const BOTH_CHOOSE: [u64; 2] = [1, 1];
const CLIENT_CHOOSES: [u64; 2] = [1, 0];

impl Requests {
    pub fn tell(&mut self, from: Party, count: u64, width: Width) {
        self.0.push(Request::Tell { from, count, width });
    }

    pub fn switches(&mut self, networks: Vec<Network>) {
        self.0.push(Request::Switches(networks));
    }

    pub fn products(&mut self, factors: Vec<Factors>) {
        self.0.push(Request::Products(factors));
    }

    /// Of each width one vector of transfers of `count` elements.
    fn transfers(&mut self, who: [u64; 2], count: u64, row: u64, widths: impl Iterator<Item = Width>) {
        let choices = who.map(|chooses| chooses * count);
        self.0.push(Request::Transfers(widths.map(|width| Transfers { choices, row, width }).collect()));
    }

    /// The client's shares become those of its seed.
    pub fn correlation(&mut self, count: u64, bits: Width) {
        if bits > 0 {
            self.tell(Party::Client, count, bits);
        }
    }

    /// XOR-shared bits times rows of numbers.
    pub fn bit_times(&mut self, count: u64, row: u64, width: Width) {
        self.transfers(BOTH_CHOOSE, count, row, std::iter::once(width));
    }

    /// XOR-shared numbers of n bits times rows of numbers.
    pub fn times(&mut self, count: u64, n: Width, row: u64, width: Width) {
        for count in chunks(count, n, row) {
            self.transfers(BOTH_CHOOSE, count, row, (0..n.min(width)).map(|bit| width - bit));
        }
    }

    /// Each party's numbers of n bits times the other's.
    pub fn crossed(&mut self, count: u64, n: Width, width: Width) {
        self.transfers(BOTH_CHOOSE, count, 1, (0..n.min(width)).map(|bit| width - bit));
    }

    /// The client's numbers times the server's.
    pub fn cross(&mut self, count: u64, width: Width) {
        for count in chunks(count, width, 1) {
            self.transfers(CLIENT_CHOOSES, count, 1, (0..width).map(|bit| width - bit));
        }
    }

    /// The client's bits times the server's.
    pub fn both(&mut self, count: u64, width: Width) {
        self.transfers(CLIENT_CHOOSES, count, 1, std::iter::once(width));
    }

    /// Numbers of n bits from XOR shares.
    pub fn number(&mut self, count: u64, n: Width, width: Width) {
        for count in chunks(count, n, 1) {
            self.transfers(CLIENT_CHOOSES, count, 1, (0..n.min(width - 1)).map(|bit| width - bit - 1));
        }
    }

    /// Signs times rows of numbers.
    pub fn flip(&mut self, count: u64, row: u64, width: Width) {
        if width > 1 {
            self.bit_times(count, row, width - 1);
        }
    }

    /// XOR-shared bits and rows of words.
    pub fn and(&mut self, count: u64, row: u64, width: Width) {
        self.bit_times(count, row, width);
    }

    /// Unit vectors at numbers of n bits.
    pub fn units(&mut self, count: u64, n: Width) {
        for level in 1..n {
            self.and(count, 1 << level.saturating_sub(6), 1 << level.min(6));
        }
    }

    /// Unit vectors at numbers of n bits, and their shares.
    pub fn unit_vectors(&mut self, count: u64, n: Width) {
        self.units(count, n);
        let (words, bits) = unit(1 << n);
        self.correlation(count * words, bits as Width);
    }

    /// Of a comparison by digits: a unit vector for each digit, and the products of masks.
    pub fn digits(&mut self, count: u64, results: u64, digits: [Width; DIGITS]) {
        digits.into_iter().for_each(|digit| self.unit_vectors(count, digit));
        // Of the first two of e, of the third with these, then of each of l with sets of e.
        let with = |l: usize| SETS.iter().filter(|(_, of)| *of == Some(l)).count() as Width;
        for width in [1, 3].into_iter().chain((0..3).map(with)) {
            self.and(results, 1, width);
        }
        self.correlation(results, PRODUCTS);
    }
}

/// Elements that are in work at once, each with `n` rows.
fn chunks(count: u64, n: Width, row: u64) -> impl Iterator<Item = u64> {
    let at_once = (AT_ONCE / (u64::from(n.max(1)) * row.max(1))).max(1);
    let whole = count / at_once;
    let rest = count % at_once;
    std::iter::repeat_n(at_once, whole as usize).chain((rest > 0 || whole == 0).then_some(rest))
}
