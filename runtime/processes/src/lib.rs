//! The three processes of a run: [`client`], [`server`] and [`dealer`], as functions that take a [`Net`](crate::net::Net) and so run in a
//! process each, or in threads of one process.
//!
//! ```text
//! client                      server                      dealer
//!   hello      <------------->  hello                              mismatches end here
//!   begin      -------------->                                     does the client hold the masked weights? dealt first? a stock?
//!              <--------------  setup                              once per model
//!   hello, seeds  ---------------------------------------->  hello
//!                               hello, seeds  ------------>        paired by session
//!              <--------------------------------------------  material
//!                                          <-----------------  material
//!   prepare    -------------->  prepare                            what the client sends ahead of its input
//!   ready      <------------->  ready
//!   online     <------------->  online
//!   done       -------------->
//! ```
//!
//! Material comes from the pairing on: in full before both are `ready`, or until the end of the online phase.
//!
//! A generation begins in the same way, with a prefill as its first step and a `ready` of the server once it has a place; it
//! goes on with steps of one token each over
//! the same connections and seeds. Nobody waits for `ready`: the client says `next` when it wants the step that is due, and
//! both then ask the dealer for the one after it, which is dealt while this one runs. Meanwhile the client computes what goes
//! ahead of that one too. What stays of a token's time is the online part.
//!
//! ```text
//! client                      server                      dealer
//!   next       -------------->
//!   next k + 1 -------------------------------------------->
//!                               next k + 1 --------------->        dealt when both have asked
//!   prepare    -------------->  prepare
//!   online     <------------->  online
//!   ...
//!   next: end  -------------->
//! ```
//!
//! Without a dealer there are two processes. Nobody asks for a step's material: both make it over their connection when the step begins,
//! unless a stock has it, and then run it.
//!
//! ```text
//! client                      server
//!   next       -------------->
//!   making     <------------->  making                             see [`protocols::pair`]
//!   prepare    -------------->  prepare
//!   online     <------------->  online
//! ```
//!
//! A party enters the session in its ledger before it connects to the dealer, or makes anything: from there on its material exists.

#![forbid(unsafe_code)]

pub mod client;
pub mod dealer;
pub mod disk;
pub mod generation;
pub mod handshake;
pub mod identity;
pub mod inputs;
pub mod keys;
pub mod ledger;
pub mod limits;
pub mod link;
pub mod memory;
pub mod net;
pub mod npz;
pub mod pairing;
pub mod pins;
pub mod server;
pub mod setup;
pub mod vault;
pub mod weights_file;

mod accept;
mod allowance;
mod error;
mod growth;
mod guests;
mod kept;
mod manifest;
mod material;
mod once;
mod online;
mod origin;
mod pair;
mod part;
mod parts;
mod plan;
mod prepare;
mod program;
mod progress;
mod refill;
mod rows;
mod started;
mod state;
mod stock;
mod stream;
mod usage;

pub use allowance::Allowance;
pub use error::{RunError, chain};
pub use material::Dealing;
pub use parts::{Entropy, Os, Record, write_json};

pub use kept::{About, Kept};
pub use manifest::Unusable;
use parts::{BEGIN, Begin, GO_ON, Purpose, Watch, trace};
pub use plan::{Due, Plan};
pub use prepare::{Made, Order};
pub use program::Loaded;
pub use refill::Refill;
pub use state::{STOCK_DAYS, State};
pub use stock::{StockError, Stocks};
pub use usage::UsageError;
