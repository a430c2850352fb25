//! A small model for generation, compiled once, and the three processes in threads of one process.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{LazyLock, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use ir::Party;
use ir::pair::Maker;
use kernels::codec::dimensions;
use kernels::prg::Seed;
use kernels::ring::Tensor;
use machine::simulate;
use processes::client::Client;
use processes::disk::Disk;
use processes::handshake::{Role, Session};
use processes::identity::Identity;
use processes::keys::MasterKey;
use processes::ledger::Ledger;
use processes::limits::Limits;
use processes::net::{Net, Options, Protection};
use processes::server::Server;
use processes::setup::Cache;
use processes::vault::StorageKey;
use processes::weights_file::WeightsFile;
use processes::{self, Allowance, Dealing, Entropy, Loaded, Order, Plan, RunError, State, Stocks};
use protocols::dealer::Seeds;
use sscc::pipeline;
use tempfile::TempDir;
use tests::private;
use tests::processes::{Identities, repository};
use text::Noise;
use text::PrivateModel;
use tokio::runtime::Runtime;
use tokio::sync::watch;

/// A folder with `model.ssb`, `model.ssw` and `tokenizer.json` of the shipped model: prompts of up to 8 tokens, and a
/// context of 64.
pub static MODEL: LazyLock<TempDir> = LazyLock::new(|| compiled(Maker::Dealer));

/// The same, compiled so that two parties can make its material.
pub static PAIR: LazyLock<TempDir> = LazyLock::new(|| compiled(Maker::Pair));

/// Who the processes are.
pub static IDENTITIES: LazyLock<Identities> = LazyLock::new(|| Identities::make().unwrap());

pub const CLIENT: Role = Role::Party(Party::Client);

/// How the links of a process are protected.
pub fn protection(role: Role) -> Protection {
    IDENTITIES.protection(role).unwrap()
}

/// The key that a process in a role keeps things under.
pub fn storage(role: Role) -> StorageKey {
    Identity::open(&IDENTITIES.of(role)).unwrap().storage()
}

fn compiled(maker: Maker) -> TempDir {
    let from = repository().join("models/tiny-shakespeare");
    let calibration = Some(from.join("calibration.npz"));
    let mut options = private::generation(&from.join("model.onnx"), calibration, &[4, 8], &[16, 72]);
    options.generation.as_mut().unwrap().max_context = Some(64);
    options.maker = maker;
    let compiled = pipeline::compile(&options).unwrap_or_else(|e| panic!("{e}"));
    let artifacts = compiled.artifacts().unwrap_or_else(|e| panic!("{e}"));
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("model.ssb"), artifacts.program).unwrap();
    std::fs::write(folder.path().join("model.ssw"), artifacts.weights).unwrap();
    for name in ["tokenizer.json", "config.json"] {
        std::fs::copy(from.join(name), folder.path().join(name)).unwrap();
    }
    folder
}

pub fn file(name: &str) -> PathBuf {
    MODEL.path().join(name)
}

/// The same seed every time; sessions are the system's.
pub struct Fixed(pub u8);

impl Fixed {
    pub fn value(mark: u8) -> Seed {
        Seed::new([mark; 32])
    }
}

impl Entropy for Fixed {
    fn seed(&self) -> Result<Seed, RunError> {
        Ok(Fixed::value(self.0))
    }

    fn session(&self) -> Result<Session, RunError> {
        processes::Os.session()
    }
}

/// The seed of every session at the server.
pub const SERVER: u8 = 200;

/// Sockets and threads of one test; all end with it.
pub struct World {
    runtime: Option<Runtime>,
    stop: watch::Sender<bool>,
    stopped: watch::Receiver<bool>,
    /// The client's.
    pub net: Net,
    threads: Vec<JoinHandle<()>>,
    pub folder: TempDir,
    /// Of clients at servers that start from now on.
    pub limits: Limits,
    model: PathBuf,
}

impl World {
    pub fn new(timeout: Duration) -> World {
        World::of(MODEL.path(), timeout)
    }

    /// With the files of another folder.
    pub fn of(model: &Path, timeout: Duration) -> World {
        World::over(model, timeout, tempfile::tempdir().unwrap())
    }

