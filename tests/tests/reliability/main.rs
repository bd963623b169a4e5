// SPDX-License-Identifier: Apache-2.0

//! Requests of every kind all the time, in both families at once, while something happens: none may be
//! lost. Needs root.

mod api;
mod changes;
mod distant;
mod endpoints;
mod floods;
mod handover;
mod objects;
mod restarts;
mod rig;
mod steady;
mod storm;
mod unread;
mod versions;
