//! Small types that everything else is made of: identifiers, widths, scales, shapes, value types and public tables.

use std::fmt;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        pub struct $name(pub u32);

        impl $name {
            /// Position in the list that this identifier points into.
            pub fn index(self) -> usize {
                self.0 as usize
            }
        }
    };
}

id! {
    /// The result of an instruction: the index of that instruction in [`crate::Program::instrs`].
    Value
}
id! {
    /// A server-owned tensor, in [`crate::Program::weights`].
    Weight
}
id! {
    /// A public table, in [`crate::Program::tables`].
    TableId
}
id! {
    /// A client-owned input, in [`crate::Program::inputs`].
    InputId
}
id! {
    /// A public run-time number, in [`crate::Program::publics`].
    PublicId
}
id! {
    /// A declared output, in [`crate::Program::outputs`].
    OutputId
}
id! {
    /// Rows that a session keeps from step to step, in [`crate::Program::states`].
    StateId
}
id! {
    /// The ONNX node that an instruction comes from, in [`crate::Program::origins`].
    Origin
}

/// Bits of a ring: values are integers mod 2^width, 1 to 64.
pub type Width = u8;

/// Fractional bits: a ring element x of width n stands for the real number signed_n(x) / 2^scale.
pub type Scale = i16;

/// Greatest width of a share.
pub const MAX_WIDTH: Width = 64;

/// One of the two computing parties.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, PartialOrd, Ord)]
pub enum Party {
    /// P0, who holds the prompt.
    Client,
    /// P1, who holds the weights.
    Server,
}

impl Party {
    /// 0 for the client, 1 for the server.
    pub fn index(self) -> usize {
        self as usize
    }

    /// The other party.
    pub fn peer(self) -> Party {
        match self {
            Party::Client => Party::Server,
            Party::Server => Party::Client,
        }
    }
}

impl fmt::Display for Party {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Party::Client => "client",
            Party::Server => "server",
        })
    }
}

/// Dimensions of a tensor, row-major. A scalar has none.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct Shape(pub Vec<u32>);

impl Shape {
    /// Number of elements, or `None` if that overflows 64 bits.
    pub fn elements(&self) -> Option<u64> {
        self.0.iter().try_fold(1u64, |n, &d| n.checked_mul(u64::from(d)))
    }

    /// Number of dimensions.
    pub fn rank(&self) -> usize {
        self.0.len()
    }

    /// The shape of an element-wise operation on `self` and `other` under numpy's broadcasting rule.
    pub fn broadcast(&self, other: &Shape) -> Option<Shape> {
        let rank = self.rank().max(other.rank());
        let dim = |s: &Shape, i: usize| (i + s.rank()).checked_sub(rank).map_or(1, |j| s.0[j]);
        (0..rank)
            .map(|i| match (dim(self, i), dim(other, i)) {
                (a, b) if a == b => Some(a),
                (1, b) => Some(b),
                (a, 1) => Some(a),
                _ => None,
            })
            .collect::<Option<Vec<u32>>>()
            .map(Shape)
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[")?;
        for (i, d) in self.0.iter().enumerate() {
            write!(f, "{}{d}", if i == 0 { "" } else { "," })?;
        }
        f.write_str("]")
    }
}

/// What a value is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Kind {
    /// Additive shares mod 2^width, one with each party.
    Share,
    /// A value that both parties know under a uniform mask, whose shares the dealer derived correlations from. With
    /// `whole == false` it has a spare bit: |x| < 2^(width-2) is claimed, and 2^(width-2) was added before masking.
    Opened {
        /// No claim, no offset; serves reads that need no integer, and `cache`.
        whole: bool,
    },
}

/// Type of an instruction's result. Prints as `share<n.s>[shape]`, `opened<n.s>[shape]` or `whole<n.s>[shape]`.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Type {
    /// Share or opening.
    pub kind: Kind,
    /// Ring width in bits.
    pub width: Width,
    /// Fractional bits.
    pub scale: Scale,
    /// Dimensions.
    pub shape: Shape,
}

impl Type {
    /// Whether it is an opening without a claim.
    pub fn is_whole(&self) -> bool {
        self.kind == Kind::Opened { whole: true }
    }
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            Kind::Share => "share",
            Kind::Opened { whole: false } => "opened",
            Kind::Opened { whole: true } => "whole",
        };
        write!(f, "{kind}<{}.{}>{}", self.width, self.scale, self.shape)
    }
}

