//! From the arrays of a file to the runs of a program.
//!
//! Rows      The first axis of an input with two axes or more counts rows. More rows than the program's batch make several
//!           runs; the outputs are stacked again.
//! Length    Ids may be shorter along their last axis than the size that was bound at compile time, if the program has a
//!           public number `position`, which picks the outputs' position: they are padded on the right with 0, and
//!           `position` is the last one given, `prompt` their number.
//! Public    Masks and position ids were bound at compile time (metadata `public_inputs`). They may be given, with the bound
//!           values only.

use std::collections::BTreeMap;

use ir::bytecode::Module;
use ir::program::{Encoding, Input};
use ir::slots::{POSITION, PROMPT};
use ir::{OutputId, Program};
use ndarray::{ArrayD, Axis, Dimension, IxDyn, Slice, concatenate};
use serde::Deserialize;

use crate::npz::Array;
use kernels::codec::{self, CodecError, Plain};
use kernels::ring::Tensor;

/// Metadata key of the public inputs.
pub const PUBLIC_INPUTS: &str = "public_inputs";

/// What one run needs.
#[derive(Clone, PartialEq, Debug)]
pub struct Run {
    /// Values of the program's public numbers.
    pub publics: Vec<u32>,
    /// Values of the program's inputs in its order and shapes.
    pub inputs: Vec<Array>,
}

impl Run {
    /// The client's shares of the inputs.
    pub fn encode(&self, program: &Program) -> Result<Vec<Tensor>, CodecError> {
        let plain = |array: &Array| match array {
            Array::I64(a) => Plain::Integers(a.iter().copied().collect()),
            Array::F32(a) => Plain::Reals(a.iter().copied().collect()),
        };
        program.inputs.iter().zip(&self.inputs).map(|(input, array)| codec::encode(input, &plain(array))).collect()
    }
}

/// Arrays that do not fit the program.
#[derive(thiserror::Error, Debug, PartialEq)]
#[allow(missing_docs)]
pub enum InputError {
    #[error("input `{name}` is missing; the program takes {expected}")]
    Missing { name: String, expected: String },
    #[error("`{name}` is no input of the program, which takes {expected}")]
    Unknown { name: String, expected: String },
    #[error("input `{name}` has {got}, the program takes {wanted}")]
    Type { name: String, got: &'static str, wanted: &'static str },
    #[error("input `{name}` has shape {got:?}, the program takes {wanted}")]
    Shape { name: String, got: Vec<usize>, wanted: String },
    #[error("input `{name}` has {got} tokens, the program was compiled for {bound}")]
    TooLong { name: String, got: usize, bound: usize },
    #[error("input `{name}` has {got} tokens, and the program, which has no `position`, takes exactly {bound}")]
    TooShort { name: String, got: usize, bound: usize },
    #[error("input `{name}` has {got} rows, not a multiple of the {batch} that the program was compiled for")]
    Rows { name: String, got: usize, batch: usize },
    #[error("inputs `{a}` and `{b}` differ in {what}")]
    Disagree { a: String, b: String, what: &'static str },
    #[error("input `{name}` is out of range at {index:?}; {wanted}")]
    Range { name: String, index: Vec<usize>, wanted: String },
    #[error("public input `{name}` is {value} at {index:?}; it was bound to {bound} at compile time")]
    Bound { name: String, value: String, index: Vec<usize>, bound: String },
    #[error("public input `{name}` has other values than it was bound to at compile time")]
    OtherBound { name: String },
    #[error("the program has a public number `{name}` that this release cannot set")]
    Public { name: String },
    #[error("the program's metadata `{PUBLIC_INPUTS}` cannot be read: {what}")]
    Metadata { what: String },
}

impl InputError {
    /// A way out, for the user.
    pub fn hint(&self) -> String {
        match self {
            InputError::TooLong { got, .. } | InputError::TooShort { got, .. } => {
                format!("compile with `--dim NAME={got}`, NAME being the dimension's name in the ONNX file")
            }
            InputError::Rows { .. } => "compile with a batch of 1; rows then run one after another".to_owned(),
            InputError::Public { .. } | InputError::Metadata { .. } => {
                "compile the model again with the same release of sscc".to_owned()
            }
            InputError::Range { .. } | InputError::Bound { .. } | InputError::OtherBound { .. } => {
                "values as the program was compiled for".to_owned()
            }
            _ => "an .npz file with the ONNX graph's inputs by name".to_owned(),
        }
    }
}

#[derive(Deserialize)]
struct PublicInput {
    shape: Vec<usize>,
    #[serde(flatten)]
    content: Content,
}

/// What a public input holds.
#[derive(Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
enum Content {
    Ones,
    Zeros,
    /// 0, 1, .. along the last axis.
    Arange,
    /// The elements, in row-major order.
    Values {
        values: Vec<f64>,
    },
    /// BLAKE3 of the elements as 64-bit floats, little endian, where they are too many to list.
    Hash {
        blake3: String,
    },
}

impl Content {
    /// The element at a place, `at` along the last axis and `flat` in row-major order; none where it is not known.
    fn element(&self, flat: usize, at: usize) -> Option<f64> {
        match self {
            Content::Ones => Some(1.0),
            Content::Zeros => Some(0.0),
            Content::Arange => Some(at as f64),
            Content::Values { values } => values.get(flat).copied(),
            Content::Hash { .. } => None,
        }
    }

