// SPDX-License-Identifier: Apache-2.0
//! The image that a guest boots from: an archive that the kernel unpacks into memory.
//!
//! It has the test programs and `sixfour`, the tools that tests call, the libraries of all of
//! them, the kernel's modules for networks and file systems, and busybox for the rest. Modules are
//! loaded as on a node: by the kernel, when something asks for them.

use std::{
    fs::{self, Permissions},
    io::Write as _,
    os::unix::{
        fs::{PermissionsExt as _, symlink},
        process::CommandExt as _,
    },
    path::{Path, PathBuf},
    process::Stdio,
};

use anyhow::{Context as _, Result, bail};

use super::{
    Guest, Program,
    packages::{Kernel, Tools},
};
use crate::{
    libraries,
    process::{Run as _, command, find},
    workspace,
};

/// What the guest does: mounts, runs the programs, reports, and ends.
const INIT: &str = include_str!("init.sh");

/// The folders of modules that tests need, with their dependencies.
const MODULES: [&str; 6] = ["arch", "crypto", "drivers/net", "fs", "lib", "net"];

/// The list for depmod of what is built in, without which it cannot resolve names.
const MODULE_LISTS: [&str; 3] = ["modules.builtin", "modules.builtin.modinfo", "modules.order"];

/// Folders of the image that are the same, as on Debian.
const MERGED: [&str; 4] = ["bin", "lib", "lib64", "sbin"];

/// Where the loader looks for libraries whatever the environment says.
const LIBRARIES: &str = "usr/lib/x86_64-linux-gnu";

/// What iptables loads at run time, and what resolves names of protocols and hosts.
const DATA: [&str; 3] = ["/usr/lib/x86_64-linux-gnu/xtables", "/etc/protocols", "/etc/services"];

const HOSTS: &str = "127.0.0.1 localhost\n::1 localhost\n";

/// Builds the image, and returns the path of the archive.
///
/// # Errors
///
/// If a tool is missing, or a file cannot be copied.
pub(super) fn build(
    guest: &Guest,
    kernel: &Kernel,
    tools: &Tools,
    programs: &[Program<'_>],
    sixfour: &Path,
    wanted: &[&str],
) -> Result<PathBuf> {
    let root = kernel.scratch(&format!("{}.image", guest.name));
    if root.exists() {
        fs::remove_dir_all(&root).context("cannot remove the last image")?;
    }
    let image = Image { root, tools };
    image.lay_out()?;
    image.add_modules(kernel)?;
    image.add_program(&tools.path(Tools::BUSYBOX)?, "usr/bin/busybox")?;
    image.add_program(&tools.path(Tools::KMOD)?, "usr/sbin/modprobe")?;
    // busybox's own shell would prefer what is in busybox to the tools.
    let shell = find("sh").context("there is no sh")?;
    image.add_program(&shell, "usr/bin/sh")?;
    for name in wanted {
        let path = find(name).with_context(|| format!("{name} is not installed"))?;
        image.add_program(&path, &format!("usr/sbin/{name}"))?;
    }
    image.add_program(sixfour, "usr/sbin/sixfour")?;
    let mut list = Vec::new();
    for Program { name, path, arguments, limit } in programs {
        image.add_program(path, &format!("programs/{name}"))?;
        let arguments = arguments.join(" ");
        list.push(format!("{name} {limit} /programs/{name} {arguments}\n"));
    }
    image.write("programs/list", &list.concat())?;
    // Tests find their fixtures beside their sources, by the path these have here.
    image.copy(&workspace::root().join("tests"))?;
    image.write("programs/folder", &workspace::root().join("tests").display().to_string())?;
    image.pack(&kernel.scratch(&format!("{}.cpio", guest.name)))
}

struct Image<'a> {
    root: PathBuf,
    tools: &'a Tools,
}

