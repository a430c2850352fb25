//! The op table. Each row's doc comment is the manual page of that op; the enum, printer, parser, encoder and decoder
//! all expand from the rows, and the calls of its family (`crate::ops`), which says what it does and costs.
//!
//! Fields print in the order of their row. Identifiers come first and print bare, separated by commas: values as `v7`,
//! or `o7` if the value is an opening, weights as `w3`, tables as `@name`, inputs as `in0`, publics as `p0`, states as
//! `s0`, outputs as `out0`. All other fields follow in braces as `name=value`, a `bool` by its name alone when set, as in
//! `o3 = open v2 {width=29}`, `v9 = slice v8 {axis=1, from=0, to=768}`, `reveal v3, out0 {to=client}`. In bytecode an op
//! is its number and its fields in the same order, integers as base-128 varints, least significant group first.

use crate::bytecode::{DecodeError, Reader};
use crate::cost::InstrCost;
use crate::eval;
use crate::fault::Fault;
use crate::field::Field;
use crate::making::{Making, Requests};
use crate::material::Pieces;
use crate::ops::comparison::Comparisons;
use crate::ops::elementwise::Elementwise;
use crate::ops::function::Functions;
use crate::ops::layout::Layout;
use crate::ops::opening::Opening;
use crate::ops::product::Products;
use crate::ops::{Family, Place};
use crate::parse::words::{Args, ParseError};
use crate::print::fields::Operands;
use crate::program::Program;
use crate::types::*;

