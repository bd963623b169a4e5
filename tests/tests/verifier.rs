// SPDX-License-Identifier: Apache-2.0

//! What the verifier has to do for each program, and how large the programs are, beside what was
//! recorded, for each compiler that was, without the fast path and with it: without, the verifier removes
//! its code. `SIXFOUR_RECORD=1` records both anew for the compiler and the kernel at hand.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::{env, fs};

use anyhow::{Context as _, Result, ensure};
use aya::Btf;
use aya::programs::{Program, ProgramInfo};
use proxy_agent::bpf::{Object, ServedNetns, Settings};
use proxy_tests::scratch::Scratch;
use serde::{Deserialize, Serialize};

/// By how much a figure may be above the recorded one, where kernel and compiler are those of the
/// record: so much more is to be meant.
const TOLERATED: f64 = 1.1;

/// The bytes of an instruction.
const INSTRUCTION: u32 = 8;

/// Asks for a new record.
const RECORD: &str = "SIXFOUR_RECORD";

/// What was measured, and by what.
#[derive(Clone, Serialize, Deserialize)]
struct Record {
    /// The kernel's series, such as `6.18`.
    kernel: String,
    compiler: String,
    /// Whether the programs have the fast path.
    #[serde(default, skip_serializing_if = "is_off")]
    fast_path: bool,
    programs: BTreeMap<String, Figures>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes it so")]
const fn is_off(fast_path: &bool) -> bool {
    !*fast_path
}

/// A program's.
#[derive(Clone, Copy, PartialEq, Serialize, Deserialize)]
struct Figures {
    /// Instructions that the verifier has gone through; a path is gone through as often as the
    /// state differs.
    verified: u32,
    /// Instructions of the program, with its functions, as the kernel runs it.
    size: u32,
}

impl Record {
    fn path() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("verifier.json")
    }

    /// What it is a record of.
    fn of(&self) -> String {
        let fast_path = if self.fast_path { ", with the fast path" } else { "" };
        format!("Linux {}, {}{fast_path}", self.kernel, self.compiler)
    }

    /// What holds here, of all programs that the agent may load.
    fn measured(fast_path: bool) -> Result<Self> {
        let scratch = Scratch::new("verifier")?;
        let root = scratch.mount_bpffs()?;
        let sockets = Some(ServedNetns { host_netns: 1, all: true });
        let settings = Settings { sockets, fast_path, ..Settings::default() };
        let mut object = Object::load(&root, &settings)?;
        object.verify()?;
        let mut programs = BTreeMap::new();
        for (name, program) in object.ebpf_mut().programs_mut() {
            let figures = figures(program).with_context(|| name.to_owned())?;
            let _: Option<Figures> = programs.insert(name.to_owned(), figures);
        }
        let release = fs::read_to_string("/proc/sys/kernel/osrelease")?;
        let kernel = release.split('.').take(2).collect::<Vec<_>>().join(".");
        Ok(Self { kernel, compiler: compiler()?, fast_path, programs })
    }
}

/// The figures of a program, which is loaded if it is not.
fn figures(program: &mut Program) -> Result<Figures> {
    let info: ProgramInfo = match program {
        Program::SchedClassifier(program) => {
            if program.fd().is_err() {
                program.load()?;
            }
            program.info()?
        }
        Program::Xdp(program) => {
            if program.fd().is_err() {
                program.load()?;
            }
            program.info()?
        }
        Program::CgroupSockAddr(program) => program.info()?,
        Program::Iter(program) => {
            if program.fd().is_err() {
                program.load("udp", &Btf::from_sys_fs()?)?;
            }
            program.info()?
        }
        _ => anyhow::bail!("a program of another kind"),
    };
    let verified = info.verified_instruction_count().context("the kernel does not tell")?;
    let size = info.size_translated().context("the kernel does not tell its size")? / INSTRUCTION;
    Ok(Figures { verified, size })
}

/// What has compiled the object, as its debug information has it.
fn compiler() -> Result<String> {
    let built = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/bpf/sixfour.bpf.o");
    let path = env::var_os("SIXFOUR_BPF_OBJECT").map_or_else(built, PathBuf::from);
    let object = fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
    let (before, after) = (b"(rustc version ", b')');
    let start = object
        .windows(before.len())
        .position(|window| window == before)
        .context("the object does not say what has compiled it")?;
    let said = object[start + before.len()..].iter().take_while(|byte| **byte != after);
    let said = String::from_utf8(said.copied().collect())?;
    // Without the day, and the revision that comes before it.
    Ok(format!("rustc {}", said.split(' ').next().unwrap_or_default()))
}

/// How one figure has changed, and by what part.
fn change(before: u32, now: u32) -> String {
    let percent = 100.0 * (f64::from(now) / f64::from(before) - 1.0);
    if now == before { format!("{now}") } else { format!("{before} -> {now} ({percent:+.1} %)") }
}

