// SPDX-License-Identifier: Apache-2.0
//! Where things are in the workspace.

use std::path::{Path, PathBuf};

/// The oldest Rust that the workspace builds with, as `MAJOR.MINOR`.
pub(crate) const MINIMUM_RUST: &str = env!("CARGO_PKG_RUST_VERSION");

/// The top of the workspace.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask is a folder of the workspace")
}

/// A path below `<workspace>/target`, which is used for all that xtask keeps, wherever
/// `CARGO_TARGET_DIR` points: `proxy-agent/build.rs` looks for the BPF object there.
pub(crate) fn target(path: impl AsRef<Path>) -> PathBuf {
    root().join("target").join(path)
}

/// The BPF object that the agent embeds.
pub(crate) fn bpf_object() -> PathBuf {
    target("bpf/sixfour.bpf.o")
}

/// The BPF object of the benchmark of single packets.
pub(crate) fn gauge_object() -> PathBuf {
    target("bpf/gauge.bpf.o")
}
