//! A program whose widths are still open.
//!
//! Lowering decides shapes, scales and claims, front to back. How wide a ring each value needs follows from what is
//! read of it, back to front, so lowering leaves every such width at [`LATER`] and `pass::assign_width` fills it in.

use std::sync::Arc;

use ir::pair::Maker;
use ir::program::{Input, NamedTable, Output, Program, Public, State, WeightDecl};
use ir::{
    MAX_WIDTH, Op, Origin, OutputId, Party, PublicId, Scale, Shape, StateId, Table, TableId, Value, Weight, Width,
};
use ndarray::ArrayD;

use crate::graph::NodeId;

/// Bits of an opening whose comparison at every point is worth making.
const MADE_TABLE: Width = 9;

/// Stands for a width that `assign_width` decides.
pub const LATER: Width = 0;

/// An instruction without widths.
#[derive(Clone)]
pub struct Item {
    /// The op; its `width` is [`LATER`] unless the lowering claims a range.
    pub op: Op,
    /// Fractional bits of the result.
    pub scale: Scale,
    /// Dimensions of the result.
    pub shape: Shape,
    /// Where it comes from.
    pub origin: Origin,
    /// The graph node that is being lowered.
    pub node: NodeId,
    /// The value could be extended if width runs out before it.
    pub lift_point: Option<LiftPoint>,
}

/// A place where width may be regained: the value is extended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LiftPoint {
    /// Bits of the claim.
    pub width: Width,
    /// It takes no round of its own: it lies off the critical path.
    pub free: bool,
}

/// See the module head.
#[derive(Default)]
pub struct Draft {
    /// Who will make the material: reads are those that it can be made for.
    pub maker: Maker,
    /// Everything but instructions: inputs, publics, weights, tables, outputs, origins.
    pub program: Program,
    /// Instructions.
    pub items: Vec<Item>,
    /// Real values of `program.weights`, row-major in the declared shape.
    pub weights: Vec<Arc<ArrayD<f32>>>,
    /// Greatest absolute value of each output.
    pub output_bounds: Vec<f64>,
    /// Values that fit no ring: origin, greatest absolute value, scale.
    pub unfit: Vec<(Origin, f64, Scale)>,
    /// Shares of 1 where an element left its table, else 0.
    watched: Vec<Value>,
    origin: Option<(Origin, NodeId)>,
    /// How many of the states have been appended to.
    appended: usize,
}

impl Draft {
    /// A draft of another entry of a module: it has the same weights and states, and may add more.
    pub fn beside(other: &Draft) -> Draft {
        let mut draft = Draft::default();
        draft.share(other);
        draft
    }

    /// Takes the weights and states of an entry that began with this one's.
    pub fn share(&mut self, other: &Draft) {
        assert!(other.program.weights.starts_with(&self.program.weights), "entries share a list of weights");
        assert!(other.program.states.starts_with(&self.program.states), "entries share a list of states");
        self.program.weights.clone_from(&other.program.weights);
        self.program.states.clone_from(&other.program.states);
        self.weights.clone_from(&other.weights);
    }

    /// Names the graph node that the following instructions come from.
    pub fn set_origin(&mut self, node: NodeId, name: &str) {
        let index = self.program.origins.iter().position(|o| o == name).unwrap_or_else(|| {
            self.program.origins.push(name.to_owned());
            self.program.origins.len() - 1
        });
        self.origin = Some((Origin(index as u32), node));
    }

    /// Fractional bits of a value.
    pub fn scale(&self, x: Value) -> Scale {
        self.items[x.index()].scale
    }

    /// Dimensions of a value.
    pub fn shape(&self, x: Value) -> &[u32] {
        &self.items[x.index()].shape.0
    }

    fn push(&mut self, op: Op, scale: Scale, shape: Vec<u32>) -> Value {
        let (origin, node) = self.origin.expect("an origin is set before the first instruction");
        self.items.push(Item { op, scale, shape: Shape(shape), origin, node, lift_point: None });
        Value(self.items.len() as u32 - 1)
    }

    /// Declares a client input and takes it.
    pub fn input(&mut self, input: Input) -> Value {
        let (scale, shape) = (input.ty.scale, input.ty.shape.0.clone());
        self.program.inputs.push(input);
        self.push(Op::Input { input: ir::InputId(self.program.inputs.len() as u32 - 1) }, scale, shape)
    }

