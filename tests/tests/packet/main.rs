// SPDX-License-Identifier: Apache-2.0

//! The compiled programs, packet by packet, without a network
//! (`BPF_PROG_TEST_RUN`): what goes in, what comes out, and what becomes of
//! it. What must come out is built by [`proxy_tests::packet`], which knows
//! nothing of the programs, and compared byte by byte.
//!
//! Needs root and the BPF object; both are asked for where they lack.

mod cluster;
mod connection;
mod frames;
mod loaded;
mod processors;
mod programs;
mod rig;
mod taken_over;
mod test_run;
mod wire;

mod adopted;
mod arrays;
mod checksums;
mod choice;
mod collected;
mod confirmation;
mod counted;
mod driver;
mod endless;
mod foreign_nat;
mod fragments;
mod frontend_filter;
mod full_maps;
mod guard;
mod hairpin;
mod histories;
mod icmp_errors;
mod lifetime;
mod malformed;
mod many_clients;
mod other_protocols;
mod outside;
mod overload;
mod passing;
mod races;
mod reconciled;
mod referred;
mod refusal;
mod reply_tuples;
mod sctp;
mod sctp_checksums;
mod told;
mod translation;
mod untouched;
mod updates;
