// SPDX-License-Identifier: Apache-2.0

use std::{
    collections::HashSet,
    path::{Path, PathBuf},
};

use caps::Capability::{CAP_BPF, CAP_NET_ADMIN, CAP_PERFMON, CAP_SYS_ADMIN};
use proxy_common::{V4, V6};

use super::{CgroupFacts, Facts, Families, Lack, check};
use crate::sockets::CgroupRoot;

/// A node that has everything, as a user who is not root but has been granted what it takes.
fn good() -> Facts {
    Facts {
        root: false,
        capabilities: HashSet::from([CAP_BPF, CAP_NET_ADMIN, CAP_PERFMON]),
        kernel: (6, 1),
        btf: true,
        jit: true,
        pin_root: PathBuf::from("/sys/fs/bpf/sixfour"),
        pin_root_on_bpffs: true,
        bpffs: None,
        cgroup: CgroupFacts::Root(root()),
        families: Families([true, true]),
    }
}

fn root() -> CgroupRoot {
    CgroupRoot { path: PathBuf::from("/sys/fs/cgroup"), is_whole: true }
}

/// The one sentence that is said of a node.
fn sentence(change: impl FnOnce(&mut Facts)) -> String {
    let mut facts = good();
    change(&mut facts);
    let lacks = check(&facts);
    assert_eq!(lacks.len(), 1, "{lacks:?}");
    lacks[0].to_string()
}

#[test]
fn a_good_node_lacks_nothing() {
    assert_eq!(check(&good()), []);
    let mut admin = good();
    admin.capabilities = HashSet::from([CAP_SYS_ADMIN, CAP_NET_ADMIN]);
    admin.kernel = (7, 0);
    assert_eq!(check(&admin), []);
}

#[test]
fn each_lack_is_one_sentence_with_the_fix() {
    let fix = "run as root, or grant CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON.";
    assert_eq!(
        sentence(|facts| facts.capabilities.clear()),
        format!("not root, and without CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON: {fix}")
    );
    assert_eq!(
        sentence(|facts| {
            facts.root = true;
            facts.capabilities = HashSet::from([CAP_SYS_ADMIN]);
        }),
        format!("root here lacks CAP_NET_ADMIN: {fix}")
    );
    assert_eq!(
        sentence(|facts| assert!(facts.capabilities.remove(&CAP_PERFMON))),
        format!("not root, and without CAP_PERFMON: {fix}")
    );
    assert_eq!(
        sentence(|facts| facts.jit = false),
        "the kernel does not compile BPF programs: let it with `sysctl -w net.core.bpf_jit_enable=1`."
    );
    assert_eq!(
        sentence(|facts| facts.kernel = (5, 15)),
        "the kernel is 5.15, and Sixfour needs 6.1 or later."
    );
    assert_eq!(
        sentence(|facts| facts.btf = false),
        "the kernel has no /sys/kernel/btf/vmlinux: run one that is built with CONFIG_DEBUG_INFO_BTF=y."
    );
    assert_eq!(
        sentence(|facts| facts.cgroup = CgroupFacts::NotMounted),
        "no cgroup2 hierarchy can be seen, and host processes are served through it: mount one (beside cgroup v1 with `mkdir -p /run/cgroup2 && mount -t cgroup2 none /run/cgroup2`), or run with --socket-lb off."
    );
    assert_eq!(
        sentence(|facts| facts.cgroup = CgroupFacts::Other("/tmp".into())),
        "/tmp is not a control group of cgroup2: name another --cgroup-root, or none."
    );
    let mut without_sockets = good();
    without_sockets.cgroup = CgroupFacts::Unwanted;
    assert_eq!(check(&without_sockets), []);
}

#[test]
fn a_missing_bpffs_names_the_mount_command() {
    assert_eq!(
        sentence(|facts| facts.pin_root_on_bpffs = false),
        "the pin root /sys/fs/bpf/sixfour is not on a BPF file system: \
         mount one with `mount -t bpf bpf /sys/fs/bpf`."
    );
    assert_eq!(
        sentence(|facts| {
            facts.pin_root = PathBuf::from("/run/pins");
            facts.pin_root_on_bpffs = false;
            facts.bpffs = Some(PathBuf::from("/sys/fs/bpf"));
        }),
        "the pin root /run/pins is not on a BPF file system: \
         mount one with `mount -t bpf bpf /run/pins`, or name a --pin-root below /sys/fs/bpf."
    );
}

#[test]
fn all_lacks_are_told_at_once() {
    let mut facts = good();
    facts.kernel = (6, 0);
    facts.cgroup = CgroupFacts::NotMounted;
    assert_eq!(check(&facts), [Lack::Kernel(6, 0), Lack::Cgroup2]);
}

#[test]
fn one_family_is_enough() {
    let mut facts = good();
    facts.families = Families([true, false]);
    assert_eq!(check(&facts), []);
    assert!(facts.families.has::<V4>() && !facts.families.has::<V6>());
    assert!(facts.families.missing().eq(["IPv6"]));
}

#[test]
fn gathering_looks_above_a_pin_root_that_is_not_there() {
    let facts = Facts::gather(Path::new("/proc/none/such"), true, Some("/proc".as_ref())).unwrap();
    assert_eq!(facts.cgroup, CgroupFacts::Other("/proc".into()));
    let unwanted = Facts::gather(Path::new("/proc/none/such"), false, None).unwrap();
    assert_eq!(unwanted.cgroup, CgroupFacts::Unwanted);
    assert!(!facts.pin_root_on_bpffs);
    assert!(facts.kernel > (1, 0));
}
