//! The command line: options, files, signals and messages around [`processes`].

mod generate;
mod pair;
mod stocks;

use std::io::{IsTerminal, Write};
use std::net::SocketAddr;
use std::num::{NonZeroU32, NonZeroUsize};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Mutex;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use ir::Party;
use ir::bytecode::Module;
use ndarray::{ArrayD, ArrayViewD};
use serde::Serialize;
use serde_json::Value;
use tokio::sync::watch;
use tracing_subscriber::EnvFilter;

use machine::meter::{Phases, Report};
use machine::profile::Totals;
use machine::simulate::Session;
use processes::client::Client;
use processes::handshake::Role;
use processes::identity::Identity;
use processes::inputs::{self, decode, stack, warning};
use processes::keys::MasterKey;
use processes::net::{Links, Net, NetError, Options, Protection, Shape, addr};
use processes::npz;
use processes::pins::Pins;
use processes::server::Server;
use processes::setup::Cache;
use processes::vault::StorageKey;
use processes::weights_file::WeightsFile;
use processes::{self, Allowance, Dealing, Entropy, Loaded, Os, Plan, Record, RunError, STOCK_DAYS, State, chain};
use protocols::Maker;
use protocols::dealer::Seeds;
use text::command::CommandError;
use text::serve::ServeError;

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
    /// Runs both parties and the dealer in one process, bit for bit as over sockets.
    Simulate(SimulateOptions),
}

#[derive(Args)]
struct NetOptions {
    /// Longest silence of another process, in seconds.
    #[arg(long, value_name = "SECONDS", default_value = "30", value_parser = seconds)]
    timeout: Duration,
    #[command(flatten)]
    identity: IdentityOptions,
    /// Neither encrypt links nor ask who is at their other end: whoever reads them can unmask secrets. To be given on all sides; for
    /// measurements, and networks that you trust.
    #[arg(long)]
    insecure: bool,
}

/// Where this side's key and its pins are.
#[derive(Args)]
struct IdentityOptions {
    /// Where this side's key and its pins are [default: `ssvm` in the user's configuration directory].
    #[arg(long, value_name = "DIR")]
    identity: Option<PathBuf>,
}

impl IdentityOptions {
    fn directory(&self) -> Result<PathBuf, CliError> {
        directory(self.identity.as_deref(), "--identity", "XDG_CONFIG_HOME", ".config")
    }
}

impl NetOptions {
    /// The key that all is kept under.
    fn storage(&self, state: &Path) -> Result<StorageKey, CliError> {
        storage(&self.identity, self.insecure, state)
    }

    /// How links with peers in these roles are protected. Says now what would let every link fail later.
    fn protection(&self, peers: &[Role]) -> Result<Protection, CliError> {
        if self.insecure {
            tracing::warn!("`--insecure`: links are not encrypted, and nobody knows who is at their other end");
            return Ok(Protection::Insecure);
        }
        let directory = self.identity.directory()?;
        let identity = Identity::open(&directory).map_err(run_error)?;
        let pins = Pins::read(&directory).map_err(run_error)?;
        peers.iter().try_for_each(|&role| pins.need(role, &directory)).map_err(run_error)?;
        Ok(Protection::Pinned { identity, directory })
    }
}

/// The key that all is kept under: the identity's, or one that lies in the state directory.
fn storage(identity: &IdentityOptions, insecure: bool, state: &Path) -> Result<StorageKey, CliError> {
    match insecure {
        true => MasterKey::storage(state).map_err(run_error),
        false => Ok(Identity::open(&identity.directory()?).map_err(run_error)?.storage()),
    }
}

/// Whom the client or the server has links with: the other party, and the dealer if there is one.
fn peers(other: Party, dealer: bool) -> Vec<Role> {
    [Role::Party(other)].into_iter().chain(dealer.then_some(Role::Dealer)).collect()
}

/// What making stocks may take.
#[derive(Args)]
struct MakingOptions {
    /// Most that making stocks sends, in Mbit/s [default: no limit].
    #[arg(long, value_name = "MBIT", value_parser = megabits)]
    making_rate: Option<f64>,
    /// Threads that making a stock takes, but for short moments [default: one for each core].
    #[arg(long, value_name = "N")]
    making_threads: Option<NonZeroUsize>,
    /// Days that a stock may be used at most; the lesser number of the two sides holds [default: 30].
    #[arg(long, value_name = "DAYS")]
    stock_days: Option<NonZeroU32>,
}