/// Fractional bits of the stored coefficients of a [`Table::Series`].
pub const SERIES_FRACTION: u8 = 24;

/// A public table of integers, the same for both parties and the dealer.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Table {
    /// f(x) = c0 + Σ_{k=1..K} cos[k-1]·cos(2πkx/P) + sin[k-1]·sin(2πkx/P), period P = 2^period_log2 (in real units of x).
    /// Reads the low n = period_log2 + scale(x) bits of an opening. The result has scale `public_scale + dealt_scale`.
    Series {
        /// log2 of the period.
        period_log2: i8,
        /// Fractional bits of the public integer that multiplies a dealt cosine or sine.
        public_scale: u8,
        /// Fractional bits of the dealt cosines and sines.
        dealt_scale: u8,
        /// Constant term, at the result's scale.
        c0: i64,
        /// Cosine coefficients at [`SERIES_FRACTION`] fractional bits.
        cos: Vec<i64>,
        /// Sine coefficients, as many as cosines, or none for an even function.
        sin: Vec<i64>,
    },
    /// `a[i] + b[i]·x` on interval i; interval i ends below `knots[i]`, so there is one knot less than intervals.
    /// Knots are integers at the opening's scale; `a` is at `scale`, `b` at `scale - scale(x)`.
    Spline {
        /// Fractional bits of the result.
        scale: Scale,
        /// Ascending knots.
        knots: Vec<i64>,
        /// Offsets.
        a: Vec<i64>,
        /// Slopes.
        b: Vec<i64>,
    },
    /// exp on cells of [`crate::exp::CELL_LOG2`] in size, 2^n of them: cell j, counted mod 2^n, has exp of its upper end at
    /// [`crate::exp::FRACTION`] fractional bits. Reads the low n + CELL_LOG2 + scale(x) bits of an opening. The result has
    /// scale `public_scale + dealt_scale`.
    Exp {
        /// Fractional bits of the number that a party sends.
        public_scale: u8,
        /// Fractional bits of the dealt factors.
        dealt_scale: u8,
        /// Not negative.
        values: Vec<i64>,
    },
    /// `a[j] + b[j]·d` at j·2^cell_bits + d, where cell j, counted mod 2^n, reaches to both sides: |d| < 2^cell_bits. Reads the
    /// low n + cell_bits bits of an opening; `a` is at `scale`, `b` at `scale - scale(x)`.
    Cells {
        /// Fractional bits of the result.
        scale: Scale,
        /// log2 of the distance of two cells, in units of the opening.
        cell_bits: u8,
        /// Values in the middle.
        a: Vec<i64>,
        /// Slopes.
        b: Vec<i64>,
    },
    /// Ascending thresholds of `ge`, integers at the opening's scale.
    Thresholds(Vec<i64>),
    /// A constant tensor of integers at `scale`.
    Const {
        /// Fractional bits.
        scale: Scale,
        /// Dimensions.
        shape: Shape,
        /// Row-major values.
        values: Vec<i64>,
    },
    /// The kept columns of each row of a [rows, columns] matrix: row i keeps columns `rows[i].0 .. rows[i].1`, at least
    /// one. A tensor that is *packed* by a pattern has one dimension of [`Pattern::kept`] elements in place of the two.
    Pattern(Pattern),
}

/// See [`Table::Pattern`].
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Pattern {
    /// Number of columns of the full matrix.
    pub columns: u32,
    /// Kept half-open column range of every row.
    pub rows: Vec<(u32, u32)>,
}

impl Pattern {
    /// Every row keeps every column.
    pub fn full(rows: u32, columns: u32) -> Pattern {
        Pattern { columns, rows: vec![(0, columns); rows as usize] }
    }

    /// Row i keeps columns 0 ..= i + columns - rows.
    pub fn causal(rows: u32, columns: u32) -> Pattern {
        assert!(rows <= columns, "a causal pattern has a column for every row");
        Pattern { columns, rows: (0..rows).map(|i| (0, i + 1 + columns - rows)).collect() }
    }

    /// Number of kept elements.
    pub fn kept(&self) -> u64 {
        self.rows.iter().map(|&(from, to)| u64::from(to.saturating_sub(from))).sum()
    }
}
