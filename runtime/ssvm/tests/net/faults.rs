//! Broken peers and networks: every fault ends the run on both sides, in time, with a name, and the next run works.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::common::{Files, LOOPBACK, SQUARE, TOKENS, World, client, count, ids, reals, two};
use ir::Party;
use processes::client::Client;
use processes::handshake::{HandshakeError, Hello, Mismatch, Role, Session, greet};
use processes::net::frame::{Header, Kind};
use processes::net::{Conn, NetError, Options};
use processes::setup::{SetupDigest, layout};
use processes::weights_file::WeightsFile;
use processes::{Dealing, RunError};

/// What a proxy does when its budget of bytes is used up.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Then {
    Cut,
    Stall,
    Corrupt,
}

/// Forwards one connection after another to `to`; after `budget` bytes in one of the directions (`up` is towards `to`) it
/// misbehaves. Counts the bytes of that direction.
fn proxy(to: SocketAddr, up: bool, budget: u64, then: Then) -> (SocketAddr, Arc<AtomicU64>) {
    let listener = TcpListener::bind(LOOPBACK).unwrap();
    let address = listener.local_addr().unwrap();
    let counted = Arc::new(AtomicU64::new(0));
    let count = counted.clone();
    std::thread::spawn(move || {
        for near in listener.incoming() {
            let (near, far) = (near.unwrap(), TcpStream::connect(to).unwrap());
            let unlimited = Arc::new(AtomicU64::new(0));
            let [upward, downward] = match up {
                true => [(budget, count.clone()), (u64::MAX, unlimited)],
                false => [(u64::MAX, unlimited), (budget, count.clone())],
            };
            let (a, b) = (near.try_clone().unwrap(), far.try_clone().unwrap());
            std::thread::spawn(move || forward(near, far, upward, then));
            std::thread::spawn(move || forward(b, a, downward, then));
        }
    });
    (address, counted)
}

fn forward(mut from: TcpStream, mut to: TcpStream, (budget, count): (u64, Arc<AtomicU64>), then: Then) {
    let mut buffer = [0; 4096];
    let mut left = budget;
    while let Ok(n) = from.read(&mut buffer) {
        if n == 0 {
            break;
        }
        count.fetch_add(n as u64, Ordering::SeqCst);
        let good = (n as u64).min(left) as usize;
        left -= good as u64;
        if to.write_all(&buffer[..good]).is_err() {
            break;
        }
        if good < n {
            match then {
                Then::Cut => {
                    let _ = (to.shutdown(Shutdown::Both), from.shutdown(Shutdown::Both));
                    return;
                }
                Then::Stall => {
                    // Take everything, pass nothing on, and keep both sides open until they give up.
                    while matches!(from.read(&mut buffer), Ok(n) if n > 0) {}
                    std::thread::sleep(Duration::from_secs(5));
                    return;
                }
                Then::Corrupt => {
                    let garbage: Vec<u8> = (0..64u8).map(|i| i.wrapping_mul(151) ^ 0xa5).collect();
                    if to.write_all(&garbage).is_err() {
                        break;
                    }
                }
            }
        }
    }
    let _ = to.shutdown(Shutdown::Write);
}

/// Cuts one link of a session at many places and checks both the failure and the recovery.
fn broken_everywhere(link: Link, up: bool, then: Then, timeout: Duration, limit: Duration) {
    let files = Files::write(SQUARE);
    let input = reals("x", &[[1.0, 2.0, -1.0, 0.5]]);
    let mut world = World::new(timeout);
    let dealer = world.dealer(&files);
    // How many bytes does a good run take on this link?
    let total = {
        let (server, dealer, counted) = link.through(&mut world, &files, dealer, up, u64::MAX, then);
        world.ask(&client(&files, server, dealer), &input).unwrap();
        counted.load(Ordering::SeqCst)
    };
    assert!(total > 200, "{total} bytes are too few to break");
    // Inside the handshake, at the seams of frames, inside payloads; the last bytes may be lost without harm.
    let last = total - 60;
    // Silence takes its time.
    let steps = if then == Then::Stall { 4 } else { 8 };
    let places = (0..=steps).map(|i| i * last / steps).chain([1, 15, 16]);
    // Lost peers and dealers end a run that takes material as it comes as well as one that has it all.
    let modes = [Dealing::First, Dealing::Overlapped];
    for (budget, dealing) in places.flat_map(|budget| modes.map(|dealing| (budget, dealing))) {
        std::fs::remove_dir_all(files.path("cache")).unwrap();
        let (server, at_dealer, _) = link.through(&mut world, &files, dealer, up, budget, then);
        let begin = Instant::now();
        let result = world.ask(&Client { dealing, ..client(&files, server, at_dealer) }, &input);
        let place = format!("{link:?} {then:?} {dealing:?} after {budget} of {total} bytes");
        let error = result.err().unwrap_or_else(|| panic!("{place}"));
        assert!(begin.elapsed() < limit, "{error} only after {:?} ({place})", begin.elapsed());
        assert!(matches!(error, RunError::Net(_) | RunError::Mismatch(_)), "{error}");
    }
    let server = world.server(&files, dealer);
    world.ask(&client(&files, server, dealer), &input).unwrap();
}

