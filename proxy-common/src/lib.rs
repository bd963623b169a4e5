//! The ABI that Sixfour's agent and its BPF programs share.
#![no_std]
