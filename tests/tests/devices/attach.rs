// SPDX-License-Identifier: Apache-2.0

//! The programs come onto devices and leave them, by TCX and by clsact. Needs a built object.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use aya::programs::links::Link as _;
use aya::programs::tc::{NlOptions, SchedClassifierLink, TcAttachOptions, qdisc_add_clsact};
use aya::programs::{LinkOrder, TcAttachType};
use aya::util::KernelVersion;
use proxy_agent::bpf::object::{EGRESS, INGRESS};
use proxy_agent::bpf::{LinkState, Object, Settings};
use proxy_agent::devices::{AttachMode, Attached, Attacher, Looked, Programs, Role};
use proxy_tests::netns::{Namespace, Veth};
use proxy_tests::scratch::Scratch;
use tokio::runtime::{Builder, Runtime};

use crate::node::Hands;
use crate::seen::{Seen, seen};

/// The ways that this kernel has: TCX came with 6.6.
pub(crate) fn ways() -> &'static [AttachMode] {
    if has_tcx() { &[AttachMode::Tcx, AttachMode::Clsact] } else { &[AttachMode::Clsact] }
}

pub(crate) fn has_tcx() -> bool {
    KernelVersion::current().expect("a release") >= KernelVersion::new(6, 6, 0)
}

const POD: Programs = Programs { role: Role::Workload, has_ethernet_header: true };

/// A node with one pod, and an object to attach.
pub(crate) struct Scene {
    runtime: Runtime,
    pub(crate) object: Object,
    pins: Scratch,
    pod: Namespace,
    pub(crate) node: Namespace,
}

impl Scene {
    pub(crate) fn new() -> Result<Self> {
        let (node, pod) = (Namespace::new("node")?, Namespace::new("pod")?);
        node.netlink()?.add_veth(Veth::named("veth1"), Veth::named("eth0"), &pod)?;
        let pins = Scratch::new("devices")?;
        let bpffs = pins.mount_bpffs()?;
        let object = Object::load(&bpffs, &Settings::default())?;
        let runtime = Builder::new_current_thread().enable_all().build()?;
        Ok(Self { runtime, object, pins, pod, node })
    }

    pub(crate) fn attacher(&self, mode: AttachMode) -> Result<Attacher> {
        let _guard = self.runtime.enter();
        self.node.run(|| {
            let _guard = self.runtime.enter();
            Ok(Attacher::new(mode, self.object.links())?)
        })
    }

    pub(crate) fn index(&self) -> Result<u32> {
        Hands::new(&self.node)?.index("veth1")
    }

    fn attach(&mut self, attacher: &mut Attacher, index: u32) -> Result<Attached> {
        self.attach_as(attacher, index, POD)
    }

    pub(crate) fn attach_as(
        &mut self,
        attacher: &mut Attacher,
        index: u32,
        programs: Programs,
    ) -> Result<Attached> {
        let Self { runtime, object, node, .. } = self;
        node.run(|| Ok(runtime.block_on(attacher.attach(object, index, programs))?))
    }

    /// Takes the programs off `veth1`, if it is there.
    pub(crate) fn detach(&self, attacher: &mut Attacher) -> Result<()> {
        let Ok(index) = self.index() else { return Ok(()) };
        self.node.run(|| Ok(self.runtime.block_on(attacher.detach(index))?))
    }

    /// Whether its programs are there still.
    fn look(&self, attacher: &mut Attacher, index: u32) -> Result<Looked> {
        self.node.run(|| Ok(self.runtime.block_on(attacher.look(index))?))
    }

    /// The links that are pinned, by their names.
    pub(crate) fn pinned(&self) -> Result<BTreeMap<String, LinkState>> {
        let links = self.object.links();
        let states = links.names()?.into_iter().map(|name| {
            let link = links.open(&name)?.context("it is pinned")?;
            Ok((name, link.state()?))
        });
        states.collect()
    }

    pub(crate) fn seen(&self) -> Result<Seen> {
        self.node.run(|| self.runtime.block_on(seen()))
    }

    /// Somebody else's filter at egress, of a priority like any other.
    pub(crate) fn foreign_at_egress(&mut self) -> Result<SchedClassifierLink> {
        let program = self.object.program(INGRESS)?;
        self.node.run(|| {
            let options = NlOptions { priority: 100, ..NlOptions::default() };
            let options = TcAttachOptions::Netlink(options);
            let id = program.attach_with_options("veth1", TcAttachType::Egress, options)?;
            Ok(program.take_link(id)?)
        })
    }

