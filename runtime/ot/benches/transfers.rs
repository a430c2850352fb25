//! Speed of transfers a core.

fn main() {}
