// SPDX-License-Identifier: Apache-2.0
//! What a run that has not come to its end has measured. All sections take more than an hour, and whatever ends
//! that should cost no more than the section at hand.

use std::{fs, io::ErrorKind, path::Path};

use anyhow::{Context as _, Result};

use super::{machine::Machine, report::Report};
use crate::workspace;

/// Where it is.
fn file() -> std::path::PathBuf {
    workspace::target("bench").join("unfinished.json")
}

/// Keeps what has been measured so far.
pub(super) fn keep(report: &Report) -> Result<()> {
    let file = file();
    let folder = file.parent().context("the file is in a folder")?;
    fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    fs::write(&file, serde_json::to_vec(report)?)
        .with_context(|| format!("cannot write {}", file.display()))
}

/// What another run has kept, if it was one of the same commit on this machine, and in no other hurry.
///
/// # Errors
///
/// If it cannot be read.
pub(super) fn find(machine: &Machine, is_quick: bool) -> Result<Option<Report>> {
    let Some(report) = read(&file())? else {
        return Ok(None);
    };
    Ok((report.quick == is_quick && can_follow(machine, &report.machine)).then_some(report))
}

/// Forgets it.
pub(super) fn forget() -> Result<()> {
    match fs::remove_file(file()) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error.into()),
        _ => Ok(()),
    }
}

fn read(file: &Path) -> Result<Option<Report>> {
    match fs::read(file) {
        Ok(content) => serde_json::from_slice(&content)
            .map(Some)
            .with_context(|| format!("{} is no report", file.display())),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", file.display())),
    }
}

/// Whether figures of one may stand beside those of the other.
fn can_follow(machine: &Machine, before: &Machine) -> bool {
    // What is not committed may have been something else.
    !machine.commit.ends_with("-dirty")
        && Machine { date: before.date, ..machine.clone() } == *before
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_run_of_the_same_commit_on_the_same_machine_goes_on() {
        let before = Machine { commit: "0123456789".to_owned(), ..Machine::here().unwrap() };
        let later = Machine { date: before.date + jiff::Span::new().hours(1), ..before.clone() };
        assert!(can_follow(&later, &before));
        let others = [
            Machine { commit: "9876543210".to_owned(), ..later.clone() },
            Machine { kernel: "6.1.0".to_owned(), ..later.clone() },
            Machine { model: "another".to_owned(), ..later.clone() },
        ];
        assert!(others.iter().all(|other| !can_follow(other, &before)));
        let dirty = Machine { commit: "0123456789-dirty".to_owned(), ..later };
        assert!(!can_follow(&dirty, &dirty));
    }
}
