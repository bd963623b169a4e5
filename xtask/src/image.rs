// SPDX-License-Identifier: Apache-2.0
//! `cargo xtask image`: an OCI image archive of the agent, made without a container engine.

mod archive;

use std::{env::consts::ARCH, fs, path::PathBuf};

use anyhow::{Context as _, Result, bail};
use object::{
    Endianness,
    elf::{FileHeader64, PT_INTERP},
    read::elf::{FileHeader as _, ProgramHeader as _},
};
use oci_spec::image::Arch;

use crate::{
    bpf,
    process::{Run as _, cargo},
    report,
    test::built::{BINARY, find_built},
    workspace,
};
use archive::{Image, write};

/// How to make it.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The name and tag that `ctr image import`, `podman load` and `kind load image-archive` give it
    #[arg(long, default_value = concat!("sixfour:", env!("CARGO_PKG_VERSION")))]
    name: String,
}

/// Builds the agent as a static binary, and an image archive of it.
///
/// # Errors
///
/// If the agent does not build, or the archive cannot be written.
pub(crate) fn run(args: &Args) -> Result<()> {
    let _: PathBuf = bpf::build()?;
    let target = format!("{ARCH}-unknown-linux-gnu");
    report::step(format_args!("building a static sixfour for {target}, in release mode"));
    let binary = build(&target)?;
    let program = fs::read(&binary).with_context(|| format!("reading {}", binary.display()))?;
    if is_dynamic(&program)? {
        bail!("{} wants a dynamic loader, which the image does not have", binary.display());
    }
    let archive = workspace::target("image/sixfour.oci.tar");
    let image = Image {
        name: &args.name,
        version: env!("CARGO_PKG_VERSION"),
        architecture: architecture()?,
        program: &program,
    };
    let digest = write(&archive, &image)?;
    let size = fs::metadata(&archive)?.len() >> 10;
    report::step(format_args!("wrote {}, {size} KiB, {digest}", archive.display()));
    Ok(())
}

/// Links the C library in, too: the image has no other file.
fn build(target: &str) -> Result<PathBuf> {
    let directory = workspace::target("image-build");
    let mut cargo = cargo();
    let build = cargo
        .args(["build", "--release", "--package", "proxy-agent", "--bin", BINARY])
        .args(["--target", target, "--target-dir"])
        .arg(&directory)
        .env("CARGO_ENCODED_RUSTFLAGS", "-Ctarget-feature=+crt-static\u{1f}-Cstrip=debuginfo");
    find_built(&build.arg("--message-format=json-render-diagnostics").read()?, BINARY)
}

fn architecture() -> Result<Arch> {
    match ARCH {
        "x86_64" => Ok(Arch::Amd64),
        "aarch64" => Ok(Arch::ARM64),
        other => bail!("no image for {other}: its nodes would have to run it"),
    }
}

/// Whether a program names a dynamic loader.
fn is_dynamic(program: &[u8]) -> Result<bool> {
    let file = FileHeader64::<Endianness>::parse(program).context("it is no ELF file")?;
    let endianness = file.endian()?;
    let headers = file.program_headers(endianness, program)?;
    Ok(headers.iter().any(|header| header.p_type(endianness) == PT_INTERP))
}
