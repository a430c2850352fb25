//! What others can do with links: read them, change them, repeat them, or be at the wrong end of one.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use ir::Party;
use ndarray_npy::NpzWriter;
use processes::RunError;
use processes::handshake::{Role, link_digest};
use processes::identity::Identity;
use processes::limits::Limits;
use processes::net::{Options, Protection};
use processes::pairing;
use processes::pins::{Pin, Pins};

use crate::commands::{Service, failed, ssvm, ssvm_with, text, write_input};
use crate::common::{Files, LOOPBACK, SQUARE, TOKENS, World, client, identity, reals, two};

const CLIENT: Role = Role::Party(Party::Client);
const SERVER: Role = Role::Party(Party::Server);

/// What a link carried, up and down.
type Heard = Arc<Mutex<[Vec<u8>; 2]>>;

/// Passes connections on, and hears all; flips one bit of one direction (0 is up), if asked to.
fn relay(to: SocketAddr, flip: Option<(usize, u64, u8)>) -> (SocketAddr, Heard) {
    let listener = TcpListener::bind(LOOPBACK).unwrap();
    let (address, heard) = (listener.local_addr().unwrap(), Heard::default());
    let all = heard.clone();
    std::thread::spawn(move || {
        for near in listener.incoming() {
            let (near, far) = (near.unwrap(), TcpStream::connect(to).unwrap());
            let ways = [(near.try_clone().unwrap(), far.try_clone().unwrap()), (far, near)];
            for (way, (from, to)) in ways.into_iter().enumerate() {
                let (heard, flip) = (all.clone(), flip.filter(|(in_way, ..)| *in_way == way));
                std::thread::spawn(move || {
                    pass(from, to, |bytes| {
                        let heard = &mut heard.lock().unwrap()[way];
                        if let Some((_, at, bit)) = flip
                            && let Some(byte) =
                                at.checked_sub(heard.len() as u64).and_then(|at| bytes.get_mut(at as usize))
                        {
                            *byte ^= 1 << bit;
                        }
                        heard.extend_from_slice(bytes);
                    })
                });
            }
        }
    });
    (address, heard)
}

