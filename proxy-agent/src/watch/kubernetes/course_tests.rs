// SPDX-License-Identifier: Apache-2.0
//! What is asked for after what.

use std::time::Duration;

use super::*;

fn version(number: u32) -> Version {
    Version::new(Some(&number.to_string())).unwrap()
}

/// One that has listed version 10 and is watching.
fn watching() -> Course {
    let mut course = Course::new();
    course.listed(version(10));
    course
}

fn fail(course: &mut Course, failure: &Failure) -> Wait {
    let step = course.step();
    course.failed(&step, failure)
}

fn expired() -> Failure {
    Failure::Expired(String::new())
}

fn refused() -> Failure {
    Failure::Refused { code: 422, message: String::new() }
}

fn status(code: u16) -> Failure {
    Failure::Status { code, reason: String::new(), retry_after: None }
}

#[test]
fn a_stream_is_tried_first_and_pages_where_it_is_refused() {
    let mut course = Course::new();
    assert_eq!(course.step(), Step::Stream(Ask::Latest));
    assert_eq!(fail(&mut course, &refused()), Wait::Not);
    assert_eq!(course.step(), Step::Pages(Ask::Latest));
    course.listed(version(10));
    assert_eq!(course.step(), Step::Watch(version(10)));
    assert_eq!(fail(&mut course, &expired()), Wait::Short);
    assert_eq!(course.step(), Step::Pages(Ask::Latest), "pages have worked");
    assert_eq!(fail(&mut course, &status(500)), Wait::Pause);
    assert_eq!(course.step(), Step::Stream(Ask::Latest), "pages have not worked");
    assert_eq!(fail(&mut course, &Failure::Endless), Wait::Not);
    assert_eq!(course.step(), Step::Pages(Ask::Latest));
}

#[test]
fn a_stream_that_keeps_failing_is_not_all_that_is_tried() {
    let mut course = Course::new();
    for _ in 0..FAILED_STREAMS {
        assert_eq!(course.step(), Step::Stream(Ask::Latest));
        assert_eq!(fail(&mut course, &status(501)), Wait::Pause);
    }
    assert_eq!(course.step(), Step::Pages(Ask::Latest));
    let _ = fail(&mut course, &status(501));
    for _ in 0..2 * FAILED_STREAMS {
        assert_eq!(course.step(), Step::Stream(Ask::Latest), "no server has answered");
        let _ = fail(&mut course, &Failure::Unreachable(String::new()));
    }
}

#[test]
fn a_watch_goes_on_where_it_was() {
    let mut course = watching();
    course.told(Some(version(12)), true);
    course.told(Some(version(11)), false);
    course.told(None, true);
    for failure in [Failure::Cut(String::new()), Failure::Unreachable(String::new()), status(429)] {
        let _ = fail(&mut course, &failure);
        assert_eq!(course.step(), Step::Watch(version(12)), "{failure}");
    }
    course.ended();
    assert_eq!(course.step(), Step::Watch(version(12)));
}

#[test]
fn a_cut_after_news_is_not_waited_for() {
    let mut course = watching();
    assert_eq!(fail(&mut course, &Failure::Cut(String::new())), Wait::Pause);
    let step = course.step();
    course.told(Some(version(11)), true);
    assert_eq!(course.failed(&step, &Failure::Cut(String::new())), Wait::Short);
    let step = course.step();
    course.lasted();
    assert_eq!(course.failed(&step, &Failure::Cut(String::new())), Wait::Short);
}

#[test]
fn where_watches_are_not_to_be_had_lists_are() {
    let absent = || Failure::Absent(String::new());
    let no_answer = || Failure::NoAnswer(Duration::from_secs(1));
    let kinds: [&dyn Fn() -> Failure; 4] = [&absent, &no_answer, &|| status(403), &|| status(503)];
    for failure in kinds {
        let mut course = watching();
        for _ in 0..FAILED_WATCHES {
            assert_eq!(course.step(), Step::Watch(version(10)));
            assert_eq!(fail(&mut course, &failure()), Wait::Pause);
        }
        assert_eq!(course.step(), Step::Stream(Ask::NotOlderThan(version(10))), "{}", failure());
    }
}

