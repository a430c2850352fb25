//! Small programs with weights in files, and the three processes in threads of one process, over loopback TCP.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{LazyLock, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use ir::Party;
use ir::bytecode::{self, Module};
use ir::weights::{Element, Header, Tensor, encode_values, layout};
use kernels::prg::Seed;
use processes::client::{Client, Outcome};
use processes::handshake::{Role, Session};
use processes::identity::Identity;
use processes::inputs::{Run, plan};
use processes::keys::MasterKey;
use processes::limits::Limits;
use processes::net::{Conn, Net, Options, Protection};
use processes::npz::Array;
use processes::pins::{Pin, Pins};
use processes::server::Server;
use processes::setup::Cache;
use processes::vault::StorageKey;
use processes::weights_file::WeightsFile;
use processes::{self, Allowance, Dealing, Entropy, Loaded, RunError, State};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio::sync::watch;

/// (x·w)² to the client, and which of three thresholds x·w reaches.
pub const SQUARE: &str = r#"
schedule @square {
  in0 = input "x" [1,4] fixed : share<32.8>[1,4]
  w0 = weight "w" : server<.6>[4,3]
  @steps = thresholds [-16384, 0, 16384]
  out0 = output "y" [1,3] to client
  out1 = output "reached" [1,3,3] to client

  v0 = input in0                 : share<32.8>[1,4]
  v1 = linear v0, w0             : share<32.14>[1,3]
  send
  o3 = open v1 {width=24}        : opened<24.14>[1,3]
  round
  v5 = mul o3, o3 {width=48}     : share<48.28>[1,3]
  v6 = down v5 {by=14}           : share<34.14>[1,3]
  v7 = ge o3, @steps {width=20}  : share<20.0>[1,3,3]
  reveal v6, out0 {to=client}
  reveal v7, out1 {to=client}
}
"#;

/// The embedding of one of four tokens.
pub const TOKENS: &str = r#"
schedule @tokens {
  in0 = input "ids" [1,4] one_hot(5) : share<20.0>[1,4,5]
  p0 = public "position" < 4
  w0 = weight "table" : server<.6>[5,3]
  out0 = output "row" [1,1,3] to client

  v0 = input in0                 : share<20.0>[1,4,5]
  v1 = linear v0, w0             : share<20.6>[1,4,3]
  send
  v3 = pick v1, p0 {axis=1}      : share<20.6>[1,1,3]
  reveal v3, out0 {to=client}
}
"#;

/// A program and its weights in a directory of their own.
pub struct Files {
    pub directory: TempDir,
    pub ssb: PathBuf,
    pub ssw: PathBuf,
}

impl Files {
    /// Writes both files; weights are small numbers that depend on their place.
    pub fn write(text: &str) -> Files {
        let entry = ir::parse(text).unwrap_or_else(|e| panic!("{e}"));
        let mut tensors = Vec::new();
        for w in &entry.weights {
            let (name, shape, scale) = (w.name.clone(), w.shape.clone(), w.scale);
            tensors.push(Tensor { name, shape, scale, element: Element::I16, offset: 0 });
        }
        let mut data = vec![0; layout(&mut tensors).unwrap() as usize];
        for tensor in &tensors {
            let values: Vec<i64> =
                (0..tensor.shape.elements().unwrap() as i64).map(|i| (i * 37 + 11) % 101 - 50).collect();
            let mut bytes = Vec::new();
            encode_values(tensor.element, &values, &mut bytes);
            data[tensor.offset as usize..][..bytes.len()].copy_from_slice(&bytes);
        }
        let mut header = Header { program: [0; 32], salt: [9; 32], digest: blake3::hash(&data).into(), tensors };
        let module = Module { metadata: BTreeMap::new(), commitment: header.commitment(), entries: vec![entry] };
        let file = bytecode::encode(&module);
        header.program = bytecode::hash(&file);
        let directory = tempfile::tempdir().unwrap();
        let (ssb, ssw) = (directory.path().join("model.ssb"), directory.path().join("model.ssw"));
        std::fs::write(&ssb, file).unwrap();
        std::fs::write(&ssw, [header.encode(), data].concat()).unwrap();
        Files { directory, ssb, ssw }
    }

    pub fn loaded(&self) -> Loaded {
        Loaded::open(&self.ssb).unwrap()
    }

