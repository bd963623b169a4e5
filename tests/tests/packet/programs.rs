// SPDX-License-Identifier: Apache-2.0

//! The programs, each run on one frame at a time (`BPF_PROG_TEST_RUN`), from any thread.

use std::path::Path;

use anyhow::{Result, bail, ensure};
use aya::programs::tc::SchedClassifierLinkId;
use aya::programs::{ProgramFd, SchedClassifier, TcAttachType};
use aya::util::KernelVersion;
use nix::errno::Errno;
use proxy_agent::bpf::Object;
use proxy_agent::bpf::object::{EGRESS, INGRESS, UPLINK_EGRESS, UPLINK_INGRESS, XDP};
use proxy_tests::model;
use proxy_tests::packet::Packet;
use serde::{Deserialize, Serialize};

use crate::test_run::TestRun;

/// What a program says of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// On its way, for other programs to see (`TCX_NEXT`).
    Pass,
    /// Gone.
    Drop,
    /// By another way.
    Redirect,
}

impl Verdict {
    /// The verdict behind a program's return code (`linux/pkt_cls.h`).
    fn of(code: u32) -> Result<Self> {
        match code.cast_signed() {
            -1 => Ok(Self::Pass),
            2 => Ok(Self::Drop),
            7 => Ok(Self::Redirect),
            other => bail!("a program returned {other}"),
        }
    }

    /// The same of a driver's program (`enum xdp_action` of `linux/bpf.h`).
    fn of_driver(code: u32) -> Result<Self> {
        match code {
            1 => Ok(Self::Drop),
            2 => Ok(Self::Pass),
            3 | 4 => Ok(Self::Redirect),
            other => bail!("the driver's program returned {other}"),
        }
    }
}

/// What came of a packet.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) verdict: Verdict,
    pub(crate) frame: Vec<u8>,
}

impl Outcome {
    /// The packet as it left; its lengths and checksums must be right.
    pub(crate) fn packet(&self, verdict: Verdict) -> Result<Packet> {
        ensure!(self.verdict == verdict, "{:?} instead of {verdict:?}", self.verdict);
        Packet::decode(&self.frame)
    }

    /// The packet must have left as this one, to the byte.
    #[track_caller]
    pub(crate) fn is(&self, verdict: Verdict, expected: &Packet) -> Result<()> {
        assert_eq!(self.packet(verdict)?, *expected);
        assert_eq!(self.frame, expected.build()?);
        Ok(())
    }

    /// The same in the model's words; the packet's lengths and checksums must be right.
    pub(crate) fn for_model(&self) -> Result<model::Outcome> {
        let verdict = match self.verdict {
            Verdict::Pass => model::Verdict::Pass,
            Verdict::Drop => model::Verdict::Drop,
            Verdict::Redirect => model::Verdict::SendBack,
        };
        Ok(model::Outcome { verdict, packet: Packet::decode(&self.frame)? })
    }

    /// The packet must have been dropped.
    #[track_caller]
    pub(crate) fn is_dropped(&self) {
        assert_eq!(self.verdict, Verdict::Drop);
    }
}

/// One of the two hooks of a client's device, or that of an uplink.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum At {
    /// Frames from the client.
    Ingress,
    /// Frames to the client.
    Egress,
    /// Frames that leave the node: the egress of an uplink.
    UplinkEgress,
    /// Frames that come to it: the ingress of an uplink.
    UplinkIngress,
}

/// The programs. They are opened from pins, so that threads can share them.
#[derive(Debug)]
pub(crate) struct Programs {
    ingress: SchedClassifier,
    egress: SchedClassifier,
    uplink_egress: SchedClassifier,
    uplink_ingress: SchedClassifier,
    driver: ProgramFd,
}

impl Programs {
    /// Opens the programs of `object`, and pins them in the BPF file system at `root` for that.
    pub(crate) fn new(object: &mut Object, root: &Path) -> Result<Self> {
        let driver = object.driver_program(XDP)?.fd()?.try_clone()?;
        let mut open = |name| {
            let pin = root.join(name);
            object.program(name)?.pin(&pin)?;
            anyhow::Ok(SchedClassifier::from_pin(pin)?)
        };
        Ok(Self {
            driver,
            ingress: open(INGRESS)?,
            egress: open(EGRESS)?,
            uplink_egress: open(UPLINK_EGRESS)?,
            uplink_ingress: open(UPLINK_INGRESS)?,
        })
    }

