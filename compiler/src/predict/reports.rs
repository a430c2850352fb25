//! The reports that `ssvm run --report` writes, as far as they tell a machine's speed.

use std::path::Path;

use ir::Program;
use serde::Deserialize;

use super::fit::Measured;
use crate::diagnostic::{Code, Diagnostic};

/// A party's report.
#[derive(Deserialize)]
struct Report {
    /// Threads that it computed with.
    threads: usize,
    /// Of all runs that it tells of.
    rounds: u64,
    online_seconds: f64,
    /// In program order.
    instructions: Vec<Row>,
}

#[derive(Deserialize)]
struct Row {
    op: String,
    compute_seconds: f64,
}

/// How to make reports that can be read.
const HELP: &str = "run both parties once with RAYON_NUM_THREADS=1 and --report, without --shape";

/// Reads the client's and the server's report of one run of a program, one thread a party. Errors: a file that cannot be
/// read or is no report, one of another program, of several runs, or with other threads.
pub fn read(program: &Program, client: &Path, server: &Path) -> Result<Measured, Diagnostic> {
    let (client, server) = (report(program, client)?, report(program, server)?);
    let seconds = |report: &Report| report.instructions.iter().map(|row| row.compute_seconds).collect();
    let online_seconds = client.online_seconds;
    Ok(Measured { client: seconds(&client), server: seconds(&server), online_seconds })
}

fn report(program: &Program, path: &Path) -> Result<Report, Diagnostic> {
    let fault = |title: String| Diagnostic::new(Code::Report, title).at(path.display().to_string()).help(HELP);
    let bytes = std::fs::read(path).map_err(|e| {
        Diagnostic::new(Code::FileUnreadable, format!("the report cannot be read: {e}"))
            .at(path.display().to_string())
            .help(HELP)
    })?;
    let report: Report =
        serde_json::from_slice(&bytes).map_err(|e| fault(format!("this is not a report of a run: {e}")))?;
    let ops = program.instrs.iter().map(|instr| instr.op.mnemonic());
    if !report.instructions.iter().map(|row| row.op.as_str()).eq(ops) {
        return Err(fault(format!("the report is of another program than entry {}", program.name)));
    }
    let expected = ir::cost::cost(program).rounds;
    if report.rounds != expected {
        let because = format!("It counts {} rounds; a run has {expected}.", report.rounds);
        return Err(fault("the report is not of one run".to_owned()).because(because));
    }
    if report.threads != 1 {
        let because = format!("It is of {} threads, which count each second several times.", report.threads);
        return Err(fault("the report does not tell what a core takes".to_owned()).because(because));
    }
    Ok(report)
}
