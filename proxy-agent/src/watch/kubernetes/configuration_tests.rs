// SPDX-License-Identifier: Apache-2.0
//! What is said of configurations.

use std::fs;

use super::*;
use crate::chain::chain;

/// Loads a kubeconfig with this cluster and this user, in JSON, which is YAML.
fn load(cluster: &str, user: &str, master: Option<&str>) -> Result<Access, String> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("kubeconfig");
    let text = format!(
        r#"{{"apiVersion": "v1", "kind": "Config", "current-context": "c",
            "clusters": [{{"name": "k", "cluster": {cluster}}}],
            "users": [{{"name": "u", "user": {user}}}],
            "contexts": [{{"name": "c", "context": {{"cluster": "k", "user": "u"}}}}]}}"#
    );
    fs::write(&path, text).unwrap();
    let master = master.map(|master| master.parse().unwrap());
    Configuration::new(Some(path), master).load().map_err(|error| chain(&error))
}

const SERVER: &str = r#"{"server": "https://[fd00::1]:6443"}"#;

#[test]
fn the_server_and_the_token_are_found() {
    let Access { config, token_file } = load(SERVER, "{}", None).unwrap();
    assert_eq!(config.cluster_url.host(), Some("[fd00::1]"));
    assert_eq!(token_file, None);
    let user = r#"{"token": "old", "tokenFile": "/run/token"}"#;
    let Access { config, token_file } = load(SERVER, user, None).unwrap();
    assert_eq!(token_file, Some(PathBuf::from("/run/token")));
    assert!(config.auth_info.token.is_none());
    let Access { config, .. } = load(SERVER, "{}", Some("https://192.0.2.1")).unwrap();
    assert_eq!(config.cluster_url.host(), Some("192.0.2.1"));
}

#[test]
fn each_mistake_is_told_in_a_sentence() {
    let plugin = r#"{"exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": "x",
                     "interactiveMode": "Always"}}"#;
    for (cluster, user, master, expected) in [
        ("{}", "{}", None, "cluster url is missing"),
        (r#"{"server": "https://a b"}"#, "{}", None, "failed to parse cluster url"),
        (SERVER, "{}", Some("192.0.2.1:6443"), "is not the address of a server"),
        (SERVER, plugin, None, "wants a terminal"),
        (
            r#"{"server": "https://a", "certificate-authority": "/no/where"}"#,
            "{}",
            None,
            "/no/where",
        ),
        (
            r#"{"server": "https://a", "certificate-authority-data": "AAAA"}"#,
            "{}",
            None,
            "has no certificate",
        ),
        (
            SERVER,
            r#"{"client-certificate-data": "eA==", "client-key-data": "eA=="}"#,
            None,
            "cannot use the certificates",
        ),
        (r#"{"server": "https://a", "proxy-url": "ftp://p"}"#, "{}", None, "proxy-url"),
    ] {
        let error = load(cluster, user, master).unwrap_err();
        assert!(error.contains(expected), "{error}");
        assert!(!error.contains('\n'), "{error}");
    }
    let missing = Configuration::new(Some("/no/kubeconfig".into()), None).load().unwrap_err();
    assert!(chain(&missing).starts_with("cannot use the kubeconfig /no/kubeconfig: "));
}

#[test]
fn an_address_alone_is_enough() {
    let master = "http://[::1]:8001".parse().unwrap();
    let Access { config, token_file } = Configuration::new(None, Some(master)).load().unwrap();
    assert_eq!((config.cluster_url.port_u16(), token_file), (Some(8001), None));
}

#[test]
fn a_pod_without_an_api_is_told_what_to_give() {
    if env::var_os(HOST_VARIABLE).is_none() {
        let nothing = Configuration::new(None, None).load().unwrap_err();
        assert!(nothing.to_string().contains("--kubeconfig or --manifests"));
    }
}