    /// Adds a table, or finds an equal one.
    pub fn table(&mut self, name: &str, table: Table) -> TableId {
        let tables = &mut self.program.tables;
        let index = tables.iter().position(|t| t.table == table).unwrap_or_else(|| {
            let mut unique = name.to_owned();
            let mut n = 1;
            while tables.iter().any(|t| t.name == unique) {
                n += 1;
                unique = format!("{name}{n}");
            }
            tables.push(NamedTable { name: unique, table });
            tables.len() - 1
        });
        TableId(index as u32)
    }

    /// A scalar constant at a scale.
    pub fn constant(&mut self, name: &str, value: i64, scale: Scale) -> TableId {
        self.table(name, Table::Const { scale, shape: Shape::default(), values: vec![value] })
    }

    /// Declares a server-owned tensor, to be rounded to `scale` fractional bits, or finds it among another entry's.
    pub fn weight(&mut self, name: &str, value: Arc<ArrayD<f32>>, scale: Scale) -> Weight {
        let shape = Shape(value.shape().iter().map(|&d| d as u32).collect());
        let decl = WeightDecl { name: name.to_owned(), scale, shape };
        let index = self.program.weights.iter().position(|w| *w == decl).unwrap_or_else(|| {
            self.program.weights.push(decl);
            self.weights.push(value);
            self.weights.len() - 1
        });
        Weight(index as u32)
    }

    /// Appends to the next state and gives the opening of everything in it. Entries append to equal states in the same
    /// order.
    pub fn cache(&mut self, x: Value, name: &str, capacity: u32) -> Value {
        let (scale, mut shape) = (self.scale(x), self.shape(x).to_vec());
        let rows = shape.len() - 2;
        let block = Shape([&shape[..rows], &shape[rows + 1..]].concat());
        if self.appended == self.program.states.len() {
            let name = format!("{} {name}", self.appended);
            self.program.states.push(State { name, width: LATER, scale, row: block.clone() });
        }
        let state = &self.program.states[self.appended];
        assert_eq!((state.scale, &state.row), (scale, &block), "entries append to equal states");
        self.appended += 1;
        shape[rows] = capacity;
        self.push(Op::Cache { x, state: StateId(self.appended as u32 - 1), capacity }, scale, shape)
    }

    /// Rounds to a lower scale.
    pub fn down_to(&mut self, x: Value, scale: Scale) -> Value {
        let by = self.scale(x) - scale;
        assert!((0..64).contains(&by), "down from scale {} to {scale}", self.scale(x));
        if by == 0 {
            return x;
        }
        let shape = self.shape(x).to_vec();
        self.push(Op::Down { x, by: by as u8 }, scale, shape)
    }

    /// The same value at a higher scale.
    pub fn up_to(&mut self, x: Value, scale: Scale) -> Value {
        let by = scale - self.scale(x);
        assert!((0..64).contains(&by), "up from scale {} to {scale}", self.scale(x));
        if by == 0 {
            return x;
        }
        let shape = self.shape(x).to_vec();
        self.push(Op::Up { x, by: by as u8 }, scale, shape)
    }

    /// The same value at another scale, whichever way it lies.
    pub fn at_scale(&mut self, x: Value, scale: Scale) -> Value {
        if scale > self.scale(x) { self.up_to(x, scale) } else { self.down_to(x, scale) }
    }

    /// The real value times 2^-by: only the scale changes.
    pub fn halve(&mut self, x: Value, by: Scale) -> Value {
        let (scale, shape) = (self.scale(x) + by, self.shape(x).to_vec());
        self.push(Op::Point { x, scale }, scale, shape)
    }

    fn broadcast(&self, x: Value, y: Value) -> Vec<u32> {
        let (x, y) = (&self.items[x.index()].shape, &self.items[y.index()].shape);
        x.broadcast(y).unwrap_or_else(|| panic!("{x} and {y} do not broadcast")).0
    }

    /// x + y, at equal scales.
    pub fn add(&mut self, x: Value, y: Value) -> Value {
        assert_eq!(self.scale(x), self.scale(y), "addition at equal scales");
        let shape = self.broadcast(x, y);
        self.push(Op::Add { x, y }, self.scale(x), shape)
    }

    /// x - y, at equal scales.
    pub fn sub(&mut self, x: Value, y: Value) -> Value {
        assert_eq!(self.scale(x), self.scale(y), "subtraction at equal scales");
        let shape = self.broadcast(x, y);
        self.push(Op::Sub { x, y }, self.scale(x), shape)
    }

