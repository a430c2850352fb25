//! A slower network in user space, to measure with: a connection's outgoing frames leave at a given rate and arrive half a
//! round trip later. Both parties shape what they send, so the two directions are independent.
//!
//! A frame is held until its last byte would have arrived and then written at once. The queue before it holds what is on
//! its way meanwhile. Only bytes of frames count, none of lower protocols.

use std::str::FromStr;
use std::time::{Duration, Instant};

use super::frame::{HEADER, PAYLOAD};

/// Round trip and rate of a network.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Shape {
    /// From a frame's departure to the arrival of an immediate answer.
    pub rtt: Duration,
    /// Rate of each direction.
    pub bits_per_second: f64,
}

impl Shape {
    /// Time on the wire of so many bytes.
    fn duration(&self, bytes: usize) -> Duration {
        Duration::from_secs_f64(bytes as f64 * 8.0 / self.bits_per_second)
    }

    /// Full frames that are on their way at one time, rounded up.
    pub(super) fn frames_in_flight(&self) -> usize {
        (self.rtt.as_secs_f64() / 2.0 / self.duration(HEADER + PAYLOAD).as_secs_f64()).ceil() as usize
    }
}

impl FromStr for Shape {
    type Err = String;

    /// `lan`, `wan`, or RTT,RATE as in `40ms,100mbit`.
    fn from_str(text: &str) -> Result<Shape, String> {
        let text = match text {
            "lan" => "0.5ms,1gbit",
            "wan" => "40ms,100mbit",
            other => other,
        };
        let expected = || "`lan`, `wan`, or round trip and rate as in `40ms,100mbit`".to_owned();
        let (rtt, rate) = text.split_once(',').ok_or_else(expected)?;
        let rtt = number(rtt, &[("us", 1e-6), ("ms", 1e-3), ("s", 1.0)]).ok_or_else(expected)?;
        let rate = number(rate, &[("kbit", 1e3), ("mbit", 1e6), ("gbit", 1e9)]).ok_or_else(expected)?;
        if !(0.0..=10.0).contains(&rtt) {
            return Err("a round trip is at most 10 s".to_owned());
        }
        if !(1e4..=1e12).contains(&rate) {
            return Err("a rate is from 10kbit to 1000gbit".to_owned());
        }
        Ok(Shape { rtt: Duration::from_secs_f64(rtt), bits_per_second: rate })
    }
}

/// A number with one of these units.
fn number(text: &str, units: &[(&str, f64)]) -> Option<f64> {
    units.iter().find_map(|(unit, factor)| Some(text.strip_suffix(unit)?.parse::<f64>().ok()? * factor))
}

/// Holds the frames of one direction.
pub(super) struct Pace {
    shape: Shape,
    /// When all frames so far have left.
    free: Instant,
}

impl Pace {
    pub(super) fn new(shape: Shape) -> Pace {
        Pace { shape, free: Instant::now() }
    }

    /// Blocks until a frame of `bytes` bytes that was queued at `queued` has arrived. The system's sleep is accurate to
    /// a fraction of a millisecond; tokio's rounds up to a whole one.
    pub(super) fn hold(&mut self, queued: Instant, bytes: usize) {
        self.free = self.free.max(queued) + self.shape.duration(bytes);
        let arrival = self.free + self.shape.rtt / 2;
        std::thread::sleep(arrival.saturating_duration_since(Instant::now()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_are_named_or_given() {
        let shape = |text: &str| text.parse::<Shape>();
        assert_eq!(shape("lan"), shape("0.5ms,1gbit"));
        assert_eq!(shape("wan"), Ok(Shape { rtt: Duration::from_millis(40), bits_per_second: 1e8 }));
        assert_eq!(shape("250us,10kbit").unwrap().rtt, Duration::from_micros(250));
        for bad in ["", "man", "40ms", "40,100mbit", "40ms,100", "-1ms,1gbit", "11s,1gbit", "1ms,0mbit", "nanms,1gbit"]
        {
            assert!(shape(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn frames_of_half_a_round_trip_fit_the_queue() {
        // 20 ms at 100 Mbit/s are 250 KB, 50 ms at 10 Gbit/s are 62.5 MB.
        assert_eq!("wan".parse::<Shape>().unwrap().frames_in_flight(), 250_000usize.div_ceil(HEADER + PAYLOAD));
        let far: Shape = "100ms,10gbit".parse().unwrap();
        assert_eq!(far.frames_in_flight(), 62_500_000usize.div_ceil(HEADER + PAYLOAD));
    }
}
