// SPDX-License-Identifier: Apache-2.0

//! Connections to an API server that are used for many requests.

use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, Result, ensure};
use futures_util::future::try_join_all;
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::{Method, Request, Response, header};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::client::{Upstream, place};

/// How many connections make many objects.
const MAKERS: usize = 16;

/// A connection to an API server.
#[derive(Debug)]
pub struct Connection {
    host: String,
    sender: SendRequest<Full<Bytes>>,
}

impl Connection {
    /// Connects, by TLS where there is a certificate.
    pub(super) async fn open(upstream: &Upstream) -> Result<Self> {
        let stream = TcpStream::connect(upstream.address).await?;
        // Or the second of two small segments waits for the first one's acknowledgement.
        stream.set_nodelay(true)?;
        let sender = match &upstream.tls {
            None => {
                let (sender, connection) = handshake(TokioIo::new(stream)).await?;
                drop(tokio::spawn(connection));
                sender
            }
            Some(tls) => {
                let name = ServerName::from(upstream.address.ip());
                let stream = TlsConnector::from(Arc::clone(tls)).connect(name, stream).await?;
                let (sender, connection) = handshake(TokioIo::new(stream)).await?;
                drop(tokio::spawn(connection));
                sender
            }
        };
        Ok(Self { host: upstream.address.to_string(), sender })
    }

    pub(super) async fn send(
        &mut self,
        request: Request<Full<Bytes>>,
    ) -> Result<Response<Incoming>> {
        self.sender.ready().await?;
        Ok(self.sender.send_request(request).await?)
    }

    /// Sends a request, and returns the status and the body of the answer; null if it is no JSON.
    pub(super) async fn ask(
        &mut self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<(u16, Value)> {
        let body = body.map(Value::to_string).unwrap_or_default();
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, &self.host)
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::ACCEPT, "application/json")
            .body(Full::new(Bytes::from(body)))?;
        let response = self.send(request).await?;
        let code = response.status().as_u16();
        let body = response.into_body().collect().await?.to_bytes();
        Ok((code, serde_json::from_slice(&body).unwrap_or_default()))
    }

    /// Makes an object; one that is there stays as it is.
    async fn make(&mut self, object: &Value) -> Result<()> {
        let (kind, (namespace, name)) = place(object)?;
        let path = kind.path_in(&namespace);
        let (code, answer) = self.ask(Method::POST, &path, Some(object)).await?;
        ensure!(matches!(code, 201 | 409), "{path}/{name}: {code} {answer}");
        Ok(())
    }

    /// Replaces an object, whatever version of it is there.
    pub async fn replace(&mut self, object: &Value) -> Result<()> {
        let (kind, (namespace, name)) = place(object)?;
        let path = format!("{}/{name}", kind.path_in(&namespace));
        let mut object = object.clone();
        // The server has given it another one.
        if let Some(metadata) = object["metadata"].as_object_mut() {
            drop(metadata.remove("uid"));
        }
        let asked = self.ask(Method::PUT, &path, Some(&object)).await;
        let (code, answer) = asked.with_context(|| format!("replacing {path}"))?;
        ensure!(code == 200, "{path}: {code} {answer}");
        Ok(())
    }
}

impl Upstream {
    /// Opens a connection for many requests.
    pub async fn connect(&self) -> Result<Connection> {
        Connection::open(self).await.with_context(|| format!("connecting to {}", self.address))
    }

    /// Makes objects in no order; those that are there stay as they are.
    pub async fn make_all(&self, objects: impl Iterator<Item = Value>) -> Result<()> {
        let objects = Mutex::new(objects);
        let next = || objects.lock().unwrap_or_else(PoisonError::into_inner).next();
        let makers = (0..MAKERS).map(async |_| {
            let mut connection = self.connect().await?;
            while let Some(object) = next() {
                connection.make(&object).await?;
            }
            anyhow::Ok(())
        });
        let _: Vec<()> = try_join_all(makers).await?;
        Ok(())
    }
}
