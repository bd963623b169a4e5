// SPDX-License-Identifier: Apache-2.0
//! What is answered.

use std::collections::BTreeSet;

use proxy_common::Family;

use super::{RECORDED, Stage, ask, both, check, connect, free_port, run};
use crate::both_families::in_both_families;

in_both_families!(
    answers_are_those_of_kube_proxy,
    no_endpoint_or_a_proxy_that_is_unwell_is_503,
    any_method_and_path_will_do,
);

/// The first line, the headers (whose order means nothing, without the time) and the body.
fn parts(answer: &str) -> (&str, BTreeSet<&str>, &str) {
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let (status, headers) = head.split_once("\r\n").unwrap();
    let untimed = headers.split("\r\n").map(|line| match line.split_once(": ") {
        Some(("Date", time)) if time.ends_with(" GMT") => "Date",
        _ => line,
    });
    (status, untimed.collect(), body)
}

fn answers_are_those_of_kube_proxy<F: Family>() {
    run(async {
        let (stage, port) = (Stage::new(), free_port::<F>());
        stage.want("lb-local", port, both(1));
        let mut stream = connect::<F>(port).await;
        let request = "GET /healthz HTTP/1.1\r\nHost: node\r\n\r\n";
        // Twice, on one connection.
        for _ in 0..2 {
            let answer = ask(&mut stream, request, Some(RECORDED)).await;
            assert_eq!(parts(&answer), parts(RECORDED));
        }
    });
}

fn no_endpoint_or_a_proxy_that_is_unwell_is_503<F: Family>() {
    run(async {
        let (stage, port) = (Stage::new(), free_port::<F>());
        for (count, healthy, status) in [
            (2, true, "HTTP/1.1 200 OK\r\n"),
            (0, true, "HTTP/1.1 503 Service Unavailable\r\n"),
            (3, false, "HTTP/1.1 503 Service Unavailable\r\n"),
            (0, false, "HTTP/1.1 503 Service Unavailable\r\n"),
            (3, true, "HTTP/1.1 200 OK\r\n"),
        ] {
            stage.want("web", port, both(7).with::<F>(count));
            let _ = stage.healthy.send_replace(healthy);
            let answer = check::<F>(port).await;
            assert!(answer.starts_with(status), "{answer}");
            for said in [
                format!("X-Load-Balancing-Endpoint-Weight: {count}\r\n"),
                format!("\t\"localEndpoints\": {count},\n"),
                format!("\t\"serviceProxyHealthy\": {healthy}\n}}"),
            ] {
                assert!(answer.contains(&said), "{answer}");
            }
        }
    });
}

fn any_method_and_path_will_do<F: Family>() {
    run(async {
        let (stage, port) = (Stage::new(), free_port::<F>());
        stage.want("lb-local", port, both(1));
        let (_, mut headers, body) = parts(RECORDED);
        let _ = headers.insert("Connection: close");
        for (request, body) in [
            ("PUT /?x=1 HTTP/1.1\r\nHost: node\r\nContent-Length: 2\r\n", body),
            ("OPTIONS * HTTP/1.1\r\nHost: node\r\n", body),
            ("HEAD /a/b HTTP/1.1\r\nHost: node\r\n", ""),
        ] {
            let mut stream = connect::<F>(port).await;
            let request = format!("{request}Connection: close\r\n\r\n");
            let answer = ask(&mut stream, &request, None).await;
            let answer = parts(&answer);
            assert_eq!((answer.0, answer.2), ("HTTP/1.1 200 OK", body), "{request}");
            assert_eq!(answer.1, headers, "{request}");
        }
    });
}
