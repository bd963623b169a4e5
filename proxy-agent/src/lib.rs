//! The node agent of Sixfour.

pub mod preflight;