    /// x plus a constant at the scale of x.
    pub fn add_public(&mut self, x: Value, table: TableId) -> Value {
        let (scale, shape) = (self.scale(x), self.shape(x).to_vec());
        self.push(Op::AddPublic { x, table }, scale, shape)
    }

    /// x times a constant.
    pub fn mul_public(&mut self, x: Value, table: TableId) -> Value {
        let Table::Const { scale, .. } = self.program.table(table) else { panic!("a constant table") };
        let (scale, shape) = (self.scale(x) + scale, self.shape(x).to_vec());
        self.push(Op::MulPublic { x, table }, scale, shape)
    }

    /// x plus a server-owned tensor at the scale of x.
    pub fn add_weight(&mut self, x: Value, weight: Weight) -> Value {
        let (scale, shape) = (self.scale(x), self.shape(x).to_vec());
        self.push(Op::AddWeight { x, weight }, scale, shape)
    }

    /// x plus the row of a server-owned matrix at a public run-time index, at the scale of x.
    pub fn add_row(&mut self, x: Value, weight: Weight, index: Public) -> Value {
        let index = self.public(index);
        let (scale, shape) = (self.scale(x), self.shape(x).to_vec());
        self.push(Op::AddRow { x, weight, index }, scale, shape)
    }

    /// x [h, c] plus column index - j of a server-owned matrix [h or 1, n] at each j of c, at the scale of x.
    pub fn add_band(&mut self, x: Value, weight: Weight, index: Public) -> Value {
        let index = self.public(index);
        let (scale, shape) = (self.scale(x), self.shape(x).to_vec());
        self.push(Op::AddBand { x, weight, index }, scale, shape)
    }

    /// Zeroes the elements i along an axis but those with i < first or from <= i < to.
    pub fn keep(&mut self, x: Value, axis: u32, [first, from, to]: [Public; 3]) -> Value {
        let [first, from, to] = [first, from, to].map(|public| self.public(public));
        let (scale, shape) = (self.scale(x), self.shape(x).to_vec());
        self.push(Op::Keep { x, first, from, to, axis }, scale, shape)
    }

    /// The same elements in another shape.
    pub fn reshape(&mut self, x: Value, shape: &[u32]) -> Value {
        if self.shape(x) == shape {
            return x;
        }
        let scale = self.scale(x);
        self.push(Op::Reshape { x, shape: Shape(shape.to_vec()) }, scale, shape.to_vec())
    }

    /// Axes in another order.
    pub fn transpose(&mut self, x: Value, perm: &[u32]) -> Value {
        let shape = perm.iter().map(|&p| self.shape(x)[p as usize]).collect();
        let scale = self.scale(x);
        self.push(Op::Transpose { x, perm: perm.to_vec() }, scale, shape)
    }

    /// Elements from .. to of an axis.
    pub fn slice(&mut self, x: Value, axis: u32, from: u32, to: u32) -> Value {
        let (scale, mut shape) = (self.scale(x), self.shape(x).to_vec());
        if (from, to) == (0, shape[axis as usize]) {
            return x;
        }
        shape[axis as usize] = to - from;
        self.push(Op::Slice { x, axis, from, to }, scale, shape)
    }

    /// Joins along an axis.
    pub fn concat(&mut self, xs: &[Value], axis: u32) -> Value {
        if let [x] = xs {
            return *x;
        }
        let (scale, mut shape) = (self.scale(xs[0]), self.shape(xs[0]).to_vec());
        assert!(xs.iter().all(|&x| self.scale(x) == scale), "concatenation at equal scales");
        shape[axis as usize] = xs.iter().map(|&x| self.shape(x)[axis as usize]).sum();
        self.push(Op::Concat { xs: xs.to_vec(), axis }, scale, shape)
    }

    /// One position along an axis, at a public run-time index.
    pub fn pick(&mut self, x: Value, axis: u32, public: Public) -> Value {
        let index = self.public(public);
        let (scale, mut shape) = (self.scale(x), self.shape(x).to_vec());
        shape[axis as usize] = 1;
        self.push(Op::Pick { x, index, axis }, scale, shape)
    }

