//! The client's commands for text: `ssvm generate`, `ssvm serve` and `ssvm prepare`.

use std::num::{NonZeroU32, NonZeroUsize};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use clap::Args;
use indicatif::DecimalBytes;
use ir::Party;
use serde::Serialize;

use super::{
    CheckOptions, CliError, MakingOptions, NetOptions, cache_directory, dealer_address, open, peers, resolve,
    run_error, say, state_directory, with_net, write_report,
};
use processes::client::Client;
use processes::handshake::Role;
use processes::net::{self, Links, Net, Shape, addr};
use processes::setup::Cache;
use processes::{Dealing, Order, Os, Plan, RunError, STOCK_DAYS, State};
use protocols::Maker;
use text::PrivateModel;
use text::command::GenerateOptions;
use text::serve::{ServeOptions, TokenSource, bind};
use text::{Cancel, Model, Totals};

/// Options of `ssvm generate`.
#[derive(Args)]
pub(super) struct Options {
    /// The program.
    program: PathBuf,
    #[command(flatten)]
    generate: GenerateOptions,
    /// Where to write figures of the generation; no text is among them.
    #[arg(long, value_name = "FILE.json")]
    report: Option<PathBuf>,
    #[command(flatten)]
    client: ClientOptions,
}

/// Options of `ssvm serve`.
#[derive(Args)]
pub(super) struct ServerOptions {
    /// The program.
    program: PathBuf,
    /// The endpoint is always the client's, 0: it sees prompts and answers.
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=0))]
    party: u8,
    #[command(flatten)]
    serve: ServeOptions,
    /// Keep stocks for at least so many tokens: they are made in the background while no request runs, for prompts of the size
    /// that the last one had, at first of the least.
    #[arg(long, value_name = "TOKENS")]
    stock: Option<NonZeroUsize>,
    #[command(flatten)]
    making: MakingOptions,
    #[command(flatten)]
    client: ClientOptions,
}

/// Options of `ssvm prepare`.
#[derive(Args)]
pub(super) struct PrepareOptions {
    /// The program.
    program: PathBuf,
    /// Tokens that each stock lasts for.
    #[arg(long, value_name = "N")]
    tokens: NonZeroUsize,
    /// Size of prompts, one of the program's [default: the least].
    #[arg(long, value_name = "P")]
    prefill: Option<usize>,
    /// Stocks to make; a generation takes one.
    #[arg(long, value_name = "K", default_value = "1")]
    sessions: NonZeroUsize,
    #[command(flatten)]
    making: MakingOptions,
    #[command(flatten)]
    client: ClientOptions,
}

/// Where the other processes are, and what is kept here.
#[derive(Args)]
pub(super) struct ClientOptions {
    /// Where the server listens.
    #[arg(long, value_name = "ADDR", default_value = addr::SERVER)]
    connect: String,
    /// Take material from a dealer, who listens here [127.0.0.1:7702 if no address is given]; without this option both parties make
    /// it themselves.
    #[arg(long, value_name = "ADDR", num_args = 0..=1, default_missing_value = addr::DEALER)]
    dealer: Option<String>,
    /// Where to keep masked weights [default: `ssvm` in the user's cache directory].
    #[arg(long, value_name = "DIR")]
    cache: Option<PathBuf>,
    /// Where to keep the ledger of burnt sessions and stocks; not to be restored from a backup [default: `ssvm` in the user's state directory].
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
    /// Slow down what goes to the server, to measure: `lan`, `wan`, or round trip and rate as in `40ms,100mbit`. To be given
    /// to the server, too.
    #[arg(long, value_name = "RTT,RATE")]
    shape: Option<Shape>,
    #[command(flatten)]
    check: CheckOptions,
    #[command(flatten)]
    pub(super) net: NetOptions,
}

impl ClientOptions {
    /// A model that asks these processes; what its stocks may take, if it makes any.
    pub(super) fn model(
        &self,
        program: &Path,
        net: &Net,
        making: Option<&MakingOptions>,
    ) -> Result<PrivateModel, CliError> {
        let client = self.client(program, making)?;
        if making.is_none() && client.maker() == Maker::Pair && client.stocks().tokens() == 0 {
            eprintln!(
                "note: no stock is left, so the material of each token is made when it begins, which takes far longer\n  try: ssvm \
                 prepare, beforehand"
            );
        }
        Ok(PrivateModel::new(client, net)?)
    }

    /// Whom it has links with.
    pub(super) fn peers(&self) -> Vec<Role> {
        peers(Party::Server, self.dealer.is_some())
    }

