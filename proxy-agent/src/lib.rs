//! The node agent of Sixfour.
