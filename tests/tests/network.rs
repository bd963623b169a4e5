// SPDX-License-Identifier: Apache-2.0

//! Services through running agents: real objects in, real packets through the kernel.

mod network {
    mod cluster;
    mod collisions;
    mod devices;
    mod lifecycle;
    mod privileges;
    mod reachability;
    mod refusals;
    mod restarts;
    mod stops;
    mod updates;
}
