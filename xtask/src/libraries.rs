// SPDX-License-Identifier: Apache-2.0
//! The shared libraries that a program loads, as the dynamic loader of this machine finds them.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use crate::process::{Run as _, command};

/// A shared library of a program.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Library {
    /// The name by which the program asks for it, such as `libc.so.6`; a path for the
    /// dynamic loader itself.
    pub(crate) name: String,
    /// Where the dynamic loader finds it.
    pub(crate) path: PathBuf,
}

/// Lists the libraries of `program`, its libraries' libraries included. None for a static
/// program. `search` is looked through before the system's folders.
///
/// # Errors
///
/// If `ldd` cannot be run, or does not find a library.
pub(crate) fn of(program: &Path, search: &[PathBuf]) -> Result<Vec<Library>> {
    let mut ldd = command("ldd");
    let _ = ldd.arg(program);
    if !search.is_empty() {
        let search = std::env::join_paths(search).context("a folder's name has a colon")?;
        let _ = ldd.env("LD_LIBRARY_PATH", search);
    }
    // ldd fails for static programs, so that its words decide.
    let output = ldd.output().context("cannot run ldd")?;
    let said = String::from_utf8_lossy(&output.stdout);
    let complaint = String::from_utf8_lossy(&output.stderr);
    if said.contains("statically linked") || complaint.contains("not a dynamic executable") {
        return Ok(Vec::new());
    }
    if !output.status.success() {
        // Runs it again for the error's text.
        let _ = ldd.run_quietly()?;
    }
    parse(&said).with_context(|| format!("looking for the libraries of {}", program.display()))
}

fn parse(said: &str) -> Result<Vec<Library>> {
    let mut libraries = Vec::new();
    for line in said.lines().map(str::trim) {
        let (name, path) = line.split_once(" => ").unwrap_or((line, line));
        let path = path.split_once(" (").map_or(path, |(path, _address)| path);
        let name = name.split_once(" (").map_or(name, |(name, _address)| name);
        if path == "not found" {
            bail!("{name} is not found");
        }
        // What has no path (linux-vdso) is in the kernel.
        if path.starts_with('/') {
            libraries.push(Library { name: name.to_owned(), path: path.into() });
        }
    }
    Ok(libraries)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_ldd_prints() {
        let libraries = parse(
            "\tlinux-vdso.so.1 (0x00007fff)\n\
             \tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007f13)\n\
             \t/lib64/ld-linux-x86-64.so.2 (0x00007f14)\n",
        )
        .expect("a complete list");
        assert_eq!(
            libraries,
            [
                Library {
                    name: "libc.so.6".into(),
                    path: "/lib/x86_64-linux-gnu/libc.so.6".into()
                },
                Library {
                    name: "/lib64/ld-linux-x86-64.so.2".into(),
                    path: "/lib64/ld-linux-x86-64.so.2".into()
                },
            ]
        );
    }

    #[test]
    fn a_missing_library_is_an_error() {
        let error = parse("\tlibnone.so.1 => not found\n").expect_err("it is missing");
        assert_eq!(error.to_string(), "libnone.so.1 is not found");
    }
}