    pub fn state(&self, name: &str) -> State {
        State::open(&self.path(name), StorageKey::new([5; 32])).unwrap()
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }
}

/// Seeds and sessions that can be foreseen: the n-th call gives n, marked with who asked.
pub struct Foreseen {
    mark: u8,
    calls: AtomicU8,
    /// The same session every time.
    stuck: bool,
}

impl Foreseen {
    pub fn new(mark: u8) -> Foreseen {
        Foreseen { mark, calls: AtomicU8::new(0), stuck: false }
    }

    /// Gives the same session every time.
    pub fn stuck(mark: u8) -> Foreseen {
        Foreseen { stuck: true, ..Foreseen::new(mark) }
    }

    pub fn seed(mark: u8, call: u8) -> Seed {
        let mut bytes = [call; 32];
        bytes[0] = mark;
        Seed::new(bytes)
    }
}

impl Entropy for Foreseen {
    fn seed(&self) -> Result<Seed, RunError> {
        Ok(Foreseen::seed(self.mark, self.calls.fetch_add(1, Ordering::SeqCst)))
    }

    fn session(&self) -> Result<Session, RunError> {
        let mut bytes = [7; 16];
        if !self.stuck {
            getrandom::fill(&mut bytes).unwrap();
        }
        Ok(Session(bytes))
    }
}

/// All roles.
pub const ROLES: [Role; 3] = [Role::Party(Party::Client), Role::Party(Party::Server), Role::Dealer];

/// Identities of a client, a server and a dealer, who have pinned each other. Made once.
pub static IDENTITIES: LazyLock<TempDir> = LazyLock::new(|| {
    let folder = tempfile::tempdir().unwrap();
    let at = |role: Role| folder.path().join(role.name());
    let made = ROLES.map(|role| (role, Identity::generate(&at(role)).unwrap()));
    for (role, own) in &made {
        for (other, identity) in made.iter().filter(|(other, _)| other != role) {
            let (key, name, limits) = (identity.public(), other.name().to_owned(), Limits::default());
            let pin = Pin { role: *other, key, name, limits };
            Pins::add(&at(*role), own, pin).unwrap();
        }
    }
    folder
});

/// The directory of one of these identities.
pub fn identity(role: Role) -> PathBuf {
    IDENTITIES.path().join(role.name())
}

/// How its links are protected.
pub fn pinned(directory: &Path) -> Protection {
    Protection::Pinned { identity: Identity::open(directory).unwrap(), directory: directory.to_owned() }
}

/// Sockets and threads of one test; all end with it.
pub struct World {
    runtime: Option<Runtime>,
    stop: watch::Sender<bool>,
    timeout: Duration,
    stopped: watch::Receiver<bool>,
    insecure: bool,
    /// The client's.
    pub net: Net,
    threads: Vec<JoinHandle<()>>,
}

pub const LOOPBACK: &str = "127.0.0.1:0";

impl World {
    pub fn new(timeout: Duration) -> World {
        World::with(timeout, false)
    }

    /// With links that are not encrypted.
    pub fn insecure(timeout: Duration) -> World {
        World::with(timeout, true)
    }

    fn with(timeout: Duration, insecure: bool) -> World {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let (stop, stopped) = watch::channel(false);
        let protection = if insecure { Protection::Insecure } else { pinned(&identity(ROLES[0])) };
        let net = Net::new(runtime.handle().clone(), timeout, stopped.clone(), protection);
        World { runtime: Some(runtime), stop, timeout, stopped, insecure, net, threads: Vec::new() }
    }

    /// The sockets of a process in this role.
    pub fn net_of(&self, role: Role) -> Net {
        let protection = if self.insecure { Protection::Insecure } else { pinned(&identity(role)) };
        self.protected(protection)
    }

    /// The sockets of a process whose links are protected so.
    pub fn protected(&self, protection: Protection) -> Net {
        let handle = self.runtime.as_ref().unwrap().handle().clone();
        Net::new(handle, self.timeout, self.stopped.clone(), protection)
    }

    pub fn dealer(&mut self, files: &Files) -> SocketAddr {
        let net = self.net_of(Role::Dealer);
        let listener = net.listen(LOOPBACK.parse().unwrap(), &processes::dealer::GUESTS).unwrap();
        let (address, loaded) = (listener.address(), files.loaded());
        self.threads.push(std::thread::spawn(move || processes::dealer::serve(&net, &listener, loaded)));
        address
    }

