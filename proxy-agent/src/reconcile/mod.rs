// SPDX-License-Identifier: Apache-2.0
//! Keeps the tables as the plans say, by the fewest writes, in an order that is safe at every
//! step.
//!
//! One [`FamilyReconciler`] a family holds what is *desired* (the last plan of each Service) and
//! what is *applied* (what the tables hold, row by row, updated as operations succeed). The
//! difference between the two is a list of [operations](crate::dataplane::Op); what is *pending*
//! are the Services that may have a difference. Nothing else is looked at, so a change costs what
//! its Service costs.
//!
//! # The order of writes
//!
//! Programs read the tables at any moment, so each write leaves them safe to read:
//!
//! 1. *Raise* each pending Service: its name; its new backends, and the standing of those that enter a set;
//!    the slots of its new sets, in ranges that nothing refers to; the words that publish these;
//!    new source ranges; the policy; then its frontends. A new flow now finds all of it. (Nothing is lowered that
//!    a port may need of which not all is raised.)
//! 2. *Lower* each: frontends that are wanted no more; what of the policy restricted their clients;
//!    then the standing of backends that have left a set; source ranges that are wanted no more; then the generations of backends whose
//!    endpoints have stopped serving; then rows without frontends. What is freed rests
//!    ([`allocator::REST`]) until no running program can hold it; rows of Service ports, where somebody walks
//!    through the flows, until no flow refers to them ([`FamilyReconciler::walked`]).
//! 3. *Mark* each: the cluster IPs of which other ports are refused, and the addresses of its
//!    endpoints. No client waits for these, and a table without room for them holds nothing up.
//!
//! All Services are raised before the first is lowered, so that a frontend that goes from one
//! Service to another is taken over and not removed first. An entry of the frontends table is
//! never changed in place: it is removed and added in two adjacent writes, and only between these
//! is there no such frontend. To make that rare, the row behind a frontend belongs to the Service
//! and to the port's number and protocol ([`PortId`](crate::plan::PortId)), and not to the
//! port's name, nor to its cluster IP; so does a Service that is deleted and made again between
//! two passes keep its rows. What remains is a cluster IP that passes to a Service of another
//! name.
//!
//! The marks of the node's addresses are written by themselves, at any time: node ports are entries
//! of their own, which no mark needs. Of an address that is a cluster IP too, the Services decide.
//!
//! A set that the policy has ceased to select stays published for the same rest, since a program
//! may have read the old policy and be about to read the set; so do the source ranges of a policy
//! that has ceased to restrict clients.
//!
//! # Other agents
//!
//! What is applied is not known at first: [`FamilyReconciler::adopt`] reads it out of the tables, wherever another
//! agent was when it ended, and writes nothing. Rows keep their meaning and their generations; those that are
//! free but were used rest. What is found belongs to Services without a plan, all of them pending: the first pass,
//! which comes when all plans are known, leaves what these want as it is, and lowers the rest. Marks belong to no
//! Service; those that nobody claims go after that pass, the node's when its addresses are known
//! ([`FamilyReconciler::flush_leftovers`]).
//!
//! # Failures
//!
//! Where there is no room in a table, what there is room for is written: of a Service port that lacks rows, the
//! endpoints that have some; of a set that lacks slots, those of its endpoints whose slots are together; the mark by
//! which the cluster IP of a port without a row refuses clients. What is wanted no more is taken away nevertheless,
//! so that it makes room, if need be for the same Service. The rest waits.
//!
//! A failed operation ends the raising of its Service, which stays pending and is tried again with
//! growing pauses, or at once when it changes; the others go on. What was done is known and not
//! repeated; rows that were taken for what was not done are kept for the next attempt.
//! Where several Services fail and none goes on, the family is stuck
//! ([`FamilyReconciler::is_stuck`]).

mod adopt;
pub mod allocator;
mod apply;
mod backends;
mod family;
mod frontends;
mod ids;
mod leftovers;
mod missing;
mod node_addresses;
mod outcome;
mod progress;
mod ranges;
mod retry;
mod row;
mod schedule;
mod service_cidrs;
mod set;
mod shortfalls;

pub use crate::dataplane::Rows;
pub use adopt::AdoptError;
pub use family::FamilyReconciler;
pub use ids::Exhausted;
pub use missing::Missing;
pub use outcome::{Conflict, Lack, Outcome, Problem, ReconcileError};
pub use service_cidrs::ServiceCidrs;

#[cfg(test)]
mod tests;
