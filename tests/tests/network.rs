// SPDX-License-Identifier: Apache-2.0

//! Services through running agents: real objects in, real packets through the kernel.

mod network {
    mod api;
    mod collisions;
    mod configuration;
    mod devices;
    mod fast_path;
    mod fast_path_refused;
    mod fragments;
    mod full_maps;
    mod full_node_maps;
    mod health;
    mod icmp_errors;
    mod inherited;
    mod kept_rows;
    mod l3_devices;
    mod lifecycle;
    mod mended;
    mod metrics;
    mod migration;
    mod past_the_stack;
    mod path_mtu;
    mod privileges;
    mod reachability;
    mod refusals;
    mod restarts;
    mod service_cidrs;
    mod service_events;
    mod sizes;
    mod socket_errors;
    mod starts;
    mod stops;
    mod two_versions;
    mod unread;
    mod updates;
    mod upgrades;
}
