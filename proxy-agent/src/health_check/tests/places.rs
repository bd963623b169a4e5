// SPDX-License-Identifier: Apache-2.0
//! Where it is listened, and what becomes of that.

use std::{
    collections::BTreeSet,
    net::{Ipv4Addr, Ipv6Addr},
};

use proxy_common::{Family, V4, V6};
use rustix::net::sockopt;

use super::{
    LocalEndpoints, NODE, Stage, both, check, connect, free_port, loopback, run, service,
    wait_closed, wait_end,
};
use crate::{
    both_families::in_both_families,
    events::{Event, EventType, Regarding},
    health_check::listener::listen,
};

in_both_families!(
    a_port_that_changes_closes_one_listener_and_opens_another,
    a_service_that_has_gone_closes_connections_too,
    addresses_come_and_go,
    all_addresses_of_both_families_are_listened_at,
    a_service_without_the_family_is_not_listened_for,
    the_second_service_on_a_port_fails_and_says_so_once,
    the_server_ends_with_who_says_what_to_serve,
    a_socket_takes_no_other_family,
);

fn a_port_that_changes_closes_one_listener_and_opens_another<F: Family>() {
    run(async {
        let stage = Stage::new();
        let ports = [free_port::<F>(), free_port::<F>()];
        stage.want("web", ports[0], both(1));
        stage.want("api", ports[1], both(2));
        let mut stays = connect::<F>(ports[0]).await;
        assert!(check::<F>(ports[1]).await.contains("\"name\": \"api\""));
        // They change places at one moment.
        stage.checks.send_modify(|checks| {
            for (name, port) in [("web", ports[1]), ("api", ports[0])] {
                checks.get_mut(&service(name)).unwrap().port = port;
            }
        });
        wait_end(&mut stays).await;
        assert!(check::<F>(ports[0]).await.contains("\"name\": \"api\""));
        assert!(check::<F>(ports[1]).await.contains("\"name\": \"web\""));
    });
}

fn a_service_that_has_gone_closes_connections_too<F: Family>() {
    run(async {
        let (stage, port) = (Stage::new(), free_port::<F>());
        stage.want("web", port, both(1));
        let mut idle = connect::<F>(port).await;
        let _ = check::<F>(port).await;
        stage.forget("web");
        wait_end(&mut idle).await;
        wait_closed::<F>(port).await;
    });
}

fn addresses_come_and_go<F: Family>() {
    run(async {
        let (stage, port) = (Stage::new(), free_port::<F>());
        drop(stage.addresses.send_replace(BTreeSet::new()));
        stage.want("web", port, both(1));
        wait_closed::<F>(port).await;
        drop(stage.addresses.send_replace([loopback::<F>()].into()));
        let mut idle = connect::<F>(port).await;
        let _ = check::<F>(port).await;
        drop(stage.addresses.send_replace(BTreeSet::new()));
        wait_end(&mut idle).await;
        wait_closed::<F>(port).await;
    });
}

fn all_addresses_of_both_families_are_listened_at<F: Family>() {
    run(async {
        let (mut stage, port) = (Stage::new(), free_port::<F>());
        stage.want("web", port, both(1));
        let mut narrow = connect::<F>(port).await;
        let all = [Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()];
        drop(stage.addresses.send_replace(all.into()));
        wait_end(&mut narrow).await;
        let _ = check::<V4>(port).await;
        let _ = check::<V6>(port).await;
        assert!(stage.events.try_recv().is_err(), "one is in the other's way");
    });
}

fn a_service_without_the_family_is_not_listened_for<F: Family>() {
    run(async {
        let (stage, port) = (Stage::new(), free_port::<F>());
        let only = LocalEndpoints::default().with::<F>(1);
        stage.want("single", port, only);
        let _ = check::<F>(port).await;
        for other in [loopback::<V4>(), loopback::<V6>()] {
            let served = tokio::net::TcpStream::connect((other, port)).await.is_ok();
            assert_eq!(served, other == loopback::<F>());
        }
    });
}

fn the_second_service_on_a_port_fails_and_says_so_once<F: Family>() {
    run(async {
        let (mut stage, port) = (Stage::new(), free_port::<F>());
        let only = LocalEndpoints::default().with::<F>(1);
        stage.want("first", port, only);
        assert!(check::<F>(port).await.contains("\"name\": \"first\""));
        stage.want("second", port, only);
        let Event { regarding, type_, reason, action, note } = stage.events.recv().await.unwrap();
        let uid = Some("uid-of-second".into());
        assert_eq!(regarding, Regarding { service: service("second"), uid });
        assert_eq!(type_, EventType::Warning);
        assert_eq!((reason, action), ("FailedToStartServiceHealthcheck", "Listen"));
        let said = format!(
            "node {NODE} failed to start healthcheck \"anc/second\" on port {port}: cannot listen at "
        );
        assert!(note.starts_with(&said) && note.contains("in use"), "{note}");
        // However often something else changes, or it is tried again.
        for count in 0..5 {
            stage.want("first", port, only.with::<F>(count));
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
        assert!(stage.events.is_empty());
        stage.forget("first");
        while !check::<F>(port).await.contains("\"name\": \"second\"") {}
        // Another failure is another matter.
        let taken = std::net::TcpListener::bind((loopback::<F>(), 0)).unwrap();
        let port = taken.local_addr().unwrap().port();
        stage.want("second", port, only);
        assert!(stage.events.recv().await.unwrap().note.contains(&format!("on port {port}: ")));
        // What is in the way goes, and nothing tells of it.
        drop(taken);
        let _ = check::<F>(port).await;
    });
}

fn the_server_ends_with_who_says_what_to_serve<F: Family>() {
    run(async {
        let (stage, port) = (Stage::new(), free_port::<F>());
        stage.want("web", port, both(1));
        // These stay what they are.
        drop((stage.addresses, stage.healthy));
        let _ = check::<F>(port).await;
        drop(stage.checks);
        let mut running = stage.running;
        running.join_next().await.unwrap().unwrap();
        wait_closed::<F>(port).await;
    });
}

fn a_socket_takes_no_other_family<F: Family>() {
    run(async {
        let listener = listen((loopback::<F>(), 0).into()).unwrap();
        assert!(sockopt::socket_reuseaddr(&listener).unwrap());
        let only_v6 = sockopt::ipv6_v6only(&listener);
        assert_eq!(only_v6.unwrap_or(false), loopback::<F>().is_ipv6());
    });
}
