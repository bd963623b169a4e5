// SPDX-License-Identifier: Apache-2.0

//! The agent's source of objects, and its Events, against the Kubernetes API: a server that replays recordings, or,
//! where `KUBEBUILDER_ASSETS` names a kube-apiserver and an etcd, these.

mod credentials;
mod events;
mod faults;
mod follower;
mod lists;
mod measured;
mod proxies;
mod recordings;
mod stage;
mod storm;
