//! The shaped network is as slow as it says: delay by the round trip, rate by direction.

use std::time::{Duration, Instant};

use crate::common::{World, two};
use processes::net::frame::Kind;
use processes::net::{Conn, Options};

/// Bytes of the message whose throughput is measured.
const LENGTH: usize = 1 << 20;

fn shaped(world: &World, shape: &str) -> (Conn, Conn) {
    let (mut a, mut b) = two(world, Options { shape: Some(shape.parse().unwrap()), ..Options::default() });
    a.trust(LENGTH as u64);
    b.trust(LENGTH as u64);
    (a, b)
}

/// Least of five tries: others may delay a message, nobody can hasten it.
fn best(mut f: impl FnMut() -> Duration) -> Duration {
    (0..5).map(|_| f()).min().unwrap()
}

#[test]
fn a_ping_pong_takes_the_round_trip() {
    const RTT: Duration = Duration::from_millis(30);
    let world = World::new(Duration::from_secs(10));
    let (mut a, mut b) = shaped(&world, "30ms,1gbit");
    let ping_pong = || {
        let begin = Instant::now();
        a.send_frame(Kind::Ready, 0, vec![1].into()).unwrap();
        b.receive_small(Kind::Ready, 1).unwrap();
        b.send_frame(Kind::Ready, 0, vec![2].into()).unwrap();
        a.receive_small(Kind::Ready, 1).unwrap();
        let took = begin.elapsed();
        assert!(took >= RTT, "{took:?}");
        took
    };
    let least = best(ping_pong);
    assert!(least < RTT + Duration::from_millis(4), "{least:?}");
}

#[test]
fn both_directions_have_the_rate() {
    // A MiB at 20 Mbit/s: 419 ms.
    let expected = LENGTH as f64 * 8.0 / 20e6;
    let world = World::new(Duration::from_secs(30));
    let (mut a, mut b) = shaped(&world, "2ms,20mbit");
    let transfer = || {
        let exchange = |conn: &mut Conn| {
            // Many frames, of which several are on their way at once.
            for part in 0..16 {
                conn.send_frame(Kind::Online, part, vec![3; LENGTH / 16].into()).unwrap();
            }
            (0..16).for_each(|part| drop(conn.receive(Kind::Online, part, LENGTH / 16).unwrap()));
        };
        let begin = Instant::now();
        std::thread::scope(|scope| {
            scope.spawn(|| exchange(&mut a));
            exchange(&mut b);
        });
        begin.elapsed()
    };
    let least = best(transfer).as_secs_f64();
    assert!((expected * 0.95..expected * 1.05).contains(&least), "{least} s instead of {expected} s");
}
