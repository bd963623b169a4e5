// SPDX-License-Identifier: Apache-2.0

//! What sockets tell of their peers, where nothing translates.

use anyhow::Result;
use proxy_tests::both_families;
use proxy_tests::family::{AddressForm, TestFamily};
use proxy_tests::protocol::Protocol;
use proxy_tests::topology::{NodeSpec, TopologySpec};
use proxy_tests::traffic::{Client, TcpServer, UdpServer};

const PORT: u16 = 7000;

both_families!(peers_are_those_that_were_asked);

fn peers_are_those_that_were_asked<F: TestFamily>() -> Result<()> {
    let node = NodeSpec::bridge("anc-node").pod("client", 11).pod("web-1", 12).pod("web-2", 13);
    let topology = TopologySpec::new().node(node).build()?;
    let servers = ["web-1", "web-2"].map(|name| topology.pod(name));
    let _datagrams = [UdpServer::start(servers[0], PORT)?, UdpServer::start(servers[1], PORT)?];
    let _streams = [TcpServer::start(servers[0], PORT)?, TcpServer::start(servers[1], PORT)?];
    let host = topology.pod("client");
    for form in AddressForm::all(F::FAMILY) {
        let client = Client::new(host).form(*form);
        let mut connected = client.datagrams(servers[1].socket::<F>(PORT))?;
        let mut unconnected = client.unconnected(F::FAMILY)?;
        assert!(unconnected.peer().is_err() && unconnected.ask().is_err());
        for server in [servers[0], servers[1], servers[0]] {
            let target = server.socket::<F>(PORT);
            connected.connect(target)?;
            assert_eq!(connected.peer()?, form.of(target));
            let answers = [
                client.ask(Protocol::Tcp, target)?,
                client.ask(Protocol::Udp, target)?,
                connected.ask()?,
                unconnected.ask_at(target)?,
            ];
            for answer in answers {
                assert_eq!(answer.server, server.name());
                assert_eq!(answer.peer, form.of(target), "{form:?}");
                assert_eq!(answer.source.ip(), host.address(F::FAMILY));
            }
        }
    }
    Ok(())
}
