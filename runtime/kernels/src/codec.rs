//! Plain inputs to ring elements, and revealed integers to real numbers.
//!
//! Errors name the input and the place of an element, never its value.

use crate::ring::Tensor;
use ir::program::{Encoding, Input};
use ir::{Scale, Shape};

/// A plain input as a user gives it.
pub enum Plain {
    /// Integers, for one-hot inputs: token identifiers.
    Integers(Vec<i64>),
    /// Real numbers, for fixed-point inputs.
    Reals(Vec<f32>),
}

/// Why an input cannot be encoded.
#[derive(Debug, thiserror::Error)]
pub enum CodecError {
    /// Too few or too many elements.
    #[error("input {name:?} has {got} elements, the program was compiled for {shape}")]
    Elements {
        /// The input.
        name: String,
        /// Its shape.
        shape: Shape,
        /// Elements given.
        got: usize,
    },
    /// Integers for a real input or the reverse.
    #[error("input {name:?} takes {expected}")]
    Kind {
        /// The input.
        name: String,
        /// What it takes.
        expected: &'static str,
    },
    /// An element that the encoding has no place for.
    #[error("element {index} of input {name:?} is out of range: it must be {range}")]
    Range {
        /// The input.
        name: String,
        /// Place of the element, row-major.
        index: usize,
        /// What the encoding holds.
        range: String,
    },
}

/// The dimensions of a verified shape.
pub fn dimensions(shape: &Shape) -> Vec<usize> {
    shape.0.iter().map(|&d| d as usize).collect()
}

/// Encodes an input as the client's share of it.
pub fn encode(input: &Input, plain: &Plain) -> Result<Tensor, CodecError> {
    let name = || input.name.clone();
    let got = match plain {
        Plain::Integers(v) => v.len(),
        Plain::Reals(v) => v.len(),
    };
    if Some(got as u64) != input.shape.elements() {
        return Err(CodecError::Elements { name: name(), shape: input.shape.clone(), got });
    }
    let data = match (&input.encoding, plain) {
        (Encoding::OneHot { classes }, Plain::Integers(ids)) => one_hot(ids, *classes as usize).map_err(|index| {
            CodecError::Range { name: name(), index, range: format!("0 or more and below {classes}") }
        }),
        (Encoding::Fixed, Plain::Reals(reals)) => {
            let (width, scale) = (input.ty.width, input.ty.scale);
            fixed(reals, scale, width).map_err(|index| CodecError::Range {
                name: name(),
                index,
                range: format!("below 2^{} in size", i16::from(width) - 1 - scale),
            })
        }
        (Encoding::OneHot { .. }, _) => Err(CodecError::Kind { name: name(), expected: "integers" }),
        (Encoding::Fixed, _) => Err(CodecError::Kind { name: name(), expected: "real numbers" }),
    };
    Ok(Tensor::new(dimensions(&input.ty.shape), data?))
}

/// Rows of zeros with a single one, or the place of an integer outside 0 .. classes.
fn one_hot(ids: &[i64], classes: usize) -> Result<Vec<u64>, usize> {
    let mut rows = vec![0; ids.len() * classes];
    for (i, &id) in ids.iter().enumerate() {
        let class = usize::try_from(id).ok().filter(|&class| class < classes).ok_or(i)?;
        rows[i * classes + class] = 1;
    }
    Ok(rows)
}

/// Reals rounded to `scale` fractional bits, or the place of one that is beyond the signed range of `width` bits.
fn fixed(reals: &[f32], scale: Scale, width: u8) -> Result<Vec<u64>, usize> {
    let (unit, limit) = (2f64.powi(scale.into()), 2f64.powi(i32::from(width) - 1));
    let encode = |(i, &real): (usize, &f32)| {
        let integer = (f64::from(real) * unit).round();
        if integer.abs() < limit { Ok(integer as i64 as u64) } else { Err(i) }
    };
    reals.iter().enumerate().map(encode).collect()
}

/// Revealed integers as real numbers.
pub fn decode(integers: &[i64], scale: Scale) -> Vec<f32> {
    let unit = 2f64.powi(-i32::from(scale));
    integers.iter().map(|&v| (v as f64 * unit) as f32).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use ir::{Kind, Type};

    fn input(encoding: Encoding, shape: Vec<u32>, width: u8, scale: Scale) -> Input {
        let mut ty = Type { kind: Kind::Share, width, scale, shape: Shape(shape.clone()) };
        if let Encoding::OneHot { classes } = encoding {
            ty.shape.0.push(classes);
        }
        Input { name: "x".into(), shape: Shape(shape), encoding, ty }
    }

    #[test]
    fn encodes_both_kinds() {
        let ids = input(Encoding::OneHot { classes: 3 }, vec![2], 4, 0);
        let rows = encode(&ids, &Plain::Integers(vec![2, 0])).unwrap();
        assert_eq!((&rows.shape[..], &rows.data[..]), (&[2, 3][..], &[0, 0, 1, 1, 0, 0][..]));
        let reals = input(Encoding::Fixed, vec![3], 8, 4);
        let x = encode(&reals, &Plain::Reals(vec![1.5, -0.25, 7.9])).unwrap();
        let integers: Vec<i64> = x.data.iter().map(|&v| v as i64).collect();
        assert_eq!(integers, [24, -4, 126]);
        assert_eq!(decode(&integers, 4), [1.5, -0.25, 7.875]);
    }

    #[test]
    fn faults_tell_the_place_but_not_the_value() {
        let ids = input(Encoding::OneHot { classes: 3 }, vec![2], 4, 0);
        let reals = input(Encoding::Fixed, vec![2], 8, 4);
        let text = |input: &Input, plain: Plain| encode(input, &plain).err().expect("a fault").to_string();
        assert_eq!(
            text(&ids, Plain::Integers(vec![0, 77])),
            "element 1 of input \"x\" is out of range: it must be 0 or more and below 3"
        );
        assert_eq!(
            text(&reals, Plain::Reals(vec![0.0, f32::NAN])),
            "element 1 of input \"x\" is out of range: it must be below 2^3 in size"
        );
        assert_eq!(
            text(&ids, Plain::Integers(vec![0])),
            "input \"x\" has 1 elements, the program was compiled for [2]"
        );
        assert_eq!(text(&ids, Plain::Reals(vec![0.0, 0.0])), "input \"x\" takes integers");
    }
}
