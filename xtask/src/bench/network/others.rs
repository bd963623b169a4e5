// SPDX-License-Identifier: Apache-2.0
//! The Services beside the one that is measured, as the agent gets them: those of
//! [`kube_proxy::many`], dual-stack.

use std::fmt::{self, Write as _};

use anyhow::Result;
use proxy_tests::{family::IpFamily, manifests::Manifests};

use crate::bench::kube_proxy::{self, ServicePort};

/// How many of them are in a file.
const IN_A_FILE: usize = 1000;

/// Writes so many of them.
///
/// # Errors
///
/// If files cannot be written.
pub(super) fn write(manifests: &Manifests, services: u32) -> Result<()> {
    let [v4, v6] = IpFamily::ALL.map(|family| kube_proxy::many(family, services));
    let mut services = v4.zip(v6).map(|(v4, v6)| [v4, v6]);
    for file in 0.. {
        let mut text = String::new();
        for families in services.by_ref().take(IN_A_FILE) {
            write_service(&mut text, &families)?;
        }
        if text.is_empty() {
            break;
        }
        manifests.write(&format!("others-{file}.json"), &text)?;
    }
    Ok(())
}

/// A Service and its EndpointSlices, each an object; as text, for there may be 100,000 of them.
fn write_service(text: &mut String, families: &[ServicePort; 2]) -> fmt::Result {
    let [v4, v6] = families.each_ref().map(|port| port.frontend);
    let ServicePort { namespace, service, name, .. } = &families[0];
    writeln!(
        text,
        r#"{{"apiVersion":"v1","kind":"Service","metadata":{{"namespace":"{namespace}","name":"{service}"}},"#,
    )?;
    writeln!(
        text,
        r#""spec":{{"type":"ClusterIP","clusterIP":"{0}","clusterIPs":["{0}","{1}"],"ipFamilies":["IPv4","IPv6"],"#,
        v4.ip(),
        v6.ip(),
    )?;
    writeln!(text, r#""ports":[{{"name":"{name}","protocol":"TCP","port":{}}}]}}}}"#, v4.port())?;
    for (port, family) in families.iter().zip(IpFamily::ALL) {
        writeln!(
            text,
            r#"{{"apiVersion":"discovery.k8s.io/v1","kind":"EndpointSlice","addressType":"{0}","metadata":{{"#,
            family.name(),
        )?;
        writeln!(
            text,
            r#""namespace":"{namespace}","name":"{service}-{0}","labels":{{"kubernetes.io/service-name":"{service}"}}}},"#,
            family.name().to_lowercase(),
        )?;
        let target = port.endpoints.first().map_or(0, |endpoint| endpoint.address.port());
        write!(
            text,
            r#""ports":[{{"name":"{name}","protocol":"TCP","port":{target}}}],"endpoints":["#
        )?;
        for (place, endpoint) in port.endpoints.iter().enumerate() {
            let comma = if place == 0 { "" } else { "," };
            write!(text, r#"{comma}{{"addresses":["{}"]}}"#, endpoint.address.ip())?;
        }
        writeln!(text, "]}}")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::{Deserializer, Value};

    use super::{IpFamily, kube_proxy, write_service};

    #[test]
    fn services_are_objects_as_the_api_has_them() {
        let mut text = String::new();
        let [mut v4, mut v6] = IpFamily::ALL.map(|family| kube_proxy::many(family, 1));
        write_service(&mut text, &[v4.next().unwrap(), v6.next().unwrap()]).unwrap();
        let objects: Vec<Value> =
            Deserializer::from_str(&text).into_iter().collect::<Result<_, _>>().unwrap();
        let [service, slices @ ..] = &objects[..] else { panic!("{text}") };
        assert_eq!(service["spec"]["clusterIPs"].as_array().unwrap().len(), 2);
        assert_eq!(service["spec"]["ports"][0]["port"], 80);
        for (slice, family) in slices.iter().zip(IpFamily::ALL) {
            assert_eq!(slice["addressType"], family.name());
            assert_eq!(slice["endpoints"].as_array().unwrap().len(), 10);
            let name = &service["metadata"]["name"];
            assert_eq!(slice["metadata"]["labels"]["kubernetes.io/service-name"], *name);
        }
        assert_eq!(slices.len(), 2);
    }
}
