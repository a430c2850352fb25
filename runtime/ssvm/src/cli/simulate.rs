//! `ssvm simulate`: both parties and the dealer in one process.

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

use super::output::{finish, sum, summary, warn, write_report};
use super::{CliError, run_error, say, weights_path};
use machine::meter::{Phases, Report};
use machine::profile::Totals;
use machine::simulate::Session;
use processes::inputs::{self, decode, stack};
use processes::weights_file::WeightsFile;
use processes::{Entropy, Loaded, Os, npz};
use protocols::Maker;
use protocols::dealer::Seeds;

/// Options of `ssvm simulate`.
#[derive(Args)]
pub(super) struct Options {
    /// The program.
    program: PathBuf,
    /// The weights [default: the program's name with `.ssw`].
    #[arg(long, value_name = "FILE.ssw")]
    weights: Option<PathBuf>,
    /// The ONNX graph's inputs by name.
    #[arg(long, value_name = "FILE.npz")]
    input: PathBuf,
    /// Where to write the outputs, as arrays, or as lists in a file whose name ends in `.json`.
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Where to write what the run took.
    #[arg(long, value_name = "FILE.json")]
    report: Option<PathBuf>,
}

/// The report of a simulation: the client's totals, and both parties of every run.
#[derive(Serialize)]
struct SimulationReport {
    preprocessing: &'static str,
    program: String,
    /// Elements that left their tables, over all runs, if the program counts them.
    outside: Option<u64>,
    #[serde(flatten)]
    totals: Totals,
    runs: Vec<SimulatedRun>,
}

#[derive(Serialize)]
struct SimulatedRun {
    client: Report,
    server: Report,
}

/// Runs it.
pub(super) fn simulate(options: &Options) -> Result<(), CliError> {
    let loaded = Loaded::open(&options.program)?;
    let arrays = npz::read(&options.input).map_err(run_error)?;
    let path = weights_path(&options.program, options.weights.as_deref());
    let file = WeightsFile::open(&path, &loaded.module, loaded.hash).map_err(run_error)?;
    let (program, planned) = inputs::plan(&loaded.module, &arrays).map_err(run_error)?;
    let weights = file.of(program);
    let (mut outputs, mut runs, mut outside) = (Vec::new(), Vec::new(), None);
    for run in &planned {
        let [client, server, masks] = [Os.seed()?, Os.seed()?, Os.seed()?];
        let seeds = Seeds { client: &client, server: &server, weights: &masks };
        let inputs = run.encode(program).map_err(run_error)?;
        let mut session = Session::new(&loaded.module.entries, &weights, seeds);
        let entry = loaded.first_step(program).entry;
        let [client, server] = session.step(entry, inputs, &run.publics).map_err(run_error)?;
        outside = sum(outside, inputs::outside(program, &client.outputs));
        outputs.push(decode(program, client.outputs));
        runs.push(SimulatedRun { client: client.report, server: server.report });
    }
    finish(&loaded.module, stack(outputs), options.output.as_deref())?;
    warn(outside);
    let reports: Vec<&Report> = runs.iter().map(|r| &r.client).collect();
    say(&summary(&reports, reports.iter().map(|r| r.online_seconds).sum(), None));
    let hash = processes::handshake::hex(&loaded.hash);
    let phases =
        |r: &Report| Phases { prepare_seconds: r.setup_seconds, online_seconds: r.online_seconds, ..Phases::default() };
    let totals = Totals::of(runs.iter().map(|r| (&r.client, phases(&r.client), 0)));
    let report = SimulationReport { preprocessing: Maker::Dealer.trust(), program: hash, outside, totals, runs };
    write_report(options.report.as_deref(), &report)
}
