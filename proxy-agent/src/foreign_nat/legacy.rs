// SPDX-License-Identifier: Apache-2.0
//! Chains of legacy iptables, as of `linux/netfilter_ipv4/ip_tables.h` and its like: the kernel hands a table out as
//! a whole.

use std::{
    fs, io,
    net::{IpAddr, UdpSocket},
    os::fd::{AsRawFd as _, OwnedFd},
};

use memchr::memmem;
use nix::libc;
use proxy_common::{Address as _, Family};

use super::Error;

/// Where the kernel names the tables that there are in the calling thread's network namespace; without legacy
/// iptables there is no such file.
const NAMES: [&str; 2] =
    ["/proc/thread-self/net/ip_tables_names", "/proc/thread-self/net/ip6_tables_names"];

/// The levels of the options, by family.
const LEVELS: [libc::c_int; 2] = [libc::IPPROTO_IP, libc::IPPROTO_IPV6];

/// `IPT_SO_GET_INFO` and `IPT_SO_GET_ENTRIES`, which are also those of IPv6.
const GET_INFO: libc::c_int = 64;
const GET_ENTRIES: libc::c_int = 65;

/// The bytes of a table's name, with which `struct ipt_getinfo` and `struct ipt_get_entries` begin.
const NAME: usize = 32;
/// The bytes of the former, which end with the bytes of the entries.
const INFO: usize = NAME + 13 * size_of::<u32>();
/// The bytes of the latter before the entries, which are aligned; their bytes follow the name.
const HEADER: usize = (NAME + size_of::<u32>()).next_multiple_of(size_of::<u64>());

/// How often a table is read anew that was changed meanwhile.
const ATTEMPTS: usize = 10;

/// Whether a table of a family has a chain with this name in the calling thread's network namespace.
pub(super) fn has_chain<F: Family>(table: &'static str, chain: &str) -> Result<bool, Error> {
    let names = NAMES[F::INDEX as usize];
    let tables = match fs::read_to_string(names) {
        Ok(tables) => tables,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(Error::Read(names, error)),
    };
    // To ask for one that is not there would make the kernel make it.
    if tables.lines().all(|there| there != table) {
        return Ok(false);
    }
    let entries = entries::<F>(table).map_err(|error| Error::Legacy(table, error))?;
    Ok(entries.is_some_and(|entries| names_chain(&entries, chain)))
}

/// Whether there is a chain among a table's entries: an entry with its name, and a zero, stands before its rules.
fn names_chain(entries: &[u8], chain: &str) -> bool {
    memmem::find(entries, &[chain.as_bytes(), &[0]].concat()).is_some()
}

/// The entries of a table; nothing if that is gone.
fn entries<F: Family>(table: &str) -> io::Result<Option<Vec<u8>>> {
    // Any socket of the family will do.
    let socket: OwnedFd =
        UdpSocket::bind::<(IpAddr, u16)>((F::Addr::UNSPECIFIED.into(), 0))?.into();
    let level = LEVELS[F::INDEX as usize];
    for _ in 0..ATTEMPTS {
        let mut info = vec![0; INFO];
        info[..table.len()].copy_from_slice(table.as_bytes());
        match get(&socket, level, GET_INFO, &mut info) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        }
        let size = &info[INFO - size_of::<u32>()..];
        let size: [u8; 4] = size.try_into().map_err(io::Error::other)?;
        let mut entries = vec![0; HEADER + u32::from_ne_bytes(size) as usize];
        entries[..table.len()].copy_from_slice(table.as_bytes());
        entries[NAME..NAME + size.len()].copy_from_slice(&size);
        match get(&socket, level, GET_ENTRIES, &mut entries) {
            Ok(()) => return Ok(Some(entries.split_off(HEADER))),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Err(io::Error::other("it changed each time while it was read"))
}

/// Has the kernel fill in what an option asks for.
fn get(
    socket: &OwnedFd,
    level: libc::c_int,
    option: libc::c_int,
    bytes: &mut [u8],
) -> io::Result<()> {
    let mut length = libc::socklen_t::try_from(bytes.len()).map_err(io::Error::other)?;
    // SAFETY: the kernel writes as many bytes as it is told that there are.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            level,
            option,
            bytes.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chain_is_known_by_its_whole_name() {
        assert!(names_chain(b"ERROR\0\0KUBE-SERVICES\0\0\0", "KUBE-SERVICES"));
        assert!(!names_chain(b"ERROR\0\0KUBE-SERVICES-2\0\0", "KUBE-SERVICES"));
    }
}
