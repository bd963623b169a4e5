// SPDX-License-Identifier: Apache-2.0
//! Frontends that several want: Services with the same addresses or node ports, and the node itself
//! with a load balancer's address. All Services are dual-stack.

use std::net::SocketAddr;

use super::*;

/// An address of each family: of the tables in this order.
type Both = [&'static str; 2];

/// Where node ports are in the tables.
const NODE_PORTS: Both = ["0.0.0.0", "::"];

/// The cluster IPs of the Service with this number.
const fn own(number: usize) -> Both {
    [["10.0.0.1", "fd00::1"], ["10.0.0.2", "fd00::2"]][number]
}

/// Asserts that in both families the lines about a frontend begin like this.
fn assert_there(left: &Left, (addresses, port): (Both, u16), line: &str, name: &str) {
    for ((tables, _), address) in left.iter().zip(addresses) {
        let frontend = SocketAddr::new(address.parse().unwrap(), port);
        let line = format!("{frontend}/TCP {line}");
        assert!(tables.lines().any(|it| it.starts_with(&line)), "{name}: no {line} in\n{tables}");
    }
}

/// A Service of these cluster IPs and one port, with more in its `spec`.
fn spec(cluster_ips: Both, more: &Value) -> Value {
    let ports = json!([{"port": 80, "nodePort": 30_080}]);
    let mut spec = json!({"clusterIPs": cluster_ips, "ports": ports});
    spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    spec
}

#[tokio::test(start_paused = true)]
async fn what_several_services_want_goes_to_the_oldest_and_then_to_the_next() {
    let external = ["198.51.100.1", "2001:db8:1::1"];
    for (shared, contested) in [
        (json!({"externalIPs": external}), (external, 80)),
        (json!({"type": "LoadBalancer"}), (["203.0.113.1", "2001:db8:2::1"], 80)),
        (json!({"type": "NodePort"}), (NODE_PORTS, 30_080)),
    ] {
        // By age; and where that is the same, by UID. The name would have it the other way round.
        for ages in [[(1, "2"), (2, "1")], [(1, "1"), (1, "2")]] {
            let of = |name, at: usize| {
                let (created, uid) = ages[at];
                let mut service = written(name, created, &spec(own(at), &shared));
                service["metadata"]["uid"] = json!(uid);
                event(&service)
            };
            let (first, second) = (of("z", 0), of("a", 1));
            let name = format!("{shared} {ages:?}");
            let both = [first.clone(), second.clone()];
            let alone = |service| std::slice::from_ref(service);
            for (end, owner) in [(&both[..], "z"), (alone(&second), "a"), (alone(&first), "z")] {
                let left = live(&[end.to_vec()]).await;
                assert_there(&left, contested, &format!("ns/{owner}: "), &name);
            }
            // In whichever order they come.
            ends_as(&name, &[vec![second.clone()], vec![first.clone()]], &both).await;
            ends_as(&name, &[vec![first.clone()], vec![second.clone()]], &both).await;
            for batches in [
                vec![both.to_vec(), vec![gone("z")]],
                vec![vec![second.clone()], vec![first.clone()], vec![gone("z")]],
            ] {
                ends_as(&name, &batches, alone(&second)).await;
            }
            ends_as(&name, &[both.to_vec(), vec![gone("a")]], alone(&first)).await;
        }
    }
}

/// However old it is, and whichever comes first.
#[tokio::test(start_paused = true)]
async fn a_cluster_ip_is_its_own_service_s() {
    let cluster_ips = [own(0), own(1)].concat();
    let cluster_ips = json!({"externalIPs": cluster_ips});
    let both =
        [object("a", 1, &spec(own(0), &cluster_ips)), object("b", 2, &spec(own(1), &cluster_ips))];
    let left = live(&[both.to_vec()]).await;
    assert_there(&left, (own(0), 80), "ns/a: cluster-ip", "both");
    assert_there(&left, (own(1), 80), "ns/b: cluster-ip", "both");
    let mut in_turn = both.clone().map(|one| vec![one]);
    ends_as("the older first, which has the address meanwhile", &in_turn, &both).await;
    in_turn.reverse();
    ends_as("the younger first", &in_turn, &both).await;
    ends_as("the owner comes and goes", &[both.to_vec(), vec![gone("b")]], &both[..1]).await;
}

#[tokio::test(start_paused = true)]
async fn addresses_and_node_ports_move_between_services() {
    let address = ["198.51.100.1", "2001:db8:1::1"];
    let ports =
        |number: u16| json!({"type": "NodePort", "ports": [{"port": 80, "nodePort": number}]});
    let external = json!({"externalIPs": address});
    let ingress = address.map(|ip| json!({"ip": ip}));
    let balanced = json!({"type": "LoadBalancer", "ingress": ingress});
    let unbalanced = json!({"type": "LoadBalancer", "ingress": []});
    let at = (address, 80);
    let [first, second] = [30_001, 30_002].map(|port| (NODE_PORTS, port));
    for (name, [a_before, b_before], [a_after, b_after], [before, after]) in [
        (
            "an external IP",
            [external.clone(), json!({})],
            [json!({}), external.clone()],
            [vec![(at, "ns/a: external-ip")], vec![(at, "ns/b: external-ip")]],
        ),
        (
            "a load balancer's address",
            [balanced.clone(), unbalanced.clone()],
            [unbalanced, balanced.clone()],
            [vec![(at, "ns/a: load-balancer")], vec![(at, "ns/b: load-balancer")]],
        ),
        (
            // Both want it all the time, and the older one has it.
            "one that becomes the other",
            [external.clone(), balanced.clone()],
            [balanced, external],
            [vec![(at, "ns/a: external-ip")], vec![(at, "ns/a: load-balancer")]],
        ),
        (
            "node ports that change places",
            [ports(30_001), ports(30_002)],
            [ports(30_002), ports(30_001)],
            [
                vec![(first, "ns/a: node-port"), (second, "ns/b: node-port")],
                vec![(first, "ns/b: node-port"), (second, "ns/a: node-port")],
            ],
        ),
    ] {
        let a = [a_before, a_after].map(|more| object("a", 1, &spec(own(0), &more)));
        let b = [b_before, b_after].map(|more| object("b", 2, &spec(own(1), &more)));
        let [[a_before, a_after], [b_before, b_after]] = [a, b];
        let start = vec![a_before, b_before];
        let end = [a_after.clone(), b_after.clone()];
        for (batch, expected) in [(start.clone(), before), (end.to_vec(), after)] {
            let left = live(&[batch]).await;
            for (frontend, line) in expected {
                assert_there(&left, frontend, line, name);
            }
        }
        ends_as(name, &[start.clone(), end.to_vec()], &end).await;
        ends_as(name, &[start.clone(), vec![a_after.clone()], vec![b_after.clone()]], &end).await;
        ends_as(name, &[start, vec![b_after], vec![a_after]], &end).await;
    }
}

#[tokio::test(start_paused = true)]
async fn the_node_s_own_address_may_be_a_load_balancer_s() {
    let address = ["192.0.2.1", "2001:db8::1"];
    let ingress = address.map(|ip| json!({"ip": ip}));
    let balanced = json!({"type": "LoadBalancer", "ingress": ingress});
    let balanced = object("a", 1, &spec(own(0), &balanced));
    let here = Event::Apply(Object::Node(Node {
        name: "me".into(),
        addresses: address.map(|ip| ip.parse().unwrap()).to_vec(),
        ..Node::default()
    }));
    let end = [here.clone(), balanced.clone()];
    let tables = live(&[end.to_vec()]).await;
    assert_there(&tables, (address, 80), "ns/a: load-balancer", "both");
    for ((tables, _), address) in tables.iter().zip(address) {
        assert!(tables.contains(&format!("{address} node\n")), "{tables}");
    }
    ends_as("the node comes later", &[vec![balanced.clone()], vec![here.clone()]], &end).await;
    let without = [here.clone()];
    ends_as("the Service goes", &[vec![here], vec![balanced], vec![gone("a")]], &without).await;
}
