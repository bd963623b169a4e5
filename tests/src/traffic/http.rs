// SPDX-License-Identifier: Apache-2.0

//! HTTP/1.1, one request a connection.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;

use http_body_util::{BodyExt as _, Empty, Full};
use hyper::body::Bytes;
use hyper::service::service_fn;
use hyper::{Request, Response, client, header, server};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// Answers the requests of a connection with `body`.
pub(super) async fn serve(stream: TcpStream, body: String) {
    let body = Bytes::from(body);
    let service = service_fn(move |_| {
        let response = Response::new(Full::new(body.clone()));
        async move { Ok::<_, Infallible>(response) }
    });
    // The client may be gone, or leave at any time.
    let _ =
        server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

/// Asks for `/` and returns the body.
pub(super) async fn get(stream: TcpStream, host: SocketAddr) -> io::Result<String> {
    let handshake = client::conn::http1::handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = handshake.map_err(io::Error::other)?;
    let connection = tokio::spawn(connection);
    let request = Request::get("/")
        .header(header::HOST, host.to_string())
        .header(header::CONNECTION, "close")
        .body(Empty::<Bytes>::new())
        .map_err(io::Error::other)?;
    let response = sender.send_request(request).await.map_err(io::Error::other)?;
    let body = response.into_body().collect().await.map_err(io::Error::other)?.to_bytes();
    connection.abort();
    String::from_utf8(body.into()).map_err(io::Error::other)
}