#[derive(Clone, Copy, Debug)]
enum Link {
    ClientServer,
    ClientDealer,
    ServerDealer,
}

impl Link {
    /// A server, and the addresses for a client, with a proxy on this link.
    fn through(
        self,
        world: &mut World,
        files: &Files,
        dealer: SocketAddr,
        up: bool,
        budget: u64,
        then: Then,
    ) -> (SocketAddr, SocketAddr, Arc<AtomicU64>) {
        match self {
            Link::ClientServer => {
                let (proxy, counted) = proxy(world.server(files, dealer), up, budget, then);
                (proxy, dealer, counted)
            }
            Link::ClientDealer => {
                let (proxy, counted) = proxy(dealer, up, budget, then);
                (world.server(files, dealer), proxy, counted)
            }
            Link::ServerDealer => {
                let (proxy, counted) = proxy(dealer, up, budget, then);
                (world.server(files, proxy), dealer, counted)
            }
        }
    }
}

const SERVER: Role = Role::Party(Party::Server);
const LONG: Duration = Duration::from_secs(30);
const SOON: Duration = Duration::from_secs(5);

#[test]
fn a_cut_between_the_parties_ends_the_run_at_once() {
    broken_everywhere(Link::ClientServer, true, Then::Cut, LONG, SOON);
    broken_everywhere(Link::ClientServer, false, Then::Cut, LONG, SOON);
}

#[test]
fn a_cut_to_the_dealer_ends_the_run_at_once() {
    broken_everywhere(Link::ClientDealer, false, Then::Cut, LONG, SOON);
    broken_everywhere(Link::ServerDealer, false, Then::Cut, LONG, SOON);
}

#[test]
fn garbage_ends_the_run_soon() {
    // At once, but where it stands for the length of a record, which then does not end.
    broken_everywhere(Link::ClientServer, true, Then::Corrupt, Duration::from_secs(2), SOON);
    broken_everywhere(Link::ServerDealer, false, Then::Corrupt, Duration::from_secs(2), SOON);
}

#[test]
fn silence_ends_the_run_after_the_timeout() {
    broken_everywhere(Link::ClientServer, false, Then::Stall, Duration::from_millis(300), SOON);
    broken_everywhere(Link::ClientDealer, false, Then::Stall, Duration::from_millis(300), SOON);
}

#[test]
fn strangers_do_not_disturb_the_service() {
    let files = Files::write(SQUARE);
    let mut world = World::new(Duration::from_secs(10));
    let dealer = world.dealer(&files);
    let server = world.server(&files, dealer);
    let header = |kind: u32, length: u32| {
        let mut bytes = Header { kind: Kind::Hello, step: 0, length }.encode();
        bytes[4..8].copy_from_slice(&kind.to_le_bytes());
        bytes.to_vec()
    };
    let openings: Vec<Vec<u8>> = vec![
        vec![],
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec(),
        vec![0xff; 100_000],
        header(1, u32::MAX),
        header(1, 1 << 20),
        header(99, 0),
        header(0, 0),
        [header(1, 3), vec![1, 2, 3]].concat(),
        [header(1, 4), 1u32.to_le_bytes().to_vec()].concat(),
        header(7, 16),
        header(10, 5000),
    ];
    for address in [server, dealer] {
        for opening in &openings {
            let mut stranger = TcpStream::connect(address).unwrap();
            let _ = stranger.write_all(opening);
            let _ = stranger.shutdown(Shutdown::Write);
            stranger.set_read_timeout(Some(SOON)).unwrap();
            let mut reply = Vec::new();
            // A reset is as good an end as a close.
            match stranger.read_to_end(&mut reply) {
                // A fatal alert, or nothing.
                Ok(_) => assert!(reply.is_empty() || reply.starts_with(&[21, 3, 3, 0, 2, 2]), "{reply:?}"),
                Err(e) => assert_eq!(e.kind(), std::io::ErrorKind::ConnectionReset),
            }
        }
    }
    // Strangers who stay and say nothing.
    let _idle: Vec<TcpStream> =
        [server, dealer].iter().flat_map(|a| (0..8).map(|_| TcpStream::connect(*a).unwrap())).collect();
    world.ask(&client(&files, server, dealer), &reals("x", &[[1.0; 4]])).unwrap();
}