impl MakingOptions {
    /// What is allowed, which a dealer does not know of.
    fn allowance(&self, dealer: bool) -> Result<Allowance, CliError> {
        let given = self.given().filter(|_| dealer);
        if let Some(name) = given {
            let what = format!("`{name}` makes no sense with `--dealer`: the dealer makes what stocks have");
            return Err(CliError::Usage { what, hint: "without it, or without a dealer on both sides" });
        }
        Ok(Allowance::new(self.making_rate.map(|rate| rate * 1e6), self.making_threads))
    }

    /// An option that was given.
    fn given(&self) -> Option<&'static str> {
        let given =
            [("--making-rate", self.making_rate.is_some()), ("--making-threads", self.making_threads.is_some())];
        given.into_iter().find(|(_, given)| *given).map(|(name, _)| name)
    }

    /// These, if there is to be a stock; else none may be given.
    fn of_stocks(&self, stock: Option<NonZeroUsize>) -> Result<Option<&MakingOptions>, CliError> {
        let given = self.given().or(self.stock_days.map(|_| "--stock-days"));
        match (stock, given) {
            (None, Some(name)) => Err(CliError::Usage {
                what: format!("`{name}` makes no sense without `--stock`: no stock is made"),
                hint: "`--stock TOKENS`",
            }),
            (stock, _) => Ok(stock.map(|_| self)),
        }
    }
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
    net: NetOptions,
}

#[derive(Args)]
struct SimulateOptions {
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

/// A rate in Mbit/s that a frame passes at within a timeout.
fn megabits(text: &str) -> Result<f64, String> {
    let rate: f64 = text.parse().map_err(|_| "a number of Mbit/s is needed".to_owned())?;
    match rate {
        rate if (0.5..=1e6).contains(&rate) => Ok(rate),
        _ => Err("between 0.5 and 1000000 Mbit/s".to_owned()),
    }
}

/// A positive number of seconds, at most a day.
fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "a number of seconds is needed".to_owned())?;
    match seconds {
        s if (0.01..=86_400.0).contains(&s) => Ok(Duration::from_secs_f64(s)),
        _ => Err("between 0.01 and 86400 seconds".to_owned()),
    }
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

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let done = log(cli.log.as_deref()).and_then(|()| match cli.command {
        Command::Dealer(options) => dealer(&options),
        Command::Run(options) => run(&options),
        Command::Generate(options) => generate::generate(&options),
        Command::Serve(options) => generate::serve(&options),
        Command::Prepare(options) => generate::prepare(&options),
        Command::Stocks(options) => stocks::stocks(&options),
        Command::Keygen(options) => pair::keygen(&options),
        Command::Pair(options) => pair::pair(&options),
        Command::Simulate(options) => simulated(&options),
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {}\ntry: {}", chain(&error), error.hint());
            ExitCode::FAILURE
        }
    }
}