    /// Whether a shorter input may be given.
    fn may_be_cut(&self) -> bool {
        !matches!(self, Content::Values { .. } | Content::Hash { .. })
    }
}

/// The entry that fits the arrays, the smallest if several do, and its runs.
pub fn plan<'a>(module: &'a Module, arrays: &BTreeMap<String, Array>) -> Result<(&'a Program, Vec<Run>), InputError> {
    let public = public_inputs(module)?;
    let mut entries: Vec<&Program> = module.entries.iter().collect();
    entries.sort_by_key(|p| p.inputs.iter().map(|i| i.shape.elements().unwrap_or(u64::MAX)).max());
    let mut fault = None;
    for program in entries {
        match runs(program, &public, arrays) {
            Ok(runs) => return Ok((program, runs)),
            // The greatest entry's fault says most about what could have run.
            Err(e) => fault = Some(e),
        }
    }
    Err(fault.expect("a loaded program has an entry"))
}

/// Stacks the outputs of several runs along their first axis.
pub fn stack(outputs: Vec<Vec<(String, ArrayD<f32>)>>) -> Vec<(String, ArrayD<f32>)> {
    let mut runs = outputs.into_iter();
    let Some(first) = runs.next() else { return Vec::new() };
    let mut parts: Vec<(String, Vec<ArrayD<f32>>)> = first.into_iter().map(|(name, a)| (name, vec![a])).collect();
    for run in runs {
        parts.iter_mut().zip(run).for_each(|(part, (_, array))| part.1.push(array));
    }
    let rows = |array: ArrayD<f32>| if array.ndim() == 0 { array.insert_axis(Axis(0)) } else { array };
    parts
        .into_iter()
        .map(|(name, mut arrays)| {
            if arrays.len() == 1 {
                return (name, arrays.remove(0));
            }
            let arrays: Vec<_> = arrays.into_iter().map(rows).collect();
            let views: Vec<_> = arrays.iter().map(|a| a.view()).collect();
            (name, concatenate(Axis(0), &views).expect("runs of one program have outputs of one shape"))
        })
        .collect()
}

fn public_inputs(module: &Module) -> Result<BTreeMap<String, PublicInput>, InputError> {
    match module.metadata.get(PUBLIC_INPUTS) {
        Some(text) => serde_json::from_str(text).map_err(|e| InputError::Metadata { what: e.to_string() }),
        None => Ok(BTreeMap::new()),
    }
}

/// What a program takes, for messages.
pub fn expected(program: &Program) -> String {
    let one = |i: &Input| match i.encoding {
        Encoding::OneHot { classes } => format!("`{}` {} (ids below {classes})", i.name, i.shape),
        Encoding::Fixed => format!("`{}` {} (float32)", i.name, i.shape),
    };
    program.inputs.iter().map(one).collect::<Vec<_>>().join(", ")
}