#[test]
fn signs_of_life_alone_do_not_hold_a_stranger_s_place() {
    let files = Files::write(SQUARE);
    let world = World::new(Duration::from_millis(300));
    let listener = world.net_of(SERVER).listen(LOOPBACK.parse().unwrap(), &processes::server::GUESTS).unwrap();
    let server = listener.address();
    // A connection that nobody reads from says by itself that it is alive.
    std::thread::spawn(move || {
        let _conn = listener.accept().unwrap();
        std::thread::sleep(SOON);
    });
    let begin = Instant::now();
    let error = world.ask(&client(&files, server, server), &reals("x", &[[1.0; 4]])).err().unwrap();
    assert!(matches!(error, RunError::Net(NetError::Timeout { .. })), "{error}");
    assert!(begin.elapsed() < SOON);
}

#[test]
fn an_unreachable_peer_is_named_after_the_timeout() {
    let files = Files::write(SQUARE);
    let mut world = World::new(Duration::from_millis(300));
    // A port that was free a moment ago.
    let nobody = TcpListener::bind(LOOPBACK).unwrap().local_addr().unwrap();
    let input = reals("x", &[[1.0; 4]]);
    let error = world.ask(&client(&files, nobody, nobody), &input).err().unwrap();
    assert_eq!(error.to_string(), format!("no server at {nobody} within 0.3 s"));
    // The dealer is missing: both parties look for it, and whoever gives up first tells the other.
    let server = world.server(&files, nobody);
    let error = world.ask(&client(&files, server, nobody), &input).err().unwrap().to_string();
    assert!(error.ends_with(&format!("no dealer at {nobody} within 0.3 s")), "{error}");
}

#[test]
fn a_peer_that_starts_late_is_found() {
    let files = Files::write(SQUARE);
    let mut world = World::new(Duration::from_secs(20));
    let dealer = world.dealer(&files);
    let later = TcpListener::bind(LOOPBACK).unwrap().local_addr().unwrap();
    let server = world.server(&files, dealer);
    std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(400));
        let listener = TcpListener::bind(later).unwrap();
        let (near, _) = listener.accept().unwrap();
        let far = TcpStream::connect(server).unwrap();
        let (a, b) = (near.try_clone().unwrap(), far.try_clone().unwrap());
        let none = || (u64::MAX, Arc::new(AtomicU64::new(0)));
        std::thread::spawn(move || forward(near, far, none(), Then::Cut));
        forward(b, a, none(), Then::Cut);
    });
    world.ask(&client(&files, later, dealer), &reals("x", &[[1.0; 4]])).unwrap();
}

