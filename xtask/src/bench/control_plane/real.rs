// SPDX-License-Identifier: Apache-2.0
//! An API server that is another program's: it is filled by requests, and a forwarder in the node's
//! namespace tells when it writes into the agent's stream.

use std::{
    path::Path,
    sync::{Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use proxy_tests::{
    api::{
        ApiClient, Connection, Upstream,
        crowd::{Crowd, NAMESPACE},
        forwarder::Forwarder,
        kubeconfig,
    },
    netns::Namespace,
};
use serde_json::Value;
use tokio::runtime::Handle;

/// How long a new API server may take until it gives out cluster IPs.
const PATIENCE: Duration = Duration::from_secs(20);

/// The server, as its administrator reaches it, and as the node does.
pub(super) struct Real {
    upstream: Upstream,
    forwarder: Forwarder,
    connection: Mutex<Connection>,
    /// What a kubeconfig says of the cluster and of its user.
    cluster: Value,
    user: Value,
    runtime: Handle,
}

impl Real {
    /// Opens the door of a namespace to it.
    ///
    /// # Errors
    ///
    /// If the server does not answer.
    pub(super) fn start(
        upstream: Upstream,
        (cluster, user): (Value, Value),
        namespace: &Namespace,
        runtime: &Handle,
    ) -> Result<Self> {
        let forwarder = Forwarder::start(namespace, upstream.address, runtime)?;
        let connection = Mutex::new(runtime.block_on(upstream.connect())?);
        Ok(Self { upstream, forwarder, connection, cluster, user, runtime: runtime.clone() })
    }

    /// Makes all objects of a crowd, and a node.
    pub(super) fn fill(&self, crowd: Crowd, node: &Value) -> Result<()> {
        let client = ApiClient::new(self.upstream.clone(), self.runtime.clone());
        client.make_namespace(NAMESPACE)?;
        client.apply(node)?;
        let begun = Instant::now();
        while let Err(error) = client.apply(&Crowd::service(0)) {
            ensure!(begun.elapsed() < PATIENCE, "{error:#}");
            thread::sleep(Duration::from_millis(200));
        }
        self.runtime.block_on(self.upstream.make_all(crowd.objects()))
    }

    /// See [`Api::write_kubeconfig`](super::api::Api::write_kubeconfig).
    pub(super) fn write_kubeconfig(&self, path: &Path) -> Result<()> {
        let scheme = if self.upstream.tls.is_some() { "https" } else { "http" };
        kubeconfig::write(path, scheme, self.forwarder.address(), &self.cluster, &self.user)
    }

    /// See [`Api::replace`](super::api::Api::replace).
    pub(super) fn replace(&self, object: &Value) -> Result<()> {
        let mut connection = self.connection.lock().unwrap_or_else(PoisonError::into_inner);
        self.runtime.block_on(connection.replace(object))
    }

    /// See [`Api::sent_since`](super::api::Api::sent_since).
    pub(super) fn sent_since(&self, time: Instant) -> Option<Instant> {
        self.forwarder.first_answer_since(time)
    }

    /// The server, as processes of the node reach it.
    pub(super) fn upstream_of_node(&self) -> Upstream {
        Upstream { address: self.forwarder.address(), ..self.upstream.clone() }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use proxy_tests::{
        api::{
            crowd::{Crowd, Side},
            kind::Kind,
            pki::Authority,
            replay::{Door, ReplayServer},
        },
        family::IpFamily,
        netns::Namespace,
    };
    use serde_json::json;

    use super::*;

    /// The API of the tests in the place of the other program, by TLS.
    #[test]
    fn a_server_behind_a_door_is_filled_and_says_when_it_sends() {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let authority = Authority::new().unwrap();
        let address = ([127, 0, 0, 1], 0).into();
        let server = authority.server(&[std::net::Ipv4Addr::LOCALHOST.into()], &[]).unwrap();
        let door = Door {
            address: Some(address),
            tls: Some(authority.server_config(&server, true).unwrap()),
            ..Door::default()
        };
        let server = ReplayServer::start(door, runtime.handle()).unwrap();
        let admin = authority.client("admin", "system:masters").unwrap();
        let tls = Some(authority.client_config(&admin).unwrap());
        let upstream = Upstream { address: server.address(), tls };
        let namespace = Namespace::new("api-door").unwrap();
        let user = (json!({}), json!({}));
        let real = Real::start(upstream.clone(), user, &namespace, runtime.handle()).unwrap();
        let crowd = Crowd { services: 100, endpoints: 10 };
        let node = json!({
            "apiVersion": "v1", "kind": "Node", "metadata": { "name": "node" },
            "status": { "addresses": [] },
        });
        real.fill(crowd, &node).unwrap();
        let client = ApiClient::new(upstream, runtime.handle().clone());
        let count = |kind| client.list(kind).unwrap()["items"].as_array().unwrap().len();
        assert_eq!(Kind::ALL.map(count), [100, 200, 1, 1]);

        let near = real.upstream_of_node();
        let ask = || {
            let length = namespace.run(|| {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
                runtime.block_on(near.stream_length(Kind::EndpointSlice))
            });
            length.unwrap()
        };
        assert!(ask() > 100_000);
        let (begun, slice) = (Instant::now(), crowd.slice(3, IpFamily::V6, Side::Second));
        assert_eq!(real.sent_since(begun), None);
        real.replace(&slice).unwrap();
        assert_eq!(real.sent_since(begun), None, "nobody was there to send it to");
        let name = slice["metadata"]["name"].as_str().unwrap();
        let path = format!("{}/{name}", Kind::EndpointSlice.path_in(NAMESPACE));
        assert_eq!(client.get(&path).unwrap()["endpoints"], slice["endpoints"]);
        let _: usize = ask();
        assert!(real.sent_since(begun).is_some_and(|sent| begun < sent && sent < Instant::now()));
    }
}
