// SPDX-License-Identifier: Apache-2.0
//! What is measured, and the page on which Prometheus reads it, at `/metrics`.
//!
//! kube-proxy's metrics have its names, labels and buckets, wherever they mean something here; all others begin with
//! `sixfour_`. Each file is one source of metrics; those that ask the kernel do so while the page is made, which the
//! thread does that serves it. `docs/metrics.md` lists them all.

mod build;
mod decisions;
mod devices;
mod health;
mod page;
mod process;
mod programs;
mod rest_client;
mod row;
mod services;
mod syncs;
mod tables;
mod traffic;
mod updates;
mod watches;

pub use self::{
    build::Build,
    decisions::Decisions,
    devices::DeviceCounts,
    health::HealthAnswers,
    page::Page,
    process::Process,
    programs::Programs,
    rest_client::RestClient,
    services::Services,
    syncs::Syncs,
    tables::{Entries, Room},
    traffic::Traffic,
    updates::Updates,
    watches::Watches,
};
