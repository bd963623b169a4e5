// SPDX-License-Identifier: Apache-2.0

//! A client of an API server, for what tests themselves ask and change.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::{Method, Request, Response, header};
use rustls::ClientConfig;
use serde_json::Value;
use tokio::runtime::Handle;
use tokio::time::timeout;

use super::connection::Connection;
use super::kind::{Kind, name_of};
use super::watch::INITIAL_EVENTS_END;

/// How many bytes the line at the end of a list has, at most.
const LAST_LINE: usize = 400;

/// How long a list may take.
const PATIENCE: Duration = Duration::from_mins(2);

/// An API server, as its administrator reaches it.
#[derive(Clone, Debug)]
pub struct Upstream {
    /// Its address.
    pub address: SocketAddr,
    /// The administrator's certificate; plain HTTP without it.
    pub tls: Option<Arc<ClientConfig>>,
}

impl Upstream {
    /// Sends a request on a connection of its own.
    pub(super) async fn send(&self, request: Request<Full<Bytes>>) -> Result<Response<Incoming>> {
        Connection::open(self).await?.send(request).await
    }

    /// Reads the objects of a kind as a stream, as far as these are a list, on a connection of its own,
    /// and returns how many bytes came.
    pub async fn stream_length(&self, kind: Kind) -> Result<usize> {
        let path = kind.path();
        let read = timeout(PATIENCE, self.read_stream(kind)).await;
        read.with_context(|| format!("{path}: the list has not ended after {PATIENCE:?}"))?
    }

    async fn read_stream(&self, kind: Kind) -> Result<usize> {
        let path = format!(
            "{}?watch=true&allowWatchBookmarks=true&sendInitialEvents=true\
             &resourceVersionMatch=NotOlderThan",
            kind.path(),
        );
        let mut body = self.send(self.get(&path)?).await?.into_body();
        let (mut length, mut tail) = (0, Tail::default());
        while let Some(frame) = body.frame().await {
            if let Ok(part) = frame?.into_data() {
                length += part.len();
                if tail.is_end_with(&part) {
                    return Ok(length);
                }
            }
        }
        bail!("{path}: the list has no end")
    }

    /// A request without a body.
    pub(super) fn get(&self, path: &str) -> Result<Request<Full<Bytes>>> {
        Ok(Request::builder()
            .uri(path)
            .header(header::HOST, self.address.to_string())
            .header(header::ACCEPT, "application/json")
            .body(Full::default())?)
    }
}

/// The last bytes of a stream that comes in parts.
#[derive(Default)]
struct Tail(Vec<u8>);

impl Tail {
    /// Whether a list ends with this part, which may have but a piece of the line that says so.
    fn is_end_with(&mut self, part: &[u8]) -> bool {
        self.0.extend_from_slice(&part[part.len().saturating_sub(LAST_LINE)..]);
        drop(self.0.drain(..self.0.len().saturating_sub(LAST_LINE)));
        let mark = INITIAL_EVENTS_END.as_bytes();
        self.0.windows(mark.len()).any(|bytes| bytes == mark)
    }
}

/// A client of an API server.
#[derive(Clone, Debug)]
pub struct ApiClient {
    upstream: Upstream,
    runtime: Handle,
}

impl ApiClient {
    /// A client whose requests are made on this runtime.
    #[must_use]
    pub const fn new(upstream: Upstream, runtime: Handle) -> Self {
        Self { upstream, runtime }
    }

    fn ask(&self, method: Method, path: &str, body: Option<&Value>) -> Result<(u16, Value)> {
        let asked = async { self.upstream.connect().await?.ask(method, path, body).await };
        self.runtime.block_on(asked).with_context(|| format!("asking for {path}"))
    }

    /// What is at a path.
    pub fn get(&self, path: &str) -> Result<Value> {
        match self.ask(Method::GET, path, None)? {
            (200, value) => Ok(value),
            (code, value) => bail!("{path}: {code} {value}"),
        }
    }

    /// Whether the server says that it is ready.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.ask(Method::GET, "/readyz", None).is_ok_and(|(code, _)| code == 200)
    }

    /// All objects of a kind, as a list that says what its items are.
    pub fn list(&self, kind: Kind) -> Result<Value> {
        self.get(&kind.path())
    }

    /// Makes an object, or replaces it. What the server alone may set of it stays.
    pub fn apply(&self, object: &Value) -> Result<()> {
        let (kind, name) = place(object)?;
        let (namespace, name) = name;
        let all = kind.path_in(&namespace);
        let path = format!("{all}/{name}");
        let (code, made) = match self.ask(Method::GET, &path, None)? {
            (404, _) => self.ask(Method::POST, &all, Some(object))?,
            (_, before) => {
                let mut object = object.clone();
                for field in ["resourceVersion", "uid"] {
                    object["metadata"][field] = before["metadata"][field].clone();
                }
                self.ask(Method::PUT, &path, Some(&object))?
            }
        };
        ensure!(matches!(code, 200 | 201), "{path}: {code} {made}");
        if kind == Kind::Node
            && object.get("status").is_some()
            && made["status"] != object["status"]
        {
            // Where the status is a matter of its own, it is written by itself.
            let mut node = made;
            node["status"] = object["status"].clone();
            let (code, made) = self.ask(Method::PUT, &format!("{path}/status"), Some(&node))?;
            ensure!(code == 200, "{path}/status: {code} {made}");
        }
        Ok(())
    }

    /// Removes an object, if it is there.
    pub fn delete(&self, object: &Value) -> Result<()> {
        let (kind, (namespace, name)) = place(object)?;
        let path = format!("{}/{name}", kind.path_in(&namespace));
        let (code, answer) = self.ask(Method::DELETE, &path, None)?;
        ensure!(matches!(code, 200 | 202 | 404), "{path}: {code} {answer}");
        Ok(())
    }

    /// Makes a namespace.
    pub fn make_namespace(&self, name: &str) -> Result<()> {
        let object = serde_json::json!({
            "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": name },
        });
        let (code, answer) = self.ask(Method::POST, "/api/v1/namespaces", Some(&object))?;
        ensure!(matches!(code, 201 | 409), "{name}: {code} {answer}");
        Ok(())
    }
}

/// The kind of an object that says what it is, its namespace and its name.
pub(super) fn place(object: &Value) -> Result<(Kind, (String, String))> {
    let kind = Kind::of(object).with_context(|| format!("the kind of {object}"))?;
    Ok((kind, name_of(object)))
}

#[cfg(test)]
mod tests {
    use super::{INITIAL_EVENTS_END, Tail};

    #[test]
    fn the_end_of_a_list_is_found_however_it_is_split() {
        let events = r#"{"type":"ADDED"}"#.repeat(100);
        let end = format!(r#"{{"annotations":{{"{INITIAL_EVENTS_END}":"true"}}}}"#);
        let all = format!("{events}{end}\n");
        let met = all.find(INITIAL_EVENTS_END).unwrap() + INITIAL_EVENTS_END.len();
        for split in 0..met {
            let (first, second) = all.as_bytes().split_at(split);
            let mut tail = Tail::default();
            assert!(!tail.is_end_with(first), "{split}");
            assert!(tail.is_end_with(second), "{split}");
        }
        let mut tail = Tail::default();
        let parts = all.as_bytes().chunks(7).position(|part| tail.is_end_with(part));
        assert_eq!(parts, Some((met - 1) / 7));
    }
}
