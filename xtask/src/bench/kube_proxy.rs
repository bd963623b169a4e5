// SPDX-License-Identifier: Apache-2.0
//! kube-proxy's rules, beside which is measured, and how they are tried.

pub(crate) mod trial;

pub(crate) use proxy_tests::kube_proxy::{
    Endpoint, Mode, Node, Rules, ServicePort, TOOLS, check_translated, many,
};
