//! What an API server says when it refuses, in its own words and without the rest.

use http::StatusCode;
use kube::client::UpgradeConnectionError;
use kube::core::Status;

use super::chain;
use crate::exit::{ExitStatus, Failure};

/// A call that failed, as a person reads it. `act` says what was being done: `failed to list the databases`.
pub fn refused(act: impl Into<String>, error: &kube::Error) -> Failure {
    match error {
        kube::Error::Api(status) => answered(act.into(), status),
        kube::Error::UpgradeConnection(UpgradeConnectionError::ProtocolSwitch(code)) => {
            // A refused upgrade brings a code and no words.
            let status = Status { code: code.as_u16(), message: words(*code), ..Status::default() };
            answered(act.into(), &status)
        }
        kube::Error::HyperError(_) | kube::Error::Service(_) | kube::Error::ReadEvents(_) => {
            Failure::new(ExitStatus::HostFailed, act).because(chain(error)).hint(
                "is the cluster up and reached from here, and is this its kubeconfig? `-f cluster.yaml` goes over SSH",
            )
        }
        kube::Error::Auth(_) => Failure::input(act).because(chain(error)).hint("see the credentials in the kubeconfig"),
        _ => Failure::fault(act).because(chain(error)),
    }
}

fn words(code: StatusCode) -> String {
    format!("the API server answered {code}")
}

fn answered(act: String, status: &Status) -> Failure {
    let said = said(status);
    match status.code {
        401 => Failure::input(act).because(said).hint("the credentials in the kubeconfig are wrong or have expired"),
        403 => Failure::input(act)
            .because(said)
            .hint("this user may not do that: name a namespace that is yours with -n, or ask whoever runs the cluster"),
        404 if status.message.contains("page not found") || status.message.contains("requested resource") => {
            Failure::input(act)
                .because("the API server does not know this kind")
                .hint("is it a hospital cloud of this version? `hzctl bootstrap -f …` makes or mends one")
        }
        400..=499 => Failure::input(act).because(said),
        _ => Failure::fault(act).because(said),
    }
}

/// The server's own message: for rules of the schema what they say, each with the field it speaks of.
fn said(status: &Status) -> String {
    let causes = status.details.as_ref().map(|details| details.causes.as_slice()).unwrap_or_default();
    let mut told: Vec<String> = Vec::new();
    for cause in causes.iter().filter(|cause| status.code == 422 && !cause.message.is_empty()) {
        let message = plain(&cause.message);
        let line = match cause.field.as_str() {
            "" | "spec" | "<nil>" => message.to_owned(),
            field => format!("{field}: {message}"),
        };
        if !told.contains(&line) {
            told.push(line);
        }
    }
    match (told.is_empty(), status.message.is_empty()) {
        (false, _) => told.join("\n"),
        (true, false) => status.message.clone(),
        (true, true) => format!("the API server answered {}", status.code),
    }
}

/// Without the value that is repeated before the sentence, such as `Invalid value: "object": `.
fn plain(message: &str) -> &str {
    for kind in ["Invalid value: ", "Forbidden: "] {
        let Some(rest) = message.strip_prefix(kind) else { continue };
        // A value that is text stands in quotes and may hold anything; the sentence comes after it.
        let after = match rest.strip_prefix('"') {
            Some(quoted) => quoted.split_once("\": ").map(|(_, sentence)| sentence),
            None => rest.split_once(": ").filter(|(value, _)| !value.contains(' ')).map(|(_, sentence)| sentence),
        };
        return after.unwrap_or(rest);
    }
    message
}

#[cfg(test)]
mod tests {
    use kube::core::response::{StatusCause, StatusDetails};

    use super::*;

    fn invalid(causes: &[(&str, &str)]) -> kube::Error {
        let causes = causes.iter().map(|(field, message)| StatusCause {
            reason: "FieldValueInvalid".into(),
            message: (*message).into(),
            field: (*field).into(),
        });
        let details = StatusDetails {
            name: "x".into(),
            group: "hz.hospital".into(),
            kind: "DataOperation".into(),
            uid: String::new(),
            causes: causes.collect(),
            retry_after_seconds: 0,
        };
        let message = "DataOperation.hz.hospital \"x\" is invalid: spec: …".to_owned();
        let status = Status { code: 422, message, details: Some(details), ..Status::default() };
        kube::Error::Api(status.boxed())
    }

    #[test]
    fn a_rule_of_the_schema_speaks_for_itself() {
        let even = "an even number of cache servers cannot outvote a lost half: take 1, 3, 5 or 7";
        let failure = refused("failed to ask", &invalid(&[("spec", &format!("Invalid value: {even}"))]));
        assert_eq!(failure.causes(), [even.to_owned()]);
        assert_eq!(failure.code, ExitStatus::BadInput);
        for value in ["\"object\"", "null", "9"] {
            let failure = refused("failed to ask", &invalid(&[("spec", &format!("Invalid value: {value}: {even}"))]));
            assert_eq!(failure.causes(), [even.to_owned()], "{value}");
        }
    }

    #[test]
    fn a_field_that_is_wrong_is_named_once() {
        let message = "Invalid value: 9: spec.instances in body should be less than or equal to 7";
        let failure = refused("failed to ask", &invalid(&[("spec.instances", message), ("spec.instances", message)]));
        assert_eq!(failure.causes(), ["spec.instances: spec.instances in body should be less than or equal to 7"]);
    }

    #[test]
    fn who_may_not_is_told_so() {
        let status = Status { code: 403, message: "pods is forbidden".into(), ..Status::default() };
        let failure = refused("failed to list", &kube::Error::Api(status.boxed()));
        assert_eq!((failure.code, failure.causes()), (ExitStatus::BadInput, vec!["pods is forbidden".to_owned()]));
        let upgrade = UpgradeConnectionError::ProtocolSwitch(StatusCode::FORBIDDEN);
        let failure = refused("failed to start psql", &kube::Error::UpgradeConnection(upgrade));
        assert!(failure.hint.is_some_and(|hint| hint.contains("may not")));
    }
}