fn pass(mut from: TcpStream, mut to: TcpStream, mut change: impl FnMut(&mut [u8])) {
    let mut buffer = [0; 4096];
    while let Ok(n) = from.read(&mut buffer)
        && n > 0
    {
        change(&mut buffer[..n]);
        if to.write_all(&buffer[..n]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Write);
}

fn holds(heard: &[u8], wanted: &[u8]) -> bool {
    heard.windows(wanted.len()).any(|window| window == wanted)
}

/// Between processes: nothing of what they send can be read, and on an insecure link, which shows that this test reads, all can.
#[test]
fn who_listens_to_a_run_reads_nothing_of_it() {
    let files = Files::write(SQUARE);
    write_input(&files, &[[1.0, -0.5, 0.25, 2.0]]);
    let loaded = files.loaded();
    for insecure in [&[][..], &["--insecure"]] {
        let dealer = Service::start(&files, &[&["dealer", "model.ssb", "--listen", LOOPBACK], insecure].concat());
        let (at_dealer, to_dealer) = relay(dealer.address.parse().unwrap(), None);
        let at_dealer = at_dealer.to_string();
        let serve = ["run", "model.ssb", "--party", "1", "--listen", LOOPBACK, "--dealer", &at_dealer];
        let server = Service::start(&files, &[&serve[..], insecure].concat());
        let (at_server, to_server) = relay(server.address.parse().unwrap(), None);
        let at_server = at_server.to_string();
        let ask =
            ["run", "model.ssb", "--party", "0", "--input", "x.npz", "--connect", &at_server, "--dealer", &at_dealer];
        let asked = ssvm(&files, &[&ask[..], insecure].concat()).output().unwrap();
        assert!(asked.status.success(), "{}", text(&asked.stderr));
        let known = [&b"SSVM"[..], &loaded.hash, &loaded.module.commitment, b"square"];
        for heard in [to_server, to_dealer] {
            for way in heard.lock().unwrap().iter() {
                assert!(way.len() > 200);
                let read: Vec<&&[u8]> = known[..3].iter().filter(|wanted| holds(way, wanted)).collect();
                assert_eq!(read.len(), if insecure.is_empty() { 0 } else { 3 });
            }
            assert_eq!(holds(&heard.lock().unwrap()[0], known[3]), !insecure.is_empty());
        }
        let said = [text(&asked.stdout), text(&asked.stderr)].concat();
        assert_eq!(said.contains("INSECURE links"), !insecure.is_empty(), "{said}");
        assert_eq!(said.contains("`--insecure`: links are not encrypted"), !insecure.is_empty(), "{said}");
    }
}

/// One flipped bit anywhere between the parties, on encrypted links and on insecure ones: an error that says so, or a flip behind all
/// that counts.
#[test]
fn a_flipped_bit_is_an_error_and_never_an_output() {
    const FLIPS: u64 = 60;
    let files = Files::write(SQUARE);
    let input = reals("x", &[[1.0, 2.0, -1.0, 0.5]]);
    for mut world in [World::new(Duration::from_millis(1500)), World::insecure(Duration::from_millis(1500))] {
        let dealer = world.dealer(&files);
        let run = |world: &mut World, flip| {
            let (server, heard) = relay(world.server(&files, dealer), flip);
            let outcome = world.ask(&client(&files, server, dealer), &input);
            // The farewells, too.
            std::thread::sleep(Duration::from_millis(20));
            let lengths = heard.lock().unwrap().each_ref().map(|way| way.len() as u64);
            (outcome.map(|outcomes| outcomes[0].outputs.clone()), lengths)
        };
        let (good, lengths) = run(&mut world, None);
        let (good, mut state) = (good.unwrap(), 20_261_129u64);
        let mut random = |below: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % below
        };
        let mut passed = 0;
        for _ in 0..FLIPS {
            let way = random(2) as usize;
            let (at, bit) = (random(lengths[way]), random(8) as u8);
            let (outcome, sent) = run(&mut world, Some((way, at, bit)));
            match outcome {
                Ok(outputs) => {
                    // Of the client's last words, after its outputs; or of more than was sent this time.
                    let late = way == 0 && at + 60 > sent[0] || at >= sent[way];
                    assert!(
                        outputs == good && late,
                        "bit {bit} of byte {at}, way {way}, of {sent:?}, {lengths:?} at first"
                    );
                    passed += 1;
                }
                Err(error) => assert!(matches!(error, RunError::Net(_) | RunError::Mismatch(_)), "{error}"),
            }
        }
        assert!(passed < FLIPS / 10, "{passed} of {FLIPS} flips did not matter");
    }
}

/// What two parties said once has no effect when it is said again: the server begins no session.
#[test]
fn a_recorded_run_is_of_no_use() {
    let files = Files::write(SQUARE);
    let mut world = World::new(Duration::from_secs(5));
    let dealer = world.dealer(&files);
    let server = world.server(&files, dealer);
    let (through, heard) = relay(server, None);
    world.ask(&client(&files, through, dealer), &reals("x", &[[1.0; 4]])).unwrap();
    let burnt = || files.state("state").ledger.sessions().unwrap().len();
    let (before, said) = (burnt(), heard.lock().unwrap()[0].clone());
    let mut again = TcpStream::connect(server).unwrap();
    let _ = again.write_all(&said);
    again.set_read_timeout(Some(Duration::from_secs(6))).unwrap();
    let mut answer = Vec::new();
    let _ = again.read_to_end(&mut answer);
    assert!(!answer.is_empty(), "it begins a handshake, which a repetition cannot end");
    assert_eq!(burnt(), before);
}

#[test]
fn a_link_has_a_binding_of_its_own_that_both_ends_know() {
    for world in [World::new(Duration::from_secs(5)), World::insecure(Duration::from_secs(5))] {
        let links: Vec<_> = (0..3).map(|_| two(&world, Options::default())).collect();
        for (a, b) in &links {
            assert_eq!(a.binding(), b.binding());
            assert_eq!(link_digest(a), link_digest(b));
            assert_ne!(link_digest(a), *a.binding());
        }
        let all: BTreeSet<[u8; 32]> = links.iter().map(|(a, _)| *a.binding()).collect();
        assert_eq!(all.len(), links.len());
    }
}

