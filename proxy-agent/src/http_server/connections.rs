// SPDX-License-Identifier: Apache-2.0
//! The connections that are open, at all places of a server together.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::task::AbortHandle;

/// At most so many connections. One more closes the oldest: a request takes far less time than it
/// takes to open as many.
#[derive(Clone, Debug)]
pub(crate) struct Connections {
    most: usize,
    /// The oldest first.
    open: Arc<Mutex<VecDeque<AbortHandle>>>,
}

impl Connections {
    pub(crate) fn new(most: usize) -> Self {
        Self { most, open: Arc::default() }
    }

    /// Takes note of a connection.
    pub(crate) fn add(&self, connection: AbortHandle) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|connection| !connection.is_finished());
        if open.len() >= self.most
            && let Some(oldest) = open.pop_front()
        {
            oldest.abort();
        }
        open.push_back(connection);
    }
}
