// SPDX-License-Identifier: Apache-2.0
//! How long things may take.

use std::time::Duration;

/// How long things may take, and how long to wait.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// How long a TCP connection may take.
    pub connect: Duration,
    /// How long the API may take until its answer begins, and between two parts of a list.
    pub answer: Duration,
    /// How long a whole list may take.
    pub list: Duration,
    /// How long a watch may be silent. The API sends a bookmark about once a minute.
    pub silence: Duration,
    /// How long a streaming list may be silent before its end: an API that does not know of
    /// streaming lists never says that one has ended.
    pub initial_silence: Duration,
    /// How long a streaming list may take.
    pub initial: Duration,
    /// How long the API is asked to keep a watch open; up to twice as long, so that not all nodes
    /// come again at once.
    pub watch: Duration,
    /// The first pause after a failure; each further one is twice as long.
    pub first_pause: Duration,
    /// The longest pause.
    pub longest_pause: Duration,
    /// After how long without failures the pauses begin anew.
    pub reset_pauses: Duration,
    /// How often to look whether a kind that the API does not have has come.
    pub absent: Duration,
}

impl Default for Timing {
    /// The pauses are those of kube-proxy's reflectors.
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            answer: Duration::from_secs(30),
            list: Duration::from_mins(5),
            silence: Duration::from_secs(90),
            initial_silence: Duration::from_secs(15),
            initial: Duration::from_mins(2),
            watch: Duration::from_mins(5),
            first_pause: Duration::from_millis(800),
            longest_pause: Duration::from_secs(30),
            reset_pauses: Duration::from_mins(2),
            absent: Duration::from_mins(5),
        }
    }
}
