// SPDX-License-Identifier: Apache-2.0

//! An API server that holds recorded objects, and replays how they changed.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use futures_util::FutureExt as _;
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::{Method, Request, Response, header};
use rustls::ServerConfig;
use serde_json::Value;
use tokio::runtime::Handle;

use super::events::EventStore;
use super::kind::{Kind, name_of};
use super::list;
use super::listener::{Body, Listener, Reply};
use super::object::Object;
use super::query::{Query, status};
use super::rules::{self, Rules};
use super::store::{Store, set_version};
use super::watch;
use super::workloads::Workloads;
use crate::netns::Namespace;

/// Where, and for whom, a server listens.
#[derive(Default)]
pub struct Door<'a> {
    /// Its address; any port of `[::1]` by default.
    pub address: Option<SocketAddr>,
    /// The namespace that it listens in.
    pub namespace: Option<&'a Namespace>,
    /// Its certificate, and those of clients that it wants; plain HTTP without it.
    pub tls: Option<Arc<ServerConfig>>,
    /// Serves only requests with this token.
    pub token: Option<String>,
}

/// An API server of recorded objects. It ends when dropped.
pub struct ReplayServer {
    shared: Arc<Shared>,
    listener: Listener,
}

pub(super) struct Shared {
    pub(super) store: Store,
    events: EventStore,
    workloads: Workloads,
    /// How often streams get a bookmark.
    pub(super) bookmarks: Mutex<Duration>,
    /// When a change was last put into a stream.
    pub(super) last_sent: Mutex<Option<Instant>>,
    token: Mutex<Option<String>>,
    rules: Mutex<Arc<dyn Rules>>,
    /// Lists that are being read in pages.
    pub(super) pages: Mutex<Vec<(u64, Vec<Arc<Object>>)>>,
}

impl ReplayServer {
    /// An empty server.
    pub fn start(door: Door<'_>, runtime: &Handle) -> Result<Self> {
        let shared = Arc::new(Shared {
            store: Store::new(),
            events: EventStore::default(),
            workloads: Workloads::default(),
            bookmarks: Mutex::new(Duration::from_millis(200)),
            last_sent: Mutex::default(),
            token: Mutex::new(door.token),
            rules: Mutex::new(Arc::new(rules::NONE)),
            pages: Mutex::default(),
        });
        let any = SocketAddr::from((std::net::Ipv6Addr::LOCALHOST, 0));
        let serving = Arc::clone(&shared);
        let handler = Arc::new(move |request, _| answer(Arc::clone(&serving), request).boxed());
        let address = door.address.unwrap_or(any);
        let listener = Listener::start(address, door.namespace, door.tls, handler, runtime)?;
        Ok(Self { shared, listener })
    }

    /// Takes lists as the API has sent them, and no history before them.
    pub fn load<'a>(&self, lists: impl IntoIterator<Item = &'a str>) -> Result<()> {
        for text in lists {
            self.shared.store.load(&serde_json::from_str(text).context("a recorded list")?);
        }
        let revision = self.shared.store.read().revision;
        self.shared.store.set_revision(revision);
        Ok(())
    }

    /// Takes objects that say what they are, and no history of them.
    pub fn fill(&self, objects: impl IntoIterator<Item = Value>) {
        self.shared.store.fill(objects);
    }

    /// Goes on at this version.
    pub fn set_revision(&self, revision: u64) {
        self.shared.store.set_revision(revision);
    }

    /// Repeats an event that the API has sent, at its version.
    pub fn replay(&self, event: &Value) -> Result<()> {
        let object = &event["object"];
        let written = match event["type"].as_str() {
            Some("ADDED" | "MODIFIED") => self.shared.store.write(object, false, true),
            Some("DELETED") => self.shared.store.write(object, true, true),
            _ => true,
        };
        ensure!(written, "{event} does not fit");
        Ok(())
    }

    /// Makes an object, or replaces it.
    pub fn apply(&self, object: &Value) -> Result<()> {
        let written = self.shared.store.write(object, false, false);
        ensure!(written, "{object} is of no known kind");
        Ok(())
    }

    /// Removes an object.
    pub fn remove(&self, object: &Value) -> Result<()> {
        ensure!(self.shared.store.write(object, true, false), "there is no {object}");
        Ok(())
    }

    /// When a change was last put into a stream.
    #[must_use]
    pub fn last_sent(&self) -> Option<Instant> {
        *self.shared.last_sent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The Events that were made, by namespace and name.
    #[must_use]
    pub fn events(&self) -> Vec<Value> {
        self.shared.events.all()
    }

    /// Its Namespaces, Pods and Jobs.
    #[must_use]
    pub fn workloads(&self) -> &Workloads {
        &self.shared.workloads
    }

    /// Forgets how the objects came to be, as the API does after some minutes.
    pub fn compact(&self) {
        self.shared.store.compact();
    }

    /// Changes what the objects are to what they were when `change` began, at the version of then:
    /// the store has been lost, and a backup restored.
    pub fn lose<T>(&self, change: impl FnOnce() -> T) -> T {
        let backup = self.shared.store.backup();
        let done = change();
        self.shared.store.restore(backup);
        done
    }

    /// Sets how often streams get a bookmark.
    pub fn set_bookmarks(&self, pause: Duration) {
        *self.shared.bookmarks.lock().unwrap_or_else(PoisonError::into_inner) = pause;
    }

    /// Sets the token that requests need.
    pub fn set_token(&self, token: &str) {
        let token = Some(token.to_owned());
        *self.shared.token.lock().unwrap_or_else(PoisonError::into_inner) = token;
    }

    /// Sets what the cluster allows, and what it makes of new objects.
    pub fn set_rules(&self, rules: Arc<dyn Rules>) {
        *self.shared.rules.lock().unwrap_or_else(PoisonError::into_inner) = rules;
    }

    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.listener.address()
    }

    /// Breaks all connections, and those that come.
    pub fn down(&self) {
        self.listener.down();
    }

    /// Serves again.
    pub fn up(&self) -> Result<()> {
        self.listener.up()
    }
}