/// What the inputs of a program agree on.
#[derive(Default)]
struct Agreed {
    /// Number of runs, and the input that says so.
    runs: Option<(usize, String)>,
    /// Number of tokens, and the input that says so.
    length: Option<(usize, String)>,
}

fn agree(on: &mut Option<(usize, String)>, value: usize, name: &str, what: &'static str) -> Result<(), InputError> {
    match on {
        Some((agreed, a)) if *agreed != value => Err(InputError::Disagree { a: a.clone(), b: name.to_owned(), what }),
        Some(_) => Ok(()),
        None => {
            *on = Some((value, name.to_owned()));
            Ok(())
        }
    }
}

fn runs(
    program: &Program,
    public: &BTreeMap<String, PublicInput>,
    arrays: &BTreeMap<String, Array>,
) -> Result<Vec<Run>, InputError> {
    let picks = program.publics.iter().any(|p| p.name == POSITION);
    let mut agreed = Agreed::default();
    for input in &program.inputs {
        let array = arrays
            .get(&input.name)
            .ok_or_else(|| InputError::Missing { name: input.name.clone(), expected: expected(program) })?;
        check(input, array, picks, &mut agreed)?;
    }
    for (name, array) in arrays {
        if let Some(bound) = public.get(name) {
            check_public(name, bound, array)?;
        } else if !program.inputs.iter().any(|i| i.name == *name) {
            return Err(InputError::Unknown { name: name.clone(), expected: expected(program) });
        }
    }
    let publics = program
        .publics
        .iter()
        .map(|p| match (&p.name, &agreed.length) {
            (name, Some((length, _))) if name == POSITION && *length > 0 => Ok(*length as u32 - 1),
            (name, Some((length, _))) if name == PROMPT => Ok(*length as u32),
            (name, _) => Err(InputError::Public { name: name.clone() }),
        })
        .collect::<Result<Vec<u32>, _>>()?;
    let count = agreed.runs.map_or(1, |r| r.0);
    Ok((0..count)
        .map(|run| Run {
            publics: publics.clone(),
            inputs: program.inputs.iter().map(|i| part(i, &arrays[&i.name], run)).collect(),
        })
        .collect())
}

/// Whether an input has rows.
fn has_rows(input: &Input) -> bool {
    input.shape.rank() >= 2
}

fn dims(input: &Input) -> Vec<usize> {
    input.shape.0.iter().map(|d| *d as usize).collect()
}

fn check(input: &Input, array: &Array, picks: bool, agreed: &mut Agreed) -> Result<(), InputError> {
    let name = || input.name.clone();
    let (want, got) = (dims(input), array.shape());
    let shape = || InputError::Shape { name: name(), got: got.to_vec(), wanted: input.shape.to_string() };
    if want.len() != got.len() {
        return Err(shape());
    }
    let ids = matches!(input.encoding, Encoding::OneHot { .. });
    for axis in 0..want.len() {
        let (want_dim, got_dim) = (want[axis], got[axis]);
        if axis == 0 && has_rows(input) {
            if got_dim == 0 || got_dim % want_dim != 0 {
                return Err(InputError::Rows { name: name(), got: got_dim, batch: want_dim });
            }
            agree(&mut agreed.runs, got_dim / want_dim, &input.name, "their number of rows")?;
        } else if ids && axis == want.len() - 1 {
            if got_dim > want_dim {
                return Err(InputError::TooLong { name: name(), got: got_dim, bound: want_dim });
            }
            if got_dim == 0 || (got_dim < want_dim && !picks) {
                return Err(InputError::TooShort { name: name(), got: got_dim, bound: want_dim });
            }
            agree(&mut agreed.length, got_dim, &input.name, "their number of tokens")?;
        } else if want_dim != got_dim {
            return Err(shape());
        }
    }
    let range = |index: Option<Vec<usize>>, wanted: String| match index {
        Some(index) => Err(InputError::Range { name: name(), index, wanted }),
        None => Ok(()),
    };
    match (&input.encoding, array) {
        (Encoding::OneHot { classes }, Array::I64(a)) => {
            range(first(a, |x| *x < 0 || *x >= i64::from(*classes)), format!("ids are in 0..{classes}"))
        }
        (Encoding::Fixed, Array::F32(a)) => range(first(a, |x| !x.is_finite()), "numbers are finite".to_owned()),
        (Encoding::OneHot { .. }, _) => {
            Err(InputError::Type { name: name(), got: "float32", wanted: "int64 or int32" })
        }
        (Encoding::Fixed, _) => Err(InputError::Type { name: name(), got: "integers", wanted: "float32" }),
    }
}

