//! The commands as a user meets them: the real binary, its output, its exit codes.

#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::process::Stdio;

use common::{err, hzctl, out, repository, run, run_with_input, site};

#[test]
fn a_misspelt_command_or_option_is_answered_with_the_nearest_and_exit_code_1() {
    let site = site();
    for (arguments, told) in [
        (vec!["bootstap"], "bootstrap"),
        (vec!["validate", "--no-file"], "--no-files"),
        (vec!["version", "-o", "jsn"], "json"),
        (vec!["completions", "zhs"], "zsh"),
        (vec![], "Usage"),
        (vec!["init"], "--hosts"),
        (vec!["db", "lst"], "list"),
        (vec!["db"], "Usage"),
        (vec!["db", "restart"], "<NAME>"),
        (vec!["db", "scale", "records", "--instances", "9"], "1..=7"),
        (vec!["db", "expand", "records", "--size", "20GB"], "such as 20Gi"),
        (vec!["db", "restart", "records", "--timeout", "5"], "30..=86400"),
        (vec!["db", "list", "-A", "-n", "hospital-anna"], "cannot be used with"),
        (vec!["db", "logs", "records", "--all", "--member", "records-0"], "cannot be used with"),
        (vec!["db", "backup"], "<NAME>"),
        (vec!["db", "backup", "records", "--type", "ful"], "full"),
        (vec!["db", "restore", "records"], "--into"),
        (vec!["db", "restore", "records", "--into", "Records"], "lower-case"),
        (vec!["db", "restore", "records", "--into", "r2", "--at", "yesterday"], "2026-07-01T12:30:00Z"),
        (
            vec!["db", "restore", "records", "--into", "r2", "--at", "2026-03-01T08:00:00Z", "--backup", "x"],
            "cannot be used",
        ),
        (vec!["db", "dril", "records"], "drill"),
        (vec!["cache", "switchover", "sessions", "--to", "sessions-1"], "--to"),
        (vec!["cache", "rebuild", "sessions"], "--member"),
        (vec!["operation", "cancle", "x"], "cancel"),
    ] {
        let output = run(site.path(), &arguments);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {}", err(&output));
        assert!(err(&output).contains(told), "{arguments:?}: {}", err(&output));
        assert_eq!(out(&output), "", "{arguments:?}");
    }
}

#[test]
fn help_and_version_are_data_and_end_well() {
    let site = site();
    for arguments in [
        vec!["--help"],
        vec!["help", "init"],
        vec!["init", "-h"],
        vec!["db", "connect", "-h"],
        vec!["op", "wait", "--help"],
        vec!["--version"],
    ] {
        let output = run(site.path(), &arguments);
        assert_eq!(output.status.code(), Some(0), "{arguments:?}");
        assert!(out(&output).contains("hzctl") && err(&output).is_empty(), "{arguments:?}");
    }
}

