//! `hzctl db backup`, `backups`, `restore`, `drill` and `drills` as a user meets them: the real binary, and an API server
//! that only pretends.

#![allow(clippy::unwrap_used)]

mod common;
mod pretended;

use std::process::{Command, Stdio};

use common::{err, out, site};
use pretended::{Server, ask, json_of, talking_to};
use serde_json::{Value, json};

#[test]
fn a_backup_is_asked_of_the_plan_of_a_database_server() {
    let (site, server) = (site(), Server::start());
    let row = json_of(&ask(&server, site.path(), &["db", "backup", "records", "--type", "differential", "-o", "json"]));
    let name = row["name"].as_str().unwrap();
    let digits = name.strip_prefix("nightly-by-hand-").unwrap_or_else(|| panic!("{name}"));
    assert!(digits.len() == 14 && digits.bytes().all(|byte| byte.is_ascii_digit()), "{name}");
    let made = &server.made()[0];
    assert_eq!((&made["kind"], &made["metadata"]["namespace"]), (&json!("Backup"), &json!("hospital-anna")));
    assert_eq!(made["spec"], json!({ "plan": "nightly", "type": "Differential", "cancel": false }));
}

#[test]
fn a_backup_is_followed_to_its_end() {
    let (site, server) = (site(), Server::start());
    let output = ask(&server, site.path(), &["db", "backup", "records", "--wait"]);
    assert_eq!(output.status.code(), Some(0), "{}", err(&output));
    assert_eq!(out(&output), "the full backup of records succeeded in 2m 00s: 15.0 MiB of 55.4 MiB stored\n");
    for told in ["Running, at work", "Succeeded, complete"] {
        assert_eq!(err(&output).matches(told).count(), 1, "{told}: {}", err(&output));
    }
    let failed = ask(&server, site.path(), &["db", "backup", "records", "--type", "incremental", "--wait"]);
    assert_eq!(failed.status.code(), Some(2));
    let told = "error: the incremental backup of records failed\n  because: the store does not answer\n  hint: ";
    assert!(err(&failed).contains(told), "{}", err(&failed));
}

#[test]
fn scripts_follow_a_backup_by_json_lines() {
    let (site, server) = (site(), Server::start());
    let output = ask(&server, site.path(), &["db", "backup", "records", "--wait", "-o", "json"]);
    let events: Vec<Value> = err(&output).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let last = events.last().unwrap();
    assert_eq!((&last["event"], &last["phase"]), (&json!("backup"), &json!("Succeeded")));
    assert_eq!(json_of(&output)["label"], "20260301-010001F");
}

