// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! What becomes of a packet or a call: the only place where decisions turn into return codes.

use aya_ebpf::bindings::{TC_ACT_REDIRECT, TC_ACT_SHOT, TC_ACT_UNSPEC};

/// What becomes of a packet.
#[derive(Clone, Copy)]
pub(crate) enum Verdict {
    /// It goes on its way, rewritten or not; other programs see it too (`TCX_NEXT`).
    Pass,
    /// It is gone. Whoever says so has counted it.
    Drop,
    /// It has been sent past the host's stack.
    Sent,
    /// It leaves by another way, with the code that the redirect helper returned.
    Redirect(i32),
}

impl Verdict {
    /// The action for the kernel.
    #[inline(always)]
    pub(crate) fn to_action(self) -> i32 {
        match self {
            Self::Pass => TC_ACT_UNSPEC,
            Self::Drop => TC_ACT_SHOT,
            Self::Sent => TC_ACT_REDIRECT,
            Self::Redirect(code) => code,
        }
    }
}

/// What becomes of a process's call.
#[repr(i32)]
#[derive(Clone, Copy)]
pub(crate) enum CallVerdict {
    /// It fails, with the error that was set.
    Fail = 0,
    /// It goes on.
    Go = 1,
}
