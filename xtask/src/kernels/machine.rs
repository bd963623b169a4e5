// SPDX-License-Identifier: Apache-2.0
//! Booting a guest, waiting for its end, and reading what it reports.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, ExitStatus},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use proxy_tests::guest::WORD;

use super::{
    Guest, Outcome,
    packages::{Kernel, Tools},
};

/// The least that a 64-bit kernel takes: it is emulated in three quarters of the time that all takes
/// which qemu can emulate. Without `CMPXCHG16B`: after that of qemu 7.2 the flags have been seen to hold
/// garbage, so that a guest ended by a double fault where the kernel allocates memory.
const PROCESSOR: &str = "qemu64,-cx16";

/// How long a guest may take beside its programs. It boots within five seconds; a busy machine
/// takes longer.
const BOOT: Duration = Duration::from_mins(2);

/// How much of a guest's console is shown when something fails there.
const CONSOLE_LINES: usize = 200;

/// What a guest reports before it runs the programs.
const BOOTED: &str = "boot";

/// What it reports when all of them have ended.
const ENDED: &str = "end";

/// How often to look whether the guest has ended.
const POLL: Duration = Duration::from_millis(50);

/// Boots `guest`, which has `kernel`, with `image`, and returns the reports of the programs, for which it has
/// `limit` seconds, and the path of the console's log.
///
/// # Errors
///
/// If qemu fails, or the guest does not end in time.
pub(super) fn boot(
    guest: &Guest,
    kernel: &Kernel,
    tools: &Tools,
    image: &Path,
    limit: u32,
) -> Result<(Vec<Outcome>, PathBuf)> {
    let console = kernel.scratch(&format!("{}.console.log", guest.name));
    let reports = kernel.scratch(&format!("{}.reports", guest.name));
    for file in [&console, &reports] {
        fs::write(file, "").with_context(|| format!("cannot write {}", file.display()))?;
    }
    let process = tools
        .qemu()?
        .args(["-nodefaults", "-display", "none", "-monitor", "none", "-no-reboot"])
        // Virtualisation in hardware is not there in a CI's own virtual machine, or hangs.
        .args(["-accel", "tcg", "-cpu", PROCESSOR, "-smp", "2", "-m", "2G"])
        .arg("-kernel")
        .arg(kernel.image())
        .arg("-initrd")
        .arg(image)
        .args(["-append", &format!("console=ttyS0 quiet panic=-1 {WORD} {}", guest.parameters)])
        .args(["-serial", &format!("file:{}", console.display())])
        .args(["-serial", &format!("file:{}", reports.display())])
        .spawn()
        .context("cannot start qemu")?;
    let read = || -> Result<Vec<_>> {
        let reports = fs::read_to_string(&reports).context("cannot read the guest's reports")?;
        Ok(reports.lines().filter_map(parse).collect())
    };
    let has_ended = || read().is_ok_and(|reports| reports.iter().any(|it| it.name == ENDED));
    let status = wait(process, BOOT + Duration::from_secs(limit.into()), has_ended)
        .with_context(|| end_of_console(&console))?;
    if status.is_some_and(|status| !status.success()) {
        bail!("qemu failed: {status:?}");
    }
    let outcomes = read()?;
    if outcomes.iter().all(|outcome| outcome.name != BOOTED) {
        bail!("the guest did not come up: {}", end_of_console(&console));
    }
    Ok((outcomes, console))
}

/// Whether a guest has ended since its kernel met a breakpoint of its own that was not there any more. The kernel
/// patches its text in steps, with a breakpoint meanwhile, after which each processor is told to look again
/// (`text_poke_bp`); of two that qemu emulates on threads of their own, one may still run what it has translated
/// before.
pub(super) fn met_old_text(console: &Path) -> bool {
    fs::read(console).is_ok_and(|text| has_met_old_text(&String::from_utf8_lossy(&text)))
}

fn has_met_old_text(console: &str) -> bool {
    console.lines().any(|line| line.contains("int3: 0000 [#1]"))
}

/// The end of what a guest printed, with the path of all of it.
pub(crate) fn end_of_console(console: &Path) -> String {
    let text = fs::read(console).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<_> = text.lines().map(str::trim_end).collect();
    let end = &lines[lines.len().saturating_sub(CONSOLE_LINES)..];
    format!("its console, from {}:\n{}\n", console.display(), end.join("\n"))
}

/// Waits until the guest has ended, whose status is returned then, or says that it `has_ended`; ends it then, and when
/// its time is over.
fn wait(
    mut guest: Child,
    limit: Duration,
    has_ended: impl Fn() -> bool,
) -> Result<Option<ExitStatus>> {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(status) = guest.try_wait().context("cannot wait for qemu")? {
            return Ok(Some(status));
        }
        let (has_ended, is_late) = (has_ended(), Instant::now() > deadline);
        if has_ended || is_late {
            guest.kill().context("cannot end qemu")?;
            let _ = guest.wait();
        }
        if has_ended {
            return Ok(None);
        }
        if is_late {
            bail!("the guest did not end within {} s", limit.as_secs());
        }
        thread::sleep(POLL);
    }
}

/// Reads a line `name code start end`, where the times are seconds since the boot.
fn parse(line: &str) -> Option<Outcome> {
    let mut words = line.split_whitespace();
    let name = words.next()?.to_owned();
    let code = words.next()?.parse().ok()?;
    let start: f64 = words.next()?.parse().ok()?;
    let end: f64 = words.next()?.parse().ok()?;
    Some(Outcome { name, code: Some(code), seconds: end - start })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_an_oops_of_qemu_from_others() {
        let oops =
            |of: &str| format!("test modules::a_bond ... [  179.2] {of} PREEMPT SMP NOPTI\r\n");
        assert!(has_met_old_text(&oops("Oops: int3: 0000 [#1]")));
        assert!(!has_met_old_text(&oops("Oops: general protection fault: 0000 [#1]")));
    }

    #[test]
    fn reads_a_report() {
        let outcome = parse("packet 101 3.25 5.75\r").expect("a complete line");
        assert_eq!((outcome.name.as_str(), outcome.code), ("packet", Some(101)));
        assert!((outcome.seconds - 2.5).abs() < 1e-9);
        assert!(parse("packet 101").is_none());
    }
}