/// What differs, a line each; and whether something has grown by more than is tolerated.
fn compare(recorded: &Record, now: &Record) -> (Vec<String>, bool) {
    let mut lines = Vec::new();
    let mut has_grown = false;
    let names: BTreeSet<_> = recorded.programs.keys().chain(now.programs.keys()).collect();
    for name in names {
        match (recorded.programs.get(name), now.programs.get(name)) {
            (Some(before), Some(now)) if before == now => {}
            (Some(before), Some(now)) => {
                let pairs = [(before.verified, now.verified), (before.size, now.size)];
                has_grown |=
                    pairs.iter().any(|(old, new)| f64::from(*new) > TOLERATED * f64::from(*old));
                let [verified, size] = pairs.map(|(before, now)| change(before, now));
                lines.push(format!("{name}: {verified} verified, {size} instructions"));
            }
            (None, Some(now)) => {
                let Figures { verified, size } = now;
                lines.push(format!("{name}: new: {verified} verified, {size} instructions"));
            }
            (_, None) => lines.push(format!("{name}: gone")),
        }
    }
    (lines, has_grown)
}

/// Tells what differs from a record of the same, or else from the last of those with the fast path or
/// without it; whether something has grown too much beside a record of the same.
fn judge(records: &[Record], now: &Record) -> bool {
    let own = records.iter().find(|record| record.of() == now.of());
    let last = || records.iter().rfind(|record| record.fast_path == now.fast_path);
    let Some(recorded) = own.or_else(last) else {
        println!("{}: not judged: there is no record like it; {RECORD}=1 makes one", now.of());
        return false;
    };
    let (lines, has_grown) = compare(recorded, now);
    println!("the verifier, and the programs' sizes, by {}, beside {}", now.of(), recorded.of());
    if lines.is_empty() {
        println!("all {} programs are as they were", now.programs.len());
    }
    for line in &lines {
        println!("{line}");
    }
    if own.is_none() {
        println!("{}: not judged: there is no record of it; {RECORD}=1 makes one", now.of());
    }
    own.is_some() && has_grown
}

#[test]
fn the_programs_are_as_recorded() -> Result<()> {
    let path = Record::path();
    let both = [Record::measured(false)?, Record::measured(true)?];
    let mut records: Vec<Record> = serde_json::from_str(&fs::read_to_string(&path)?)
        .with_context(|| format!("reading {}", path.display()))?;
    if env::var_os(RECORD).is_some() {
        records.retain(|record| both.iter().all(|now| record.of() != now.of()));
        records.extend(both.clone());
        // So that a new record changes no other lines of the file.
        records.sort_by_key(Record::of);
        fs::write(&path, serde_json::to_string_pretty(&records)? + "\n")?;
    }
    // Both are told before either fails.
    let grown = both.iter().filter(|now| judge(&records, now)).map(Record::of);
    let grown = grown.collect::<Vec<_>>();
    ensure!(
        grown.is_empty(),
        "a program costs over a tenth more than recorded, by {grown:?}; if it is worth that, record \
         it: {RECORD}=1 cargo test -p proxy-tests --test verifier"
    );
    Ok(())
}

#[test]
fn what_has_changed_is_told() {
    let record = |programs: &[(&str, u32, u32)]| Record {
        kernel: "6.18".to_owned(),
        compiler: "rustc 1.97.0".to_owned(),
        fast_path: false,
        programs: programs
            .iter()
            .map(|(name, verified, size)| {
                ((*name).to_owned(), Figures { verified: *verified, size: *size })
            })
            .collect(),
    };
    let before = record(&[("ingress", 1000, 200), ("egress", 500, 100), ("gone", 1, 1)]);
    let (lines, has_grown) =
        compare(&before, &record(&[("ingress", 1100, 200), ("egress", 500, 100), ("new", 2, 3)]));
    assert_eq!(
        lines,
        [
            "gone: gone",
            "ingress: 1000 -> 1100 (+10.0 %) verified, 200 instructions",
            "new: new: 2 verified, 3 instructions"
        ]
    );
    assert!(!has_grown);
    let after = record(&[("ingress", 1101, 200), ("egress", 500, 100), ("gone", 1, 1)]);
    assert!(compare(&before, &after).1);
    let after = record(&[("ingress", 1000, 221), ("egress", 500, 100), ("gone", 1, 1)]);
    assert!(compare(&before, &after).1);
}

#[test]
fn only_records_of_the_same_are_judged_by() {
    let record = |compiler: &str, fast_path, verified| Record {
        kernel: "6.18".to_owned(),
        compiler: compiler.to_owned(),
        fast_path,
        programs: BTreeMap::from([("ingress".to_owned(), Figures { verified, size: 1 })]),
    };
    let records = [record("a", false, 1000), record("a", true, 2000)];
    assert!(!judge(&records, &record("a", true, 2000)));
    assert!(judge(&records, &record("a", true, 2400)), "the fast path has grown");
    assert!(judge(&records, &record("a", false, 2000)), "without it, it is as large as with it");
    assert!(!judge(&records, &record("b", true, 9000)), "of another compiler");
    assert!(!judge(&records[..1], &record("a", true, 9000)), "nothing is recorded with it");
}
