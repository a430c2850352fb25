//! Sessions of a generator with a server and a dealer, in threads, over loopback TCP.

use std::time::{Duration, Instant};

use text::PrivateModel;
use text::{Cancel, GenerateError, Model, Noise, Step};

use crate::common::{World, burnt, simulated};

const TIMEOUT: Duration = Duration::from_secs(20);

fn steps(model: &PrivateModel, prompt: &[u32], noise: Noise, count: usize) -> Result<Vec<Step>, GenerateError> {
    let mut session = model.begin(prompt, noise, &Cancel::default())?;
    (0..count).map(|_| session.next(None)).collect()
}

fn tokens(steps: &[Step]) -> Vec<u32> {
    steps.iter().map(|step| step.token).collect()
}

/// Bytes of a `next` frame.
const NEXT: u64 = ir::wire::FRAME_HEADER + 1;

#[test]
fn a_text_over_sockets_is_that_of_a_simulation() {
    let mut world = World::new(TIMEOUT);
    let dealer = world.dealer();
    let server = world.server(dealer, 2);
    let model = world.client(server, dealer, 1);
    let noise = |temperature| match temperature {
        0.0 => Noise::greedy(),
        t => Noise::new(t, Some(7)).unwrap(),
    };
    for (prompt, temperature) in [(&[20, 300, 41][..], 0.0), (&[9, 8, 7, 6, 5], 0.8), (&[5; 8], 2.0)] {
        let got = steps(&model, prompt, noise(temperature), 20).unwrap();
        let want = simulated(prompt, 20, &noise(temperature), 1);
        let got: Vec<(u32, u64, u64)> = got.iter().map(|s| (s.token, s.sent_bytes - NEXT, s.received_bytes)).collect();
        assert_eq!(got, want, "{} tokens at temperature {temperature}", prompt.len());
    }
    let ledger = burnt(&world.folder.path().join("client"));
    assert_eq!(ledger.len(), 3);
}

#[test]
fn clients_at_once_get_their_own_answers() {
    let mut world = World::new(TIMEOUT);
    let dealer = world.dealer();
    let server = world.server(dealer, 3);
    let prompts = [&[20, 300, 41][..], &[500, 1], &[9, 9, 9, 9, 9, 9]];
    std::thread::scope(|scope| {
        let clients = prompts.iter().zip(1..).map(|(prompt, mark)| {
            let model = world.client(server, dealer, mark);
            scope.spawn(move || tokens(&steps(&model, prompt, Noise::greedy(), 15).unwrap()))
        });
        let clients: Vec<_> = clients.collect();
        for ((client, prompt), mark) in clients.into_iter().zip(prompts).zip(1..) {
            let want: Vec<u32> = simulated(prompt, 15, &Noise::greedy(), mark).iter().map(|s| s.0).collect();
            assert_eq!(client.join().unwrap(), want);
        }
    });
}

#[test]
fn a_session_goes_to_the_end_of_the_context_and_no_further() {
    let mut world = World::new(TIMEOUT);
    let dealer = world.dealer();
    let server = world.server(dealer, 1);
    let model = world.client(server, dealer, 1);
    let limits = model.limits();
    assert_eq!((limits.context, limits.prompt(), limits.room(8), limits.room(1)), (64, 8, 56, 63));
    let mut session = model.begin(&[3; 8], Noise::greedy(), &Cancel::default()).unwrap();
    for _ in 0..56 {
        session.next(None).unwrap();
    }
    let error = session.next(None).err().expect("no entry for it");
    assert!(error.to_string().ends_with("it has no entry for a further token"), "{error}");
}

#[test]
fn sessions_wait_for_a_place_or_are_refused() {
    let mut world = World::new(Duration::from_millis(800));
    let dealer = world.dealer();
    let server = world.server(dealer, 1);
    let (one, two) = (world.client(server, dealer, 1), world.client(server, dealer, 2));
    let mut session = one.begin(&[1], Noise::greedy(), &Cancel::default()).unwrap();
    session.next(None).unwrap();
    let error = two.begin(&[1], Noise::greedy(), &Cancel::default()).err().expect("there is one place");
    let text = "the server refuses: busy: 1 sessions are running (`--sessions`), and none has ended within 0.8 s";
    assert_eq!(error.to_string(), text);
    session.next(None).unwrap();
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| steps(&two, &[1], Noise::greedy(), 1).map(|steps| steps.len()));
        std::thread::sleep(Duration::from_millis(200));
        drop(session);
        assert_eq!(waiting.join().unwrap().unwrap(), 1);
    });
}

#[test]
fn cancellation_ends_a_session_at_once_and_the_next_one_works() {
    let mut world = World::new(TIMEOUT);
    let dealer = world.dealer();
    let server = world.server(dealer, 1);
    let model = world.client(server, dealer, 1);
    for after in [0, 5, 30] {
        let cancel = Cancel::default();
        let mut session = model.begin(&[1, 2], Noise::greedy(), &cancel).unwrap();
        let other = cancel.clone();
        let thread = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(after));
            other.cancel();
        });
        let begin = Instant::now();
        let error = loop {
            match session.next(None) {
                Ok(_) if begin.elapsed() < Duration::from_secs(5) => {}
                Ok(_) => panic!("a cancelled session goes on"),
                Err(error) => break error,
            }
        };
        assert!(matches!(error, GenerateError::Cancelled), "{error}");
        thread.join().unwrap();
        drop(session);
    }
    assert_eq!(steps(&model, &[1, 2], Noise::greedy(), 3).unwrap().len(), 3);
}

#[test]
fn a_server_that_stops_ends_the_session_with_its_reason() {
    let mut world = World::new(TIMEOUT);
    let dealer = world.dealer();
    let mut second = World::new(TIMEOUT);
    let server = second.server(dealer, 1);
    let model = world.client(server, dealer, 1);
    let mut session = model.begin(&[1, 2], Noise::greedy(), &Cancel::default()).unwrap();
    session.next(None).unwrap();
    drop(second);
    let begin = Instant::now();
    let error = session.next(None).err().expect("the server is gone").to_string();
    assert_eq!(error, "the server gave up: stopped by a signal");
    assert!(begin.elapsed() < Duration::from_secs(5));
}
