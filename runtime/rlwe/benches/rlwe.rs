//! Speed
fn main() {}