    /// With what parties kept before.
    pub fn over(model: &Path, timeout: Duration, folder: TempDir) -> World {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let (stop, stopped) = watch::channel(false);
        let net = Net::new(runtime.handle().clone(), timeout, stopped.clone(), protection(CLIENT));
        let (threads, limits) = (Vec::new(), Limits::default());
        World { runtime: Some(runtime), stop, stopped, net, threads, folder, limits, model: model.to_owned() }
    }

    /// Ends all, and leaves what the parties kept.
    pub fn end(mut self) -> TempDir {
        std::mem::replace(&mut self.folder, tempfile::tempdir().unwrap())
    }

    /// The sockets of a process in another role.
    fn net_of(&self, role: Role) -> Net {
        Net::new(self.net.handle().clone(), self.net.timeout(), self.stopped.clone(), protection(role))
    }

    pub fn dealer(&mut self) -> SocketAddr {
        self.dealer_of(self.loaded())
    }

    /// A dealer with a program.
    pub fn dealer_of(&mut self, loaded: Loaded) -> SocketAddr {
        let net = self.net_of(Role::Dealer);
        let listener = net.listen(([127, 0, 0, 1], 0).into(), &processes::dealer::GUESTS).unwrap();
        let address = listener.address();
        self.threads.push(std::thread::spawn(move || processes::dealer::serve(&net, &listener, loaded)));
        address
    }

    pub fn loaded(&self) -> Loaded {
        Loaded::open(&self.model.join("model.ssb")).unwrap()
    }

    pub fn server(&mut self, dealer: impl Into<Option<SocketAddr>>, sessions: usize) -> SocketAddr {
        self.try_server(dealer, sessions).unwrap()
    }

    /// Starts a server, if its files let it.
    pub fn try_server(
        &mut self,
        dealer: impl Into<Option<SocketAddr>>,
        sessions: usize,
    ) -> Result<SocketAddr, RunError> {
        self.server_on(dealer, sessions, Disk::default())
    }

    /// On a disk that ends its process.
    pub fn server_on(
        &mut self,
        dealer: impl Into<Option<SocketAddr>>,
        sessions: usize,
        disk: Disk,
    ) -> Result<SocketAddr, RunError> {
        let net = self.net_of(Role::Party(Party::Server));
        let weights = self.model.join("model.ssw");
        let loaded = Loaded::open(&self.model.join("model.ssb"))?;
        let server = Server {
            weights: WeightsFile::open(&weights, &loaded.module, loaded.hash)?,
            key: MasterKey::beside(&weights)?,
            state: State::on(&self.folder.path().join("server"), storage(Role::Party(Party::Server)), disk)?,
            dealer: dealer.into(),
            entropy: Box::new(Fixed(SERVER)),
            sessions,
            stock: None,
            limits: self.limits.clone(),
            idle: processes::server::IDLE,
            allowance: Allowance::default(),
            report: None,
            loaded,
        };
        let listener = net.listen(([127, 0, 0, 1], 0).into(), &processes::server::GUESTS)?;
        let address = listener.address();
        self.threads.push(std::thread::spawn(move || processes::server::serve(&net, &listener, server)));
        Ok(address)
    }

    /// The stocks of a party.
    pub fn stocks(&self, party: Party, maker: Maker) -> Stocks {
        let state = self.folder.path().join(party.to_string());
        State::open(&state, storage(Role::Party(party))).unwrap().stocks(party, self.loaded().hash, maker)
    }

    /// A generator whose sessions have the seed `mark`.
    pub fn client(&self, server: SocketAddr, dealer: impl Into<Option<SocketAddr>>, mark: u8) -> PrivateModel {
        let client = self.party(server, dealer, mark);
        PrivateModel::new(client, &self.net).unwrap()
    }

    /// What is behind it.
    pub fn party(&self, server: SocketAddr, dealer: impl Into<Option<SocketAddr>>, mark: u8) -> Client {
        self.try_party(server, dealer, mark).unwrap()
    }