/// Where the first bad element is.
fn first<T>(array: &ArrayD<T>, bad: impl Fn(&T) -> bool) -> Option<Vec<usize>> {
    array.indexed_iter().find(|(_, x)| bad(x)).map(|(i, _)| i.as_array_view().to_vec())
}

fn check_public(name: &str, bound: &PublicInput, array: &Array) -> Result<(), InputError> {
    let got = array.shape();
    let last = got.last().zip(bound.shape.last());
    let fits = match bound.content.may_be_cut() {
        true => got.len() == bound.shape.len() && last.is_none_or(|(got, bound)| got <= bound),
        false => got == bound.shape,
    };
    if !fits {
        let fewer = if bound.content.may_be_cut() { " or fewer tokens" } else { "" };
        let wanted = format!("{:?}{fewer}", bound.shape);
        return Err(InputError::Shape { name: name.to_owned(), got: got.to_vec(), wanted });
    }
    let reals = match array {
        Array::I64(a) => a.mapv(|x| x as f64),
        Array::F32(a) => a.mapv(f64::from),
    };
    if let Content::Hash { blake3: wanted } = &bound.content {
        let bytes: Vec<u8> = reals.iter().flat_map(|x| x.to_le_bytes()).collect();
        return match blake3::hash(&bytes).to_hex().as_str() == wanted {
            true => Ok(()),
            false => Err(InputError::OtherBound { name: name.to_owned() }),
        };
    }
    for (flat, (index, value)) in reals.indexed_iter().enumerate() {
        let index = index.as_array_view().to_vec();
        let wanted = bound.content.element(flat, index.last().copied().unwrap_or(0));
        if Some(*value) != wanted {
            let bound = wanted.map_or_else(|| "other".to_owned(), |wanted| wanted.to_string());
            return Err(InputError::Bound { name: name.to_owned(), value: value.to_string(), index, bound });
        }
    }
    Ok(())
}

/// The rows of one run, padded.
fn part(input: &Input, array: &Array, run: usize) -> Array {
    match array {
        Array::I64(a) => Array::I64(padded(input, a, run)),
        Array::F32(a) => Array::F32(padded(input, a, run)),
    }
}

fn padded<T: Clone + Default>(input: &Input, array: &ArrayD<T>, run: usize) -> ArrayD<T> {
    let dims = dims(input);
    let rows = match has_rows(input) {
        true => array.slice_axis(Axis(0), Slice::from(run * dims[0]..(run + 1) * dims[0])),
        false => array.view(),
    };
    let mut out = ArrayD::from_elem(IxDyn(&dims), T::default());
    out.slice_each_axis_mut(|axis| Slice::from(..rows.len_of(axis.axis))).assign(&rows);
    out
}

/// How many elements left their tables, of what a run revealed, if the program counts them ([`ir::OUTSIDE`]).
pub fn outside(program: &Program, outputs: &[Option<Vec<i64>>]) -> Option<u64> {
    let count = outputs[program.outside()?.index()].as_ref()?;
    // A server that follows the protocol reveals no negative count; one that does not is worth a warning.
    Some(count[0].unsigned_abs())
}

/// What to tell a user of a run in which elements left their tables; nothing if there are none.
pub fn warning(outside: u64) -> Option<String> {
    let (elements, ranges) = match outside {
        0 => return None,
        1 => ("1 element".to_owned(), "its calibrated range"),
        n => (format!("{n} elements"), "their calibrated ranges"),
    };
    Some(format!("warning: {elements} left {ranges}; the answer may be wrong; calibrate with inputs like these"))
}

