//! The command line of Sixfour.

fn main() {}
