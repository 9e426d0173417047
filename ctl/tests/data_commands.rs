//! `hzctl db`, `cache` and `operation` as a user meets them: the real binary, and an API server that only pretends.

#![allow(clippy::unwrap_used)]

mod common;
mod pretended;

use std::process::{Command, Stdio};

use common::{err, out, run, site};
use pretended::{Server, ask, json_of, talking_to};
use serde_json::{Value, json};

#[test]
fn without_a_cluster_to_talk_to_the_ways_to_one_are_told() {
    let site = site();
    let output = run(site.path(), &["db", "list"]);
    assert_eq!(output.status.code(), Some(1), "{}", err(&output));
    assert!(err(&output).contains("there is no kubeconfig") && err(&output).contains("-f"), "{}", err(&output));
    let output = run(site.path(), &["db", "list", "--kubeconfig", "nowhere.yaml"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(err(&output).contains("nowhere.yaml"), "{}", err(&output));
}

#[test]
fn what_throws_data_away_wants_to_be_confirmed_before_anything_else() {
    let site = site();
    let output = run(site.path(), &["db", "rebuild", "records", "--member", "records-1"]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(err(&output), "error: rebuild wants to be confirmed\n  hint: add --yes\n");
}

#[test]
fn a_list_is_a_table_for_people_and_typed_rows_for_scripts() {
    let (site, server) = (site(), Server::start());
    let table = out(&ask(&server, site.path(), &["db", "list"]));
    let lines: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(
        lines[0].join(" "),
        "NAMESPACE NAME READY PRIMARY INSTANCES SYNC SIZE OPERATION LAST BACKUP PROVED ENDPOINT AGE"
    );
    assert_eq!(
        lines[1][..11].join(" "),
        "hospital-anna billing yes billing-1 3/3 Strict 20Gi - never never billing.hospital-anna.svc:5432"
    );
    let rows = json_of(&ask(&server, site.path(), &["db", "list", "-n", "hospital-berta", "-o", "json"]));
    assert_eq!(rows.as_array().unwrap().len(), 1);
    assert_eq!((&rows[0]["ready"], &rows[0]["readyInstances"]), (&json!(true), &json!(3)));
    let empty = ask(&server, site.path(), &["cache", "list", "-n", "hospital-berta"]);
    assert_eq!(out(&empty), "There are no caches.\n", "{}", err(&empty));
}

#[test]
fn a_name_is_looked_for_in_all_namespaces() {
    let (site, server) = (site(), Server::start());
    for (arguments, told) in [
        (vec!["db", "restart", "billing"], "several namespaces: hospital-anna, hospital-berta"),
        (vec!["db", "restart", "record"], "did you mean `records`?"),
        (
            vec!["db", "restart", "records", "-n", "hospital-berta"],
            "no database server `records` in namespace hospital-berta",
        ),
        (vec!["db", "switchover", "records", "--to", "records-7"], "records has no copy `records-7`"),
        (vec!["db", "switchover", "records", "--to", "records-1"], "records-1 is the primary already"),
        (vec!["op", "wait", "records-restart-00000"], "there are no operations yet"),
    ] {
        let output = ask(&server, site.path(), &arguments);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {}", err(&output));
        assert!(err(&output).contains(told), "{arguments:?}: {}", err(&output));
    }
    assert!(server.made().is_empty());
}

#[test]
fn what_is_asked_for_becomes_an_operation() {
    let (site, server) = (site(), Server::start());
    let arguments = ["db", "switchover", "records", "--to", "records-0", "--timeout", "60", "-o", "json"];
    let row = json_of(&ask(&server, site.path(), &arguments));
    let name = row["name"].as_str().unwrap();
    assert!(name.starts_with("records-switchover-") && name.len() == "records-switchover-".len() + 5, "{name}");
    let made = &server.made()[0];
    assert_eq!(made["metadata"]["namespace"], "hospital-anna");
    assert_eq!(
        made["spec"],
        json!({
            "target": { "kind": "PostgresInstance", "name": "records" },
            "action": "Switchover", "candidate": "records-0", "deadlineSeconds": 60, "ttlSecondsAfterFinished": 604_800, "cancel": false,
            "skipBackup": false, "acceptLossSince": false,
        })
    );
    let text = ask(&server, site.path(), &["db", "restart", "records"]);
    assert!(out(&text).contains("to follow it: hzctl operation wait records-restart-"), "{}", out(&text));
}

#[test]
fn a_rule_of_the_schema_is_told_in_its_own_words() {
    let (site, server) = (site(), Server::start());
    let output = ask(&server, site.path(), &["cache", "scale", "sessions", "--instances", "4"]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(
        err(&output),
        "error: the scaling of sessions cannot be asked for\n  because: an even number of cache servers cannot outvote a lost half: take 1, 3, 5 or 7\n"
    );
}

#[test]
fn an_operation_is_followed_to_its_end_over_watches_that_break_off() {
    let (site, server) = (site(), Server::start());
    let output = ask(&server, site.path(), &["db", "restart", "records", "--wait"]);
    assert_eq!(output.status.code(), Some(0), "{}", err(&output));
    assert_eq!(out(&output), "the restart of records succeeded in 42s: every copy started anew\n");
    for told in ["Running 0/3, copy 0", "Running 1/3, copy 1", "Succeeded 3/3"] {
        assert_eq!(err(&output).matches(told).count(), 1, "{told}: {}", err(&output));
    }
    assert!(server.watches() > 1, "one watch was enough: {}", server.watches());
}

#[test]
fn scripts_follow_an_operation_by_json_lines() {
    let (site, server) = (site(), Server::start());
    let output = ask(&server, site.path(), &["db", "restart", "records", "--wait", "-o", "json"]);
    let events: Vec<Value> = err(&output).lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    assert_eq!(events.last().unwrap()["phase"], "Succeeded", "{}", err(&output));
    assert_eq!(events.len(), err(&output).lines().count(), "each line is one object: {}", err(&output));
    assert_eq!(json_of(&output)["phase"], "Succeeded");
}

#[test]
fn how_an_operation_ended_is_an_exit_code() {
    let (site, server) = (site(), Server::start());
    for (arguments, code, told) in [
        (vec!["db", "expand", "records", "--size", "30Gi", "--wait"], 6, "given up at its deadline of 1800 seconds"),
        (vec!["db", "rebuild", "records", "--member", "records-1", "--yes", "--wait"], 2, "copy 9 does not start"),
    ] {
        let output = ask(&server, site.path(), &arguments);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {}", err(&output));
        assert!(err(&output).contains(told) && err(&output).contains("hint:"), "{}", err(&output));
    }
}

#[test]
fn an_operation_is_cancelled_once_and_one_that_ended_says_how() {
    let (site, server) = (site(), Server::start());
    server.hold();
    let row = json_of(&ask(&server, site.path(), &["db", "restart", "records", "-o", "json"]));
    let name = row["name"].as_str().unwrap();
    let cancelled = ask(&server, site.path(), &["op", "cancel", name, "--wait"]);
    assert_eq!(cancelled.status.code(), Some(0), "{}", err(&cancelled));
    assert_eq!(out(&cancelled), "the restart of records was cancelled: stopped by a person\n");
    let again = ask(&server, site.path(), &["op", "cancel", name]);
    assert_eq!(again.status.code(), Some(0), "{}", err(&again));
    assert!(out(&again).contains("has ended already: the restart of records was cancelled"), "{}", out(&again));
    assert_eq!(ask(&server, site.path(), &["op", "wait", name]).status.code(), Some(130));
}

#[test]
fn ctrl_c_while_waiting_leaves_the_operation_alone_and_says_how_to_go_on() {
    let (site, server) = (site(), Server::start());
    server.hold();
    let child = talking_to(&server, site.path())
        .args(["db", "restart", "records", "--wait"])
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
    assert!(err(&output).contains(&format!("operation {name} goes on")), "{}", err(&output));
    assert!(err(&output).contains(&format!("hzctl operation cancel {name} -n hospital-anna")), "{}", err(&output));
}

#[test]
fn logs_come_from_the_primary_from_one_copy_or_from_all() {
    let (site, server) = (site(), Server::start());
    assert_eq!(out(&ask(&server, site.path(), &["db", "logs", "records"])), "records-1 of postgres\nends\n");
    let one = ask(&server, site.path(), &["db", "logs", "records", "--member", "records-0"]);
    assert_eq!(out(&one), "records-0 of postgres\nends\n");
    let all = ask(&server, site.path(), &["db", "logs", "records", "--all", "--tail", "5", "-F"]);
    let mut lines: Vec<String> = out(&all).lines().map(str::to_owned).collect();
    lines.sort();
    assert_eq!(
        lines,
        ["records-0  ends", "records-0  records-0 of postgres", "records-1  ends", "records-1  records-1 of postgres"]
    );
}