/// What a run revealed to a party, as real numbers in the shapes of the ONNX graph, without the count of [`outside`].
pub fn decode(program: &Program, outputs: Vec<Option<Vec<i64>>>) -> Vec<(String, ArrayD<f32>)> {
    let scale =
        |output: usize| program.output_scale(OutputId(output as u32)).expect("verified: every output is revealed");
    outputs
        .into_iter()
        .enumerate()
        .filter(|(i, _)| program.outside().is_none_or(|outside| outside.index() != *i))
        .filter_map(|(i, integers)| {
            let output = &program.outputs[i];
            let reals = codec::decode(&integers?, scale(i));
            let shape = IxDyn(&codec::dimensions(&output.shape));
            Some((output.name.clone(), ArrayD::from_shape_vec(shape, reals).expect("verified: as many elements")))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use ir::program::Public;
    use ir::{Kind, Shape, Type};
    use ndarray::array;

    fn module(publics: &[&str], entries: &[(u32, u32)]) -> Module {
        let entry = |&(batch, seq): &(u32, u32)| Program {
            name: format!("{batch}x{seq}"),
            inputs: vec![Input {
                name: "input_ids".to_owned(),
                shape: Shape(vec![batch, seq]),
                encoding: Encoding::OneHot { classes: 10 },
                ty: Type { kind: Kind::Share, width: 8, scale: 0, shape: Shape(vec![batch, seq, 10]) },
            }],
            publics: publics.iter().map(|p| Public { name: (*p).to_owned(), bound: seq }).collect(),
            ..Program::default()
        };
        let text = r#"{"attention_mask": {"shape": [1, 4], "kind": "ones"},
                       "position_ids": {"shape": [1, 4], "kind": "arange"},
                       "token_type_ids": {"shape": [1, 4], "kind": "zeros"},
                       "offsets": {"shape": [1, 2], "kind": "values", "values": [3, 4.5]},
                       "long": {"shape": [2], "kind": "hash", "blake3": "HASH"}}"#;
        let bytes: Vec<u8> = [7f64, 8.0].iter().flat_map(|x| x.to_le_bytes()).collect();
        let text = text.replace("HASH", blake3::hash(&bytes).to_hex().as_str());
        Module {
            metadata: [(PUBLIC_INPUTS.to_owned(), text)].into(),
            commitment: [0; 32],
            entries: entries.iter().map(entry).collect(),
        }
    }

    fn ids(array: ArrayD<i64>) -> BTreeMap<String, Array> {
        [("input_ids".to_owned(), Array::I64(array))].into()
    }

    #[test]
    fn short_prompts_are_padded_and_rows_become_runs() {
        let module = module(&[POSITION], &[(1, 4)]);
        let (_, runs) = plan(&module, &ids(array![[1, 2, 3], [4, 5, 6]].into_dyn())).unwrap();
        let run = |ids: [i64; 4]| Run { publics: vec![2], inputs: vec![Array::I64(array![ids].into_dyn())] };
        assert_eq!(runs, [run([1, 2, 3, 0]), run([4, 5, 6, 0])]);
    }

    #[test]
    fn the_smallest_entry_that_fits_is_taken() {
        let module = module(&[POSITION], &[(1, 8), (1, 2), (1, 4)]);
        let entry = |n: usize| plan(&module, &ids(ArrayD::zeros(IxDyn(&[1, n])))).map(|(p, _)| p.name.clone());
        assert_eq!(entry(1).unwrap(), "1x2");
        assert_eq!(entry(3).unwrap(), "1x4");
        assert_eq!(entry(8).unwrap(), "1x8");
        assert!(matches!(entry(9), Err(InputError::TooLong { got: 9, bound: 8, .. })));
    }

    #[test]
    fn public_inputs_may_be_given_with_their_bound_values_only() {
        let module = module(&[POSITION], &[(1, 4)]);
        let with = |name: &str, value: Array| {
            let mut arrays = ids(array![[1, 2, 3]].into_dyn());
            arrays.insert(name.to_owned(), value);
            plan(&module, &arrays).map(|_| ())
        };
        with("attention_mask", Array::I64(array![[1, 1, 1]].into_dyn())).unwrap();
        with("attention_mask", Array::F32(array![[1., 1., 1.]].into_dyn())).unwrap();
        with("position_ids", Array::I64(array![[0, 1, 2]].into_dyn())).unwrap();
        with("token_type_ids", Array::I64(array![[0, 0, 0, 0]].into_dyn())).unwrap();
        with("offsets", Array::F32(array![[3., 4.5]].into_dyn())).unwrap();
        with("long", Array::I64(array![7, 8].into_dyn())).unwrap();
        assert!(with("offsets", Array::F32(array![[3., 5.]].into_dyn())).is_err());
        assert!(with("offsets", Array::F32(array![[3.]].into_dyn())).is_err());
        assert!(with("long", Array::I64(array![7, 9].into_dyn())).is_err());
        assert!(with("attention_mask", Array::I64(array![[1, 1, 0]].into_dyn())).is_err());
        assert!(with("position_ids", Array::I64(array![[1, 2, 3]].into_dyn())).is_err());
        assert!(with("token_type_ids", Array::I64(array![[0, 0, 1]].into_dyn())).is_err());
        assert!(with("attention_mask", Array::I64(array![[1, 1, 1, 1, 1]].into_dyn())).is_err());
        assert!(with("other", Array::I64(array![[1]].into_dyn())).is_err());
    }

    #[test]
    fn faults_say_what_is_expected() {
        let fault = |publics: &[&str], arrays: &BTreeMap<String, Array>| {
            let error = plan(&module(publics, &[(2, 4)]), arrays).unwrap_err();
            format!("{error}\n  try: {}", error.hint())
        };
        let position = &[POSITION][..];
        insta::assert_snapshot!(
            [
                fault(position, &BTreeMap::new()),
                fault(position, &ids(ArrayD::zeros(IxDyn(&[2])))),
                fault(position, &ids(ArrayD::zeros(IxDyn(&[3, 4])))),
                fault(position, &ids(ArrayD::zeros(IxDyn(&[2, 5])))),
                fault(&[], &ids(ArrayD::zeros(IxDyn(&[2, 3])))),
                fault(position, &ids(array![[1, 2, 3, 4], [5, 6, 7, 10]].into_dyn())),
                fault(position, &[("input_ids".to_owned(), Array::F32(ArrayD::zeros(IxDyn(&[2, 4]))))].into()),
                fault(&["temperature"], &ids(ArrayD::zeros(IxDyn(&[2, 4])))),
            ]
            .join("\n")
        );
    }

    #[test]
    fn the_count_of_elements_outside_is_no_output() {
        let share = |scale| Type { kind: Kind::Share, width: 8, scale, shape: Shape(vec![1]) };
        let instr = |op, ty| ir::Instr { op, ty, origin: None };
        let reveal =
            |x, output| ir::Op::Reveal { x: ir::Value(x), output: ir::OutputId(output), to: ir::Party::Client };
        let output =
            |name: &str| ir::program::Output { name: name.to_owned(), shape: Shape(vec![1]), to: ir::Party::Client };
        let input = |i| ir::Op::Input { input: ir::InputId(i) };
        let mut program = Program {
            outputs: vec![output("y"), output(ir::OUTSIDE)],
            instrs: vec![
                instr(input(0), Some(share(2))),
                instr(input(1), Some(share(0))),
                instr(reveal(1, 1), None),
                instr(reveal(0, 0), None),
            ],
            ..Program::default()
        };
        let revealed = vec![Some(vec![6]), Some(vec![3])];
        assert_eq!(outside(&program, &revealed), Some(3));
        assert_eq!(decode(&program, revealed.clone()), [("y".to_owned(), array![1.5f32].into_dyn())]);
        program.outputs[1].name = "z".to_owned();
        assert_eq!((outside(&program, &revealed), decode(&program, revealed).len()), (None, 2));
        assert_eq!(warning(0), None);
        assert_eq!(
            warning(3).unwrap(),
            "warning: 3 elements left their calibrated ranges; the answer may be wrong; calibrate with inputs like these"
        );
    }

    #[test]
    fn outputs_stack_along_rows() {
        let run = |x: f32| vec![("y".to_owned(), array![[x, x + 1.]].into_dyn())];
        assert_eq!(stack(vec![run(1.)]), run(1.));
        assert_eq!(stack(vec![run(1.), run(5.)]), [("y".to_owned(), array![[1., 2.], [5., 6.]].into_dyn())]);
    }
}