    fn public(&mut self, public: Public) -> PublicId {
        let publics = &mut self.program.publics;
        let index = publics.iter().position(|p| *p == public).unwrap_or_else(|| {
            publics.push(public);
            publics.len() - 1
        });
        PublicId(index as u32)
    }

    /// Sum along an axis, kept as a dimension of 1.
    pub fn sum(&mut self, x: Value, axis: u32) -> Value {
        let (scale, mut shape) = (self.scale(x), self.shape(x).to_vec());
        shape[axis as usize] = 1;
        self.push(Op::Sum { x, axis }, scale, shape)
    }

    /// Row sums of a packed axis.
    pub fn row_sum(&mut self, x: Value, pattern: TableId, axis: u32) -> Value {
        let (scale, mut shape) = (self.scale(x), self.shape(x).to_vec());
        shape[axis as usize] = self.pattern(pattern).rows.len() as u32;
        self.push(Op::RowSum { x, pattern, axis }, scale, shape)
    }

    /// Copies row elements over a packed axis.
    pub fn spread(&mut self, x: Value, pattern: TableId, axis: u32) -> Value {
        let (scale, mut shape) = (self.scale(x), self.shape(x).to_vec());
        shape[axis as usize] = self.pattern(pattern).kept() as u32;
        self.push(Op::Spread { x, pattern, axis }, scale, shape)
    }

    fn pattern(&self, id: TableId) -> &ir::Pattern {
        let Table::Pattern(pattern) = self.program.table(id) else { panic!("a pattern table") };
        pattern
    }

    /// Product with a server-owned matrix.
    pub fn linear(&mut self, x: Value, weight: Weight) -> Value {
        let decl = &self.program.weights[weight.index()];
        let (scale, columns) = (self.scale(x) + decl.scale, decl.shape.0[1]);
        let mut shape = self.shape(x).to_vec();
        *shape.last_mut().expect("at least one dimension") = columns;
        self.push(Op::Linear { x, weight }, scale, shape)
    }

    /// Opens with the claim |x| < bound (in real units).
    pub fn open_within(&mut self, x: Value, bound: f64) -> Value {
        let width = self.claim_width(bound, self.scale(x));
        let (scale, shape) = (self.scale(x), self.shape(x).to_vec());
        self.push(Op::Open { x, width, whole: false }, scale, shape)
    }

    /// Opens for `ge` alone: |x| < bound is compared with |threshold| <= farthest.
    pub fn open_to_compare(&mut self, x: Value, bound: f64, farthest: f64) -> Value {
        // |x - t| < 2^(n-1) takes one bit less than a claim of the same size.
        let width = self.claim_width(bound + farthest, self.scale(x)) - 1;
        self.open_whole(x, width.max(3))
    }

    /// Opens without a claim, at a given width or as wide as the readers need.
    pub fn open_whole(&mut self, x: Value, width: Width) -> Value {
        let (scale, shape) = (self.scale(x), self.shape(x).to_vec());
        self.push(Op::Open { x, width, whole: true }, scale, shape)
    }

    /// Marks a value with |x| < bound as a place where width may be regained off the critical path.
    pub fn lift_point(&mut self, x: Value, bound: f64) {
        self.mark(x, bound, true);
    }

    /// Marks a value with |x| < bound as a place where width may be regained at the price of a round.
    pub fn may_lift(&mut self, x: Value, bound: f64) {
        self.mark(x, bound, false);
    }

    fn mark(&mut self, x: Value, bound: f64, free: bool) {
        let scale = self.scale(x);
        if let (Some(width), None) = (claim_bits(bound, scale), self.items[x.index()].lift_point) {
            self.items[x.index()].lift_point = Some(LiftPoint { width, free });
        }
    }

    /// Least width n with bound·2^scale < 2^(n-2), at least 3; noted in `unfit` if that exceeds 64.
    fn claim_width(&mut self, bound: f64, scale: Scale) -> Width {
        claim_bits(bound, scale).unwrap_or_else(|| {
            self.unfit.push((self.origin.expect("an origin is set before the first claim").0, bound, scale));
            MAX_WIDTH
        })
    }

    /// Zeros of a shape, at scale 0.
    pub fn zeros(&mut self, shape: &[u32]) -> Value {
        assert!(!self.items.is_empty(), "a program begins with an input");
        let mut x = Value(0);
        for axis in 0..self.shape(x).len() {
            x = self.slice(x, axis as u32, 0, 1);
        }
        let x = self.reshape(x, &[]);
        let zero = self.sub(x, x);
        let zero = self.halve(zero, -self.scale(zero));
        self.expand(zero, shape)
    }