#[test]
fn mismatches_have_the_same_name_on_both_sides() {
    let files = Files::write(SQUARE);
    let world = World::new(Duration::from_secs(10));
    let loaded = files.loaded();
    let hello = |party| loaded.hello(Role::Party(party));
    let greeted = |change: &dyn Fn(&mut Hello)| {
        let (mut a, mut b) = two(&world, Options::default());
        let ours = hello(Party::Client);
        let mut theirs = Hello { session: Session([1; 16]), ..hello(Party::Server) };
        change(&mut theirs);
        let text = |e: Result<Hello, HandshakeError>| {
            let RunError::Mismatch(e) = e.expect_err("a mismatch").into() else { panic!("another error") };
            format!("{e}\n  try: {}", e.hint())
        };
        std::thread::scope(|scope| {
            let client = scope.spawn(|| text(greet(&mut a, &ours, &[Role::Party(Party::Server)])));
            let server = text(greet(&mut b, &theirs, &[Role::Party(Party::Client)]));
            format!("client: {}\nserver: {server}", client.join().unwrap())
        })
    };
    let scrub = |text: String| {
        let hash = processes::handshake::hex(&loaded.hash[..8]);
        let commitment = processes::handshake::hex(&loaded.module.commitment[..8]);
        text.replace(&hash, "[program]").replace(&commitment, "[weights]")
    };
    insta::assert_snapshot!(scrub(
        [greeted(&|h| h.version += 1), greeted(&|h| h.program = [1; 32]), greeted(&|h| h.commitment = [2; 32]),]
            .join("\n")
    ));
    // A client at the dealer's port.
    let (mut a, mut b) = two(&world, Options::default());
    let error = std::thread::scope(|scope| {
        scope.spawn(|| greet(&mut b, &loaded.hello(Role::Dealer), &[Role::Party(Party::Client)]));
        greet(&mut a, &hello(Party::Client), &[Role::Party(Party::Server)]).unwrap_err().to_string()
    });
    insta::assert_snapshot!(error, @"role mismatch: expected a server, but a dealer is at the other end");
}

#[test]
fn masked_weights_that_the_server_did_not_name_are_not_kept() {
    let files = Files::write(SQUARE);
    let world = World::new(Duration::from_secs(10));
    let loaded = files.loaded();
    let listener = world.net_of(SERVER).listen(LOOPBACK.parse().unwrap(), &processes::server::GUESTS).unwrap();
    let address = listener.address();
    let error = std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut conn = listener.accept().unwrap();
            let setup = SetupDigest([1; 32]);
            let ours = Hello { setup, session: Session([1; 16]), ..loaded.hello(Role::Party(Party::Server)) };
            greet(&mut conn, &ours, &[Role::Party(Party::Client)]).unwrap();
            conn.receive_small(Kind::Begin, 64).unwrap();
            let pieces = layout(&loaded.module.entries);
            assert_eq!(pieces.len(), 1);
            conn.send_frame(Kind::Setup, 0, vec![0; pieces[0].bytes.len()].into()).unwrap();
            let told = conn.receive_small(Kind::Done, 0).unwrap_err().to_string();
            assert!(told.contains("setup mismatch"), "{told}");
        });
        // Nobody deals.
        world.ask(&client(&files, address, address), &reals("x", &[[1.0; 4]])).err().unwrap()
    });
    assert!(matches!(error, RunError::Mismatch(Mismatch::Setup)), "{error}");
    assert_eq!(count(&files.path("cache"), "setup"), 0);
}

/// The dealer has the masks: with a digest of the masked weights it could tell whether it has guessed a weight.
#[test]
fn a_dealer_is_not_told_the_digest_of_masked_weights() {
    let files = Files::write(SQUARE);
    let mut world = World::new(Duration::from_secs(10));
    let loaded = files.loaded();
    let listener = world.net_of(Role::Dealer).listen(LOOPBACK.parse().unwrap(), &processes::dealer::GUESTS).unwrap();
    let dealer = listener.address();
    let server = world.server(&files, dealer);
    let roles = [Role::Party(Party::Client), Role::Party(Party::Server)];
    std::thread::scope(|scope| {
        let asked = scope.spawn(|| world.ask(&client(&files, server, dealer), &reals("x", &[[1.0; 4]])));
        let mut conns = [listener.accept().unwrap(), listener.accept().unwrap()];
        let told = conns.each_mut().map(|conn| greet(conn, &loaded.hello(Role::Dealer), &roles).unwrap());
        assert!(told.iter().any(|hello| hello.role == roles[1]));
        assert!(told.iter().all(|hello| hello.setup == SetupDigest::default()));
        conns.into_iter().for_each(|conn| conn.fail("nothing is dealt"));
        assert!(asked.join().unwrap().is_err());
    });
    // To the client it was: the setup is there.
    assert_eq!(count(&files.path("cache"), "setup"), 1);
}