impl Image<'_> {
    fn lay_out(&self) -> Result<()> {
        for folder in ["dev", "etc", "proc", "programs", "root", "run", "sys", "tmp", "var/run"] {
            fs::create_dir_all(self.root.join(folder))?;
        }
        for folder in MERGED {
            fs::create_dir_all(self.root.join("usr").join(folder))?;
            symlink(Path::new("usr").join(folder), self.root.join(folder))?;
        }
        fs::create_dir_all(self.root.join(LIBRARIES))?;
        for path in DATA.map(Path::new) {
            if path.exists() {
                self.copy(path)?;
            }
        }
        self.write("etc/hosts", HOSTS)?;
        self.write("init", INIT)?;
        fs::set_permissions(self.root.join("init"), Permissions::from_mode(0o755))?;
        Ok(())
    }

    fn add_modules(&self, kernel: &Kernel) -> Result<()> {
        let from = kernel.modules();
        let to = self.root.join("lib/modules").join(kernel.release());
        for folder in MODULES.map(|folder| Path::new("kernel").join(folder)) {
            copy(&from.join(&folder), &to.join(&folder))?;
        }
        for list in MODULE_LISTS {
            copy(&from.join(list), &to.join(list))?;
        }
        let _ = self
            .tools
            .command(Tools::KMOD)?
            .arg0("depmod")
            .arg("-b")
            .arg(&self.root)
            .arg(kernel.release())
            .run_quietly()?;
        Ok(())
    }

    /// Adds a program without its debug info, and its libraries.
    fn add_program(&self, program: &Path, name: &str) -> Result<()> {
        let to = self.root.join(name);
        command("strip").args(["--strip-debug", "-o"]).args([&to, program]).run()?;
        for library in libraries::of(program, &self.tools.library_folders())? {
            // The dynamic loader goes by its path, others by the name that programs ask for.
            let to = match library.name.strip_prefix('/') {
                Some(path) => self.root.join(path),
                None => self.root.join(LIBRARIES).join(&library.name),
            };
            if !to.exists() {
                copy(&library.path, &to)?;
            }
        }
        Ok(())
    }

    /// Copies a file or folder to the path in the image that it has here.
    fn copy(&self, path: &Path) -> Result<()> {
        copy(path, &self.root.join(path.strip_prefix("/").unwrap_or(path)))
    }

    fn write(&self, name: &str, content: &str) -> Result<()> {
        fs::write(self.root.join(name), content).with_context(|| format!("cannot write {name}"))
    }

    /// Packs the image into `archive`, in the format that kernels read.
    fn pack(&self, archive: &Path) -> Result<PathBuf> {
        let names = command("find").arg(".").current_dir(&self.root).read()?;
        let output = fs::File::create(archive).context("cannot create the archive")?;
        let mut cpio = self.tools.command(Tools::BUSYBOX)?;
        let mut child = cpio
            .args(["cpio", "-o", "-H", "newc"])
            .current_dir(&self.root)
            .stdin(Stdio::piped())
            .stdout(output)
            .stderr(Stdio::null())
            .spawn()
            .context("cannot run cpio")?;
        child.stdin.take().context("cpio has an input")?.write_all(names.as_bytes())?;
        let status = child.wait()?;
        if !status.success() {
            bail!("cpio failed: {status}");
        }
        Ok(archive.to_owned())
    }
}

/// Copies a file, or a folder with all in it, following links.
fn copy(from: &Path, to: &Path) -> Result<()> {
    let context = || format!("cannot copy {}", from.display());
    if from.is_dir() {
        fs::create_dir_all(to).with_context(context)?;
        for entry in fs::read_dir(from).with_context(context)? {
            let entry = entry.with_context(context)?;
            copy(&entry.path(), &to.join(entry.file_name()))?;
        }
    } else {
        if let Some(folder) = to.parent() {
            fs::create_dir_all(folder).with_context(context)?;
        }
        let _ = fs::copy(from, to).with_context(context)?;
    }
    Ok(())
}