#[test]
fn a_stream_that_has_listed_is_a_watch() {
    let mut course = Course::new();
    let step = course.step();
    course.listed(version(10));
    assert_eq!(course.failed(&step, &Failure::Cut(String::new())), Wait::Short);
    assert_eq!(course.step(), Step::Watch(version(10)));
    assert_eq!(course.failed(&step, &status(403)), Wait::Pause);
    assert_eq!(course.failed(&step, &expired()), Wait::Short);
    assert_eq!(course.step(), Step::Stream(Ask::Latest), "streams are still asked for");
}

#[test]
fn what_is_gone_is_listed_anew() {
    let mut course = watching();
    let _ = fail(&mut course, &expired());
    assert_eq!(course.step(), Step::Stream(Ask::Latest));
    let mut course = watching();
    let _ = fail(&mut course, &refused());
    assert_eq!(course.step(), Step::Stream(Ask::NotOlderThan(version(10))));
    let _ = fail(&mut course, &Failure::Behind(String::new()));
    assert_eq!(course.step(), Step::Stream(Ask::Latest));
}

#[test]
fn a_version_that_is_gone_again_and_again_is_waited_for() {
    let mut course = watching();
    assert_eq!(fail(&mut course, &expired()), Wait::Short);
    for _ in 0..3 {
        course.listed(version(10));
        assert_eq!(fail(&mut course, &expired()), Wait::Pause);
    }
    course.listed(version(10));
    course.told(Some(version(11)), true);
    assert_eq!(fail(&mut course, &expired()), Wait::Short);
    // So is a stream; pages may work.
    for _ in 0..FAILED_STREAMS {
        assert_eq!(course.step(), Step::Stream(Ask::Latest));
        assert_eq!(fail(&mut course, &expired()), Wait::Pause);
    }
    assert_eq!(course.step(), Step::Pages(Ask::Latest));
}

#[test]
fn silence_and_failures_that_stay_lead_to_a_list() {
    let mut course = watching();
    let silent = Failure::Silent(Duration::from_secs(1));
    let _ = fail(&mut course, &silent);
    assert_eq!(course.step(), Step::Watch(version(10)));
    let _ = fail(&mut course, &silent);
    assert_eq!(course.step(), Step::Stream(Ask::NotOlderThan(version(10))));
    // Nothing happens at all.
    for watches in [4, 8, 16, 32, 32] {
        course.listed(version(10));
        for _ in 0..watches {
            assert_eq!(course.step(), Step::Watch(version(10)), "{watches}");
            let _ = fail(&mut course, &silent);
        }
        assert_eq!(course.step(), Step::Stream(Ask::NotOlderThan(version(10))), "{watches}");
    }
    let mut course = watching();
    for _ in 1..FAILED_WATCHES {
        let _ = fail(&mut course, &status(500));
        assert_eq!(course.step(), Step::Watch(version(10)));
    }
    let _ = fail(&mut course, &status(500));
    assert_eq!(course.step(), Step::Stream(Ask::NotOlderThan(version(10))));
}

#[test]
fn a_stream_out_of_order_is_followed_by_a_list() {
    let mut course = watching();
    course.told(Some(version(12)), true);
    course.told(Some(version(11)), true);
    course.ended();
    assert_eq!(course.step(), Step::Stream(Ask::NotOlderThan(version(12))));
}

#[test]
fn an_older_list_is_believed_when_it_persists() {
    let mut course = watching();
    let _ = fail(&mut course, &expired());
    for _ in 1..STALE_LISTS {
        let stale = course.judge(&version(9)).unwrap_err();
        assert_eq!(fail(&mut course, &stale), Wait::Pause);
        assert_eq!(course.step(), Step::Stream(Ask::Latest));
    }
    course.judge(&version(9)).unwrap();
    course.listed(version(9));
    assert_eq!(course.step(), Step::Watch(version(9)));
    course.judge(&version(9)).unwrap();
}