#[test]
fn version_is_for_people_and_for_scripts() {
    let site = site();
    assert!(out(&run(site.path(), &["version"])).contains(env!("CARGO_PKG_VERSION")));
    let json: serde_json::Value = serde_json::from_str(&out(&run(site.path(), &["version", "-o", "json"]))).unwrap();
    assert_eq!(json["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(json["kubernetes"], "1.36");
    assert_eq!(json["bundleFormat"], 1);
    assert!(out(&run(site.path(), &["-o", "yaml", "version"])).contains("kubernetes: "));
}

#[test]
fn init_writes_a_file_that_validate_accepts_and_never_writes_over_one() {
    let site = site();
    let arguments = [
        "init",
        "--hosts",
        "10.0.0.11-18",
        "--name",
        "st-anna",
        "--identity-file",
        "id_ed25519",
        "--bundle",
        "bundle.tar",
    ];
    fs::create_dir(site.path().join(".ssh")).unwrap();
    fs::write(site.path().join(".ssh/known_hosts"), "x\n").unwrap();
    let first = run(site.path(), &arguments);
    assert_eq!(first.status.code(), Some(0), "{}", err(&first));
    let valid = run(site.path(), &["validate"]);
    assert_eq!(out(&valid), "cluster `st-anna` is valid: 3 control planes, 5 workers\n", "{}", err(&valid));

    fs::write(site.path().join("cluster.yaml"), "mine").unwrap();
    let second = run(site.path(), &arguments);
    assert_eq!(second.status.code(), Some(1));
    assert!(err(&second).contains("is there already") && err(&second).contains("--force"), "{}", err(&second));
    assert_eq!(fs::read_to_string(site.path().join("cluster.yaml")).unwrap(), "mine");
    let forced = run(site.path(), &[&arguments[..], &["--force"]].concat());
    assert_eq!(forced.status.code(), Some(0));
    assert!(fs::read_to_string(site.path().join("cluster.yaml")).unwrap().contains("st-anna"));
}

#[test]
fn init_reads_a_list_from_a_file_or_standard_input_and_prints_to_standard_output() {
    let site = site();
    let list =
        "# ours\n10.0.0.1 anna ControlPlane\n10.0.0.2 berta ControlPlane\n10.0.0.3 clara ControlPlane\n10.0.1.1-5\n";
    let output = run_with_input(site.path(), &["init", "--hosts", "-", "--to", "-"], list.as_bytes());
    assert_eq!(output.status.code(), Some(0), "{}", err(&output));
    assert!(
        out(&output).contains("{ name: clara,    address: 10.0.0.3,        role: ControlPlane }"),
        "{}",
        out(&output)
    );
    let valid = run_with_input(site.path(), &["validate", "--no-files", "-f", "-"], out(&output).as_bytes());
    assert_eq!(valid.status.code(), Some(0), "{}", err(&valid));
    fs::write(site.path().join("servers.txt"), list).unwrap();
    let from_file = run(site.path(), &["init", "--hosts", "servers.txt", "--to", "-"]);
    assert_eq!(out(&from_file), out(&output));
}

#[test]
fn init_tells_which_line_of_the_list_is_wrong_and_writes_nothing() {
    let site = site();
    for (list, told) in [
        ("10.0.0.1\n10.0.0.2 a b c\n", "line 2"),
        ("10.0.0.1-3", "3 hosts; at least 8 are needed"),
        ("10.0.0.1 Anna_1\n10.0.0.2-8\n", "write `anna-1`"),
        ("", "no hosts"),
    ] {
        let output = run_with_input(site.path(), &["init", "--hosts", "-"], list.as_bytes());
        assert_eq!(output.status.code(), Some(1), "{list:?}");
        assert!(err(&output).contains(told), "{list:?}: {}", err(&output));
        assert!(!site.path().join("cluster.yaml").exists());
    }
    let missing = run(site.path(), &["init", "--hosts", "nowhere.txt"]);
    assert!(err(&missing).contains("nowhere.txt") && err(&missing).contains("No such file"), "{}", err(&missing));
}

#[test]
fn with_json_a_failure_is_one_json_object_on_stderr_with_line_and_column() {
    let site = site();
    let yaml = fs::read_to_string(repository().join("ctl/tests/cluster-corpus/role-misspelt.yaml")).unwrap();
    let output = run_with_input(site.path(), &["validate", "-o", "json", "-f", "-"], yaml.as_bytes());
    assert_eq!(output.status.code(), Some(1));
    let json: serde_json::Value = serde_json::from_str(&err(&output)).unwrap();
    let finding = &json["error"]["findings"][0];
    assert_eq!(finding["path"], "spec.hosts[5].role");
    assert_eq!((finding["line"].as_u64(), finding["column"].as_u64()), (Some(15), Some(50)));
    assert_eq!(json["error"]["exitCode"], 1);
    assert_eq!(out(&output), "");
}

#[test]
fn completions_and_man_pages_cover_every_command_that_is_shown() {
    let site = site();
    for shell in ["bash", "zsh", "fish"] {
        let script = out(&run(site.path(), &["completions", shell]));
        assert!(script.contains("bootstrap") && script.contains("kubeconfig"), "{shell}");
        assert!(!script.contains("fsync"), "{shell} completes hidden commands");
    }
    let output = run(site.path(), &["man", "pages/man1"]);
    assert_eq!(output.status.code(), Some(0), "{}", err(&output));
    let page = fs::read_to_string(site.path().join("pages/man1/hzctl-init.1")).unwrap();
    assert!(page.contains("--hosts") || page.contains("\\-\\-hosts"), "{page}");
    assert!(site.path().join("pages/man1/hzctl.1").exists() && !site.path().join("pages/man1/hzctl-node.1").exists());
    assert!(out(&run(site.path(), &["man"])).starts_with(".ie"), "the main page goes to standard output");
}

#[test]
fn a_bash_that_is_there_understands_the_completions() {
    let site = site();
    let script = site.path().join("hzctl.bash");
    fs::write(&script, out(&run(site.path(), &["completions", "bash"]))).unwrap();
    let checked = std::process::Command::new("bash").arg("-n").arg(&script).output();
    assert!(checked.is_ok_and(|output| output.status.success()));
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let site = site();
    let mut child = hzctl(site.path()).arg("schema").stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", err(&output));
    assert_eq!(err(&output), "");
}

#[test]
fn ctrl_c_ends_with_130_even_while_a_blocking_read_waits() {
    let site = site();
    let mut child = hzctl(site.path())
        .args(["init", "--hosts", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let held_open = child.stdin.take();
    // Once the handler is there, SIGINT is caught: the kernel tells so in the mask of caught signals.
    let status = format!("/proc/{}/status", child.id());
    let caught = || {
        let text = fs::read_to_string(&status).unwrap_or_default();
        let mask = text.lines().find_map(|line| line.strip_prefix("SigCgt:")).map(str::trim).map(str::to_owned);
        mask.and_then(|mask| u64::from_str_radix(&mask, 16).ok()).is_some_and(|mask| mask & 2 != 0)
    };
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
    while !caught() && std::time::Instant::now() < deadline {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    let killed = std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status();
    assert!(killed.is_ok_and(|status| status.success()));
    let output = child.wait_with_output().unwrap();
    drop(held_open);
    assert_eq!(output.status.code(), Some(130), "{}", err(&output));
    assert_eq!(err(&output), "error: interrupted\n");
    assert!(!site.path().join("cluster.yaml").exists());
}

/// `UPDATE=1 cargo test -p hzctl --test commands` writes them anew.
#[test]
fn published_references_are_what_this_hzctl_prints() {
    let site = site();
    for (file, command) in [("commands.md", "docs"), ("cluster-schema.json", "schema")] {
        let path = repository().join("docs/reference").join(file);
        let printed = out(&run(site.path(), &[command]));
        if std::env::var_os("UPDATE").is_some() {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, &printed).unwrap();
        }
        let published = fs::read_to_string(&path).unwrap_or_default();
        assert!(
            published == printed,
            "docs/reference/{file} has drifted: UPDATE=1 cargo test -p hzctl --test commands"
        );
    }
}
