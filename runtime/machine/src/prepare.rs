//! Before the online phase: what does not depend on the input. The client computes what its seed and the program
//! determine and sends those parts of its messages ([`ir::ahead`]); the server keeps them, packed, for their rounds.

use super::local::local;
use super::message::{self, Incoming};
use super::values::{Slot, Values};
use super::{Cause, Machine, Role, VmError};
use crate::link::Link;
use bytes::Bytes;
use ir::{Op, Value};
use kernels::ring::{self, Tensor};
use protocols::linear::{self, Factor, Sizes};
use protocols::open;
use protocols::weights::MaskedWeights;
use std::ops::Range;
use std::time::Instant;

impl Machine<'_> {
    /// Does ahead what does not depend on the input, and sends or receives what goes ahead. Takes no material: the client's
    /// part comes from its seed.
    pub fn prepare(&mut self, link: &mut dyn Link) -> Result<(), VmError> {
        if std::mem::replace(&mut self.prepared, true) {
            return Ok(());
        }
        let start = Instant::now();
        let mut parts = Vec::new();
        match self.role {
            Role::Client(weights) => {
                let mut values = Values::new(self.program.instrs.len());
                let mut packed = Vec::new();
                for i in 0..self.program.instrs.len() {
                    self.client_ahead(weights, i, &mut values, &mut packed, &mut parts, link)
                        .map_err(|cause| self.failure(i, cause))?;
                    values.free(&self.ahead.frees[i]);
                }
                self.values = values;
            }
            Role::Server(_) => {
                for i in 0..self.program.instrs.len() {
                    self.server_ahead(i, &mut parts, link).map_err(|cause| self.failure(i, cause))?;
                }
            }
        }
        self.report.setup_seconds += start.elapsed().as_secs_f64();
        Ok(())
    }

    /// Does one instruction ahead. `packed` is the message in the making, `parts` says where in it which part lies.
    fn client_ahead(
        &mut self,
        weights: Option<&dyn MaskedWeights>,
        i: usize,
        values: &mut Values,
        packed: &mut Vec<u8>,
        parts: &mut Vec<(usize, Range<usize>)>,
        link: &mut dyn Link,
    ) -> Result<(), Cause> {
        let (program, own, start) = (self.program, self.own(i), packed.len());
        match program.instrs[i].op {
            Op::Linear { x, weight } => {
                let (sizes, width) = (Sizes::of(program, x, weight), program.ty(x).width);
                if self.ahead.sent[i] {
                    for columns in sizes.blocks(width) {
                        ring::pack(&linear::send(own, sizes, columns, &values.share(x).data, width), width, packed);
                    }
                    parts.push((i, start..packed.len()));
                }
                let product = match &mut self.products {
                    Some(products) => products.take(sizes.rows * sizes.m, width),
                    None => {
                        let masked = weights.map(|weights| weights.masked(weight)).transpose()?;
                        linear::prepare(&[Factor { client: own, sizes, width }], masked).remove(0)
                    }
                };
                values.put(i, Slot::Share(Tensor::new(self.shape(Value(i as u32)), product)));
            }
            Op::Open { x, width, whole } if self.ahead.sent[i] => {
                let x = values.share(x);
                let mask = open::mask(own, width);
                packed.resize(start + ring::packed_len(x.len(), width), 0);
                open::send(self.party(), x, mask, width, whole, open::Dealt::default(), &mut packed[start..]);
                parts.push((i, start..packed.len()));
            }
            Op::Round {} | Op::Send {} if !parts.is_empty() => {
                let message = Bytes::from(std::mem::take(packed));
                message::send(link, i as u32, &message)?;
                for (part, range) in parts.drain(..) {
                    self.report.instructions[part].sent_bytes += range.len() as u64;
                    self.early[part] = message.slice(range);
                }
                self.report.message_ahead(i, message.len() as u64, 0);
            }
            ref op if self.ahead.known[i] => {
                let frees = std::mem::take(&mut self.ahead.frees[i]);
                let share = local(self, values, op, &frees).expect("only local steps are known ahead");
                self.ahead.frees[i] = frees;
                values.put(i, Slot::Share(share));
            }
            _ => {}
        }
        Ok(())
    }

    /// Receives the client's message of an instruction that ends a message.
    fn server_ahead(
        &mut self,
        i: usize,
        parts: &mut Vec<(usize, Range<usize>)>,
        link: &mut dyn Link,
    ) -> Result<(), Cause> {
        let program = self.program;
        match program.instrs[i].op {
            Op::Open { x, .. } | Op::Linear { x, .. } if self.ahead.sent[i] => {
                let width = match program.instrs[i].op {
                    Op::Open { width, .. } => width,
                    _ => program.ty(x).width,
                };
                let elements = self.shape(x).iter().product();
                let start = parts.last().map_or(0, |(_, range)| range.end);
                parts.push((i, start..start + ring::packed_len(elements, width)));
            }
            Op::Round {} | Op::Send {} => {
                let Some(length) = parts.last().map(|(_, range)| range.end) else { return Ok(()) };
                let message = Incoming::new(i as u32, length).take(link, length)?;
                for (part, range) in parts.drain(..) {
                    self.report.instructions[part].received_bytes += range.len() as u64;
                    self.early[part] = message.slice(range);
                }
                self.report.message_ahead(i, 0, length as u64);
            }
            _ => {}
        }
        Ok(())
    }
}