#[test]
fn what_cannot_be_backed_up_or_restored_is_answered_with_what_to_do() {
    let (site, server) = (site(), Server::start());
    let restore = |rest: &[&'static str]| [&["db", "restore", "records", "--into"], rest].concat();
    let anna = ["-n", "hospital-anna"];
    for (arguments, told) in [
        (vec!["db", "backup", "record"], "did you mean `records`?"),
        (vec!["db", "backup", "billing"], "several namespaces: hospital-anna, hospital-berta"),
        ([&["db", "backup", "billing"], &anna[..]].concat(), "kind: BackupPlan"),
        ([&["db", "backups", "billing"], &anna[..]].concat(), "billing is not backed up: it has no BackupPlan"),
        (vec!["db", "backup", "retired"], "hzctl db restore retired --into retired -n hospital-anna"),
        (vec!["db", "backup", "records", "--plan", "nightli"], "did you mean `nightly`?"),
        (restore(&["billing"]), "never writes over one"),
        (restore(&["new", "--at", "2099-01-01T00:00:00Z"]), "has not come yet"),
        (restore(&["new", "--at", "2026-02-01T00:00:00Z"]), "every moment from 2026-03-01T01:02:00Z to now"),
        (restore(&["new", "--backup", "nightly-20260301010"]), "did you mean `nightly-202603010100`?"),
        (restore(&["new", "--backup", "nightly-202603010200"]), "is failed and cannot be restored"),
        (restore(&["new", "--backup", "old-202602010100"]), "the plan nightly has no backup"),
        (vec!["db", "drill", "records", "--drill", "weakly"], "did you mean `weekly`?"),
        (vec!["db", "drills", "record"], "did you mean `records`?"),
    ] {
        let output = ask(&server, site.path(), &arguments);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {}{}", out(&output), err(&output));
        assert!(err(&output).contains(told), "{arguments:?}: {}", err(&output));
    }
    assert!(server.made().is_empty());
}

#[test]
fn backups_are_a_table_below_what_can_be_restored() {
    let (site, server) = (site(), Server::start());
    let told = out(&ask(&server, site.path(), &["db", "backups", "records"]));
    let lines: Vec<&str> = told.lines().collect();
    assert_eq!(lines[0], "plan nightly: healthy: the log is archived");
    assert!(lines[1].starts_with("every moment since 2026-03-01T01:02:00Z can be restored, last proved"), "{told}");
    let columns: Vec<&str> = lines[3].split_whitespace().collect();
    assert_eq!(columns, ["NAME", "TYPE", "PHASE", "COMPLETED", "STORED", "LABEL"]);
    assert!(lines[4].starts_with("nightly-202603010200") && lines[5].starts_with("nightly-202603010100"), "{told}");
    let told = json_of(&ask(&server, site.path(), &["db", "backups", "retired", "-o", "json"]));
    assert_eq!((&told["plan"]["healthy"], &told["plan"]["reason"]), (&json!(false), &json!("NoInstance")));
    assert_eq!(told["backups"].as_array().unwrap().len(), 1);
}

#[test]
fn a_restore_makes_a_new_one_of_what_may_be_gone() {
    let (site, server) = (site(), Server::start());
    let arguments = [
        "db",
        "restore",
        "retired",
        "--into",
        "revived",
        "--at",
        "2026-03-01T14:00:00+02:00",
        "--instances",
        "1",
        "--size",
        "30Gi",
        "--wait",
    ];
    let output = ask(&server, site.path(), &arguments);
    assert_eq!(output.status.code(), Some(0), "{}", err(&output));
    assert_eq!(
        out(&output),
        "the restore of retired into revived succeeded in 1m 14s: revived answers\n\
         recovered to: 2026-03-02T11:59:58Z, 74 s after it was asked for\n\
         to connect: hzctl db connect revived -n hospital-anna\n"
    );
    let made = &server.made()[0];
    assert!(made["metadata"]["name"].as_str().unwrap().starts_with("revived-2"), "{made}");
    assert_eq!(
        made["spec"],
        json!({
            "plan": "old", "instance": "revived", "targetTime": "2026-03-01T12:00:00Z", "instances": 1, "size": "30Gi",
            "sealed": false, "cancel": false, "deadlineSeconds": 86_400,
        })
    );
}

#[test]
fn a_restore_that_ran_out_of_time_ends_with_the_code_for_deadlines() {
    let (site, server) = (site(), Server::start());
    let backup = ["--backup", "nightly-202603010100", "--timeout", "60"];
    let arguments =
        [&["db", "restore", "records", "--into", "new", "--instances", "5", "--wait"], &backup[..]].concat();
    let output = ask(&server, site.path(), &arguments);
    assert_eq!(output.status.code(), Some(6), "{}", err(&output));
    let told = "error: the restore of records into new was given up at its deadline of 60 seconds";
    assert!(err(&output).contains(told) && err(&output).contains("hint:"), "{}", err(&output));
    assert_eq!(server.made()[0]["spec"]["backup"], "nightly-202603010100");
}

#[test]
fn a_drill_is_asked_for_by_an_annotation_and_its_checks_are_shown() {
    let (site, server) = (site(), Server::start());
    let output = ask(&server, site.path(), &["db", "drill", "records", "--wait"]);
    assert_eq!(output.status.code(), Some(0), "{}", err(&output));
    let told = out(&output);
    let lines: Vec<String> = told.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    assert_eq!(
        lines,
        [
            "the drill of records succeeded in 1m 14s: restored, and all 2 checks passed",
            "recovery time (RTO): 1m 01s (objective: 5m 00s)",
            "lost writes (RPO): 0s",
            "",
            "CHECK RESULT ANSWER",
            "every row of findings can be read pass 12 rows in 3 tables",
            "patients pass 812",
        ]
    );
    let first = server.object("restoredrills", "weekly")["metadata"]["annotations"]["hz.hospital/run"].clone();
    assert!(first.as_str().is_some_and(|time| time.starts_with("20") && time.ends_with('Z') && time.len() <= 40));
    // What the first run proved is no answer to the second request.
    let row = json_of(&ask(&server, site.path(), &["db", "drill", "records", "--wait", "-o", "json"]));
    assert_ne!(row["requested"], first);
    assert_eq!(row["run"]["requested"], row["requested"]);
}

#[test]
fn a_drill_that_proved_nothing_shows_its_checks_and_fails() {
    let (site, server) = (site(), Server::start());
    let output = ask(&server, site.path(), &["db", "drill", "retired", "--wait", "-o", "json"]);
    assert_eq!(output.status.code(), Some(2), "{}", err(&output));
    let row = json_of(&output);
    assert_eq!((&row["phase"], &row["run"]["checks"][1]["passed"]), (&json!("Failed"), &json!(false)));
    let failure: Value = serde_json::from_str(err(&output).lines().last().unwrap()).unwrap();
    assert_eq!(failure["error"]["message"], "the drill of retired failed");
}

#[test]
fn drills_are_listed_with_what_they_measured() {
    let (site, server) = (site(), Server::start());
    ask(&server, site.path(), &["db", "drill", "records", "--wait"]);
    let told = out(&ask(&server, site.path(), &["db", "drills"]));
    let lines: Vec<&str> = told.lines().collect();
    let columns = lines[0].split_whitespace().collect::<Vec<_>>().join(" ");
    assert_eq!(columns, "NAMESPACE NAME PLAN PROVED LAST PROVED RTO RPO NEXT MESSAGE");
    assert!(lines[1].contains("old-weekly") && lines[2].contains("1m 01s"), "{told}");
    let rows = json_of(&ask(&server, site.path(), &["db", "drills", "records", "-o", "json"]));
    assert_eq!(rows.as_array().unwrap().len(), 1);
    assert_eq!((&rows[0]["instance"], &rows[0]["recoverySeconds"]), (&json!("records"), &json!(61)));
}

#[test]
fn ctrl_c_while_waiting_for_a_restore_leaves_it_alone_and_says_how_to_see_it() {
    let (site, server) = (site(), Server::start());
    server.hold();
    let child = talking_to(&server, site.path())
        .args(["db", "restore", "records", "--into", "new", "--wait"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    server.until_watched();
    let killed = Command::new("kill").args(["-INT", &child.id().to_string()]).status();
    assert!(killed.is_ok_and(|status| status.success()));
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130), "{}", err(&output));
    let name = server.made()[0]["metadata"]["name"].as_str().unwrap().to_owned();
    assert!(err(&output).contains(&format!("restore {name} goes on")), "{}", err(&output));
    assert!(err(&output).contains(&format!("kubectl get restore {name} -n hospital-anna")), "{}", err(&output));
}