fn log(filter: Option<&str>) -> Result<(), CliError> {
    let wanted = filter.map(str::to_owned).or_else(|| std::env::var("RUST_LOG").ok());
    let wanted = wanted.unwrap_or_else(|| "warn".to_owned());
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
    let loaded = open(&options.program, dealer)?;
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
    let loaded = open(&options.program, dealer)?;
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

fn simulated(options: &SimulateOptions) -> Result<(), CliError> {
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

/// A program that can run without a dealer, if there is none.
fn open(program: &Path, dealer: Option<SocketAddr>) -> Result<Loaded, CliError> {
    let loaded = Loaded::open(program)?;
    if dealer.is_none() {
        loaded.can_be_made()?;
    }
    Ok(loaded)
}

/// Where the dealer listens, if there is one.
fn dealer_address(given: Option<&str>, options: &NetOptions) -> Result<Option<SocketAddr>, CliError> {
    let Some(address) = given.map(resolve).transpose()? else { return Ok(None) };
    match options.insecure && !address.ip().is_loopback() {
        true => Err(run_error(NetError::SeedsInTheClear { address })),
        false => Ok(Some(address)),
    }
}

fn resolve(address: &str) -> Result<SocketAddr, CliError> {
    addr::resolve(address).map_err(run_error)
}

fn weights_path(program: &Path, given: Option<&Path>) -> PathBuf {
    given.map_or_else(|| program.with_extension("ssw"), Path::to_owned)
}

fn state_directory(given: Option<&Path>) -> Result<PathBuf, CliError> {
    directory(given, "--state", "XDG_STATE_HOME", ".local/state")
}

fn cache_directory(given: Option<&Path>) -> Result<PathBuf, CliError> {
    directory(given, "--cache", "XDG_CACHE_HOME", ".cache")
}

/// The directory that was given, or the user's own by the XDG base directory rules.
fn directory(given: Option<&Path>, option: &str, variable: &str, below_home: &str) -> Result<PathBuf, CliError> {
    let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    given
        .map(Path::to_owned)
        .or_else(|| absolute(variable).map(|base| base.join("ssvm")))
        .or_else(|| absolute("HOME").map(|home| home.join(below_home).join("ssvm")))
        .ok_or_else(|| CliError::Usage {
            what: format!("neither {variable} nor HOME is set"),
            hint: match option {
                "--cache" => "`--cache DIR`",
                "--identity" => "`--identity DIR`",
                _ => "`--state DIR`",
            },
        })
}

/// Runs `body` with socket tasks beside it, for links with `peers`, until it ends or a signal stops it.
fn with_net<T>(
    options: &NetOptions,
    peers: &[Role],
    body: impl FnOnce(&Net) -> Result<T, CliError>,
) -> Result<T, CliError> {
    with_links(options.timeout, options.protection(peers)?, body)
}

/// The same for links that are protected so. A second signal ends the process at once.
fn with_links<T>(
    timeout: Duration,
    protection: Protection,
    body: impl FnOnce(&Net) -> Result<T, CliError>,
) -> Result<T, CliError> {
    let failed =
        |e: std::io::Error| CliError::Usage { what: format!("no threads: {e}"), hint: "a larger process limit" };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().map_err(failed)?;
    let (stop, stopped) = watch::channel(false);
    runtime.spawn(async move {
        loop {
            signal().await;
            if stop.send_replace(true) {
                std::process::exit(130);
            }
        }
    });
    let net = Net::new(runtime.handle().clone(), timeout, stopped, protection);
    let done = body(&net);
    // Connections that still close have had their time.
    runtime.shutdown_background();
    done
}

/// Waits for a wish to stop; that the terminal went away is one, unless the process was started to outlive it (`nohup`).
#[cfg(unix)]
async fn signal() {
    use tokio::signal::unix::{SignalKind, signal};
    let hangup = async {
        match hangup_is_ignored() {
            true => std::future::pending().await,
            false => match signal(SignalKind::hangup()) {
                Ok(mut hangup) => hangup.recv().await,
                Err(_) => std::future::pending().await,
            },
        }
    };
    match (signal(SignalKind::interrupt()), signal(SignalKind::terminate())) {
        (Ok(mut interrupt), Ok(mut terminate)) => tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup => {}
        },
        _ => std::future::pending().await,
    }
}

/// Whether the signal was ignored when the process began, where the system says so. Handling it would end that.
#[cfg(unix)]
fn hangup_is_ignored() -> bool {
    static IGNORED: std::sync::OnceLock<bool> = std::sync::OnceLock::new();
    *IGNORED.get_or_init(|| std::fs::read_to_string("/proc/self/status").is_ok_and(|status| ignores_hangup(&status)))
}

/// The first bit of the mask of ignored signals is SIGHUP's.
#[cfg(unix)]
fn ignores_hangup(status: &str) -> bool {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).is_some_and(|mask| mask & 1 == 1)
}