    /// A frame from the client's device.
    pub(crate) fn ingress(&self, packet: &Packet) -> Result<Outcome> {
        self.run(At::Ingress, &packet.build()?)
    }

    /// A frame to the client's device.
    pub(crate) fn egress(&self, packet: &Packet) -> Result<Outcome> {
        self.run(At::Egress, &packet.build()?)
    }

    /// A frame that comes to the node by its uplink.
    pub(crate) fn arrives(&self, packet: &Packet) -> Result<Outcome> {
        self.run(At::UplinkIngress, &packet.build()?)
    }

    /// The same while it is in the uplink's driver.
    pub(crate) fn in_driver(&self, packet: &Packet) -> Result<Outcome> {
        self.run_in_driver(&packet.build()?)
    }

    /// Runs the program of drivers on a frame.
    pub(crate) fn run_in_driver(&self, frame: &[u8]) -> Result<Outcome> {
        let (code, frame) = TestRun::new(&self.driver, frame).run()?;
        Ok(Outcome { verdict: Verdict::of_driver(code)?, frame })
    }

    /// A frame that leaves the node by its uplink, and has come to it by the device with this index;
    /// from a process of the node's own with none.
    pub(crate) fn leaves(&self, packet: &Packet, came_by: u32) -> Result<Outcome> {
        let frame = packet.build()?;
        let program = self.at(At::UplinkEgress).fd()?;
        let (code, frame) = TestRun::new(program, &frame).came_by(came_by).run()?;
        Ok(Outcome { verdict: Verdict::of(code)?, frame })
    }

    /// Runs the program of a hook on a frame that has come from the network, without a checksum
    /// that somebody has verified.
    pub(crate) fn run(&self, at: At, frame: &[u8]) -> Result<Outcome> {
        let (code, frame) = TestRun::new(self.at(at).fd()?, frame).run()?;
        Ok(Outcome { verdict: Verdict::of(code)?, frame })
    }

    /// The same on a frame whose device has summed it up (`CHECKSUM_COMPLETE`). The kernel fails
    /// with `EBADMSG` if the sum is not that of the frame any more afterwards.
    pub(crate) fn run_summed(&self, at: At, frame: &[u8]) -> Result<Outcome> {
        let (code, frame) = TestRun::new(self.at(at).fd()?, frame).summed().run()?;
        Ok(Outcome { verdict: Verdict::of(code)?, frame })
    }

    /// Whether [`run_summed`](Self::run_summed) works here. Older kernels may not be able to sum;
    /// they must say so.
    pub(crate) fn can_sum(&self, frame: &[u8]) -> Result<bool> {
        match self.run_summed(At::Ingress, frame) {
            Err(error) if KernelVersion::current()? < KernelVersion::new(6, 11, 0) => {
                ensure!(error.downcast_ref::<Errno>() == Some(&Errno::EINVAL), "{error}");
                Ok(false)
            }
            ran => ran.map(|_| true),
        }
    }

    /// Attaches the program of a hook where frames leave a device.
    pub(crate) fn attach(&mut self, at: At, device: &str) -> Result<SchedClassifierLinkId> {
        Ok(self.at_mut(at).attach(device, TcAttachType::Egress)?)
    }

    /// Detaches it again.
    pub(crate) fn detach(&mut self, at: At, link: SchedClassifierLinkId) -> Result<()> {
        Ok(self.at_mut(at).detach(link)?)
    }

    const fn at_mut(&mut self, at: At) -> &mut SchedClassifier {
        match at {
            At::Ingress => &mut self.ingress,
            At::Egress => &mut self.egress,
            At::UplinkEgress => &mut self.uplink_egress,
            At::UplinkIngress => &mut self.uplink_ingress,
        }
    }

    const fn at(&self, at: At) -> &SchedClassifier {
        match at {
            At::Ingress => &self.ingress,
            At::Egress => &self.egress,
            At::UplinkEgress => &self.uplink_egress,
            At::UplinkIngress => &self.uplink_ingress,
        }
    }
}
