//! How great the noise may be that a client adds to its share of the logits, and so what the program claims about the sum.
//!
//! The numbers are temperature times standard Gumbel variables; both factors are bounded.

/// Greatest absolute value of a Gumbel variable.
pub const GUMBEL_BOUND: f64 = 22.0;

/// Greatest temperature.
pub const TEMPERATURE_BOUND: f64 = 2.0;

/// Greatest absolute value of the noise.
pub const NOISE_BOUND: f64 = TEMPERATURE_BOUND * GUMBEL_BOUND;
