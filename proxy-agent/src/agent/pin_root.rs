// SPDX-License-Identifier: Apache-2.0
//! One agent at a time: another one waits until it ends, and takes over what it has left.

use std::{path::Path, time::Duration};

use tokio::time::sleep;
use tracing::warn;

use crate::bpf::{self, Pins};

/// How often it is tried again: whatever changes between one agent and the next is served that much later.
const PAUSE: Duration = Duration::from_millis(50);

/// Takes the pin root, once no other agent has it. Nothing is read from there, nor touched, before.
///
/// # Errors
///
/// If it cannot be made, locked or read.
pub(super) async fn claim(pin_root: &Path) -> Result<Pins, bpf::Error> {
    let mut is_told = false;
    loop {
        if let Some(pins) = Pins::try_claim(pin_root)? {
            return Ok(pins);
        }
        if !is_told {
            warn!("another sixfour has the pin root {}: waiting until it ends", pin_root.display());
            is_told = true;
        }
        sleep(PAUSE).await;
    }
}