    /// The same, if its files let it.
    pub fn try_party(
        &self,
        server: SocketAddr,
        dealer: impl Into<Option<SocketAddr>>,
        mark: u8,
    ) -> Result<Client, RunError> {
        Ok(Client {
            loaded: self.loaded(),
            cache: Cache::open(&self.folder.path().join("cache"), storage(CLIENT))?,
            state: State::open(&self.folder.path().join("client"), storage(CLIENT))?,
            peer: Mutex::default(),
            server,
            dealer: dealer.into(),
            dealing: Dealing::Overlapped,
            options: Options::default(),
            allowance: Allowance::default(),
            entropy: Box::new(Fixed(mark)),
        })
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.stop.send_replace(true);
        for thread in self.threads.drain(..) {
            // A thread that panicked fails the test, unless the test already fails.
            if thread.join().is_err() && !std::thread::panicking() {
                panic!("a process panicked");
            }
        }
        self.runtime.take().unwrap().shutdown_background();
    }
}

/// A stock of so many tokens.
pub fn order(prefill: impl Into<Option<usize>>, tokens: usize) -> Order {
    Order { prefill: prefill.into(), tokens, watched: false }
}

pub fn loaded() -> Loaded {
    Loaded::open(&file("model.ssb")).unwrap()
}

/// What a session in one process gives under the seeds of a client marked so: tokens, and bytes sent by client and server.
pub fn simulated(prompt: &[u32], count: usize, noise: &Noise, mark: u8) -> Vec<(u32, u64, u64)> {
    let loaded = loaded();
    let plan = Plan::of(&loaded.module).unwrap();
    let weights = WeightsFile::open(&file("model.ssw"), &loaded.module, loaded.hash).unwrap();
    let masks = MasterKey::beside(&file("model.ssw")).unwrap().mask_seed(&loaded.hash, weights.digest());
    let (client, server) = (Fixed::value(mark), Fixed::value(SERVER));
    let seeds = Seeds { client: &client, server: &server, weights: &masks };
    let weights = weights.of(&loaded.module.entries[0]);
    let mut session = simulate::Session::new(&loaded.module.entries, &weights, seeds);
    let mut given: Vec<(u32, u64, u64)> = Vec::new();
    for number in 0..count {
        let due = plan.due(&loaded.module, prompt.len(), number as u32).unwrap();
        let program = &loaded.module.entries[due.entry as usize];
        let [ids, noisy] = [0, 1].map(|i| dimensions(&program.inputs[i].ty.shape));
        let (mut one_hot, mut added) = (Tensor::zeros(&ids), vec![0; noisy.iter().product()]);
        let tokens: Vec<u32> = match given.last() {
            None => prompt.to_vec(),
            Some(&(token, ..)) => vec![token],
        };
        let [.., slots, classes] = ids[..] else { panic!("rows of a vocabulary") };
        for slot in 0..slots {
            one_hot.data[slot * classes + tokens.get(slot).copied().unwrap_or(0) as usize] = 1;
        }
        noise.fill(number as u32, program.inputs[1].ty.scale as u8, &mut added);
        let inputs = vec![one_hot, Tensor::new(noisy, added.iter().map(|&x| x as u64).collect::<Vec<_>>())];
        let [finished, _] = session.step(due.entry, inputs, &due.publics).unwrap();
        let token = finished.outputs[0].as_ref().unwrap()[0] as u32;
        given.push((token, finished.report.sent_bytes, finished.report.received_bytes));
    }
    given
}

/// Copies a folder with all that is in it.
pub fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for file in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
        match file.file_type().unwrap().is_dir() {
            true => copy(&file.path(), &to.join(file.file_name())),
            false => drop(std::fs::copy(file.path(), to.join(file.file_name())).unwrap()),
        }
    }
}

/// The sessions that a state directory's ledger has.
pub fn burnt(state: &Path) -> Vec<String> {
    let ledger = Ledger::open(state, Disk::default()).unwrap();
    ledger.sessions().unwrap().iter().map(|(role, session)| format!("{role} {session}")).collect()
}

/// Tokens of each stock in the state directory of a process in a role.
pub fn stocked(state: &Path, role: Role) -> Vec<usize> {
    let state = State::open(state, storage(role)).unwrap();
    state.kept().into_iter().filter_map(|stock| Some(stock.about.ok()?.tokens)).collect()
}
