// SPDX-License-Identifier: Apache-2.0
//! How requests are made, with credentials that change.

use std::{
    fs,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body_util::BodyExt as _;
use kube::{Client, client::Body, core::Status};
use tokio::{
    sync,
    task::{self, JoinHandle},
    time::timeout,
};
use tower::service_fn;

use super::{
    Timing,
    configuration::{Access, Configuration},
    failure::Failure,
    transport,
};
use crate::chain::chain;

/// Makes requests. The client is made anew, from files that are read again and with connections of
/// its own, when the one before is of no use any more.
#[derive(Debug)]
pub(super) struct Connection {
    configuration: Configuration,
    timing: Timing,
    state: sync::Mutex<State>,
}

/// The client, and the one that is to follow it.
#[derive(Debug, Default)]
struct State {
    current: Option<Current>,
    /// A plugin that hangs is waited for again, and not run once more.
    making: Option<JoinHandle<Result<Current, Failure>>>,
}

#[derive(Clone)]
struct Current {
    client: Client,
    token: Option<Arc<Token>>,
}

impl std::fmt::Debug for Current {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Current").field("token", &self.token).finish_non_exhaustive()
    }
}

/// An answer that is no error.
pub(super) struct Answer {
    body: Body,
}

impl Connection {
    pub(super) fn new(configuration: Configuration, timing: Timing) -> Self {
        Self { configuration, timing, state: sync::Mutex::default() }
    }

    /// Asks for what is at a path.
    pub(super) async fn get(&self, path: &str) -> Result<Answer, Failure> {
        let request = Request::get(path).header(header::ACCEPT, "application/json");
        let request = request.body(Body::empty());
        let request = request.map_err(|error| Failure::Unreachable(error.to_string()))?;
        let limit = self.timing.answer;
        let answer = async {
            let answer = self.send(request).await?;
            if answer.status().is_success() {
                return Ok(Answer { body: answer.into_body() });
            }
            Err(refusal(answer).await)
        };
        timeout(limit, answer).await.unwrap_or(Err(Failure::NoAnswer(limit)))
    }

    /// A client of kube's that makes its requests here.
    pub(super) fn client(self: &Arc<Self>) -> Client {
        let connection = Arc::clone(self);
        let service = service_fn(move |request| {
            let connection = Arc::clone(&connection);
            async move { connection.send_once(request).await }
        });
        Client::new(service, "default")
    }

    /// Sends a request for a client that nobody tells of failures: it is looked here whether the
    /// next one needs other credentials, or another connection.
    async fn send_once(&self, request: Request<Body>) -> Result<Response<Body>, Failure> {
        let limit = self.timing.answer;
        let sent = timeout(limit, self.send(request)).await;
        let sent = sent.unwrap_or(Err(Failure::NoAnswer(limit)));
        let useless = match &sent {
            Err(failure) => failure.wants_another_client(),
            Ok(answer) => answer.status() == StatusCode::UNAUTHORIZED,
        };
        if useless {
            self.renew().await;
        }
        sent
    }

    async fn send(&self, mut request: Request<Body>) -> Result<Response<Body>, Failure> {
        let Current { client, token } = self.current().await?;
        if let Some(token) = token {
            let _ = request.headers_mut().insert(header::AUTHORIZATION, token.header()?);
        }
        client.send(request).await.map_err(|error| Failure::Unreachable(chain(&error)))
    }

    /// Gives the client up, if that may help against a failure.
    pub(super) async fn renew_after(&self, failure: &Failure) {
        if failure.wants_another_client() {
            self.renew().await;
        }
    }

    async fn renew(&self) {
        drop(self.state.lock().await.current.take());
    }

    async fn current(&self) -> Result<Current, Failure> {
        let State { current, making } = &mut *self.state.lock().await;
        if let Some(current) = current {
            return Ok(current.clone());
        }
        let made = making.get_or_insert_with(|| self.make()).await;
        *making = None;
        let made = made.unwrap_or_else(|error| Err(Failure::Credentials(chain(&error))))?;
        Ok(current.insert(made).clone())
    }

    /// Makes a client. Files are read and a plugin may be run, which takes its time.
    fn make(&self) -> JoinHandle<Result<Current, Failure>> {
        let (configuration, timing) = (self.configuration.clone(), self.timing);
        task::spawn_blocking(move || {
            let Access { config, token_file } =
                configuration.load().map_err(|error| Failure::Credentials(chain(&error)))?;
            let client = transport::client(&config, &timing);
            let client = client.map_err(|error| Failure::Credentials(chain(&error)))?;
            Ok(Current { client, token: token_file.map(Token::new).map(Arc::new) })
        })
    }
}

/// What an answer that is an error means.
async fn refusal(answer: Response<Body>) -> Failure {
    let code = answer.status().as_u16();
    let retry_after = answer.headers().get(header::RETRY_AFTER);
    let retry_after = retry_after.and_then(|value| value.to_str().ok()?.trim().parse().ok());
    let body = answer.into_body().collect().await;
    let body = body.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    let status = serde_json::from_slice::<Status>(&body).unwrap_or_else(|_| {
        let message = String::from_utf8_lossy(&body);
        let message: String = message.trim().chars().take(200).collect();
        Status { message, ..Status::default() }
    });
    Failure::from_status(status.with_code(code), retry_after.map(Duration::from_secs))
}

impl Answer {
    /// The next part of it, and nothing at its end.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, Failure> {
        loop {
            match self.body.frame().await {
                None => return Ok(None),
                Some(Err(error)) => return Err(Failure::Cut(chain(&error))),
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        return Ok(Some(data));
                    }
                }
            }
        }
    }
}

/// A token in a file, which changes.
#[derive(Debug)]
struct Token {
    path: PathBuf,
    last: Mutex<Option<HeaderValue>>,
}

impl Token {
    const fn new(path: PathBuf) -> Self {
        Self { path, last: Mutex::new(None) }
    }

    /// The token of this moment; the one before if there is none: whoever writes the file may be
    /// at it.
    fn header(&self) -> Result<HeaderValue, Failure> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let path = self.path.display();
        let problem = match fs::read_to_string(&self.path) {
            Ok(token) if token.trim().is_empty() => format!("{path} is empty"),
            Ok(token) => match HeaderValue::try_from(format!("Bearer {}", token.trim())) {
                Ok(mut header) => {
                    header.set_sensitive(true);
                    let _ = last.replace(header);
                    String::new()
                }
                Err(_) => format!("{path} does not hold a token"),
            },
            Err(error) => format!("{path}: {error}"),
        };
        last.clone().ok_or(Failure::Credentials(problem))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::Token;

    #[test]
    fn a_token_is_read_for_each_request_and_the_last_one_kept() {
        let directory = tempfile::tempdir().unwrap();
        let token = Token::new(directory.path().join("token"));
        assert!(token.header().unwrap_err().to_string().contains("token"));
        for (written, expected) in
            [("one\n", "Bearer one"), (" two", "Bearer two"), ("", "Bearer two")]
        {
            fs::write(&token.path, written).unwrap();
            assert_eq!(token.header().unwrap(), expected);
        }
        fs::remove_file(&token.path).unwrap();
        assert_eq!(token.header().unwrap(), "Bearer two");
        assert!(token.header().unwrap().is_sensitive());
    }
}
