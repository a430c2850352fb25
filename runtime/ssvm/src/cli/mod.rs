//! The command line: options, files, signals and messages around [`processes`].

mod chat;
mod generate;
mod links;
mod options;
mod output;
mod pair;
mod simulate;
mod stocks;
mod verify;

use std::io::IsTerminal;
use std::net::SocketAddr;
use std::num::{NonZeroU32, NonZeroUsize};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Mutex;
use std::time::Duration;

use clap::{Args, CommandFactory, Parser, Subcommand};
use clap_complete::Shell;
use ir::Party;
use serde::Serialize;
use tracing_subscriber::EnvFilter;

use links::{with_links, with_net};
use machine::meter::Report;
use machine::profile::Totals;
use options::{
    IdentityOptions, MakingOptions, NetOptions, cache_directory, dealer_address, peers, resolve, seconds,
    state_directory, storage,
};
use output::{finish, say, sum, summary, warn, write_report};
use processes::client::Client;
use processes::inputs::{self, stack};
use processes::keys::MasterKey;
use processes::limits::{Limit, Limits};
use processes::net::{Links, NetError, Options, Shape, addr};
use processes::npz;
use processes::server::Server;
use processes::setup::Cache;
use processes::weights_file::WeightsFile;
use processes::{self, Allowance, Dealing, Loaded, Os, Plan, Record, RunError, STOCK_DAYS, State, chain};
use text::command::CommandError;
use text::serve::ServeError;
use verify::CheckOptions;

/// Generations at one time, unless told otherwise.
const SESSIONS: NonZeroUsize = NonZeroUsize::new(2).expect("two");

/// Two-party inference on secret-shared values, with no third party or with a trusted dealer.
#[derive(Parser)]
#[command(name = "ssvm", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    /// What to log to stderr, for example `info` or `processes=debug`.
    #[arg(long, global = true, value_name = "FILTER")]
    log: Option<String>,
}

#[derive(Subcommand)]
enum Command {
    /// Deals correlated randomness to both parties of every session; must collude with neither.
    Dealer(DealerOptions),
    /// Runs one party: 0 is the client, who asks; 1 is the server, who serves until stopped.
    Run(RunOptions),
    /// Continues a text privately, token by token.
    Generate(Box<generate::Options>),
    /// Converses privately, turn by turn: a prompt to type at, or lines of stdin.
    Chat(Box<chat::Options>),
    /// Answers requests for private text over HTTP, in the shape of OpenAI's API.
    Serve(Box<generate::ServerOptions>),
    /// Makes material for generations to come, which both sides keep; goes on where it was broken off.
    Prepare(generate::PrepareOptions),
    /// Lists the stocks that this side keeps; checks and removes them.
    Stocks(stocks::Options),
    /// Makes the key that this side proves itself with on every link.
    Keygen(pair::KeygenOptions),
    /// Pins the key of another side, so that links with it come about; lists and removes what is pinned.
    Pair(pair::Options),
    /// Verifies a program without running it, and says what it reveals and takes.
    Verify(verify::Options),
    /// Runs both parties and the dealer in one process, bit for bit as over sockets.
    Simulate(simulate::Options),
    /// Prints a script that completes commands and options in a shell.
    Completions {
        /// The shell.
        shell: Shell,
    },
    /// Writes man pages, one for each command.
    Man {
        /// The folder, which is made if it is not there.
        #[arg(long, value_name = "DIR")]
        dir: PathBuf,
    },
}

#[derive(Args)]
struct DealerOptions {
    /// The program.
    program: PathBuf,
    /// Where to listen; port 0 picks a free port.
    #[arg(long, value_name = "ADDR", default_value = addr::DEALER)]
    listen: String,
    #[command(flatten)]
    net: NetOptions,
}