    /// Somebody else's program: one of ours, on the side where it does not belong.
    fn foreign(&mut self, options: TcAttachOptions) -> Result<SchedClassifierLink> {
        let program = self.object.program(EGRESS)?;
        self.node.run(|| {
            let id = program.attach_with_options("veth1", TcAttachType::Ingress, options)?;
            Ok(program.take_link(id)?)
        })
    }
}

fn ours() -> [Vec<String>; 2] {
    [vec![INGRESS.to_owned()], vec![EGRESS.to_owned()]]
}

fn attached(mode: AttachMode) -> Seen {
    match mode {
        AttachMode::Clsact => Seen { clsact: ours(), has_clsact: true, ..Seen::default() },
        _ => Seen { tcx: ours(), ..Seen::default() },
    }
}

#[test]
fn both_programs_come_once_and_go_without_a_trace() -> Result<()> {
    let mut scene = Scene::new()?;
    let index = scene.index()?;
    for &mode in ways() {
        let mut attacher = scene.attacher(mode)?;
        assert_eq!(scene.attach(&mut attacher, index)?, Attached::Now);
        assert_eq!(scene.seen()?, attached(mode));
        assert_eq!(scene.attach(&mut attacher, index)?, Attached::Before);
        assert_eq!(scene.seen()?, attached(mode));
        scene.detach(&mut attacher)?;
        // It can be had again.
        assert_eq!(scene.attach(&mut attacher, index)?, Attached::Now);
        scene.detach(&mut attacher)?;
        assert_eq!(scene.seen()?, Seen::default(), "{mode:?}");
    }
    Ok(())
}

#[test]
fn auto_takes_tcx_where_the_kernel_has_it() -> Result<()> {
    let mut scene = Scene::new()?;
    let index = scene.index()?;
    let mut attacher = scene.attacher(AttachMode::Auto)?;
    assert_eq!(scene.attach(&mut attacher, index)?, Attached::Now);
    assert_eq!(scene.seen()?, attached(ways()[0]));
    scene.detach(&mut attacher)
}

#[test]
fn tcx_is_refused_where_the_kernel_does_not_have_it() -> Result<()> {
    let mut scene = Scene::new()?;
    let index = scene.index()?;
    let mut attacher = scene.attacher(AttachMode::Tcx)?;
    assert_eq!(scene.attach(&mut attacher, index).is_ok(), has_tcx());
    let expected = if has_tcx() { attached(AttachMode::Tcx) } else { Seen::default() };
    assert_eq!(scene.seen()?, expected);
    scene.detach(&mut attacher)
}

#[test]
fn what_an_agent_has_left_goes_on_and_is_adopted() -> Result<()> {
    let mut scene = Scene::new()?;
    let index = scene.index()?;
    for &former in ways() {
        for &mode in ways() {
            let mut killed = scene.attacher(former)?;
            assert_eq!(scene.attach(&mut killed, index)?, Attached::Now);
            scene.node.run(|| {
                drop(killed);
                Ok(())
            })?;
            assert_eq!(scene.seen()?, attached(former));
            let links = scene.pinned()?;
            let mut attacher = scene.attacher(mode)?;
            assert_eq!(scene.attach(&mut attacher, index)?, Attached::Now);
            assert_eq!(scene.seen()?, attached(mode), "{former:?}, {mode:?}");
            if former == mode {
                assert_eq!(scene.pinned()?, links, "{mode:?}: they are the same");
            }
            scene.detach(&mut attacher)?;
            assert_eq!(scene.seen()?, Seen::default(), "{former:?}, {mode:?}");
            assert!(scene.pinned()?.is_empty());
        }
    }
    Ok(())
}

#[test]
fn a_link_that_was_detached_or_unpinned_comes_back() -> Result<()> {
    if !has_tcx() {
        // There are no links: filters have no pins.
        return Ok(());
    }
    let mut scene = Scene::new()?;
    let index = scene.index()?;
    let mut attacher = scene.attacher(AttachMode::Tcx)?;
    assert_eq!(scene.attach(&mut attacher, index)?, Attached::Now);
    let before = scene.pinned()?;
    assert_eq!(scene.look(&mut attacher, index)?, Looked::default());
    let links = scene.object.links();
    let ingress = format!("{index}-ingress");
    links.open(&ingress)?.context("it is pinned")?.detach();
    assert!(scene.look(&mut attacher, index)?.misses_programs);
    assert_eq!(scene.attach(&mut attacher, index)?, Attached::Now);
    assert_eq!(scene.seen()?, attached(AttachMode::Tcx));
    let after = scene.pinned()?;
    assert_ne!(after[&ingress].id, before[&ingress].id, "a link is detached for good");
    std::fs::remove_file(scene.pins.path().join("bpf").join(links_directory()).join(&ingress))?;
    assert!(scene.look(&mut attacher, index)?.was_repinned);
    assert_eq!(scene.pinned()?, after, "it has not gone");
    scene.detach(&mut attacher)
}