/// Strangers cost no thread and go soon, however many they are; who has a key is served meanwhile.
#[test]
fn strangers_are_few_and_go_soon() {
    let files = Files::write(SQUARE);
    let mut world = World::new(Duration::from_secs(60));
    let dealer = world.dealer(&files);
    let server = world.server(&files, dealer);
    let begin = Instant::now();
    let mut strangers: Vec<TcpStream> = (0..200)
        .map(|number| {
            let mut stranger = TcpStream::connect(server).unwrap();
            let openings: [&[u8]; 4] = [b"", b"\x16", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc", b"GET"];
            stranger.write_all(openings[number % 4]).unwrap();
            stranger
        })
        .collect();
    let asked = Instant::now();
    world.ask(&client(&files, server, dealer), &reals("x", &[[1.0; 4]])).unwrap();
    assert!(asked.elapsed() < Duration::from_secs(2), "{:?}", asked.elapsed());
    for stranger in &mut strangers {
        stranger.set_read_timeout(Some(Duration::from_secs(8))).unwrap();
        let ended = stranger.read_to_end(&mut Vec::new());
        assert!(!ended.is_err_and(|e| e.kind() == std::io::ErrorKind::WouldBlock), "a stranger is still there");
    }
    assert!(begin.elapsed() < Duration::from_secs(8), "{:?}", begin.elapsed());
}

/// A folder with keys of several sides, of whom some have pinned some.
struct Keys(tempfile::TempDir);

impl Keys {
    fn new() -> Keys {
        Keys(tempfile::tempdir().unwrap())
    }

    fn make(&self, name: &str) -> PathBuf {
        let at = self.0.path().join(name);
        Identity::generate(&at).unwrap();
        at
    }

    /// A side that has pinned others, each in a role.
    fn side(&self, name: &str, pins: &[(&Path, Role)]) -> PathBuf {
        let at = self.make(name);
        self.pin(&at, pins);
        at
    }

    fn pin(&self, at: &Path, pins: &[(&Path, Role)]) {
        let own = Identity::open(at).unwrap();
        for (other, role) in pins {
            let key = Identity::open(other).unwrap().public();
            Pins::add(at, &own, Pin { role: *role, key, name: role.name().to_owned(), limits: Limits::default() })
                .unwrap();
        }
    }
}

/// Answers everybody who connects with some bytes, and stays.
fn says(bytes: &'static [u8]) -> String {
    let listener = TcpListener::bind(LOOPBACK).unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        let mut all = Vec::new();
        for conn in listener.incoming() {
            let mut conn = conn.unwrap();
            let _ = conn.write_all(bytes);
            all.push(conn);
        }
    });
    address
}

