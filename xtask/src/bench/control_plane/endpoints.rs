// SPDX-License-Identifier: Apache-2.0
//! The endpoints of all Services, in one pod, and connections to them that tell which range of
//! addresses has answered.

use std::{
    io::{self, Read as _},
    net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener, TcpStream},
    time::Duration,
};

use anyhow::Result;
use ipnet::IpNet;
use proxy_tests::{
    api::crowd::{Side, TARGET},
    family::IpFamily,
    netns::Prefix,
    topology::{Host, Node, pod_device},
};
use socket2::SockRef;
use tokio::{io::AsyncWriteExt as _, net, runtime::Handle, task::JoinHandle};

/// What answers at all addresses of both sides. It ends when dropped.
pub(super) struct Endpoints(JoinHandle<()>);

impl Endpoints {
    /// Gives a pod of a node all these addresses, and answers there.
    ///
    /// # Errors
    ///
    /// If something else listens there.
    pub(super) fn start(node: &Node, pod: &Host, runtime: &Handle) -> Result<Self> {
        let outside = node.host().namespace().netlink()?;
        let inside = pod.namespace().netlink()?;
        let (device, lo) = (outside.link(&pod_device(pod.name()))?, inside.link("lo")?);
        for family in IpFamily::ALL {
            for prefix in Side::ALL.map(|side| side.prefix(family)) {
                inside.add_local(prefix, lo)?;
                // Nobody asks for the neighbours of so many addresses.
                outside.add_route(prefix, Some(pod.address(family)), device)?;
            }
        }
        let listener = pod.namespace().run(|| {
            let listener = TcpListener::bind((Ipv6Addr::UNSPECIFIED, TARGET))?;
            listener.set_nonblocking(true)?;
            Ok(listener)
        })?;
        let _guard = runtime.enter();
        let listener = net::TcpListener::from_std(listener)?;
        Ok(Self(runtime.spawn(async move {
            loop {
                if let Ok((mut stream, _)) = listener.accept().await
                    && let Some(mark) = stream.local_addr().ok().and_then(mark)
                {
                    // The client may be gone.
                    let _ = stream.write_all(&[mark]).await;
                }
            }
        })))
    }
}

impl Drop for Endpoints {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// What is answered at an address, if it is one of these.
fn mark(address: SocketAddr) -> Option<u8> {
    let address = address.ip().to_canonical();
    Side::ALL.into_iter().find(|side| is_on(*side, address)).map(byte)
}

fn is_on(side: Side, address: IpAddr) -> bool {
    let Prefix(start, length) = side.prefix(IpFamily::of(address));
    IpNet::new(start, length).is_ok_and(|range| range.contains(&address))
}

const fn byte(side: Side) -> u8 {
    match side {
        Side::First => b'1',
        Side::Second => b'2',
    }
}

/// Connects to a Service, in the calling thread's namespace, and says which side has answered.
///
/// # Errors
///
/// If none has within this time.
pub(super) fn ask(target: SocketAddr, patience: Duration) -> io::Result<Side> {
    let mut stream = TcpStream::connect_timeout(&target, patience)?;
    // What is measured would otherwise end with thousands of sockets in TIME_WAIT.
    SockRef::from(&stream).set_linger(Some(Duration::ZERO))?;
    stream.set_read_timeout(Some(patience))?;
    let mut answer = [0];
    stream.read_exact(&mut answer)?;
    let side = Side::ALL.into_iter().find(|side| byte(*side) == answer[0]);
    side.ok_or_else(|| io::Error::other("another server"))
}

#[cfg(test)]
mod tests {
    use super::{SocketAddr, mark};

    #[test]
    fn the_side_is_told_by_the_address() {
        let marks = ["10.128.0.1:1", "[::ffff:10.159.255.255]:1", "[fd00:10:128::ffff]:1"]
            .map(|address| mark(address.parse::<SocketAddr>().unwrap()));
        assert_eq!(marks, [Some(b'1'), Some(b'2'), Some(b'1')]);
        assert_eq!(mark("[fd00:10:144::1]:1".parse().unwrap()), Some(b'2'));
        assert_eq!(mark("10.244.1.1:1".parse().unwrap()), None);
    }
}