#[test]
fn a_server_refuses_unknown_entries_and_publics_by_name() {
    let files = Files::write(TOKENS);
    let mut world = World::new(Duration::from_secs(10));
    let dealer = world.dealer(&files);
    let server = world.server(&files, dealer);
    let loaded = files.loaded();
    let refused = |entry: &str, publics: &[u32]| {
        let mut conn = world.net.connect(SERVER, server, Options::default(), None).unwrap();
        let ours =
            Hello { entry: entry.to_owned(), publics: publics.to_vec(), ..loaded.hello(Role::Party(Party::Client)) };
        greet(&mut conn, &ours, &[Role::Party(Party::Server)]).unwrap();
        conn.receive(Kind::Setup, 0, 1).unwrap_err().to_string()
    };
    insta::assert_snapshot!(
        [refused("other", &[0]), refused("\u{1b}[31m", &[0]), refused("tokens", &[]), refused("tokens", &[4]),]
            .join("\n")
    );
    world.ask(&client(&files, server, dealer), &ids("ids", &[1, 2])).unwrap();
}

#[test]
fn the_dealer_pairs_two_different_roles_of_one_program() {
    let (files, others) = (Files::write(SQUARE), Files::write(TOKENS));
    let mut world = World::new(Duration::from_millis(800));
    let dealer = world.dealer(&files);
    let patient = World::new(LONG);
    let come = |world: &World, files: &Files, party, session| {
        let loaded = files.loaded();
        let entry = loaded.module.entries[0].name.clone();
        let ours = Hello { session: Session([session; 16]), entry, ..loaded.hello(Role::Party(party)) };
        let net = world.net_of(Role::Party(party));
        let mut conn = net.connect(Role::Dealer, dealer, Options::default(), None).unwrap();
        greet(&mut conn, &ours, &[Role::Dealer]).map(|_| conn)
    };
    let seeded = |world: &World, party: Party, session| {
        let mut conn = come(world, &files, party, session).unwrap();
        conn.send_frame(Kind::Seeds, 0, vec![7; 32 * (1 + party.index())].into()).unwrap();
        conn.send_frame(Kind::Next, 0, vec![0, 0, 0, 0, 1].into()).unwrap();
        conn
    };
    let error = come(&world, &others, Party::Client, 1).err().unwrap().to_string();
    assert!(error.starts_with("program mismatch: "), "{error}");

    let mut first = seeded(&world, Party::Client, 2);
    std::thread::sleep(Duration::from_millis(200));
    let mut second = seeded(&world, Party::Client, 2);
    let error = second.receive(Kind::Material, 0, 1).unwrap_err().to_string();
    assert_eq!(error, "the dealer gave up: session mismatch: this role is taken in this session");
    // The first one is not disturbed and meets its partner.
    let mut server = seeded(&world, Party::Server, 2);
    let cost = ir::cost::cost(&files.loaded().module.entries[0]);
    assert!(cost.server_material_bytes > 0);
    // Neither knows the other's connection; each is held against its own.
    for (conn, length) in [(&mut server, cost.server_material_bytes), (&mut first, cost.client_material_bytes)] {
        let (mut rest, lost) = (length as usize, tokio::sync::watch::channel(false).1);
        while rest > 0 {
            rest -= conn.receive_some((Kind::Material, 0), rest, &lost).unwrap().len();
        }
    }

    // Two whom somebody put together.
    let linked = |party, link| {
        let loaded = files.loaded();
        let entry = loaded.module.entries[0].name.clone();
        let ours = Hello { session: Session([5; 16]), link: [link; 32], entry, ..loaded.hello(Role::Party(party)) };
        let net = patient.net_of(Role::Party(party));
        let mut conn = net.connect(Role::Dealer, dealer, Options::default(), None).unwrap();
        greet(&mut conn, &ours, &[Role::Dealer]).unwrap();
        conn.send_frame(Kind::Seeds, 0, vec![7; 32 * (1 + party.index())].into()).unwrap();
        conn
    };
    let _first = linked(Party::Client, 1);
    std::thread::sleep(Duration::from_millis(200));
    let error = linked(Party::Server, 2).receive(Kind::Material, 0, 1).unwrap_err().to_string();
    assert_eq!(error, "the dealer gave up: session mismatch: the parties of this session are not linked to each other");

    // A role in which its key is not pinned.
    let ours = files.loaded().hello(Role::Party(Party::Server));
    let mut conn = world.net.connect(Role::Dealer, dealer, Options::default(), None).unwrap();
    greet(&mut conn, &ours, &[Role::Dealer]).unwrap();
    let error = conn.receive(Kind::Material, 0, 1).unwrap_err().to_string();
    assert_eq!(error, "the dealer gave up: role mismatch: expected a client, but a server is at the other end");

    // Nobody comes for this one.
    let mut lonely = seeded(&patient, Party::Server, 3);
    let error = lonely.receive(Kind::Material, 0, 1).unwrap_err().to_string();
    assert_eq!(error, "the dealer gave up: the client has been silent for 0.8 s while `hello` was awaited");
    // The wrong number of seeds.
    let mut conn = come(&world, &files, Party::Client, 4).unwrap();
    conn.send_frame(Kind::Seeds, 0, vec![7; 64].into()).unwrap();
    assert!(conn.receive(Kind::Material, 0, 1).unwrap_err().to_string().contains("bad frame"));
}