    /// Copies along broadcast axes.
    pub fn expand(&mut self, x: Value, shape: &[u32]) -> Value {
        if self.shape(x) == shape {
            return x;
        }
        let scale = self.scale(x);
        self.push(Op::Expand { x, shape: Shape(shape.to_vec()) }, scale, shape.to_vec())
    }

    /// x [.., d] times the row of a constant table [n, d] at a public run-time index.
    pub fn mul_row(&mut self, x: Value, table: TableId, index: Public) -> Value {
        let index = self.public(index);
        let Table::Const { scale, .. } = self.program.table(table) else { panic!("a constant table") };
        let (scale, shape) = (self.scale(x) + scale, self.shape(x).to_vec());
        self.push(Op::MulRow { x, table, index }, scale, shape)
    }

    /// The opened value.
    pub fn lift(&mut self, x: Value) -> Value {
        let (scale, shape) = (self.scale(x), self.shape(x).to_vec());
        self.push(Op::Lift { x, width: LATER }, scale, shape)
    }

    /// Its square.
    pub fn square(&mut self, x: Value) -> Value {
        let (scale, shape) = (2 * self.scale(x), self.shape(x).to_vec());
        self.push(Op::Square { x, width: LATER }, scale, shape)
    }

    /// Sum of squares over the last axis.
    pub fn sum_squares(&mut self, x: Value) -> Value {
        let (scale, mut shape) = (2 * self.scale(x), self.shape(x).to_vec());
        *shape.last_mut().expect("at least one dimension") = 1;
        self.push(Op::SumSquares { x, width: LATER }, scale, shape)
    }

    /// Product of two openings.
    pub fn mul(&mut self, x: Value, y: Value) -> Value {
        let (scale, shape) = (self.scale(x) + self.scale(y), self.broadcast(x, y));
        self.push(Op::Mul { x, y, width: LATER }, scale, shape)
    }

    /// Kept elements of x·yᵀ.
    pub fn sddmm(&mut self, x: Value, y: Value, pattern: TableId) -> Value {
        let (scale, mut shape) = (self.scale(x) + self.scale(y), self.shape(x).to_vec());
        shape.truncate(shape.len() - 2);
        shape.push(self.pattern(pattern).kept() as u32);
        self.push(Op::Sddmm { x, y, pattern }, scale, shape)
    }

    /// Packed matrix times dense matrix.
    pub fn spmm(&mut self, x: Value, y: Value, pattern: TableId) -> Value {
        let (scale, mut shape) = (self.scale(x) + self.scale(y), self.shape(x).to_vec());
        shape.pop();
        shape.push(self.pattern(pattern).rows.len() as u32);
        shape.push(*self.shape(y).last().expect("a matrix"));
        self.push(Op::Spmm { x, y, pattern }, scale, shape)
    }

    /// x, |x| < bound, in as wide a ring as its readers need. Takes a round.
    pub fn extend(&mut self, x: Value, bound: f64) -> Value {
        let claim = self.claim_width(bound, self.scale(x));
        let (scale, shape) = (self.scale(x), self.shape(x).to_vec());
        self.push(Op::Extend { x, claim, width: LATER }, scale, shape)
    }

    /// exp of an opening by a table of cells. Takes a round.
    pub fn exp(&mut self, x: Value, table: TableId) -> Value {
        let Table::Exp { public_scale, dealt_scale, .. } = self.program.table(table) else { panic!("a table of exp") };
        let (scale, shape) = (Scale::from(*public_scale) + Scale::from(*dealt_scale), self.shape(x).to_vec());
        self.push(Op::Exp { x, table, width: LATER }, scale, shape)
    }

    /// A function by lines on cells. Takes a round.
    pub fn cells(&mut self, x: Value, table: TableId) -> Value {
        let Table::Cells { scale, .. } = self.program.table(table) else { panic!("a table of cells") };
        let (scale, shape) = (*scale, self.shape(x).to_vec());
        self.push(Op::Cells { x, table, width: LATER }, scale, shape)
    }

    /// A smooth function by its series.
    pub fn series(&mut self, x: Value, table: TableId) -> Value {
        let Table::Series { public_scale, dealt_scale, .. } = self.program.table(table) else { panic!("a series") };
        let (scale, shape) = (Scale::from(*public_scale) + Scale::from(*dealt_scale), self.shape(x).to_vec());
        self.push(Op::Series { x, table, width: LATER }, scale, shape)
    }