#[cfg(not(unix))]
async fn signal() {
    if tokio::signal::ctrl_c().await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// Writes to stdout, whose reader may be gone.
fn say(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// Writes the outputs to a file, if wanted, and says what they are.
fn finish(module: &Module, outputs: Vec<(String, ArrayD<f32>)>, path: Option<&Path>) -> Result<(), CliError> {
    match path {
        Some(path) if path.extension().is_some_and(|e| e == "json") => {
            let lists = outputs.iter().map(|(name, array)| (name.clone(), nested(array.view())));
            processes::write_json(path, &Value::Object(lists.collect())).map_err(CliError::Run)?;
        }
        Some(path) => npz::write(path, outputs.iter().map(|(name, array)| (name, array))).map_err(run_error)?,
        None => {}
    }
    let labels: Option<Vec<String>> = module.metadata.get("labels").and_then(|text| serde_json::from_str(text).ok());
    outputs.iter().for_each(|(name, array)| say(&describe(name, array, labels.as_deref().unwrap_or_default())));
    Ok(())
}

/// An array as lists in lists; what is no number is null.
fn nested(array: ArrayViewD<f32>) -> Value {
    match array.ndim() {
        0 => array.first().map_or(Value::Null, |&v| Value::from(v)),
        _ => Value::Array(array.outer_iter().map(nested).collect()),
    }
}

/// The count of several runs of a program.
fn sum(so_far: Option<u64>, run: Option<u64>) -> Option<u64> {
    run.map(|run| so_far.unwrap_or(0).saturating_add(run))
}

/// Says so if elements left their tables.
fn warn(outside: Option<u64>) {
    outside.and_then(warning).into_iter().for_each(|warning| eprintln!("{warning}"));
}

/// Rows that a summary shows at most.
const ROWS: usize = 16;

/// Elements of a row that a summary shows.
const TOP: usize = 5;

/// Name, shape and, for each row of the last axis, the indices of its greatest elements; with their labels, where a row has
/// as many elements as there are.
fn describe(name: &str, array: &ArrayD<f32>, labels: &[String]) -> String {
    let mut text = format!("{name} {:?}\n", array.shape());
    let rows: Vec<_> = array.rows().into_iter().collect();
    for (i, row) in rows.iter().take(ROWS).enumerate() {
        let mut order: Vec<usize> = (0..row.len()).collect();
        order.sort_by(|a, b| row[*b].total_cmp(&row[*a]));
        let top: Vec<String> = order
            .iter()
            .take(TOP)
            .map(|j| match labels.get(*j) {
                Some(label) if labels.len() == row.len() => format!("{j} \"{label}\" ({:.3})", row[*j]),
                _ => format!("{j} ({:.3})", row[*j]),
            })
            .collect();
        text += &format!("  row {i}: argmax {}\n", top.join(", then "));
    }
    if rows.len() > ROWS {
        text += &format!("  and {} rows more\n", rows.len() - ROWS);
    }
    text
}

fn summary(reports: &[&Report], online_seconds: f64, links: Option<Links>) -> String {
    let sum = |of: fn(&Report) -> u64| reports.iter().map(|r| of(r)).sum::<u64>();
    let links = links.map_or_else(String::new, |links| format!(", {}", links.name()));
    format!(
        "{}{links}; {} run(s), online {online_seconds:.3} s, {} rounds, sent {}, received {}, material {}\n",
        reports.first().map_or("nothing ran", |report| report.preprocessing),
        reports.len(),
        sum(|r| r.rounds),
        indicatif::DecimalBytes(sum(|r| r.sent_bytes)),
        indicatif::DecimalBytes(sum(|r| r.received_bytes)),
        indicatif::DecimalBytes(sum(|r| r.material_bytes)),
    )
}

fn write_report(path: Option<&Path>, report: &impl Serialize) -> Result<(), CliError> {
    let Some(path) = path else { return Ok(()) };
    processes::write_json(path, report).map_err(CliError::Run)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn options_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_summary_names_the_greatest() {
        let array = ndarray::array![[[0.5f32, 2.0, -1.0]]].into_dyn();
        assert_eq!(
            describe("logits", &array, &[]),
            "logits [1, 1, 3]\n  row 0: argmax 1 (2.000), then 0 (0.500), then 2 (-1.000)\n"
        );
        let labels = ["a", "b", "c"].map(str::to_owned);
        assert!(describe("logits", &array, &labels).contains("argmax 1 \"b\" (2.000), then 0 \"a\" (0.500)"));
        assert!(!describe("logits", &array, &labels[..2]).contains('"'));
        assert_eq!(nested(array.view()).to_string(), "[[[0.5,2.0,-1.0]]]");
    }

    #[test]
    #[cfg(unix)]
    fn a_hangup_that_is_ignored_stays_ignored() {
        assert!(ignores_hangup("Name:\tx\nSigIgn:\t0000000000001001\nSigCgt:\t0\n"));
        assert!(!ignores_hangup("SigBlk:\t1\nSigIgn:\t0000000000001000\n") && !ignores_hangup(""));
    }

    #[test]
    fn rates_are_numbers() {
        assert_eq!(megabits("2.5"), Ok(2.5));
        for bad in ["0", "0.1", "-1", "nan", "inf", "2mbit"] {
            assert!(megabits(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn timeouts_are_positive() {
        assert_eq!(seconds("0.5"), Ok(Duration::from_millis(500)));
        for bad in ["0", "-1", "nan", "inf", "1e9", "x"] {
            assert!(seconds(bad).is_err(), "{bad}");
        }
    }
}
