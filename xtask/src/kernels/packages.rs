// SPDX-License-Identifier: Apache-2.0
//! The kernels and the tools to boot them, from Debian's packages, unpacked below
//! `target/kernels`.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

use crate::{
    apt::{self, Unpack},
    process::{Run as _, command, find},
    report, workspace,
};

const PREFIX: &str = "linux-image-";
/// The flavour for virtual machines: small, and it boots in seconds.
const SUFFIX: &str = "-cloud-amd64";

/// A kernel and its modules.
pub(super) struct Kernel {
    release: String,
    folder: PathBuf,
}

impl Kernel {
    /// The newest kernel of `series`, such as `6.1`.
    ///
    /// # Errors
    ///
    /// If there is none, or it cannot be fetched.
    pub(super) fn newest(series: &str) -> Result<Self> {
        let prefix = format!("{PREFIX}{series}.");
        let mut names = apt::names(&prefix, SUFFIX)?;
        if names.is_empty() {
            apt::update()?;
            names = apt::names(&prefix, SUFFIX)?;
        }
        let name = names.iter().max_by_key(|name| numbers(name)).with_context(|| {
            format!(
                "apt knows no package {prefix}*{SUFFIX}: add Debian 12's security updates or \
                 backports to its sources"
            )
        })?;
        let release = name.trim_start_matches(PREFIX).to_owned();
        let folder = workspace::target("kernels").join(&release);
        apt::unpack(&[name], Unpack::Alone, &folder, "a kernel to test with, in qemu alone")?;
        Ok(Self { release, folder })
    }

    /// The release, such as `6.1.0-56-cloud-amd64`.
    pub(super) fn release(&self) -> &str {
        &self.release
    }

    /// The image that boots.
    pub(super) fn image(&self) -> PathBuf {
        self.folder.join(format!("boot/vmlinuz-{}", self.release))
    }

    /// The folder of the modules.
    pub(super) fn modules(&self) -> PathBuf {
        self.folder.join("lib/modules").join(&self.release)
    }

    /// Where files of this kernel's tests go, which the next test overwrites.
    pub(super) fn scratch(&self, name: &str) -> PathBuf {
        self.folder.join("test").join(name)
    }
}

/// The numbers in a version, most significant first.
fn numbers(version: &str) -> Vec<u64> {
    version
        .split(|character: char| !character.is_ascii_digit())
        .filter_map(|number| number.parse().ok())
        .collect()
}

/// The programs that build an image and boot it.
pub(super) struct Tools {
    folder: PathBuf,
}

impl Tools {
    const PACKAGES: [&str; 3] = ["qemu-system-x86", "busybox-static", "kmod"];
    pub(super) const QEMU: &str = "qemu-system-x86_64";
    pub(super) const BUSYBOX: &str = "busybox";
    /// depmod, modprobe and others in one: by the name it is called.
    pub(super) const KMOD: &str = "kmod";

    /// The tools, fetched the first time.
    ///
    /// # Errors
    ///
    /// If they cannot be fetched, or do not run.
    pub(super) fn get() -> Result<Self> {
        let tools = Self { folder: workspace::target("kernels/tools") };
        let fetch = || {
            let why = "a virtual machine for other kernels, and what its image needs";
            apt::unpack(&Self::PACKAGES, Unpack::WithDependencies, &tools.folder, why)
        };
        fetch()?;
        if let Err(error) = tools.check() {
            // What was installed when the rest was unpacked may have gone since.
            report::note(format_args!("fetching the tools again: {error:#}"));
            fs::remove_dir_all(&tools.folder).context("cannot remove the old tools")?;
            fetch()?;
            tools.check()?;
        }
        Ok(tools)
    }

    fn check(&self) -> Result<()> {
        for (program, argument) in
            [(Self::QEMU, "--version"), (Self::KMOD, "--version"), (Self::BUSYBOX, "true")]
        {
            let _ = self.command(program)?.arg(argument).run_quietly()?;
        }
        Ok(())
    }

    /// Where a tool is: unpacked, or installed.
    ///
    /// # Errors
    ///
    /// If it is nowhere.
    pub(super) fn path(&self, program: &str) -> Result<PathBuf> {
        let unpacked = ["usr/bin", "bin", "usr/sbin", "sbin"]
            .map(|folder| self.folder.join(folder).join(program));
        match unpacked.into_iter().find(|path| path.is_file()).or_else(|| find(program)) {
            Some(path) => Ok(path),
            None => bail!("{program} is neither installed nor in its package"),
        }
    }

    /// A command of a tool.
    ///
    /// # Errors
    ///
    /// If the tool is nowhere.
    pub(super) fn command(&self, program: &str) -> Result<Command> {
        let path = self.path(program)?;
        Ok(self.with_libraries(&path, command(&path)))
    }

    /// A command of qemu that finds its firmware, and that ends when xtask does.
    ///
    /// # Errors
    ///
    /// If qemu is nowhere.
    pub(super) fn qemu(&self) -> Result<Command> {
        let path = self.path(Self::QEMU)?;
        let mut qemu = command("setpriv");
        let _ = qemu.args(["--pdeathsig", "KILL"]).arg(&path);
        if self.has(&path) {
            for folder in ["usr/share/seabios", "usr/share/qemu"] {
                let _ = qemu.arg("-L").arg(self.folder.join(folder));
            }
        }
        Ok(self.with_libraries(&path, qemu))
    }

    /// Lets a command of `tool` find its libraries, if it was unpacked with them.
    fn with_libraries(&self, tool: &Path, mut command: Command) -> Command {
        if self.has(tool) {
            let [first, second] = self.library_folders();
            let folders = format!("{}:{}", first.display(), second.display());
            let _ = command.env("LD_LIBRARY_PATH", folders);
        }
        command
    }

    /// Whether a tool is unpacked, rather than installed.
    fn has(&self, tool: &Path) -> bool {
        tool.starts_with(&self.folder)
    }

    /// Where the unpacked tools have their libraries.
    pub(super) fn library_folders(&self) -> [PathBuf; 2] {
        ["usr/lib/x86_64-linux-gnu", "lib/x86_64-linux-gnu"].map(|folder| self.folder.join(folder))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_kernel_is_the_highest_by_number() {
        let names = ["linux-image-6.12.99+deb12-cloud-amd64", "linux-image-6.12.117+deb12-cloud"];
        assert_eq!(names.iter().max_by_key(|name| numbers(name)), Some(&names[1]));
        assert!(numbers("6.1.0-9-cloud-amd64") < numbers("6.1.0-56-cloud-amd64"));
    }
}