/// Each ends within five seconds in an error that names the place, and in a way out.
#[test]
fn misconfigurations_are_explained() {
    let (files, others) = (Files::write(TOKENS), Files::write(SQUARE));
    write_ids(&files);
    std::fs::copy(&others.ssb, files.path("other.ssb")).unwrap();
    std::fs::write(files.path("garbage.pub"), "ssvm-identity-1 aaaa bbbb\n").unwrap();
    let keys = Keys::new();
    let (a_client, a_server, a_dealer) = (identity(CLIENT), identity(SERVER), identity(Role::Dealer));
    let mode = |path: &Path, mode| {
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    let stranger = keys.make("stranger");
    let readable = keys.side("readable", &[(&a_server, SERVER)]);
    mode(&readable.join("identity.key"), 0o644);
    let damaged = keys.side("damaged", &[(&a_server, SERVER)]);
    std::fs::write(damaged.join("identity.key"), "no key").unwrap();
    let bad_pins = keys.side("bad-pins", &[(&a_server, SERVER)]);
    std::fs::write(Pins::file(&bad_pins), "server me too\n").unwrap();
    let open_pins = keys.side("open-pins", &[(&a_server, SERVER)]);
    mode(&Pins::file(&open_pins), 0o666);
    let wrong_pin = keys.side("wrong-pin", &[(&stranger, SERVER)]);
    let not_pinned = keys.side("not-pinned", &[(&a_server, SERVER)]);
    let swapped = keys.side("swapped", &[(&a_server, Role::Dealer), (&stranger, SERVER)]);
    let no_dealer = keys.side("no-dealer", &[(&a_server, SERVER)]);
    // A server that takes this one for a dealer.
    let misjudged = keys.side("misjudged", &[]);
    let misjudging = keys.side("misjudging", &[(&misjudged, Role::Dealer), (&a_client, CLIENT)]);
    keys.pin(&misjudged, &[(&misjudging, SERVER)]);

    let listen = ["--listen", LOOPBACK];
    let serve = |arguments: &[&str], at: &Path| {
        let at = at.to_str().unwrap();
        Service::start(&files, &[arguments, &listen, &["--identity", at]].concat())
    };
    let dealing = serve(&["dealer", "model.ssb"], &a_dealer);
    let running = ["run", "model.ssb", "--party", "1"];
    let at_dealer = ["--dealer", &dealing.address];
    let dealt = serve(&[&running[..], &at_dealer].concat(), &a_server);
    let server = serve(&running, &a_server);
    let insecure = serve(&[&running[..], &["--insecure"]].concat(), &a_server);
    let misjudge = serve(&running, &misjudging);
    let other = ["run", "other.ssb", "--party", "1", "--weights", others.ssw.to_str().unwrap()];
    let other = serve(&[&other[..], &at_dealer].concat(), &a_server);
    let closed = TcpListener::bind(LOOPBACK).unwrap().local_addr().unwrap().to_string();
    let older = says(b"SSVM\x01\0\0\0\0\0\0\0\x04\0\0\0\x08\0\0\0");
    let http = says(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n");
    let mute = says(b"");
    let tls12 = says(b"\x15\x03\x03\x00\x02\x02\x46");
    let nowhere = keys.0.path().join("none");

    let ask = |server: &str, at: &Path, more: &[&str]| {
        let base = ["run", "model.ssb", "--party", "0", "--input", "ids.npz", "--connect", server];
        ssvm_with(&files, &[&base[..], &["--identity", at.to_str().unwrap()], more].concat())
    };
    let pair =
        |at: &Path, more: &[&str]| ssvm_with(&files, &[&["pair", "--identity", at.to_str().unwrap()], more].concat());
    let party_1 = |at: &Path, more: &[&str]| {
        ssvm_with(&files, &[&running[..], &listen, &["--identity", at.to_str().unwrap()], more].concat())
    };
    let cases: Vec<(&str, Command, &str)> = vec![
        ("no identity", ask(&server.address, &nowhere, &at_dealer), "there is no identity in"),
        ("a server with no identity", party_1(&nowhere, &[]), "there is no identity in"),
        ("no pin", ask(&server.address, &stranger, &[]), "no server is pinned in"),
        ("a server with no pin", party_1(&stranger, &[]), "no client is pinned in"),
        ("no pin of the dealer", ask(&server.address, &no_dealer, &at_dealer), "no dealer is pinned in"),
        (
            "another server's pin",
            ask(&server.address, &wrong_pin, &[]),
            "is not pinned: it may be the server's or anybody's",
        ),
        ("not pinned there", ask(&server.address, &not_pinned, &[]), "the server has not pinned this side's key"),
        (
            "the server pinned as dealer",
            ask(&server.address, &swapped, &[]),
            "is pinned as that of a dealer, not of a server",
        ),
        (
            "the client pinned as dealer",
            ask(&misjudge.address, &misjudged, &[]),
            "the server has pinned this side's key in another role",
        ),
        (
            "the dealer's port",
            ask(&dealing.address, &a_client, &at_dealer),
            "is pinned as that of a dealer, not of a server",
        ),
        (
            "the server's port as dealer's",
            ask(&dealt.address, &a_client, &["--dealer", &server.address]),
            "is pinned as that of a server, not of a dealer",
        ),
        (
            "a key that others can read",
            ask(&server.address, &readable, &[]),
            "identity.key can be read by others (mode 644)",
        ),
        ("a damaged key", ask(&server.address, &damaged, &[]), "identity.key is damaged: it holds no Ed25519 key"),
        ("damaged pins", ask(&server.address, &bad_pins, &[]), "pins, line 1, is damaged: it is no pin"),
        (
            "pins that others can write",
            ask(&server.address, &open_pins, &[]),
            "pins can be written by others (mode 666)",
        ),
        ("another program", ask(&other.address, &a_client, &[]), "program mismatch: this side has program"),
        ("a dealer on one side", ask(&dealt.address, &a_client, &[]), "material mismatch"),
        ("an older release", ask(&older, &a_client, &[]), "the server is of an older release"),
        ("TLS of others", ask(&tls12, &a_client, &[]), "the encrypted link to the server broke"),
        ("a web server's port", ask(&http, &a_client, &[]), "no server: it began with `HTTP/1.1 400 Bad Request`"),
        ("a closed port", ask(&closed, &a_client, &["--timeout", "2"]), "no server at"),
        ("a port that only accepts", ask(&mute, &a_client, &[]), "says nothing that a server would within 4 s"),
        (
            "insecure, to a server that encrypts",
            ask(&server.address, &a_client, &["--insecure"]),
            "the server encrypts its links, and this side was started with `--insecure`",
        ),
        ("to an insecure server", ask(&insecure.address, &a_client, &[]), "the server was started with `--insecure`"),
        (
            "seeds in the clear",
            ask(&insecure.address, &a_client, &["--insecure", "--dealer", "192.0.2.1:7702"]),
            "no secret goes over an insecure link to the dealer",
        ),
        (
            "a second identity",
            ssvm_with(&files, &["keygen", "--identity", a_client.to_str().unwrap()]),
            "there is an identity in",
        ),
        (
            "no public key",
            pair(&stranger, &["--as", "server", "--file", "garbage.pub"]),
            "garbage.pub is not the public key of an identity",
        ),
        (
            "one's own key",
            pair(&stranger, &["--as", "server", "--file", stranger.join("identity.pub").to_str().unwrap()]),
            "this is the identity's own key",
        ),
        ("no such pin", pair(&stranger, &["--remove", "nobody"]), "is called `nobody`"),
    ];
    assert!(cases.len() >= 20);
    for (name, mut command, expected) in cases {
        let begin = Instant::now();
        let said = failed(&command.output().unwrap());
        assert!(begin.elapsed() < Duration::from_secs(5), "{name}: {said} only after {:?}", begin.elapsed());
        let error = said.lines().find(|line| line.starts_with("error: ")).unwrap_or_else(|| panic!("{name}: {said}"));
        assert!(error.contains(expected), "{name}: {said}");
        assert!(said.lines().any(|line| line.starts_with("try: ") && line.len() > 12), "{name}: {said}");
    }
}

/// Three commands a side, from two empty home folders to an output: a key, pairing by a code that both show, and a run.
#[test]
fn two_who_never_met_pair_by_a_code_and_run() {
    let files = Files::write(TOKENS);
    write_ids(&files);
    let at = |side: &str| files.path(side).join(".config/ssvm");
    let command = |side: &str, arguments: &[&str]| {
        let mut command = ssvm_with(&files, arguments);
        command.env("HOME", files.path(side)).stdin(Stdio::piped());
        command
    };
    for side in ["one", "two"] {
        let made = command(side, &["keygen"]).output().unwrap();
        assert!(made.status.success() && text(&made.stdout).starts_with("fingerprint "), "{}", text(&made.stderr));
    }
    let pins = |side: &str| Pins::read(&at(side)).unwrap().all().len();
    // First with a wrong code: it pins nothing.
    for right in [false, true] {
        let mut listening = command("one", &["pair", "--as", "client", "--listen", LOOPBACK]).spawn().unwrap();
        let address = line(&mut listening).strip_prefix("listening on ").unwrap().to_owned();
        let mut connecting = command("two", &["pair", "--as", "server", "--connect", &address]).spawn().unwrap();
        let [code, same] = [&mut listening, &mut connecting].map(|child| {
            let code = line(child).strip_prefix("code ").unwrap().to_owned();
            assert!(line(child).starts_with("the other side, a "));
            code
        });
        assert_eq!(code, same);
        assert_eq!([pins("one"), pins("two")], [0, 0], "nothing is pinned before it is confirmed");
        let typed = if right { code } else { "00000 00000".to_owned() };
        for mut child in [listening, connecting] {
            child.stdin.take().unwrap().write_all(format!("{typed}\n").as_bytes()).unwrap();
            let ended = child.wait_with_output().unwrap();
            assert_eq!(ended.status.success(), right, "{}", text(&ended.stderr));
            assert_eq!(text(&ended.stderr).contains("the code was not confirmed; nothing is pinned"), !right);
        }
        assert_eq!([pins("one"), pins("two")], if right { [1, 1] } else { [0, 0] });
    }
    for (side, other, role) in [("one", "two", CLIENT), ("two", "one", SERVER)] {
        let key = Identity::open(&at(other)).unwrap().public();
        assert_eq!(Pins::read(&at(side)).unwrap().roles(&key), [role]);
        let listed = command(side, &["pair", "--list"]).output().unwrap();
        assert!(text(&listed.stdout).contains(&key.fingerprint()), "{}", text(&listed.stdout));
    }
    let mut server = command("one", &["run", "model.ssb", "--party", "1", "--listen", LOOPBACK]).spawn().unwrap();
    let address = line(&mut server).strip_prefix("listening on ").unwrap().to_owned();
    let ask = ["run", "model.ssb", "--party", "0", "--input", "ids.npz", "--connect", &address];
    let asked = command("two", &ask).output().unwrap();
    let _ = (server.kill(), server.wait());
    assert!(asked.status.success(), "{}", text(&asked.stderr));
    assert!(text(&asked.stdout).contains("no third party, encrypted links; 1 run(s)"), "{}", text(&asked.stdout));
}

/// Who stands between two that pair has a link with each, and both see it: their codes differ.
#[test]
fn somebody_between_two_who_pair_shows() {
    let keys = Keys::new();
    let [one, two, between] = ["one", "two", "between"].map(|name| Identity::open(&keys.make(name)).unwrap());
    let world = World::new(Duration::from_secs(5));
    let net = |own: &Identity| world.protected(Protection::Pairing(own.clone()));
    let listen = |own: &Identity| net(own).listen(LOOPBACK.parse().unwrap(), &[CLIENT]).unwrap();
    let (there, trap) = (listen(&two), listen(&between));
    let (to_one, to_two) = std::thread::scope(|scope| {
        let caught = scope.spawn(|| pairing::listen(&trap).unwrap());
        let met = scope.spawn(|| pairing::listen(&there).unwrap());
        let to_one = pairing::connect(&net(&one), trap.address(), SERVER).unwrap();
        pairing::connect(&net(&between), there.address(), SERVER).unwrap();
        assert_eq!(caught.join().unwrap().code, to_one.code);
        (to_one, met.join().unwrap())
    });
    assert_eq!([to_one.key, to_two.key], [between.public(); 2]);
    assert_ne!(to_one.code, to_two.code);
}

fn write_ids(files: &Files) {
    let mut npz = NpzWriter::new(std::fs::File::create(files.path("ids.npz")).unwrap());
    npz.add_array("ids", &ndarray::array![[3i64, 1, 4]]).unwrap();
    npz.finish().unwrap();
}

/// A line that a process says.
fn line(child: &mut Child) -> String {
    let (out, mut line) = (child.stdout.as_mut().unwrap(), Vec::new());
    let mut byte = [0];
    while out.read(&mut byte).unwrap() == 1 && byte[0] != b'\n' {
        line.push(byte[0]);
    }
    String::from_utf8(line).unwrap()
}