#[derive(Args)]
struct RunOptions {
    /// The program.
    program: PathBuf,
    /// 0: client, 1: server.
    #[arg(long, value_parser = clap::value_parser!(u8).range(0..=1))]
    party: u8,
    /// Take material from a dealer, who listens here [127.0.0.1:7702 if no address is given]; without this option both parties make
    /// it themselves.
    #[arg(long, value_name = "ADDR", num_args = 0..=1, default_missing_value = addr::DEALER)]
    dealer: Option<String>,
    /// Server: where to listen; port 0 picks a free port [default: 127.0.0.1:7701].
    #[arg(long, value_name = "ADDR")]
    listen: Option<String>,
    /// Server: the weights [default: the program's name with `.ssw`].
    #[arg(long, value_name = "FILE.ssw")]
    weights: Option<PathBuf>,
    /// Server: generations at one time; more wait [default: 2].
    #[arg(long, value_name = "N")]
    sessions: Option<NonZeroUsize>,
    /// Server: tokens that it keeps material for at most, for each client [default: as many as they ask for].
    #[arg(long, value_name = "TOKENS")]
    stock: Option<NonZeroUsize>,
    /// Server: what a client may ask for whose pin does not say (`ssvm pair --limit`): `sessions` at one time; `sessions-a-day`,
    /// `passes-a-day` and `tokens-a-day`, of UTC; the names of `entries` and `outputs`, with commas. May be given several times.
    #[arg(long, value_name = "KEY=VALUE")]
    limit: Vec<Limit>,
    /// Server: seconds that a generation may ask for no token, while somebody types, before its place goes to others [default: 300].
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    idle: Option<Duration>,
    #[command(flatten)]
    making: MakingOptions,
    /// Client: where the server listens [default: 127.0.0.1:7701].
    #[arg(long, value_name = "ADDR")]
    connect: Option<String>,
    /// Client: the ONNX graph's inputs by name.
    #[arg(long, value_name = "FILE.npz")]
    input: Option<PathBuf>,
    /// Client: where to write the outputs, as arrays, or as lists in a file whose name ends in `.json`.
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Client: where to keep masked weights [default: `ssvm` in the user's cache directory].
    #[arg(long, value_name = "DIR")]
    cache: Option<PathBuf>,
    /// Where to keep the ledger of burnt sessions and stocks; not to be restored from a backup [default: `ssvm` in the user's state directory].
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
    /// Client: begin at once and take material during the run, instead of all before it. The server goes along.
    #[arg(long)]
    overlap: bool,
    /// Client: print where the time of the online phase went, by layer and by kind of instruction.
    #[arg(long)]
    profile: bool,
    /// Slow down what goes to the other party, to measure: `lan`, `wan`, or round trip and rate as in `40ms,100mbit`. To be
    /// given to both parties.
    #[arg(long, value_name = "RTT,RATE")]
    shape: Option<Shape>,
    /// Where to write what the run took; the server's holds its last session.
    #[arg(long, value_name = "FILE.json")]
    report: Option<PathBuf>,
    #[command(flatten)]
    check: CheckOptions,
    #[command(flatten)]
    net: NetOptions,
}

/// A command that did not succeed.
#[derive(thiserror::Error, Debug)]
enum CliError {
    #[error(transparent)]
    Run(#[from] RunError),
    #[error(transparent)]
    Generate(#[from] CommandError),
    #[error(transparent)]
    Serve(#[from] ServeError),
    #[error("{}", chain(error))]
    Making { error: RunError, whole: usize },
    #[error("{what}")]
    Usage { what: String, hint: &'static str },
}

impl CliError {
    fn hint(&self) -> String {
        match self {
            CliError::Run(error) => error.hint(),
            CliError::Generate(error) => error.hint(),
            CliError::Serve(error) => error.hint(),
            CliError::Making { error: error @ (RunError::Taken | RunError::Enough { .. }), .. } => error.hint(),
            CliError::Making { error, whole: 0 } => error.hint(),
            CliError::Making { error, whole } => {
                format!(
                    "{}; what is whole is kept, about {whole} tokens, and the same command makes the rest",
                    error.hint()
                )
            }
            CliError::Usage { hint, .. } => (*hint).to_owned(),
        }
    }
}

/// For errors that a [`RunError`] covers.
fn run_error(error: impl Into<RunError>) -> CliError {
    CliError::Run(error.into())
}

/// The arguments that it takes.
pub fn command() -> clap::Command {
    Cli::command()
}

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let done = log(cli.log.as_deref()).and_then(|()| match cli.command {
        Command::Dealer(options) => dealer(&options),
        Command::Run(options) => run(&options),
        Command::Generate(options) => generate::generate(&options),
        Command::Chat(options) => chat::chat(&options),
        Command::Serve(options) => generate::serve(&options),
        Command::Prepare(options) => generate::prepare(&options),
        Command::Stocks(options) => stocks::stocks(&options),
        Command::Keygen(options) => pair::keygen(&options),
        Command::Pair(options) => pair::pair(&options),
        Command::Verify(options) => verify::verify(&options),
        Command::Simulate(options) => simulate::simulate(&options),
        Command::Completions { shell } => {
            completions(shell);
            Ok(())
        }
        Command::Man { dir } => man(&dir),
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {}\ntry: {}", chain(&error), error.hint());
            ExitCode::FAILURE
        }
    }
}

fn completions(shell: Shell) {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command(), "ssvm", &mut script);
    say(&String::from_utf8_lossy(&script));
}

fn man(dir: &Path) -> Result<(), CliError> {
    let written = std::fs::create_dir_all(dir).and_then(|()| clap_mangen::generate_to(command(), dir));
    written.map_err(|source| run_error(RunError::File { path: dir.to_owned(), source }))
}

fn log(filter: Option<&str>) -> Result<(), CliError> {
    let wanted = filter.map(str::to_owned).or_else(|| std::env::var("RUST_LOG").ok());
    // The server's lines, one for each request, are for its owner to keep.
    let wanted = wanted.unwrap_or_else(|| "warn,audit=info".to_owned());
    let filter = EnvFilter::try_new(&wanted)
        .map_err(|e| CliError::Usage { what: format!("log filter `{wanted}`: {e}"), hint: "`--log info`" })?;
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
    Ok(())
}

fn dealer(options: &DealerOptions) -> Result<(), CliError> {
    let address = resolve(&options.listen)?;
    if options.net.insecure && !address.ip().is_loopback() {
        return Err(run_error(NetError::SeedsInTheClear { address }));
    }
    let loaded = Loaded::open(&options.program)?;
    with_net(&options.net, &processes::dealer::GUESTS, |net| {
        let listener = net.listen(address, &processes::dealer::GUESTS).map_err(run_error)?;
        let links = net.links().name();
        say(&format!(
            "listening on {}\ntrusted dealer, {links}: must collude with neither party\n",
            listener.address()
        ));
        processes::dealer::serve(net, &listener, loaded);
        Ok(())
    })
}

fn run(options: &RunOptions) -> Result<(), CliError> {
    let misplaced: &[(&str, bool)] = match options.party {
        0 => &[
            ("--listen", options.listen.is_some()),
            ("--weights", options.weights.is_some()),
            ("--sessions", options.sessions.is_some()),
            ("--stock", options.stock.is_some()),
            ("--limit", !options.limit.is_empty()),
            ("--idle", options.idle.is_some()),
            ("--stock-days", options.making.stock_days.is_some()),
            ("--making-rate", options.making.making_rate.is_some()),
            ("--making-threads", options.making.making_threads.is_some()),
        ],
        _ => &[
            ("--connect", options.connect.is_some()),
            ("--input", options.input.is_some()),
            ("--output", options.output.is_some()),
            ("--cache", options.cache.is_some()),
            ("--overlap", options.overlap),
            ("--profile", options.profile),
        ],
    };
    if let Some((name, _)) = misplaced.iter().find(|(_, given)| *given) {
        let what = format!("`{name}` makes no sense with `--party {}`", options.party);
        return Err(CliError::Usage { what, hint: "`ssvm run --help` says which option belongs to which party" });
    }
    match options.party {
        0 => client(options),
        _ => server(options),
    }
}

fn server(options: &RunOptions) -> Result<(), CliError> {
    let address = resolve(options.listen.as_deref().unwrap_or(addr::SERVER))?;
    let dealer = dealer_address(options.dealer.as_deref(), &options.net)?;
    let loaded = open(&options.program, dealer, &options.check, &options.net)?;
    let path = weights_path(&options.program, options.weights.as_deref());
    let weights = WeightsFile::open(&path, &loaded.module, loaded.hash).map_err(run_error)?;
    let state = state_directory(options.state.as_deref())?;
    let server = Server {
        weights,
        key: MasterKey::beside(&path).map_err(run_error)?,
        state: State::open(&state, options.net.storage(&state)?)?
            .keeping(options.making.stock_days.map_or(STOCK_DAYS, NonZeroU32::get)),
        dealer,
        entropy: Box::new(Os),
        sessions: options.sessions.unwrap_or(SESSIONS).get(),
        stock: options.stock,
        limits: Limits::of(options.limit.iter().cloned()),
        idle: options.idle.unwrap_or(processes::server::IDLE),
        allowance: options.making.allowance(dealer.is_some())?,
        report: options.report.clone(),
        loaded,
    };
    with_net(&options.net, &peers(Party::Client, dealer.is_some()), |net| {
        let shaped = Options { shape: options.shape, ..Options::default() };
        let listener = net.listen(address, &processes::server::GUESTS).map_err(run_error)?.with(shaped);
        let source =
            dealer.map_or_else(|| "no third party".to_owned(), |dealer| format!("a trusted dealer at {dealer}"));
        let links = net.links().name();
        say(&format!("listening on {}\nserving over {links}, with {source}\n", listener.address()));
        processes::server::serve(net, &listener, server);
        Ok(())
    })
}

/// The report of a client: all its runs.
#[derive(Serialize)]
struct ClientReport {
    preprocessing: &'static str,
    links: Links,
    program: String,
    /// Elements that left their tables, over all runs, if the program counts them.
    outside: Option<u64>,
    #[serde(flatten)]
    totals: Totals,
    runs: Vec<Record>,
}

fn client(options: &RunOptions) -> Result<(), CliError> {
    let server = resolve(options.connect.as_deref().unwrap_or(addr::SERVER))?;
    let dealer = dealer_address(options.dealer.as_deref(), &options.net)?;
    let input = options.input.as_deref().ok_or_else(|| CliError::Usage {
        what: "the client has nothing to ask".to_owned(),
        hint: "`--input FILE.npz`; `ssvm generate` takes a text, for a program that was compiled with `--generate`",
    })?;
    let loaded = open(&options.program, dealer, &options.check, &options.net)?;
    let arrays = npz::read(input).map_err(run_error)?;
    let state = state_directory(options.state.as_deref())?;
    let key = options.net.storage(&state)?;
    let client = Client {
        cache: Cache::open(&cache_directory(options.cache.as_deref())?, key.clone()).map_err(run_error)?,
        state: State::open(&state, key)?,
        peer: Mutex::default(),
        server,
        dealer,
        dealing: if options.overlap { Dealing::Overlapped } else { Dealing::First },
        options: Options { shape: options.shape, ..Options::default() },
        allowance: Allowance::default(),
        entropy: Box::new(Os),
        loaded,
    };
    let planned = inputs::plan(&client.loaded.module, &arrays);
    let (program, runs) = planned.map_err(|error| match Plan::of(&client.loaded.module) {
        Ok(_) => CliError::Usage {
            what: format!("{error}; the program is for text that is generated token by token"),
            hint: "`ssvm generate PROGRAM.ssb --prompt TEXT`, or `sscc compile` without `--generate` for one pass",
        },
        Err(_) => run_error(error),
    })?;
    let (mut outputs, mut records, mut outside) = (Vec::new(), Vec::new(), None);
    let links = with_net(&options.net, &peers(Party::Server, dealer.is_some()), |net| {
        for run in &runs {
            let outcome = client.run(net, program, run)?;
            outputs.push(outcome.outputs);
            outside = sum(outside, outcome.outside);
            records.push(outcome.record);
        }
        Ok(net.links())
    })?;
    finish(&client.loaded.module, stack(outputs), options.output.as_deref())?;
    warn(outside);
    let reports: Vec<&Report> = records.iter().map(|r| &r.online).collect();
    say(&summary(&reports, records.iter().map(|r| r.phases.online_seconds).sum(), Some(links)));
    let hash = processes::handshake::hex(&client.loaded.hash);
    let totals = Totals::of(records.iter().map(|r| (&r.online, r.phases, r.setup_bytes)));
    if options.profile {
        say(&totals.profile());
    }
    let preprocessing = client.maker().trust();
    let report = ClientReport { preprocessing, links, program: hash, outside, totals, runs: records };
    write_report(options.report.as_deref(), &report)
}

/// A program that asks for no more than it may, and can run without a dealer, if there is none.
fn open(
    program: &Path,
    dealer: Option<SocketAddr>,
    check: &CheckOptions,
    net: &NetOptions,
) -> Result<Loaded, CliError> {
    let loaded = Loaded::open(program)?;
    check.check(&loaded, &net.identity)?;
    if dealer.is_none() {
        loaded.can_be_made()?;
    }
    Ok(loaded)
}

fn weights_path(program: &Path, given: Option<&Path>) -> PathBuf {
    given.map_or_else(|| program.with_extension("ssw"), Path::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn options_are_consistent() {
        Cli::command().debug_assert();
    }
}
