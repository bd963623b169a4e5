// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Where the fields of keys and values lie. Each agent leaves a description of its own tables beside them, so that one of
//! another version can read what it is to carry over.

use crate::{
    Family,
    affinity::{Affinity, AffinityKey},
    backend::Backend,
    flow::{Flow, FlowKey},
    frontend::FrontendKey,
    name::ServiceName,
    service::Service,
    socket::{Sent, Translation},
};

/// The room for a description, in bytes. It is text, padded with zeros: one field a line.
pub const DESCRIPTION: usize = 1 << 13;

/// A field that means something by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    /// Its name. One with another meaning or unit gets another name.
    pub name: &'static str,
    /// Where it begins, in bytes.
    pub offset: usize,
    /// How long it is, in bytes.
    pub size: usize,
}

/// A key or value whose fields can be told.
pub trait Layout: Sized {
    /// The fields, without what is always zero and what follows from others.
    const FIELDS: &'static [Field];
}

/// The size of what a function of a field gives.
const fn size_of_field<T, U>(_: fn(&T) -> &U) -> usize {
    size_of::<U>()
}

macro_rules! layout {
    ($($field:ident $(. $part:ident)*),+ $(,)?) => {
        const FIELDS: &'static [Field] = &[$(Field {
            name: concat!(stringify!($field) $(, ".", stringify!($part))*),
            offset: core::mem::offset_of!(Self, $field $(. $part)*),
            size: size_of_field(|whole: &Self| &whole.$field $(. $part)*),
        }),+];
    };
}

impl<F: Family> Layout for FlowKey<F> {
    layout!(
        tuple.source,
        tuple.destination,
        tuple.source_port,
        tuple.destination_port,
        protocol,
        hook
    );
}

/// Without its tag, which is made of the key.
impl<F: Family> Layout for Flow<F> {
    layout!(
        to.source,
        to.destination,
        to.source_port,
        to.destination_port,
        service,
        backend,
        generation,
        last_seen,
        proof,
        device,
        client_device,
        mac,
        client_mac,
        kind,
        client_seen,
        backend_seen,
        way_asked
    );
}

impl<F: Family> Layout for AffinityKey<F> {
    layout!(service, netns, client);
}

impl Layout for Affinity {
    layout!(backend, generation, used);
}

impl<F: Family> Layout for Backend<F> {
    layout!(address, port, standing, generation, service);
}

impl Layout for ServiceName {
    layout!(namespace, name, port, protocol, number);
}

impl Layout for Service {
    layout!(policy);
}

impl<F: Family> Layout for FrontendKey<F> {
    layout!(address, port, protocol);
}

impl Layout for Translation {
    layout!(asked, given, backend, generation, family, used);
}

impl Layout for Sent {
    layout!(translations, order, datagrams, place, fitness);
}
