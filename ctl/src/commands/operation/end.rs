//! How an operation ended, as a sentence, an exit code and a way out.

use hz_crds::operation::{DataOperation, TargetKind};
use kube::ResourceExt;

use super::row::{Row, deed, phase};
use crate::commands::follow::ended::{Ended, Why, is_late, took};
use crate::exit::{ExitStatus, Failure};
use crate::printer::Printer;

/// Tell how it ended: data if well, a failure if not.
pub fn tell(operation: &DataOperation, printer: &mut Printer) -> Result<ExitStatus, Failure> {
    if let Some(failure) = failure(operation) {
        return Err(failure);
    }
    printer.value(&Row::of(operation), |_| sentence(operation))?;
    Ok(ExitStatus::Success)
}

/// `the restart of records succeeded in 42s: all copies started anew`
pub fn sentence(operation: &DataOperation) -> String {
    ended(operation).sentence()
}

fn ended(operation: &DataOperation) -> Ended {
    let status = operation.status.clone().unwrap_or_default();
    Ended {
        deed: deed(operation),
        phase: phase(operation),
        took: took(status.start_time.as_deref(), status.completion_time.as_deref()),
        message: status.message,
        late: is_late(&status.conditions),
    }
}

/// What a person has to look at, if it did not succeed.
fn failure(operation: &DataOperation) -> Option<Failure> {
    let target = &operation.spec.target;
    let command = match target.kind {
        TargetKind::PostgresInstance => "db",
        TargetKind::CacheInstance => "cache",
    };
    let namespace = operation.namespace().unwrap_or_default();
    let see = format!("`hzctl {command} logs {} --all -n {namespace}`", target.name);
    ended(operation).failure(Some(operation.spec.deadline_seconds), |why| match why {
        Why::Late => format!("{see} tells what it waited for; ask again with a longer --timeout to go on"),
        Why::Failed => format!("{see} tells more; mend it and ask again: what has ended does not go on by itself"),
        Why::Cancelled => "what was done stays done; the same command again does the rest".into(),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::row::tests::operation;
    use super::*;
    use crate::printer::Output;

    fn ended(status: serde_json::Value) -> DataOperation {
        operation("records-restart-x7k2p", "2026-03-01T08:00:00Z", status)
    }

    #[test]
    fn a_success_says_what_and_how_long() {
        let operation = ended(json!({
            "phase": "Succeeded", "message": "every copy started anew",
            "startTime": "2026-03-01T08:00:01Z", "completionTime": "2026-03-01T08:00:43Z",
        }));
        let (mut printer, captured) = Printer::captured(Output::Table);
        assert_eq!(tell(&operation, &mut printer).unwrap(), ExitStatus::Success);
        assert_eq!(captured.stdout(), "the restart of records succeeded in 42s: every copy started anew\n");
    }

    #[test]
    fn a_failure_has_its_message_and_a_way_out() {
        let failure = failure(&ended(json!({ "phase": "Failed", "message": "records-2 does not start" }))).unwrap();
        assert_eq!((failure.code, failure.message.as_str()), (ExitStatus::Fault, "the restart of records failed"));
        assert_eq!(failure.causes(), ["records-2 does not start"]);
        assert!(failure.hint.is_some_and(|hint| hint.contains("hzctl db logs records --all -n hospital-anna")));
    }

    #[test]
    fn one_that_ran_out_of_time_ends_with_the_code_for_deadlines() {
        let condition = json!({
            "type": "Ready", "status": "False", "reason": "DeadlineExceeded", "message": "",
            "lastTransitionTime": "2026-03-01T08:30:00Z",
        });
        let failure = failure(&ended(json!({ "phase": "Failed", "conditions": [condition] }))).unwrap();
        assert_eq!(failure.code, ExitStatus::Deadline);
        assert_eq!(failure.message, "the restart of records was given up at its deadline of 1800 seconds");
    }

    #[test]
    fn one_that_was_cancelled_is_no_success() {
        let failure = failure(&ended(json!({ "phase": "Cancelled" }))).unwrap();
        assert_eq!(failure.code, ExitStatus::Interrupted);
    }
}
