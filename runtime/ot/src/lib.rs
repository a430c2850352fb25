//! Oblivious transfer between two parties: bits of one times numbers of the other, as shares. No IO.
//!
//! [`base`] makes the first transfers by public keys. An engine behind the traits of [`cot`], [`soft`] or [`silent`], makes
//! many correlated blocks of them. [`hash`] turns blocks into pads, and a [`Pair`], a party's ends of both directions,
//! uses pads for transfers over vectors. [`Pair::choose`] binds correlations to choices; [`Offered::give`] and
//! [`Chosen::get`] transfer numbers by them, any number of vectors in one message. What is composed of transfers is the
//! caller's affair. [`cost`] tells what is sent.
//!
//! Both parties are trusted to follow the protocol (semi-honest); what a party that does not could learn stands with each
//! engine. After an error a pair is thrown away, and what it made with it: the two ends may disagree on what is used up.

pub mod base;
mod bits;
pub mod channel;
pub mod cost;
pub mod cot;
mod error;
pub mod hash;
mod pair;
pub mod silent;
pub mod soft;
mod spread;
mod transfer;
pub mod transpose;
mod trees;

pub use bits::Bits;

pub use channel::{Channel, Memory, Meter, exchange};
pub use error::Error;
pub use pair::{Pair, SETUP_BYTES};
pub use transfer::{Chosen, Form, Offered};

/// What the streams of a seed are for, in [`kernels::prg::Domain::kind`].
mod kind {
    /// Scalars of a base sender.
    pub const BASE_SENDER: u8 = 1;
    /// Scalars of a base receiver.
    pub const BASE_RECEIVER: u8 = 2;
    /// The points of the choices that a base receiver does not make.
    pub const BASE_OTHER: u8 = 3;
    /// What a leaf adds to the columns of an extension.
    pub const COLUMN: u8 = 4;
    /// Roots of the trees of an extension.
    pub const GROUPS: u8 = 5;
    /// Δ.
    pub const DELTA: u8 = 6;
    /// What a party adds to the key of the hash.
    pub const CONTRIBUTION: u8 = 7;
    /// Roots of the trees of a silent extension.
    pub const ROOTS: u8 = 8;
    /// Places of noise.
    pub const PATHS: u8 = 9;
    /// The pad of a sum.
    pub const SUM: u8 = 10;
}