    /// A piecewise linear function, right wherever x is.
    pub fn spline_everywhere(&mut self, x: Value, table: TableId) -> Value {
        if self.maker == Maker::Pair {
            return self.lines(x, table).0;
        }
        let shape = self.shape(x).to_vec();
        self.push_spline(x, table, shape, false)
    }

    /// A piecewise linear function by comparisons with its knots, and those as whole numbers in a new last axis: what two parties
    /// can make the material of. Three rounds. The integers are those of a spline: with h_k = 1{x >= knot k} the sums of the
    /// steps of offset and slope, a and b, are local, and b·x is a product.
    fn lines(&mut self, x: Value, table: TableId) -> (Value, Value) {
        let Table::Spline { scale, knots, a, b } = self.program.table(table) else { panic!("a spline") };
        let (scale, knots, a, b) = (*scale, knots.clone(), a.clone(), b.clone());
        let shape = self.shape(x).to_vec();
        let (axis, slope_scale) = (shape.len() as u32, scale - self.scale(x));
        let (reached, columns) = self.reached(x, knots);
        let count = *self.shape(reached).last().expect("thresholds");
        let mut sum = |steps: &[i64], scale: Scale, name: &str| {
            let mut values = vec![0i64; count as usize];
            for (pair, &column) in steps.windows(2).zip(&columns) {
                values[column] = values[column].wrapping_add(pair[1].wrapping_sub(pair[0]));
            }
            let steps_of = self.table(name, Table::Const { scale, shape: Shape(vec![count]), values });
            let terms = self.mul_public(reached, steps_of);
            let sum = self.sum(terms, axis);
            let sum = self.reshape(sum, &shape);
            let first = self.constant(name, steps[0], scale);
            self.add_public(sum, first)
        };
        let offset = sum(&a, scale, "offsets");
        if b.iter().all(|b| *b == 0) {
            return (offset, reached);
        }
        let slope = sum(&b, slope_scale, "slopes");
        let steepest = b.iter().map(|b| b.unsigned_abs()).max().unwrap_or(0) as f64 + 1.0;
        let slope = self.open_within(slope, steepest * f64::from(-slope_scale).exp2());
        let product = self.mul(x, slope);
        (self.add(offset, product), reached)
    }

    /// 1{x >= t} for each threshold as whole numbers, in a new last axis, by the digits of the opening x; and where along it each
    /// threshold stands. Two rounds.
    fn reached(&mut self, x: Value, mut thresholds: Vec<i64>) -> (Value, Vec<usize>) {
        let [least, most] = ir::digits::OPENINGS;
        let Op::Open { x: secret, width, whole } = &mut self.items[x.index()].op else { panic!("an opening") };
        // A claim, or a difference, that fits fewer bits fits more.
        *width = (*width).max(least);
        let (secret, width, whole) = (*secret, *width, *whole);
        let mut x = x;
        if width > most {
            // Knots on the integers of a coarser copy: what lies between is taken for the line beside it.
            let by = width - most;
            let coarse = self.down_to(secret, self.scale(x) - Scale::from(by));
            x = self.push(Op::Open { x: coarse, width: most, whole }, self.scale(coarse), self.shape(coarse).to_vec());
            thresholds.iter_mut().for_each(|t| *t >>= by);
        }
        let mut different = thresholds.clone();
        different.dedup();
        let columns = thresholds.iter().map(|t| different.partition_point(|d| d < t)).collect();
        let count = different.len() as u32;
        let table = self.table("knots", Table::Thresholds(different));
        let shape = [self.shape(x), &[count]].concat();
        let reached = self.push(Op::Compare { x, table }, 0, shape.clone());
        (self.push(Op::Bit { x: reached, width: LATER }, 0, shape), columns)
    }

