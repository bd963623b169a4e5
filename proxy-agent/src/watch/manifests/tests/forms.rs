// SPDX-License-Identifier: Apache-2.0
//! What may stand in a file.

use super::{Bench, NOTHING, service};

#[test]
fn documents_of_yaml() {
    let mut bench = Bench::new();
    let text = format!(
        "# Two Services, and a comment of its own.\n---\n{}---\n# nothing\n---\n{}",
        service("a", "10.0.0.1"),
        service("b", "10.0.0.2")
    );
    let (events, reports) = bench.load("services.yml", &text);
    assert_eq!(events, ["+Service ns/a 10.0.0.1", "+Service ns/b 10.0.0.2"]);
    assert_eq!(reports, NOTHING);
}

#[test]
fn lists_as_kubectl_prints_them() {
    let mut bench = Bench::new();
    let text = r#"
apiVersion: v1
kind: List
metadata: {resourceVersion: ""}
items:
- apiVersion: v1
  kind: Node
  metadata: {name: one, labels: {topology.kubernetes.io/zone: a}}
- apiVersion: discovery.k8s.io/v1
  kind: EndpointSlice
  metadata: {name: a-1, labels: {kubernetes.io/service-name: a}}
  addressType: IPv6
  endpoints: [{addresses: ["fd00::1"]}]
  ports: [{name: "", port: 8080, protocol: TCP}]
- apiVersion: networking.k8s.io/v1
  kind: ServiceCIDR
  metadata: {name: kubernetes}
  spec: {cidrs: ["10.96.0.0/16"]}
- apiVersion: v1
  kind: Pod
  metadata: {name: passed-over}
"#;
    let (events, reports) = bench.load("all.yaml", text);
    let expected = ["+EndpointSlice default/a-1", "+Node one", "+ServiceCIDR kubernetes"];
    assert_eq!(events, expected);
    assert_eq!(reports, NOTHING);
}

#[test]
fn lists_as_the_api_prints_them() {
    let mut bench = Bench::new();
    let text = r#"{"kind": "ServiceList", "apiVersion": "v1", "metadata": {}, "items": [
        {"metadata": {"name": "a", "namespace": "ns"}, "spec": {"clusterIP": "10.0.0.1"}}]}
        {"kind": "NodeList", "apiVersion": "v1", "items": [{"metadata": {"name": "one"}}]}
        {"kind": "EndpointSliceList", "apiVersion": "discovery.k8s.io/v1", "items": null}"#;
    let (events, reports) = bench.load("lists.json", text);
    assert_eq!(events, ["+Service ns/a 10.0.0.1", "+Node one"]);
    assert_eq!(reports, NOTHING);
}

#[test]
fn kinds_of_other_groups_are_passed_over() {
    let mut bench = Bench::new();
    let text = "apiVersion: serving.knative.dev/v1\nkind: Service\nmetadata: {name: a}\n\
                ---\napiVersion: apps/v1\nkind: DeploymentList\nitems: [{}]\n";
    assert_eq!(bench.load("other.yaml", text), (Vec::new(), Vec::new()));
}

#[test]
fn what_is_wrong_is_said_and_the_rest_goes_on() {
    let mut bench = Bench::new();
    let text = format!(
        "{}---\nkind: Service\napiVersion: v1\nmetadata: {{name: b}}\n\
         spec: {{clusterIP: 10.0.0.2, ports: [{{port: http}}]}}\n---\nspec: {{}}\n\
         ---\napiVersion: v1\nkind: List\nitems: [{{}}]\n\
         ---\napiVersion: discovery.k8s.io/v1beta1\nkind: EndpointSlice\nmetadata: {{name: x}}\n\
         ---\n{}",
        service("a", "10.0.0.1"),
        service("c", "127.0.0.1")
    );
    let (events, reports) = bench.load("some.yaml", &text);
    assert_eq!(events, ["+Service ns/a 10.0.0.1"]);
    let expected = [
        "Service default/b: spec.ports[0].port: invalid type: string \"http\", expected i32",
        "document 3: kind: missing",
        "document 4, items[0]: kind: missing",
        "EndpointSlice default/x: apiVersion: \"discovery.k8s.io/v1beta1\" is not \
         discovery.k8s.io/v1",
        "Service ns/c: spec.clusterIP: 127.0.0.1 is a loopback address",
    ];
    assert_eq!(reports, expected.map(|report| format!("some.yaml: {report}")));
}

#[test]
fn only_manifests_are_read() {
    let mut bench = Bench::new();
    for name in ["notes.txt", ".hidden.yaml", "yaml", "a.yaml~"] {
        bench.write(name, "not: [a manifest");
    }
    std::fs::create_dir(bench.path().join("directory.yaml")).unwrap();
    assert_eq!(bench.scan(), (Vec::new(), Vec::new()));
}

#[test]
fn a_whole_cluster_fits_in_a_file() {
    let mut bench = Bench::new();
    let documents = (0..2000).map(|n| service(&format!("s{n}"), "10.0.0.1"));
    let text = documents.collect::<Vec<_>>().join("---\n");
    let (events, reports) = bench.load("all.yaml", &text);
    assert_eq!((events.len(), reports.len()), (2000, 0));
}
