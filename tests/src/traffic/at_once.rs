// SPDX-License-Identifier: Apache-2.0

//! What must fail at once.

use std::fmt;
use std::time::Duration;

use anyhow::{Result, bail, ensure};

use super::Failure;

/// Far below the second after which Linux sends a SYN again, or stops trying after an ICMP error.
const AT_ONCE: Duration = Duration::from_millis(500);
/// A machine that does other things holds some attempts up. What fails by a later packet than the first
/// is late each time.
const ATTEMPTS: u32 = 5;

/// Asks until it fails at once, and returns how often was asked.
///
/// # Errors
///
/// If somebody answers, if a failure is not right, or if each is late.
pub fn fails_at_once<T: fmt::Debug>(
    is_right: impl Fn(&Failure) -> bool,
    mut ask: impl FnMut() -> Result<T, Failure>,
) -> Result<u32> {
    let mut asked = 0;
    loop {
        let failure = match ask() {
            Ok(answer) => bail!("{answer:?}"),
            Err(failure) => failure,
        };
        asked += 1;
        ensure!(is_right(&failure), "{failure}");
        if failure.elapsed < AT_ONCE {
            return Ok(asked);
        }
        ensure!(asked < ATTEMPTS, "it is late each time: {failure}");
    }
}

/// Asks until it is refused at once, and returns how often was asked.
///
/// # Errors
///
/// If somebody answers, if it fails in another way, or if each refusal is late.
pub fn is_refused_at_once<T: fmt::Debug>(ask: impl FnMut() -> Result<T, Failure>) -> Result<u32> {
    fails_at_once(Failure::is_refusal, ask)
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    fn after(millis: u64) -> Failure {
        let error = io::ErrorKind::ConnectionRefused.into();
        Failure { error, elapsed: Duration::from_millis(millis) }
    }

    #[test]
    fn what_is_late_now_and_then_is_forgiven() {
        let mut times = [1_020, 700, 3, 4].into_iter();
        let ask = || Err::<(), _>(after(times.next().expect("it is asked three times")));
        assert_eq!(is_refused_at_once(ask).unwrap(), 3);
    }

    #[test]
    fn what_is_always_late_or_wrong_or_served_is_not() {
        assert!(is_refused_at_once(|| Err::<(), _>(after(1_020))).is_err());
        assert!(fails_at_once(Failure::is_timeout, || Err::<(), _>(after(1))).is_err());
        assert!(is_refused_at_once(|| Ok("served")).is_err());
    }
}