#[test]
fn parties_that_send_at_once_do_not_block_each_other() {
    const LENGTH: usize = 40 << 20;
    let world = World::new(Duration::from_secs(60));
    let (mut a, mut b) = two(&world, Options::default());
    let exchange = |conn: &mut Conn| {
        conn.trust(LENGTH as u64);
        conn.send(Kind::Online, 3, vec![conn.peer().len() as u8; LENGTH].into()).unwrap();
        conn.receive(Kind::Online, 3, LENGTH).unwrap()
    };
    std::thread::scope(|scope| {
        let at_a = scope.spawn(|| exchange(&mut a));
        assert!(exchange(&mut b) == vec![6; LENGTH]);
        assert!(at_a.join().unwrap() == vec![6; LENGTH]);
    });
    assert_eq!(a.sent_bytes(), ir::wire::message_bytes(LENGTH as u64));
    assert_eq!(a.received_bytes(), a.sent_bytes());
}

/// Short frames are written at once while the system takes them, then in part, and then they queue; long ones always queue.
#[test]
fn frames_arrive_whole_and_in_order_however_they_are_sent() {
    const FRAMES: u32 = 3000;
    let length = |step: u32| if step % 50 == 49 { 100_000 } else { 1 + step as usize * 7919 % 9000 };
    let world = World::new(Duration::from_secs(20));
    let (mut a, mut b) = two(&world, Options::default());
    b.trust(0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for step in 0..FRAMES {
                a.send_frame(Kind::Online, step, vec![step as u8; length(step)].into()).unwrap();
            }
        });
        // Until the sender's frames wait in every place there is.
        std::thread::sleep(Duration::from_millis(300));
        for step in 0..FRAMES {
            let message = b.receive(Kind::Online, step, length(step)).unwrap();
            assert!(message.iter().all(|&byte| byte == step as u8), "frame {step}");
        }
    });
}

#[test]
fn frames_of_another_kind_step_or_length_are_named() {
    let world = World::new(Duration::from_secs(10));
    let fault = |kind, step, payload: &[u8]| {
        let (mut a, mut b) = two(&world, Options::default());
        b.send_frame(kind, step, payload.to_vec().into()).unwrap();
        a.receive(Kind::Online, 4, 3).unwrap_err().to_string()
    };
    insta::assert_snapshot!(
        [
            fault(Kind::Setup, 4, &[0; 3]),
            fault(Kind::Online, 5, &[0; 3]),
            fault(Kind::Online, 4, &[0; 2]),
            fault(Kind::Error, 0, b"no more \x1b[1mroom"),
        ]
        .join("\n")
    );
}

#[test]
fn weights_of_another_program_are_refused() {
    let (files, others) = (Files::write(SQUARE), Files::write(TOKENS));
    let loaded = files.loaded();
    let text = |path| {
        let error = RunError::from(WeightsFile::open(path, &loaded.module, loaded.hash).err().unwrap());
        format!("{}\n  try: {}", processes::chain(&error), error.hint()).replace(&path.display().to_string(), "[path]")
    };
    let missing = files.path("missing.ssw");
    let damaged = files.path("damaged.ssw");
    let mut bytes = std::fs::read(&files.ssw).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&damaged, bytes).unwrap();
    insta::assert_snapshot!([text(&others.ssw), text(&files.ssb), text(&damaged), text(&missing)].join("\n"));
}