/// An answer in JSON.
pub(super) fn json_answer(code: u16, value: &Value) -> Response<Body> {
    text_answer(code, value.to_string())
}

/// An answer whose text is JSON.
pub(super) fn text_answer(code: u16, text: impl Into<Bytes>) -> Response<Body> {
    let body = Full::new(text.into()).map_err(|never| match never {});
    let mut response = Response::new(body.boxed());
    *response.status_mut() = hyper::StatusCode::from_u16(code).unwrap_or_default();
    let json = header::HeaderValue::from_static("application/json");
    drop(response.headers_mut().insert(header::CONTENT_TYPE, json));
    response
}

/// The answer that a status is.
pub(super) fn refusal(status: &Value) -> Response<Body> {
    let code = status["code"].as_u64().and_then(|code| u16::try_from(code).ok()).unwrap_or(500);
    json_answer(code, status)
}

async fn answer(shared: Arc<Shared>, request: Request<Incoming>) -> Reply {
    let token = shared.token.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let given = request.headers().get(header::AUTHORIZATION);
    if let Some(token) = token
        && given.is_none_or(|given| *given != format!("Bearer {token}"))
    {
        return Ok(refusal(&status(401, "Unauthorized", "Unauthorized")));
    }
    let rules = Arc::clone(&shared.rules.lock().unwrap_or_else(PoisonError::into_inner));
    if let Some(refused) = rules.refuse(request.method().as_str(), request.uri().path()) {
        return Ok(refusal(&refused));
    }
    if EventStore::is_at(request.uri().path()) {
        return shared.events.answer(request).await;
    }
    if Workloads::is_at(request.uri().path()) {
        return shared.workloads.answer(&shared.store, &*rules, request).await;
    }
    if request.method() != Method::GET {
        return write(&shared, &*rules, request).await;
    }
    let query = Query::of(request.uri());
    let Some(kind) = Kind::of_path(request.uri().path()) else {
        return Ok(one(&shared, request.uri().path()));
    };
    let selector = match query.check(kind) {
        Ok(selector) => selector,
        Err(refused) => return Ok(refusal(&refused)),
    };
    Ok(if query.is("watch") {
        watch::answer(&shared, kind, &query, selector)
    } else {
        list::answer(&shared, kind, &query, &selector)
    })
}

/// The object at a path.
fn one(shared: &Shared, path: &str) -> Response<Body> {
    let state = shared.store.read();
    let at = |(kind, namespace, name): &&(Kind, String, String)| {
        path == format!("{}/{name}", kind.path_in(namespace))
    };
    match state.objects.keys().find(at).and_then(|key| state.objects.get(key)) {
        Some(object) => json_answer(200, &object.value()),
        None => refusal(&status(404, "NotFound", "not found")),
    }
}

/// Makes, replaces or removes the object of a request.
async fn write(shared: &Shared, rules: &dyn Rules, request: Request<Incoming>) -> Reply {
    let method = request.method().clone();
    let path = request.uri().path().to_owned();
    let body = request.into_body().collect().await.map_err(std::io::Error::other)?.to_bytes();
    let mut object: Value = serde_json::from_slice(&body).unwrap_or_default();
    if method == Method::DELETE {
        let state = shared.store.read();
        let at = |(kind, namespace, name): &&(Kind, String, String)| {
            path == format!("{}/{name}", kind.path_in(namespace))
        };
        object =
            state.objects.keys().find(at).map_or(Value::Null, |key| state.objects[key].value());
        let revision = state.revision + 1;
        drop(state);
        set_version(&mut object, revision);
    }
    if method == Method::POST {
        rules::admit(rules, &path, &mut object);
    }
    let removed = method == Method::DELETE;
    let named = !name_of(&object).1.is_empty();
    Ok(if named && shared.store.write(&object, removed, false) {
        json_answer(if method == Method::POST { 201 } else { 200 }, &object)
    } else {
        refusal(&status(404, "NotFound", "not found"))
    })
}
