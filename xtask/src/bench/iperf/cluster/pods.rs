// SPDX-License-Identifier: Apache-2.0
//! How far a pod is, and why it is no further.

use k8s_openapi::api::core::v1::{ContainerState, ContainerStatus, Pod};

/// Reasons for waiting that no waiting ends.
const HOPELESS: [&str; 6] = [
    "ImagePullBackOff",
    "ErrImageNeverPull",
    "InvalidImageName",
    "CreateContainerConfigError",
    "CreateContainerError",
    "CrashLoopBackOff",
];

/// How far a pod is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// Not at work yet, and why as far as it says.
    Waiting(String),
    /// At work.
    Running,
    /// It has ended well.
    Succeeded,
    /// It never will, and why.
    Failed(String),
}

/// How far `pod` is.
pub(super) fn progress(pod: &Pod) -> Progress {
    let Some(status) = &pod.status else { return Progress::Waiting("nobody has seen it".into()) };
    let containers = status.container_statuses.iter().flatten();
    let waiting = containers.clone().find_map(|container| {
        let waiting = container.state.as_ref()?.waiting.as_ref()?;
        Some((
            container,
            waiting.reason.as_deref().unwrap_or("waiting"),
            waiting.message.as_deref(),
        ))
    });
    if let Some((container, reason, message)) = waiting {
        let words = said(reason, last_words(container).or(message));
        let words = format!("{words} (image {})", container.image);
        return if HOPELESS.contains(&reason) {
            Progress::Failed(words)
        } else {
            Progress::Waiting(words)
        };
    }
    match status.phase.as_deref() {
        Some("Succeeded") => Progress::Succeeded,
        Some("Failed") => Progress::Failed(
            containers
                .clone()
                .find_map(|container| ended(container.state.as_ref()?))
                .unwrap_or_else(|| {
                    said(status.reason.as_deref().unwrap_or("Failed"), status.message.as_deref())
                }),
        ),
        Some("Running") if is(pod, "Ready") => Progress::Running,
        phase => {
            Progress::Waiting(why(pod).unwrap_or_else(|| phase.unwrap_or("Pending").to_owned()))
        }
    }
}

/// What the first condition that does not hold says.
fn why(pod: &Pod) -> Option<String> {
    let conditions = pod.status.as_ref()?.conditions.iter().flatten();
    let mut not = conditions.filter(|condition| condition.status != "True");
    not.find_map(|condition| Some(said(condition.reason.as_deref()?, condition.message.as_deref())))
}

fn is(pod: &Pod, condition: &str) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
    conditions.into_iter().flatten().any(|it| it.type_ == condition && it.status == "True")
}

/// How a container has ended, if it has and not well.
fn ended(state: &ContainerState) -> Option<String> {
    let ended = state.terminated.as_ref().filter(|ended| ended.exit_code != 0)?;
    let reason = ended.reason.as_deref().unwrap_or("Error");
    let words = ended.message.as_deref().map(str::trim);
    Some(said(&format!("{reason}, exit code {}", ended.exit_code), words))
}

/// What a container said when it ended last.
fn last_words(container: &ContainerStatus) -> Option<&str> {
    container.last_state.as_ref()?.terminated.as_ref()?.message.as_deref().map(str::trim)
}

fn said(reason: &str, words: Option<&str>) -> String {
    match words {
        Some(words) if !words.is_empty() => format!("{reason}: {words}"),
        _ => reason.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{Progress, progress};

    fn of(status: &Value) -> Progress {
        progress(&serde_json::from_value(json!({ "status": status })).unwrap())
    }

    fn container(states: &Value) -> Value {
        let mut container = json!({
            "name": "iperf3", "image": "i", "imageID": "", "ready": false, "restartCount": 0,
        });
        for (name, state) in states.as_object().unwrap() {
            container[name] = state.clone();
        }
        json!([container])
    }

    #[test]
    fn a_pod_that_no_node_takes_says_why() {
        let conditions = json!([{
            "type": "PodScheduled", "status": "False", "reason": "Unschedulable",
            "message": "0/2 nodes are available: 2 Too many pods.",
        }]);
        assert_eq!(
            of(&json!({ "phase": "Pending", "conditions": conditions })),
            Progress::Waiting("Unschedulable: 0/2 nodes are available: 2 Too many pods.".into())
        );
        assert_eq!(of(&json!({ "phase": "Pending" })), Progress::Waiting("Pending".into()));
    }

    #[test]
    fn an_image_may_still_come_until_the_kubelet_backs_off() {
        for (reason, is_hopeless) in
            [("ContainerCreating", false), ("ErrImagePull", false), ("ImagePullBackOff", true)]
        {
            let waiting = json!({ "reason": reason, "message": "no such host" });
            let statuses = container(&json!({ "state": { "waiting": waiting } }));
            let words = format!("{reason}: no such host (image i)");
            let wanted =
                if is_hopeless { Progress::Failed(words) } else { Progress::Waiting(words) };
            assert_eq!(of(&json!({ "phase": "Pending", "containerStatuses": statuses })), wanted);
        }
    }

    #[test]
    fn the_last_words_of_a_container_are_told() {
        let ended = json!({ "terminated": { "exitCode": 1, "message": "bind: in use\n" } });
        let waiting = json!({ "waiting": { "reason": "CrashLoopBackOff", "message": "back-off" } });
        let statuses = container(&json!({ "state": waiting, "lastState": ended }));
        assert_eq!(
            of(&json!({ "phase": "Running", "containerStatuses": statuses })),
            Progress::Failed("CrashLoopBackOff: bind: in use (image i)".into())
        );
        let statuses = container(&json!({ "state": ended }));
        assert_eq!(
            of(&json!({ "phase": "Failed", "containerStatuses": statuses })),
            Progress::Failed("Error, exit code 1: bind: in use".into())
        );
        assert_eq!(
            of(&json!({ "phase": "Failed", "reason": "DeadlineExceeded" })),
            Progress::Failed("DeadlineExceeded".into())
        );
    }

    #[test]
    fn a_running_pod_is_at_work_when_it_is_ready() {
        let ready = |status| json!([{ "type": "Ready", "status": status }]);
        let running = |status| of(&json!({ "phase": "Running", "conditions": ready(status) }));
        assert_eq!(running("True"), Progress::Running);
        assert_eq!(running("False"), Progress::Waiting("Running".into()));
        assert_eq!(of(&json!({ "phase": "Succeeded" })), Progress::Succeeded);
    }
}
