// SPDX-License-Identifier: Apache-2.0

//! An object as a server keeps it: the text that it sends, and what selectors look at.
//!
//! Lists of a hundred thousand objects are sent as quickly as a connection takes them.

use hyper::body::Bytes;
use serde_json::Value;

use super::kind::Kind;

/// An object of a server.
#[derive(Debug)]
pub(super) struct Object {
    kind: Kind,
    /// JSON, without what says of which kind it is.
    text: Bytes,
    /// Labels, by name.
    labels: Vec<(String, String)>,
    /// Fields that selectors know, by path.
    fields: Vec<(&'static str, String)>,
}

impl Object {
    /// An object of this kind.
    pub(super) fn new(kind: Kind, mut value: Value) -> Self {
        let labels = value["metadata"]["labels"].as_object().into_iter().flatten();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let labels = labels.map(|(name, value)| (name.clone(), text(value))).collect();
        let fields = kind.selectable().iter().map(|path| {
            let pointer = format!("/{}", path.replace('.', "/"));
            (*path, value.pointer(&pointer).map(text).unwrap_or_default())
        });
        let fields = fields.collect();
        if let Some(members) = value.as_object_mut() {
            drop((members.remove("kind"), members.remove("apiVersion")));
        }
        Self { kind, text: value.to_string().into(), labels, fields }
    }

    /// The value of a label.
    pub(super) fn label(&self, name: &str) -> Option<&str> {
        let label = self.labels.iter().find(|(known, _)| known == name);
        label.map(|(_, value)| value.as_str())
    }

    /// The value of a field; empty where it is not there.
    pub(super) fn field(&self, path: &str) -> &str {
        let field = self.fields.iter().find(|(known, _)| *known == path);
        field.map_or("", |(_, value)| value)
    }

    /// It as an item of a list, which does not say what it is.
    pub(super) fn item(&self) -> &[u8] {
        &self.text
    }

    /// It as a value that says what it is.
    pub(super) fn value(&self) -> Value {
        let mut value: Value = serde_json::from_slice(&self.text).unwrap_or_default();
        value["kind"] = self.kind.name().into();
        value["apiVersion"] = self.kind.api_version().into();
        value
    }

    /// Appends the line of an event of the type `event`.
    pub(super) fn write_line(&self, event: &str, to: &mut Vec<u8>) {
        let (kind, version) = (self.kind.name(), self.kind.api_version());
        let head =
            format!(r#"{{"type":"{event}","object":{{"kind":"{kind}","apiVersion":"{version}","#);
        to.extend_from_slice(head.as_bytes());
        // Every object has metadata.
        to.extend_from_slice(&self.text[1..]);
        to.extend_from_slice(b"}\n");
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{Kind, Object};

    #[test]
    fn an_object_comes_out_as_it_went_in() {
        let service = json!({
            "kind": "Service", "apiVersion": "v1",
            "metadata": {"name": "n", "labels": {"a": "1"}}, "spec": {"clusterIP": "None"},
        });
        let object = Object::new(Kind::Service, service.clone());
        assert_eq!(object.value(), service);
        let mut line = Vec::new();
        object.write_line("ADDED", &mut line);
        let event: Value = serde_json::from_slice(&line).unwrap();
        assert_eq!(event, json!({"type": "ADDED", "object": service}));
        assert_eq!(line.split(|byte| *byte == b'\n').count(), 2);
        assert_eq!(object.label("a"), Some("1"));
        assert_eq!(object.field("spec.clusterIP"), "None");
        let item: Value = serde_json::from_slice(object.item()).unwrap();
        assert!(item.get("kind").is_none());
    }
}
