// SPDX-License-Identifier: Apache-2.0
//! Where objects come from.
//!
//! A [`Source`] delivers what it knows as [`Event`]s, says of each kind when it has delivered all
//! that there was, and goes on with what changes. Objects are converted to the
//! [model](crate::model) here, in [`convert`], and nothing behind it knows the Kubernetes API's
//! types.

pub mod api;
pub mod convert;
pub mod kubernetes;
pub mod manifests;

use std::{error::Error, future::Future};

use tokio::sync::mpsc;

use crate::model::{Kind, Object, ObjectKey};

/// What a source has to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// There is this object, new or changed.
    Apply(Object),
    /// There is no such object, or none that concerns a proxy; maybe there never was.
    Delete(ObjectKey),
    /// All objects of this kind that existed at the start have been delivered.
    Synced(Kind),
}

/// Delivers objects.
pub trait Source {
    /// Why it cannot go on.
    type Error: Error + Send + Sync + 'static;

    /// Delivers events until nobody receives them any more. Objects that cannot be used are
    /// logged, and do not stop the others.
    ///
    /// # Errors
    ///
    /// Why there is no use in going on.
    fn run(
        self,
        events: mpsc::Sender<Event>,
    ) -> impl Future<Output = Result<(), Self::Error>> + Send;
}
