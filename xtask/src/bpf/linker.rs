// SPDX-License-Identifier: Apache-2.0
//! bpf-linker, pinned, in a cache of the project's own.
//!
//! It reads the bitcode that rustc writes, so their LLVMs must match. It is linked against the
//! very library that the chosen rustc uses: that matches by construction, and needs no LLVM
//! for development, which is large and which few machines have in the right version.

use std::{
    fs::{self, File},
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};

use super::toolchain::Toolchain;
use crate::{
    libraries::{self, Library},
    process::{Run as _, cargo, command},
    report, workspace,
};

const VERSION: &str = "0.13.0";
/// The major versions of LLVM that this bpf-linker has a feature for.
const LLVM_VERSIONS: [&str; 3] = ["21", "22", "23"];

/// Returns the linker for `toolchain`, building it the first time.
///
/// # Errors
///
/// If it knows no such LLVM, or does not build.
pub(super) fn ensure(toolchain: &Toolchain) -> Result<PathBuf> {
    let root = workspace::target("tools").join(format!("bpf-linker-{VERSION}-{}", toolchain.key()));
    let linker = root.join("bin/bpf-linker");
    if runs(&linker) {
        return Ok(linker);
    }
    fs::create_dir_all(&root).with_context(|| format!("cannot create {}", root.display()))?;
    // One xtask builds it; others that come meanwhile wait, and find it done.
    let lock = File::create(root.join(".lock")).context("cannot create a lock file")?;
    lock.lock().context("cannot lock")?;
    if !runs(&linker) {
        install(toolchain, &root).context("cannot build bpf-linker")?;
    }
    Ok(linker)
}

/// Whether the linker is there, and finds its LLVM.
fn runs(linker: &Path) -> bool {
    linker.is_file() && command(linker).arg("--version").run_quietly().is_ok()
}

fn install(toolchain: &Toolchain, root: &Path) -> Result<()> {
    let llvm = toolchain.llvm().split('.').next().unwrap_or_default();
    if !LLVM_VERSIONS.contains(&llvm) {
        bail!(
            "bpf-linker {VERSION} knows LLVM {}, and {toolchain} has another",
            LLVM_VERSIONS.join(", ")
        );
    }
    report::step(format_args!(
        "building bpf-linker {VERSION}, once, in a minute or two: it links the BPF programs"
    ));
    let prefix = root.join("llvm");
    link_llvm(toolchain, &prefix)?;
    let build = root.join("build");
    let _ = cargo()
        .args(["install", "--quiet", "--locked", "--force", "--no-default-features"])
        .args(["--features", &format!("llvm-{llvm}"), "--version", &format!("={VERSION}")])
        .arg("--root")
        .arg(root)
        .arg("--target-dir")
        .arg(&build)
        .arg("bpf-linker")
        .env("LLVM_PREFIX", &prefix)
        .env("CARGO_PROFILE_RELEASE_DEBUG", "false")
        .env_remove("CARGO_BUILD_TARGET")
        // The linker itself is found by its path; it need not be on PATH, as cargo would say.
        .run_quietly()?;
    fs::remove_dir_all(&build).with_context(|| format!("cannot remove {}", build.display()))
}

/// Makes `prefix` look like an installation of LLVM with the library that rustc uses.
fn link_llvm(toolchain: &Toolchain, prefix: &Path) -> Result<()> {
    let Library { name, path } = libraries::of(toolchain.rustc(), &[])?
        .into_iter()
        .find(|library| library.name.starts_with("libLLVM"))
        .with_context(|| format!("{toolchain} uses no shared libLLVM"))?;
    let folder = prefix.join("lib");
    fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    // The first name is what the build asks for, the second what the loader asks for.
    for link in ["libLLVM.so", &name] {
        let link = folder.join(link);
        let _ = fs::remove_file(&link);
        symlink(&path, &link).with_context(|| format!("cannot create {}", link.display()))?;
    }
    Ok(())
}
