// SPDX-License-Identifier: Apache-2.0
//! That the agent does not reach the API through a Service that it programs.
//!
//! It would reach the API only as long as it programs the Service rightly, and could never mend it.

use std::{collections::HashMap, io::ErrorKind, net::IpAddr, time::Duration};

use tokio::{net::lookup_host, sync::mpsc, time::timeout};
use tracing::{error, warn};

use super::KubernetesError;
use crate::{
    model::{Kind, Object, ObjectName, Service},
    watch::Event,
};

/// How long the host's resolver may take.
const LOOK_UP: Duration = Duration::from_secs(10);

/// Passes events of Services on. Before it says that they have synced, and so before anything is
/// written, it looks whether the API is reached (at `host`) through one of them.
pub(super) async fn forward(
    mut services: mpsc::Receiver<Event>,
    events: mpsc::Sender<Event>,
    host: String,
) -> Result<(), KubernetesError> {
    let mut before = Some(HashMap::new());
    let mut addresses = Vec::new();
    while let Some(event) = services.recv().await {
        match &event {
            Event::Apply(Object::Service(service)) => {
                if let Some(before) = &mut before {
                    before.extend(owners(service));
                } else if let Some((address, service)) =
                    owners(service).find(|(ip, _)| addresses.contains(ip))
                {
                    let error = KubernetesError::OwnService { service, address };
                    error!(%error, "the agent will not be able to mend this Service");
                }
            }
            Event::Synced(Kind::Service) => {
                addresses = addresses_of(&host).await;
                let before = before.take().unwrap_or_default();
                let owned = addresses.iter().find_map(|ip| Some((*ip, before.get(ip)?.clone())));
                if let Some((address, service)) = owned {
                    return Err(KubernetesError::OwnService { service, address });
                }
            }
            _ => {}
        }
        if events.send(event).await.is_err() {
            break;
        }
    }
    Ok(())
}

fn owners(service: &Service) -> impl Iterator<Item = (IpAddr, ObjectName)> {
    service.cluster_ips.iter().map(|ip| (*ip, service.name.clone()))
}

/// The addresses of a host: itself, if it is one.
async fn addresses_of(host: &str) -> Vec<IpAddr> {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    if let Ok(address) = host.parse::<IpAddr>() {
        return vec![address.to_canonical()];
    }
    let looked_up = timeout(LOOK_UP, lookup_host((host, 0))).await;
    match looked_up.unwrap_or_else(|_| Err(ErrorKind::TimedOut.into())) {
        Ok(addresses) => addresses.map(|address| address.ip().to_canonical()).collect(),
        Err(error) => {
            warn!(host, %error, "cannot tell whether the API is reached through a Service");
            Vec::new()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(address: &str) -> Event {
        Event::Apply(Object::Service(Service {
            name: ObjectName::new("default", "kubernetes"),
            cluster_ips: vec![address.parse().unwrap()],
            ..Service::default()
        }))
    }

    /// What comes out for these events, and how it ends.
    async fn forwarded(host: &str, list: Vec<Event>) -> (Vec<Event>, Result<(), String>) {
        let (sender, services) = mpsc::channel(8);
        let (events, mut received) = mpsc::channel(8);
        for event in list {
            sender.send(event).await.unwrap();
        }
        drop(sender);
        let ended = forward(services, events, host.to_owned()).await;
        let mut passed = Vec::new();
        while let Some(event) = received.recv().await {
            passed.push(event);
        }
        (passed, ended.map_err(|error| error.to_string()))
    }

    #[tokio::test]
    async fn an_api_behind_its_own_service_is_refused_before_anything_has_synced() {
        for (host, address) in [
            ("10.96.0.1", "10.96.0.1"),
            ("[fd00::1]", "fd00::1"),
            ("[::ffff:10.96.0.1]", "10.96.0.1"),
            ("localhost", "127.0.0.1"),
        ] {
            let list = vec![service(address), Event::Synced(Kind::Service)];
            let (passed, ended) = forwarded(host, list).await;
            assert_eq!(passed, [service(address)], "{host}");
            assert!(ended.unwrap_err().contains("default/kubernetes"), "{host}");
        }
    }

    #[tokio::test]
    async fn other_apis_and_later_services_pass() {
        let list = vec![service("10.96.0.1"), Event::Synced(Kind::Service), service("192.0.2.1")];
        let (passed, ended) = forwarded("192.0.2.1", list.clone()).await;
        assert_eq!((passed, ended), (list, Ok(())));
    }
}
