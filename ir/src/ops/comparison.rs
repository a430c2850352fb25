//! Comparisons, and what they choose.

use super::{Family, Place};
use crate::choose::{self, Choosing};
use crate::cost::InstrCost;
use crate::dcf::{Comparison, Layout};
use crate::digits::{MASKED, OPENINGS, PRODUCTS, digits};
use crate::eval::{Operands, signed};
use crate::fault::{Code, Fault};
use crate::infer::*;
use crate::making::{Making, Network, Requests};
use crate::material::{self, Pieces};
use crate::op::Op;
use crate::program::Program;
use crate::types::*;
use crate::wire::packed_bytes;
use rayon::prelude::*;

/// The family.
pub(crate) struct Comparisons;

impl Family for Comparisons {
    fn infer(program: &Program, op: &Op) -> Result<Option<Type>, Fault> {
        let opened = |v: &Value| opened(program, *v);
        let ty = match op {
            Op::Ge { x, table, .. } | Op::Compare { x, table } => {
                let cached = matches!(program.instrs.get(x.index()).map(|instr| &instr.op), Some(Op::Cache { .. }));
                let x = opened(x)?;
                let Table::Thresholds(thresholds) = get(&program.tables, table.index(), "table").map(|t| &t.table)?
                else {
                    return fault(Code::Table, "not a table of thresholds");
                };
                if x.width < 2 {
                    return fault(Code::Width, "a comparison reads the bits below the top one, the opening has 1 bit");
                }
                // The comparison is right while x - t fits the opening's ring.
                let (reach, room) = match x.kind {
                    Kind::Opened { whole: true } => ((1i64 << (x.width - 1)) - 1, x.width - 1),
                    _ => (1i64 << (x.width - 2), x.width - 2),
                };
                if let Some(t) = thresholds.iter().find(|t| !(-reach..=reach).contains(*t)) {
                    return Err(Fault::new(
                        Code::Table,
                        format!("threshold {t} is beyond 2^{room}: the comparison would wrap"),
                    )
                    .help("open at a greater width"));
                }
                let width = match op {
                    Op::Ge { width, .. } => *width,
                    _ if cached => {
                        return fault(Code::Kind, "compares rows of earlier steps, whose masks are of no use here");
                    }
                    _ if !(OPENINGS[0]..=OPENINGS[1]).contains(&x.width) => {
                        let [least, most] = OPENINGS;
                        let message = format!("{} bits are compared by digits, not {least} ..= {most}", x.width);
                        return Err(Fault::new(Code::Width, message).help("take a lower scale"));
                    }
                    _ => 1,
                };
                shared(width, 0, append(&x.shape.0, &[thresholds.len() as u32]))
            }
            Op::Bit { x, width } => shared(*width, 0, share(program, *x)?.shape.clone()),
            Op::Select { d, y, width } => {
                let (d, y) = (opened(d)?, whole(opened(y)?)?);
                if d.width < 2 {
                    return fault(Code::Width, "a comparison reads the bits below the top one, the opening has 1 bit");
                }
                let Some((&components, batch)) = y.shape.0.split_last() else {
                    return fault(Code::Shape, "a scalar has no components to select");
                };
                equal_batches(&d.shape.0, batch)?;
                if components > MAX_SELECTED {
                    return fault(Code::Shape, format!("{components} components to select, at most {MAX_SELECTED}"));
                }
                if *width > y.width {
                    return Err(Fault::new(Code::Width, format!("{width} bits of an opening of {}", y.width))
                        .help("open at the width of the result"));
                }
                shared(*width, y.scale, y.shape.clone())
            }
            Op::Choose { x, output } => {
                let x = claimed(opened(x)?)?;
                let count = x.shape.elements().unwrap_or(u64::MAX);
                if !(1..=MAX_CHOSEN).contains(&count) {
                    return fault(Code::Shape, format!("one of {count} numbers is chosen, at most of {MAX_CHOSEN}"));
                }
                if x.width > choose::MAX_OPENING {
                    let message =
                        format!("numbers opened at {} bits, at most {} can be compared", x.width, choose::MAX_OPENING);
                    return Err(Fault::new(Code::Width, message).help("take them at a lower scale"));
                }
                let output = get(&program.outputs, output.index(), "output")?;
                if output.shape.elements() != Some(1) {
                    let message = format!("output {:?} has shape {}, a place is one number", output.name, output.shape);
                    return fault(Code::Shape, message);
                }
                return Ok(None);
            }
            _ => unreachable!("an op of another family"),
        };
        Ok(Some(ty))
    }