    /// A client of these processes.
    fn client(&self, program: &Path, making: Option<&MakingOptions>) -> Result<Client, CliError> {
        let days = making.and_then(|making| making.stock_days);
        let allowance = making.map(|making| making.allowance(self.dealer.is_some())).transpose()?;
        let dealer = dealer_address(self.dealer.as_deref(), &self.net)?;
        let loaded = open(program, dealer, &self.check, &self.net)?;
        let state = state_directory(self.state.as_deref())?;
        let key = self.net.storage(&state)?;
        Ok(Client {
            cache: Cache::open(&cache_directory(self.cache.as_deref())?, key.clone()).map_err(run_error)?,
            state: State::open(&state, key)?.keeping(days.map_or(STOCK_DAYS, NonZeroU32::get)),
            peer: Mutex::default(),
            server: resolve(&self.connect)?,
            dealer,
            dealing: Dealing::Overlapped,
            options: net::Options { shape: self.shape, ..net::Options::default() },
            allowance: allowance.unwrap_or_default(),
            entropy: Box::new(Os),
            loaded,
        })
    }
}

/// The report of a generation.
#[derive(Serialize)]
struct Report {
    preprocessing: &'static str,
    links: Links,
    #[serde(flatten)]
    totals: Totals,
}

/// Continues a text.
pub(super) fn generate(options: &Options) -> Result<(), CliError> {
    with_net(&options.client.net, &options.client.peers(), |net| {
        let model = options.client.model(&options.program, net, None)?;
        let prepared = options.generate.prepare(&options.program, model.limits())?;
        let (cancel, stopped) = (Cancel::default(), net.clone());
        let cancelled = cancel.clone();
        net.handle().spawn(async move {
            stopped.until_stopped().await;
            cancelled.cancel();
        });
        let totals = prepared.run(&model, &cancel)?;
        write_report(options.report.as_deref(), &Report { preprocessing: model.trust(), links: model.links(), totals })
    })
}

/// Makes stocks.
pub(super) fn prepare(options: &PrepareOptions) -> Result<(), CliError> {
    let client = options.client.client(&options.program, Some(&options.making))?;
    let plan = Plan::of(&client.loaded.module)
        .map_err(|what| RunError::NotForGeneration { path: options.program.clone(), what })?;
    with_net(&options.client.net, &options.client.peers(), |net| {
        for number in 1..=options.sessions.get() {
            let order = Order { prefill: options.prefill, tokens: options.tokens.get(), watched: true };
            let start = Instant::now();
            let (mut begun, mut whole) = (None, 0);
            let made = client.prepare(net, &plan, order, &mut |there| {
                if *begun.get_or_insert(there) == there && there > 0 {
                    let more = order.tokens - there;
                    say(&format!("a stock of {there} tokens is there; making {more} more\n"));
                }
                whole = there;
                true
            });
            let made = made.map_err(|error| CliError::Making { error, whole })?;
            let what = match client.maker() {
                Maker::Dealer => format!(
                    "{} of material and {} of products here",
                    DecimalBytes(made.material_bytes),
                    DecimalBytes(made.products_bytes)
                ),
                Maker::Pair => {
                    format!("{} sent and {} received", DecimalBytes(made.sent_bytes), DecimalBytes(made.received_bytes))
                }
            };
            let (seconds, left) = (start.elapsed().as_secs_f64(), client.stocks().tokens());
            let (trust, links, all) = (client.maker().trust(), net.links().name(), options.sessions);
            say(&format!(
                "{trust}, {links}; stock {number} of {all}: {what}, in {seconds:.1} s; material for {left} tokens\n"
            ));
        }
        Ok(())
    })
}

/// Serves the endpoint.
pub(super) fn serve(options: &ServerOptions) -> Result<(), CliError> {
    let address = options.serve.address()?;
    let state = state_directory(options.client.state.as_deref())?;
    with_net(&options.client.net, &options.client.peers(), |net| {
        let making = options.making.of_stocks(options.stock)?;
        let model = Arc::new(options.client.model(&options.program, net, making)?);
        let (trust, links) = (model.trust(), model.links().name());
        let (endpoint, token) = options.serve.endpoint(&options.program, &state, model.clone(), net.stop())?;
        let listener = net.handle().block_on(bind(address))?;
        let address = listener.local_addr().unwrap_or(address);
        let token = match token {
            TokenSource::File(path) => format!("bearer token in {}", path.display()),
            TokenSource::Environment => "bearer token from the variable SSVM_TOKEN".to_owned(),
        };
        say(&format!("listening on {address}\nserving http://{address}/v1 with {trust}, {links}; {token}\n"));
        let _refill = options.stock.map(|tokens| model.refill(net, tokens, options.serve.most_tokens()));
        net.handle().block_on(text::serve::serve(listener, endpoint));
        Ok(())
    })
}