    /// A piecewise linear function that is calibrated from its first knot to its last: elements outside are counted.
    pub fn spline(&mut self, x: Value, table: TableId) -> Value {
        let shape = self.shape(x).to_vec();
        let axis = shape.len() as u32;
        if self.maker == Maker::Pair {
            let (value, reached) = self.lines(x, table);
            let last = *self.shape(reached).last().expect("knots");
            let [first, last] = [0, last - 1].map(|i| {
                let part = self.slice(reached, axis, i, i + 1);
                self.reshape(part, &shape)
            });
            // 1 - the first + the last.
            let outside = self.sub(last, first);
            let one = self.constant("one of all", 1, 0);
            let outside = self.add_public(outside, one);
            self.watch(outside);
            return value;
        }
        let both = self.push_spline(x, table, [&shape[..], &[2]].concat(), true);
        let [value, outside] = [0, 1].map(|i| {
            let part = self.slice(both, axis, i, i + 1);
            self.reshape(part, &shape)
        });
        let scale = self.scale(outside);
        let outside = self.halve(outside, -scale);
        self.watch(outside);
        value
    }

    fn push_spline(&mut self, x: Value, table: TableId, shape: Vec<u32>, ends: bool) -> Value {
        let Table::Spline { scale, .. } = self.program.table(table) else { panic!("a spline") };
        let scale = *scale;
        self.push(Op::Spline { x, table, width: LATER, ends }, scale, shape)
    }

    /// Counts elements that left their tables: shares of whole numbers, 1 for each. The node that is being lowered is the
    /// one whose positions they have.
    pub fn watch(&mut self, outside: Value) {
        assert_eq!(self.scale(outside), 0, "whole numbers");
        self.watched.push(outside);
    }

    /// What is watched; see [`super::outside`].
    pub fn watched(&self) -> &[Value] {
        &self.watched
    }

    /// Comparison bits with every threshold, in a new last axis.
    pub fn ge(&mut self, x: Value, table: TableId) -> Value {
        let Table::Thresholds(thresholds) = self.program.table(table) else { panic!("thresholds") };
        let Op::Open { width, .. } = self.items[x.index()].op else { panic!("an opening") };
        if self.maker == Maker::Pair && width > MADE_TABLE {
            let thresholds = thresholds.clone();
            return self.reached(x, thresholds).0;
        }
        let count = thresholds.len() as u32;
        let mut shape = self.shape(x).to_vec();
        shape.push(count);
        self.push(Op::Ge { x, table, width: LATER }, 0, shape)
    }

    /// 1{d >= 0}·y: d `[..]` opened to compare with 0, y `[.., c]` opened whole.
    pub fn select(&mut self, d: Value, y: Value) -> Value {
        if self.maker == Maker::Pair {
            let (bits, _) = self.reached(d, vec![0]);
            let bits = self.open_within(bits, 1.0);
            return self.mul(y, bits);
        }
        let (scale, shape) = (self.scale(y), self.shape(y).to_vec());
        self.push(Op::Select { d, y, width: LATER }, scale, shape)
    }

    /// Bits that an output is revealed at: its bound and a sign.
    pub fn output_width(&self, output: OutputId) -> u32 {
        let reveal = self.items.iter().find(|i| matches!(i.op, Op::Reveal { output: o, .. } if o == output));
        let scale = reveal.expect("a declared output is revealed").scale;
        let bits = (self.output_bounds[output.index()] * f64::from(scale).exp2() + 1.0).log2().ceil() + 1.0;
        bits.clamp(1.0, 255.0) as u32
    }

    /// Tells the client the place of the greatest element of an opening with a claim.
    pub fn choose(&mut self, x: Value, name: &str) {
        let output = Output { name: name.to_owned(), shape: Shape(vec![1]), to: Party::Client };
        self.output_bounds.push(self.shape(x).iter().copied().map(f64::from).product());
        self.program.outputs.push(output);
        self.push(Op::Choose { x, output: ir::OutputId(self.program.outputs.len() as u32 - 1) }, 0, vec![1]);
    }

    /// Reveals to the declared party.
    pub fn reveal(&mut self, x: Value, output: Output) {
        let to = output.to;
        self.program.outputs.push(output);
        let (scale, shape) = (self.scale(x), self.shape(x).to_vec());
        self.push(Op::Reveal { x, output: ir::OutputId(self.program.outputs.len() as u32 - 1), to }, scale, shape);
    }
}

/// Least width n with bound·2^scale < 2^(n-2), at least 3; none above 64.
fn claim_bits(bound: f64, scale: Scale) -> Option<Width> {
    let bits = (bound * f64::from(scale).exp2() + 1.0).log2().ceil() + 2.0;
    (bits <= f64::from(MAX_WIDTH)).then(|| bits.max(3.0) as Width)
}
