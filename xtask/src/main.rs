//! Builds, tests and demonstrates Sixfour.

fn main() {}
