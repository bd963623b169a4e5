//! What the tests of Sixfour share.
