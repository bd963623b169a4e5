// SPDX-License-Identifier: Apache-2.0

//! Services through running agents: real objects in, real packets through the kernel.

mod network {
    mod api;
    mod collisions;
    mod devices;
    mod fast_path;
    mod fast_path_refused;
    mod fragments;
    mod icmp_errors;
    mod l3_devices;
    mod lifecycle;
    mod past_the_stack;
    mod path_mtu;
    mod privileges;
    mod reachability;
    mod refusals;
    mod restarts;
    mod service_cidrs;
    mod socket_errors;
    mod starts;
    mod stops;
    mod updates;
}