    fn eval(run: &Operands<'_>, op: &Op) -> Vec<i64> {
        match op {
            Op::Ge { x, table, .. } | Op::Compare { x, table } => {
                let Table::Thresholds(thresholds) = run.program.table(*table) else { unreachable!("verified") };
                let n = run.ty(x).width;
                let reaches = |v: &i64, t: &i64| i64::from(signed(v.wrapping_sub(*t), n) >= 0);
                run.value(x).par_iter().flat_map_iter(|v| thresholds.iter().map(move |t| reaches(v, t))).collect()
            }
            Op::Bit { x, .. } => run.map(x, |v| v & 1),
            Op::Select { d, y, .. } => {
                let components = run.value(y).len() / run.value(d).len();
                let chosen =
                    |(d, y): (&i64, &[i64])| y.iter().map(|&y| if *d >= 0 { y } else { 0 }).collect::<Vec<_>>();
                run.value(d).iter().zip(run.value(y).chunks_exact(components)).flat_map(chosen).collect()
            }
            _ => unreachable!("an op of another family"),
        }
    }

    fn pieces(at: Place<'_>, out: &mut Pieces) {
        let (own, n) = at.own();
        match &at.instr.op {
            // The comparison at every point; or m, then the key.
            Op::Ge { x, width, .. } => match Comparison::new(at.ty(x).width, *width) {
                Comparison::Table { input_bits } => out.corrections(at.elements(x) << input_bits, n),
                Comparison::Key(layout) => {
                    out.corrections(at.elements(x), n);
                    out.key(at.ty(x), layout);
                }
            },
            // Unit vectors at the digits, then the products of masks.
            Op::Compare { x, .. } => {
                for digit in digits(at.ty(x).width) {
                    let (words, bits) = material::unit(1 << digit);
                    out.corrections(at.elements(x) * words, bits);
                }
                out.corrections(own, PRODUCTS.into());
            }
            // The masking bit as an integer.
            Op::Bit { .. } => out.corrections(own, n),
            // m, m·q, then the key.
            Op::Select { d, y, width } => {
                out.corrections(at.elements(d), n);
                out.corrections(own, n);
                out.key(at.ty(d), Layout::select(at.ty(d).width, at.last(y) as usize, *width));
            }
            Op::Choose { x, .. } => {
                let pieces = material::choosing(at.program, *x).pieces();
                pieces.into_iter().for_each(|(elements, bits)| out.corrections(elements, bits.into()));
            }
            _ => {}
        }
    }

    fn making(of: Making<'_>, out: &mut Requests) {
        let (at, (own, n)) = (of.at, of.at.own());
        match &at.instr.op {
            Op::Ge { x, width, .. } => {
                let Comparison::Table { input_bits } = Comparison::new(at.ty(x).width, *width) else { return };
                out.units(of.block, input_bits);
                out.flip(of.block, 1 << input_bits, *width);
                out.number(of.block, 1, *width);
                out.correlation(of.block << input_bits, *width);
            }
            Op::Compare { x, .. } => out.digits(at.elements(x), own, digits(at.ty(x).width)),
            Op::Bit { .. } => {
                out.number(own, 1, n as Width);
                out.correlation(own, n as Width);
            }
            Op::Choose { x, .. } => of_choose(&material::choosing(at.program, *x), out),
            _ => {}
        }
    }

    fn cost(at: Place<'_>, cost: &mut InstrCost) {
        let mut both = |bytes: u64| (cost.client_payload_bytes, cost.server_payload_bytes) = (bytes, bytes);
        match at.instr.op {
            Op::Compare { .. } => both(packed_bytes(at.own().0, MASKED.into())),
            Op::Bit { .. } => both(packed_bytes(at.own().0, 1)),
            Op::Choose { x, .. } => {
                for message in material::choosing(at.program, x).messages() {
                    cost.client_payload_bytes += message.client;
                    cost.server_payload_bytes += message.server;
                }
            }
            _ => {}
        }
    }
}
/// The shuffles, by the server and then by the client, and the masks and unit vectors of all comparisons.
fn of_choose(choosing: &Choosing, out: &mut Requests) {
    let &Choosing { elements, width, place, digits, .. } = choosing;
    let (client, server) = (Party::Client, Party::Server);
    let network = |owner, width| Network { owner, wires: elements, width };
    out.switches(vec![network(server, width), network(client, width), network(client, place)]);
    out.tell(client, elements, width);
    out.tell(client, elements, width);
    for width in [width, place] {
        out.tell(server, elements, width);
        out.tell(client, elements, width);
    }
    let compared = choosing.comparisons();
    out.number(compared, width, width);
    out.tell(client, compared, width);
    out.digits(compared, compared, digits);
}