macro_rules! op_table {
    ($( $family:ident { $( $(#[$doc:meta])* $mnemonic:ident = $code:literal $name:ident { $($field:ident : $ty:ty),* $(,)? } )* } )*) => {
        /// An instruction without its result. See the variants for what each does.
        #[derive(Clone, PartialEq, Eq, Hash, Debug)]
        pub enum Op {
            $($( $(#[$doc])* $name { $(
                #[allow(missing_docs)] $field: $ty
            ),* }, )*)*
        }

        impl Op {
            /// The op's name in the text form.
            pub fn mnemonic(&self) -> &'static str {
                match self { $($( Op::$name { .. } => stringify!($mnemonic), )*)* }
            }

            /// The op's number in bytecode.
            pub fn code(&self) -> u8 {
                match self { $($( Op::$name { .. } => $code, )*)* }
            }

            /// The values that the op reads, in the order of its fields.
            pub fn operands(&self) -> impl Iterator<Item = Value> + use<> {
                let mut values = Vec::new();
                match self { $($( Op::$name { $($field),* } => { $( $field.values(&mut |v| values.push(v)); )* } )*)* }
                values.into_iter()
            }

            /// Replaces every value that the op reads.
            pub fn map_operands(&mut self, mut f: impl FnMut(Value) -> Value) {
                match self { $($( Op::$name { $($field),* } => { $( $field.map_values(&mut f); )* } )*)* }
            }

            /// Adds the fields to the op's text.
            pub(crate) fn print(&self, out: &mut Operands<'_>) {
                match self { $($( Op::$name { $($field),* } => { $( $field.print(stringify!($field), out); )* } )*)* }
            }

            /// Parses the fields of the op that is called `mnemonic`; `None` if there is no such op.
            pub(crate) fn parse(mnemonic: &str, args: &mut Args<'_, '_>) -> Result<Option<Op>, ParseError> {
                $($( if mnemonic == stringify!($mnemonic) {
                    $( let $field = Field::parse(stringify!($field), args)?; )*
                    return Ok(Some(Op::$name { $($field),* }));
                } )*)*
                Ok(None)
            }

            /// Type of the result in `program`, whose earlier instructions have their types; `None` if there is none.
            pub(crate) fn infer(&self, program: &Program) -> Result<Option<Type>, Fault> {
                match self { $( $( Op::$name { .. } )|* => $family::infer(program, self), )* }
            }

            /// The elements of the result mod 2^64, on plain integers.
            pub(crate) fn eval(&self, at: &eval::Operands<'_>) -> Vec<i64> {
                match self { $( $( Op::$name { .. } )|* => $family::eval(at, self), )* }
            }

            /// What the dealer sends for the instruction at `at`, which has this op.
            pub(crate) fn pieces(&self, at: Place<'_>, out: &mut Pieces) {
                match self { $( $( Op::$name { .. } )|* => $family::pieces(at, out), )* }
            }

            /// What the parties exchange to make what the instruction at `at`, which has this op, takes.
            pub(crate) fn making(&self, at: Making<'_>, out: &mut Requests) {
                match self { $( $( Op::$name { .. } )|* => $family::making(at, out), )* }
            }

            /// What the instruction at `at`, which has this op, costs beside its material.
            pub(crate) fn cost(&self, at: Place<'_>, cost: &mut InstrCost) {
                match self { $( $( Op::$name { .. } )|* => $family::cost(at, cost), )* }
            }

            /// Appends the op to bytecode.
            pub(crate) fn encode(&self, out: &mut Vec<u8>) {
                out.push(self.code());
                match self { $($( Op::$name { $($field),* } => { $( $field.encode(out); )* } )*)* }
            }

            /// Takes an op from bytecode.
            pub(crate) fn decode(bytes: &mut Reader<'_>) -> Result<Op, DecodeError> {
                match bytes.byte()? {
                    $($( $code => {
                        $( let $field = Field::decode(bytes)?; )*
                        Ok(Op::$name { $($field),* })
                    } )*)*
                    code => Err(DecodeError::UnknownOp(code)),
                }
            }
        }

        /// Every op's name and number.
        pub const OPS: &[(&str, u8)] = &[$($( (stringify!($mnemonic), $code), )*)*];
    };
}

op_table! {
    Elementwise {
        /// Forgets the high bits: the same value mod 2^width, width below the operand's. Local.
        narrow = 0x10 Narrow { x: Value, width: Width }
        /// Divides by 2^by, rounding up or down without bias; width and scale both fall by `by`. Local, no wrap failure.
        down = 0x11 Down { x: Value, by: u8 }
        /// Multiplies the integer by 2^by; width and scale both rise by `by`, so the real value is the same. Local, exact.
        up = 0x12 Up { x: Value, by: u8 }
        /// The same integers read at another scale: multiplies the real value by 2^(old scale - new scale). Local.
        point = 0x13 Point { x: Value, scale: Scale }
        /// x + y with broadcasting; widths and scales are equal. Local.
        add = 0x14 Add { x: Value, y: Value }
        /// x - y with broadcasting; widths and scales are equal. Local.
        sub = 0x15 Sub { x: Value, y: Value }
        /// x + a constant of the same scale, broadcast to the shape of x. Local: the client adds it.
        add_public = 0x16 AddPublic { x: Value, table: TableId }
        /// x times a constant, broadcast to the shape of x; scales add, the width stays. Local.
        mul_public = 0x17 MulPublic { x: Value, table: TableId }
        /// x + a server-owned tensor of the same scale, broadcast to the shape of x. Local: the server adds it.
        add_weight = 0x18 AddWeight { x: Value, weight: Weight }
        /// x [.., d] + the row of a server-owned matrix [n, d] of the same scale at a public run-time index, broadcast to the
        /// shape of x. Local: the server adds it.
        add_row = 0x19 AddRow { x: Value, weight: Weight, index: PublicId }
        /// x [.., d] times the row of a constant [n, d] at a public run-time index, broadcast to the shape of x; scales add, the
        /// width stays. Local.
        mul_row = 0x1a MulRow { x: Value, table: TableId, index: PublicId }
        /// x [h, c] + column `index` - j of a server-owned matrix [h or 1, n] of the same scale at each j of c, index being a
        /// public run-time number; nothing where there is no such column. Local: the server adds it.
        add_band = 0x1b AddBand { x: Value, weight: Weight, index: PublicId }
    }

    Layout {
        /// The same elements in another shape. Local.
        reshape = 0x20 Reshape { x: Value, shape: Shape }
        /// Axes in the order `perm`. Local.
        transpose = 0x21 Transpose { x: Value, perm: Vec<u32> }
        /// Elements from .. to along `axis`. Local.
        slice = 0x22 Slice { x: Value, axis: u32, from: u32, to: u32 }
        /// The operands one after another along `axis`; all else equal. Local.
        concat = 0x23 Concat { xs: Vec<Value>, axis: u32 }
        /// The single element at a public run-time index along `axis`, whose dimension becomes 1. Local.
        pick = 0x24 Pick { x: Value, index: PublicId, axis: u32 }
        /// Sum along `axis`, whose dimension becomes 1. Local, mod 2^width.
        sum = 0x25 Sum { x: Value, axis: u32 }
        /// Sum over each row of a packed dimension: `axis` has the pattern's kept elements before, its rows after. Local.
        row_sum = 0x26 RowSum { x: Value, pattern: TableId, axis: u32 }
        /// Copies each row's element to all kept elements of that row: `axis` has the pattern's rows before, its kept
        /// elements after. Local.
        spread = 0x27 Spread { x: Value, pattern: TableId, axis: u32 }
        /// Elements i along `axis` with i < first or from <= i < to, public run-time numbers; zero elsewhere. Local.
        keep = 0x28 Keep { x: Value, first: PublicId, from: PublicId, to: PublicId, axis: u32 }
        /// The elements repeated along new axes and along axes of one element, up to `shape`, by numpy's rule. Local.
        expand = 0x29 Expand { x: Value, shape: Shape }
    }

    Opening {
        /// The client's share is the encoded input, the server's is zero. Local.
        input = 0x01 Input { input: InputId }
        /// Sends the low `width` bits under a fresh mask, from both sides at once. Claims |x| < 2^(width-2) unless `whole`.
        open = 0x31 Open { x: Value, width: Width, whole: bool }
        /// All messages of the openings and products since the last `round` or `send` are exchanged: one round.
        round = 0x32 Round { }
        /// The messages of the products since the last `round` or `send` go from client to server: one one-way message.
        send = 0x33 Send { }
        /// The same value mod 2^width, from the low `claim` bits of x: claims |x| < 2^(claim-2), and width is above it. Both sides
        /// send one masked bit an element.
        extend = 0x34 Extend { x: Value, claim: Width, width: Width }
        /// The opened value at width `width` (at least 1; above or below the opening's width). Needs the spare bit. Local.
        lift = 0x40 Lift { x: Value, width: Width }
        /// Appends the rows of x [.., t, k], opened whole, to a state of row blocks [.., k], and gives the opening of all rows
        /// so far: [.., capacity, k]. Rows that no step has filled yet are zero under a mask of zero. Local.
        cache = 0x4a Cache { x: Value, state: StateId, capacity: u32 }
        /// The party `to` learns x. Declassifies, as `choose` does and no other instruction. One-way message to that party.
        reveal = 0x50 Reveal { x: Value, output: OutputId, to: Party }
    }

    Products {
        /// Product with a server-owned matrix [k, m]: x [.., k] -> [.., m]. Scales add, the width stays. One-way message,
        /// client to server, width bits per element of x.
        linear = 0x30 Linear { x: Value, weight: Weight }
        /// x², element by element, exact mod 2^width. Scale doubles. Needs the spare bit. Local.
        square = 0x41 Square { x: Value, width: Width }
        /// Σ x² over the last axis, whose dimension becomes 1; exact mod 2^width. Scale doubles. Needs the spare bit. Local.
        sum_squares = 0x42 SumSquares { x: Value, width: Width }
        /// x·y of two openings with broadcasting, exact mod 2^width. Scales add. Needs the spare bit of an operand that is
        /// narrower than the result; one that is not may be opened whole. Local.
        mul = 0x43 Mul { x: Value, y: Value, width: Width }
        /// Kept elements of x·yᵀ: x [.., rows, k], y [.., columns, k] -> [.., kept]. Both opened whole; the width is the lesser
        /// of theirs, scales add. Sampled dense-dense matrix multiplication. Local.
        sddmm = 0x44 Sddmm { x: Value, y: Value, pattern: TableId }
        /// A packed matrix times a dense one: x [.., kept], y [.., columns, k] -> [.., rows, k]. Opened whole, both, of the lesser
        /// width of theirs; or y whole and x with the spare bit, of y's width. Scales add. Local.
        spmm = 0x45 Spmm { x: Value, y: Value, pattern: TableId }
    }

    Functions {
        /// exp of an opening by a table of cells, of the low bits that the table and a cell have: periodic beyond. Both sides send
        /// a number of the result's width: see [`crate::exp`].
        exp = 0x35 Exp { x: Value, table: TableId, width: Width }
        /// A function of an opening by a line on each of the table's cells, of the low bits that the table and a cell have:
        /// periodic beyond. The mask decides between two neighbouring lines. Both sides send two numbers of the result's width.
        cells = 0x36 Cells { x: Value, table: TableId, width: Width }
        /// A smooth function by a trigonometric series, of the low period_log2 + scale bits of the opening: the function has
        /// the ring's own period, so no claim is needed (the offset of one is taken off first). Local.
        series = 0x46 Series { x: Value, table: TableId, width: Width }
        /// A piecewise linear function on the claim of x, by a distributed comparison function. Needs the spare bit. With `ends`
        /// there is a new last axis of two: the function, and the integer 1 where x is below the first knot or not below the
        /// last, else 0, which the same key gives. Local.
        spline = 0x47 Spline { x: Value, table: TableId, width: Width, ends: bool }
    }

    Comparisons {
        /// 1{x >= t} for each threshold t, in a new last axis, as integers (scale 0). Right while x - t fits the opening's ring,
        /// |x - t| < 2^(n-1), so the opening may be whole. Local.
        ge = 0x48 Ge { x: Value, table: TableId, width: Width }
        /// 1{d >= 0}·y mod 2^width: d [..] opened, right while |d| < 2^(n-1); y [.., c] opened whole, no narrower than the
        /// result. The scale is that of y. Local.
        select = 0x49 Select { d: Value, y: Value, width: Width }
        /// 1{x >= t} for each threshold t, in a new last axis, mod 2: the low bits of shares of width 1. As `ge` right while
        /// |x - t| < 2^(n-1), by the digits of the mask ([`crate::digits`]). Both sides send some bits.
        compare = 0x37 Compare { x: Value, table: TableId }
        /// The low bit of each element, as an integer (scale 0) mod 2^width. Both sides send a masked bit.
        bit = 0x38 Bit { x: Value, width: Width }
        /// The client learns the place of the greatest element of x, counted from 0; of several, of any. Needs the spare bit, so
        /// that the numbers are bounded whatever they are. Messages of its own: see [`crate::choose`].
        choose = 0x51 Choose { x: Value, output: OutputId }
    }
}

impl Op {
    /// Whether both parties send something that the next `round` completes.
    pub fn exchanges(&self) -> bool {
        matches!(
            self,
            Op::Open { .. }
                | Op::Extend { .. }
                | Op::Exp { .. }
                | Op::Cells { .. }
                | Op::Compare { .. }
                | Op::Bit { .. }
        )
    }

    /// The width n of the claim |x| < 2^(n-2) that the instruction makes of its operand, if it makes one.
    pub fn claim(&self) -> Option<Width> {
        match *self {
            Op::Open { width, whole: false, .. } => Some(width),
            Op::Extend { claim, .. } => Some(claim),
            _ => None,
        }
    }

    /// The output that a party learns by this instruction, and the party.
    pub fn declassifies(&self) -> Option<(OutputId, Party)> {
        match *self {
            Op::Reveal { output, to, .. } => Some((output, to)),
            Op::Choose { output, .. } => Some((output, Party::Client)),
            _ => None,
        }
    }
}
