//! Protocols on secret shares, one file each: what is dealt, sent and read. No file here waits for bytes.

pub mod dcf;
