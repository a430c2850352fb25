//! Appends instructions to a program, with their types, and keeps one copy of every table, weight and origin.

use crate::fault::{Code, Fault};
use crate::infer::infer;
use crate::op::Op;
use crate::program::{Input, Instr, NamedTable, Output, Program, Public, State, WeightDecl};
use crate::types::*;
use std::collections::{HashMap, HashSet};

/// A program under construction.
pub struct Builder {
    program: Program,
    origins: HashMap<String, Origin>,
    weights: HashMap<String, Weight>,
    tables: HashMap<Table, TableId>,
    table_names: HashSet<String>,
}

impl Builder {
    /// An empty program, not scheduled.
    pub fn new(name: impl Into<String>) -> Builder {
        Builder::over(Program { name: name.into(), ..Program::default() })
    }

    /// Continues `program`. A pass that rewrites a program starts from one without instructions, and so keeps every
    /// identifier of its lists.
    pub fn over(program: Program) -> Builder {
        let numbered = |i: usize| i as u32;
        Builder {
            origins: program.origins.iter().enumerate().map(|(i, o)| (o.clone(), Origin(numbered(i)))).collect(),
            weights: program.weights.iter().enumerate().map(|(i, w)| (w.name.clone(), Weight(numbered(i)))).collect(),
            tables: program.tables.iter().enumerate().map(|(i, t)| (t.table.clone(), TableId(numbered(i)))).collect(),
            table_names: program.tables.iter().map(|t| t.name.clone()).collect(),
            program,
        }
    }

    /// The program so far.
    pub fn program(&self) -> &Program {
        &self.program
    }

    /// Type of a value.
    pub fn ty(&self, value: Value) -> &Type {
        self.program.ty(value)
    }

    /// The finished program. It still wants [`crate::verify::verify`], which sees what no single instruction shows.
    pub fn finish(self) -> Program {
        self.program
    }

    /// Appends an instruction and returns its value; for `round`, `send` and `reveal`, which have no result, nothing may
    /// read it.
    pub fn push(&mut self, op: Op, origin: Option<Origin>) -> Result<Value, Fault> {
        let index = self.program.instrs.len();
        let mut instr = Instr { op, ty: None, origin };
        match infer(&self.program, &instr.op) {
            Ok(ty) => instr.ty = ty,
            Err(fault) => return Err(fault.at(&self.program, index, &instr)),
        }
        self.program.instrs.push(instr);
        Ok(Value(index as u32))
    }

    /// Marks that `round` and `send` say when messages leave.
    pub fn scheduled(&mut self) {
        self.program.scheduled = true;
    }

    /// Declares an input.
    pub fn input(&mut self, input: Input) -> InputId {
        self.program.inputs.push(input);
        InputId(self.program.inputs.len() as u32 - 1)
    }

    /// Declares a public run-time number.
    pub fn public(&mut self, public: Public) -> PublicId {
        self.program.publics.push(public);
        PublicId(self.program.publics.len() as u32 - 1)
    }

    /// Declares an output.
    pub fn output(&mut self, output: Output) -> OutputId {
        self.program.outputs.push(output);
        OutputId(self.program.outputs.len() as u32 - 1)
    }

    /// The identifier of an ONNX node's name.
    pub fn origin(&mut self, name: &str) -> Origin {
        if let Some(&known) = self.origins.get(name) {
            return known;
        }
        let origin = Origin(self.program.origins.len() as u32);
        self.program.origins.push(name.to_owned());
        self.origins.insert(name.to_owned(), origin);
        origin
    }

    /// The identifier of a weight; an equal declaration gives the same one.
    pub fn weight(&mut self, decl: WeightDecl) -> Result<Weight, Fault> {
        if let Some(&known) = self.weights.get(&decl.name) {
            let other = &self.program.weights[known.index()];
            if *other != decl {
                return Err(Fault::new(
                    Code::Name,
                    format!(
                        "weight {:?} is declared twice: scale {} {} and scale {} {}",
                        decl.name, other.scale, other.shape, decl.scale, decl.shape
                    ),
                ));
            }
            return Ok(known);
        }
        let weight = Weight(self.program.weights.len() as u32);
        self.weights.insert(decl.name.clone(), weight);
        self.program.weights.push(decl);
        Ok(weight)
    }

    /// Declares a state.
    pub fn state(&mut self, state: State) -> StateId {
        self.program.states.push(state);
        StateId(self.program.states.len() as u32 - 1)
    }

    /// The identifier of a table. Equal tables share the name of the first; a name that is taken gets a number.
    pub fn table(&mut self, name: &str, table: Table) -> TableId {
        if let Some(&known) = self.tables.get(&table) {
            return known;
        }
        let mut unique = name.to_owned();
        let mut number = 1;
        while !self.table_names.insert(unique.clone()) {
            number += 1;
            unique = format!("{name}_{number}");
        }
        let id = TableId(self.program.tables.len() as u32);
        self.tables.insert(table.clone(), id);
        self.program.tables.push(NamedTable { name: unique, table });
        id
    }
}
