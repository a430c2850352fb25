//! Functions of one number, element by element; [`crate::graph::function`] lists them.

use super::{Family, stranger};
use crate::graph::function::NAMES;
use crate::graph::kernel::Element;
use crate::graph::text::{ParseError, Parser};
use crate::graph::{DType, Function, GeluForm, Op, Tensor};

pub(super) const FAMILY: Family = Family {
    name: |op| function(op).name(),
    attributes,
    parse,
    rule: |_, operands, _| {
        operands.count(1..=1)?;
        Ok((operands.float(0)?.clone(), DType::F32))
    },
    kernel: |op, operands, _, _| {
        let f = function(op);
        Ok(Tensor::F32(f32::of(&operands[0]).mapv(|x| f.value_f32(x))))
    },
};

fn function(op: &Op) -> Function {
    match op {
        Op::Unary(function) => *function,
        _ => stranger(op),
    }
}

fn attributes(op: &Op) -> String {
    match function(op) {
        Function::Gelu(GeluForm::Erf) => "erf".into(),
        Function::Gelu(GeluForm::Tanh) => "tanh".into(),
        function => function.parameters().iter().map(|p| format!("{p:?}")).collect::<Vec<_>>().join(", "),
    }
}

fn parse(parser: &mut Parser<'_>, name: &str, braces: bool) -> Result<Option<Op>, ParseError> {
    let start = parser.mark();
    let function = match name {
        "gelu" => Some(Function::Gelu(parser.choice("`erf` or `tanh`", |word| match word {
            "erf" => Some(GeluForm::Erf),
            "tanh" => Some(GeluForm::Tanh),
            _ => None,
        })?)),
        name if NAMES.contains(&name) => {
            let parameters = if braces { parser.numbers()? } else { Vec::new() };
            let found = Function::named(name, &parameters);
            if found.is_none() {
                return Err(parser.error(start, format!("{name} takes other parameters than {parameters:?}")));
            }
            found
        }
        _ => None,
    };
    Ok(function.map(Op::Unary))
}