    pub fn server(&mut self, files: &Files, dealer: SocketAddr) -> SocketAddr {
        self.server_with(files, dealer, Foreseen::new(1))
    }

    pub fn server_with(&mut self, files: &Files, dealer: SocketAddr, entropy: Foreseen) -> SocketAddr {
        let net = self.net_of(Role::Party(Party::Server));
        let listener = net.listen(LOOPBACK.parse().unwrap(), &processes::server::GUESTS).unwrap();
        let (address, loaded) = (listener.address(), files.loaded());
        let server = Server {
            weights: WeightsFile::open(&files.ssw, &loaded.module, loaded.hash).unwrap(),
            key: MasterKey::beside(&files.ssw).unwrap(),
            state: files.state("state"),
            dealer: Some(dealer),
            entropy: Box::new(entropy),
            sessions: 2,
            stock: None,
            limits: Limits::default(),
            idle: processes::server::IDLE,
            allowance: Allowance::default(),
            report: None,
            loaded,
        };
        self.threads.push(std::thread::spawn(move || processes::server::serve(&net, &listener, server)));
        address
    }

    /// One run of the client for every row of `input`.
    pub fn ask(&self, client: &Client, input: &BTreeMap<String, Array>) -> Result<Vec<Outcome>, RunError> {
        let (program, runs) = plan(&client.loaded.module, input)?;
        runs.iter().map(|run| client.run(&self.net, program, run)).collect()
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

/// Two connected ends, named `client` and `server` by what they expect at the other side.
pub fn two(world: &World, options: Options) -> (Conn, Conn) {
    let net = world.net_of(Role::Party(Party::Server));
    let listener = net.listen(LOOPBACK.parse().unwrap(), &processes::server::GUESTS).unwrap().with(options);
    let address = listener.address();
    // Both ends take part.
    std::thread::scope(|scope| {
        let server = scope.spawn(|| listener.accept().unwrap());
        let client = world.net.connect(Role::Party(Party::Server), address, options, None).unwrap();
        (client, server.join().unwrap())
    })
}

pub fn client(files: &Files, server: SocketAddr, dealer: SocketAddr) -> Client {
    Client {
        loaded: files.loaded(),
        cache: Cache::open(&files.path("cache"), StorageKey::new([5; 32])).unwrap(),
        state: files.state("state"),
        peer: Mutex::default(),
        server,
        dealer: Some(dealer),
        dealing: Dealing::First,
        options: Options::default(),
        allowance: Allowance::default(),
        entropy: Box::new(Foreseen::new(0)),
    }
}

/// Real inputs by name, row by row.
pub fn reals(name: &str, rows: &[[f32; 4]]) -> BTreeMap<String, Array> {
    let array = ndarray::Array2::from(rows.to_vec()).into_dyn();
    [(name.to_owned(), Array::F32(array))].into()
}

/// Ids by name, one row.
pub fn ids(name: &str, row: &[i64]) -> BTreeMap<String, Array> {
    let array = ndarray::Array2::from_shape_vec((1, row.len()), row.to_vec()).unwrap().into_dyn();
    [(name.to_owned(), Array::I64(array))].into()
}

/// What `simulate` gives under the seeds of the n-th run of [`client`] and [`World::server`].
pub fn simulated(files: &Files, run: &Run, call: u8) -> [machine::Finished; 2] {
    let loaded = files.loaded();
    let program = &loaded.module.entries[0];
    let weights = WeightsFile::open(&files.ssw, &loaded.module, loaded.hash).unwrap();
    let masks = MasterKey::beside(&files.ssw).unwrap().mask_seed(&loaded.hash, weights.digest());
    let (client, server) = (Foreseen::seed(0, call), Foreseen::seed(1, call));
    let seeds = protocols::dealer::Seeds { client: &client, server: &server, weights: &masks };
    let inputs = run.encode(program).unwrap();
    let weights = weights.of(program);
    machine::simulate::Session::new(&loaded.module.entries, &weights, seeds).step(0, inputs, &run.publics).unwrap()
}

/// How often a file's name ends so in a directory.
pub fn count(directory: &Path, extension: &str) -> usize {
    let entries = std::fs::read_dir(directory).unwrap();
    entries.filter(|e| e.as_ref().unwrap().path().extension().is_some_and(|x| x == extension)).count()
}
