// SPDX-License-Identifier: Apache-2.0

//! What drivers count, as `ethtool -S` tells.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};

use super::Namespace;
use super::offload::ethtool;

/// `ETHTOOL_GSTRINGS`, `ETHTOOL_GSTATS` and `ETHTOOL_GSSET_INFO` of `linux/ethtool.h`.
const NAMES: u32 = 0x1b;
const VALUES: u32 = 0x1d;
const SET_LENGTH: u32 = 0x37;
/// `ETH_SS_STATS` of `linux/ethtool.h`.
const STATISTICS: u32 = 1;
/// `ETH_GSTRING_LEN` of `linux/ethtool.h`.
const NAME_LENGTH: usize = 32;

impl Namespace {
    /// How many frames each queue of `device`, a veth, has received for the program in its driver.
    pub fn received_by_queues(&self, device: &str) -> Result<Vec<u64>> {
        let counted = self.run(|| statistics(device));
        let counted = counted.with_context(|| format!("reading the statistics of {device}"))?;
        let of_queue = |queue| counted.get(&format!("rx_queue_{queue}_xdp_packets")).copied();
        Ok((0..).map_while(of_queue).collect())
    }
}

/// All that the driver of a device counts, by its names.
fn statistics(device: &str) -> Result<BTreeMap<String, u64>> {
    // `struct ethtool_sset_info` with one length.
    let mut set = [SET_LENGTH, 0, 1 << STATISTICS, 0, 0];
    // SAFETY: there is room for the length of the one set that is asked for.
    unsafe { ethtool(device, set.as_mut_ptr().cast()) }?;
    let count = set[4];
    let length = usize::try_from(count)?;
    // `struct ethtool_gstrings`, whose strings begin after three words.
    let mut names = vec![0_u32; 3 + length * NAME_LENGTH / size_of::<u32>()];
    names[..3].copy_from_slice(&[NAMES, STATISTICS, count]);
    // SAFETY: there is room for as many names as are asked for.
    unsafe { ethtool(device, names.as_mut_ptr().cast()) }?;
    // `struct ethtool_stats`, whose values begin after two words.
    let mut values = vec![0_u64; 1 + length];
    let head = [VALUES, count].map(u32::to_ne_bytes);
    values[0] = u64::from_ne_bytes(head.as_flattened().try_into()?);
    // SAFETY: there is room for as many values as are asked for.
    unsafe { ethtool(device, values.as_mut_ptr().cast()) }?;
    let names: Vec<u8> = names[3..].iter().flat_map(|word| word.to_ne_bytes()).collect();
    let names = names.chunks_exact(NAME_LENGTH).map(|name| {
        let end = name.iter().position(|byte| *byte == 0).unwrap_or(NAME_LENGTH);
        String::from_utf8_lossy(&name[..end]).into_owned()
    });
    Ok(names.zip(values[1..].iter().copied()).collect())
}