/// Where links are, below the pin root.
fn links_directory() -> String {
    format!("v{}/links", proxy_common::ABI_VERSION)
}

#[test]
fn programs_that_went_missing_come_back() -> Result<()> {
    let mut scene = Scene::new()?;
    let index = scene.index()?;
    let hands = Hands::new(&scene.node)?;
    let mut attacher = scene.attacher(AttachMode::Clsact)?;
    assert_eq!(scene.attach(&mut attacher, index)?, Attached::Now);
    hands.delete_clsact(index)?;
    assert_eq!(scene.attach(&mut attacher, index)?, Attached::Now);
    assert_eq!(scene.seen()?, attached(AttachMode::Clsact));
    scene.detach(&mut attacher)?;
    assert_eq!(scene.seen()?, Seen::default());
    Ok(())
}

#[test]
fn we_are_closest_to_the_pod_on_tcx() -> Result<()> {
    if !has_tcx() {
        // There is no order to be in: filters have priorities.
        return Ok(());
    }
    let mut scene = Scene::new()?;
    let index = scene.index()?;
    let foreign = scene.foreign(TcAttachOptions::TcxOrder(LinkOrder::first()))?;
    let mut attacher = scene.attacher(AttachMode::Tcx)?;
    assert_eq!(scene.attach(&mut attacher, index)?, Attached::Now);
    assert_eq!(scene.seen()?.tcx[0], [INGRESS, EGRESS]);
    scene.detach(&mut attacher)?;
    assert_eq!(scene.seen()?.tcx[0], [EGRESS]);
    Ok(foreign.detach()?)
}

#[test]
fn other_peoples_filters_and_disciplines_stay() -> Result<()> {
    let mut scene = Scene::new()?;
    let index = scene.index()?;
    let mut attacher = scene.attacher(AttachMode::Clsact)?;
    // Theirs came after ours, into what we made.
    assert_eq!(scene.attach(&mut attacher, index)?, Attached::Now);
    let foreign = scene.foreign(TcAttachOptions::Netlink(NlOptions::default()))?;
    scene.detach(&mut attacher)?;
    let seen = scene.seen()?;
    assert_eq!(seen.clsact, [vec![EGRESS.to_owned()], vec![]]);
    assert!(seen.has_clsact);
    // And theirs was there before ours.
    scene.node.run(|| Ok(foreign.detach()?))?;
    Hands::new(&scene.node)?.delete_clsact(index)?;
    scene.node.run(|| Ok(qdisc_add_clsact("veth1")?))?;
    assert_eq!(scene.attach(&mut attacher, index)?, Attached::Now);
    scene.detach(&mut attacher)?;
    assert_eq!(scene.seen()?, Seen { has_clsact: true, ..Seen::default() });
    Ok(())
}

#[test]
fn a_device_that_is_gone_or_renamed_is_no_trouble() -> Result<()> {
    let mut scene = Scene::new()?;
    for &mode in ways() {
        let index = scene.index()?;
        let mut attacher = scene.attacher(mode)?;
        assert_eq!(scene.attach(&mut attacher, index)?, Attached::Now);
        Hands::new(&scene.node)?.rename(index, "veth2")?;
        assert_eq!(scene.attach(&mut attacher, index)?, Attached::Before);
        let netlink = scene.node.netlink()?;
        netlink.delete("veth2")?;
        assert_eq!(scene.attach(&mut attacher, index)?, Attached::NoDevice);
        assert_eq!(scene.attach(&mut attacher, index)?, Attached::NoDevice);
        // Another one of the same name is another one.
        netlink.add_veth(Veth::named("veth1"), Veth::named("eth0"), &scene.pod)?;
        assert_eq!(scene.seen()?, Seen::default());
        let index = scene.index()?;
        assert_eq!(scene.attach(&mut attacher, index)?, Attached::Now);
        netlink.delete("veth1")?;
        scene.detach(&mut attacher)?;
        netlink.add_veth(Veth::named("veth1"), Veth::named("eth0"), &scene.pod)?;
    }
    Ok(())
}
