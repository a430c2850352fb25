//! The documents: their commands have the options that they show, what is marked as runnable runs, and every link leads somewhere.
//!
//! Checked   Commands of `sscc` and `ssvm` in fenced blocks `sh`, and options between backticks, against the arguments that the two
//!           programs take. Nothing runs for that.
//! Run       The scripts of `examples`, and blocks `sh,run` of a document, one after another, in one shell and an empty folder that has `models` and `examples`. A block
//!           `text,output` has lines that what runs before it prints, in this order; `...` stands for any lines.
//! Book      `docs/SUMMARY.md` lists every page once.

mod arguments;
mod links;
mod markdown;
mod running;
