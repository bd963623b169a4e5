// SPDX-License-Identifier: Apache-2.0
//! Clients that are slow, many, or say too much.

use std::time::Duration;

use proxy_common::Family;
use tokio::io::AsyncWriteExt as _;

use super::{
    Limits, RECORDED, Stage, ask, both, check, connect, free_port, is_closed, run, wait_end,
};
use crate::both_families::in_both_families;

in_both_families!(
    who_is_slow_is_closed,
    one_connection_too_many_closes_the_oldest,
    headers_without_end_are_refused,
    what_follows_the_headers_is_not_waited_for,
    what_is_no_http_is_refused,
);

fn who_is_slow_is_closed<F: Family>() {
    run(async {
        let limits = Limits { request: Duration::from_millis(300), ..Limits::default() };
        let (stage, port) = (Stage::with(limits), free_port::<F>());
        stage.want("lb-local", port, both(1));
        let mut silent = connect::<F>(port).await;
        let mut slow = connect::<F>(port).await;
        slow.write_all(b"GET / HTTP/1.1\r\nHo").await.unwrap();
        let mut idle = connect::<F>(port).await;
        let request = "GET / HTTP/1.1\r\nHost: node\r\n\r\n";
        let answer = ask(&mut idle, request, Some(RECORDED)).await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        assert!(!is_closed(&mut idle).await);
        for stream in [&mut silent, &mut slow, &mut idle] {
            wait_end(stream).await;
        }
    });
}

fn one_connection_too_many_closes_the_oldest<F: Family>() {
    run(async {
        let limits = Limits { connections: 3, ..Limits::default() };
        let (stage, port) = (Stage::with(limits), free_port::<F>());
        stage.want("web", port, both(1));
        let mut open = Vec::new();
        for _ in 0..3 {
            open.push(connect::<F>(port).await);
        }
        // One that has been there, and left, is in nobody's way.
        for _ in 0..2 {
            let answer = check::<F>(port).await;
            assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        }
        wait_end(&mut open[0]).await;
        assert!(!is_closed(&mut open[1]).await && !is_closed(&mut open[2]).await);
    });
}

fn headers_without_end_are_refused<F: Family>() {
    run(async {
        let (stage, port) = (Stage::new(), free_port::<F>());
        stage.want("web", port, both(1));
        let mut stream = connect::<F>(port).await;
        let request = format!("GET / HTTP/1.1\r\nHost: {}", "x".repeat(16 * 1024));
        let answer = ask(&mut stream, &request, None).await;
        assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
    });
}

fn what_follows_the_headers_is_not_waited_for<F: Family>() {
    run(async {
        let (stage, port) = (Stage::new(), free_port::<F>());
        stage.want("web", port, both(1));
        let mut stream = connect::<F>(port).await;
        let request = "POST / HTTP/1.1\r\nHost: node\r\nContent-Length: 1000000000\r\n\r\n";
        let answer = ask(&mut stream, request, None).await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    });
}

fn what_is_no_http_is_refused<F: Family>() {
    run(async {
        let (stage, port) = (Stage::new(), free_port::<F>());
        stage.want("web", port, both(1));
        let mut stream = connect::<F>(port).await;
        let answer = ask(&mut stream, "\u{16}\u{3}\u{1}\r\n\r\n", None).await;
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 400 "), "{answer}");
    });
}
