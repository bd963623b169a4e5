// SPDX-License-Identifier: Apache-2.0
//! Lines, as nearly all are and otherwise.

use super::*;
use crate::watch::api::Service;

const SERVICE: &str = r#"{"metadata": {"name": "a", "namespace": "ns", "resourceVersion": "7",
    "managedFields": [{"f:spec": {}}]}, "spec": {"clusterIP": "10.0.0.1", "ports": [{"port": 80}]}}"#;

fn read(text: &str) -> String {
    format!("{:?}", line::<Service>(text.as_bytes()))
}

/// A line about an object.
fn told(type_: &str, object: &str) -> String {
    read(&format!(r#"{{"type": "{type_}", "object": {object}}}"#))
}

#[test]
fn an_object_is_the_same_in_all_lines_and_lists() {
    let added = told("ADDED", SERVICE);
    assert!(added.starts_with("Ok(Apply(") && added.contains("10.0.0.1"), "{added}");
    assert_eq!(told("MODIFIED", SERVICE), added);
    assert_eq!(read(&format!(r#"{{"more": 1, "object": {SERVICE}, "type": "ADDED"}}"#)), added);
    let item = item::<Service>(SERVICE).unwrap();
    assert_eq!(format!("{:?}", Ok::<_, Failure>(Line::Apply(item))), added);
}

#[test]
fn the_type_says_what_has_happened() {
    let deleted = told("DELETED", SERVICE);
    assert!(deleted.starts_with("Ok(Delete(") && deleted.contains(r#""7""#), "{deleted}");
    assert!(told("BOOKMARK", SERVICE).starts_with("Ok(Bookmark("));
    assert!(told("ERROR", r#"{"code": 410, "reason": "Expired"}"#).contains("Expired"));
    assert!(told("OTHER", SERVICE).contains("Garbled"));
}

#[test]
fn what_cannot_be_used_is_said_to_be_there() {
    for (right, wrong) in [(r#""port": 80"#, r#""port": "http""#), ("10.0.0.1", "10.0.0.256")] {
        let object = SERVICE.replace(right, wrong);
        let line = told("ADDED", &object);
        let item = format!("{:?}", item::<Service>(&object).unwrap());
        for told in [line, item] {
            assert!(told.contains("Unusable") && told.contains(r#""a""#), "{told}");
        }
    }
    assert_eq!(told("ADDED", "{}"), "Ok(Nameless)");
}

#[test]
fn what_is_no_text_is_garbled() {
    let mut text = format!(r#"{{"type": "ADDED", "object": {SERVICE}}}"#).into_bytes();
    let place = text.windows(6).position(|part| part == b"f:spec").unwrap();
    text[place] = 0xff;
    assert!(matches!(line::<Service>(&text), Err(Failure::Garbled(_))));
}
