//! Encryption, users, passwords, and settings that change while servers run.

use std::collections::BTreeMap;

use serde_json::json;

use super::credentials::Found;
use super::tests::{changed, load, plan, serving, user};
use super::users::{Acl, Given as SecretGiven, hash, password_of};
use super::*;
use crate::testing::at;
use crate::{Platform, Timestamp};

fn with_users(users: serde_json::Value) -> CacheInstance {
    changed("sessions", |cache| cache.spec.users = users.as_array().unwrap().iter().cloned().map(user).collect())
}

fn acl(cache: &CacheInstance) -> BTreeMap<String, String> {
    let inputs = Inputs::made_up(cache, &Platform::eight_nodes());
    let acl = Acl::of(cache, "system", &inputs.credentials);
    acl.users.into_iter().map(|(name, rules)| (name, rules.join(" "))).collect()
}

#[test]
fn without_encryption_nothing_of_it_is_there() {
    let plan = plan(&changed("sessions", |cache| cache.spec.tls = Tls::Disabled)).unwrap();
    assert!(plan.find("Secret", "sessions-tls").is_none());
    let auth = &plan.find("Secret", "sessions-auth").unwrap().data["data"];
    assert!(auth.get("ca.crt").is_none());
    let set = plan.find("StatefulSet", "sessions").unwrap().data.to_string();
    assert!(!set.contains("hz-tls") && set.contains("redis://localhost:6379"), "{set}");
}

#[test]
fn encryption_turns_only_while_all_servers_are_stopped() {
    let of = |tls, suspend| {
        changed("sessions", |cache| {
            cache.spec.tls = tls;
            cache.spec.suspend = suspend;
        })
    };
    let turns = |from: bool, to: bool| of(Tls::Disabled, to).validate_cel_update(&of(Tls::Required, from)).is_ok();
    assert!(turns(true, true));
    assert!(!turns(false, false) && !turns(false, true) && !turns(true, false));
    // Servers from before there was a choice.
    let platform = Platform::eight_nodes();
    let inputs = |cache: &CacheInstance| Inputs { running: Some(Tls::Disabled), ..Inputs::made_up(cache, &platform) };
    let cache = load("sessions");
    let refused = desired(&cache, &inputs(&cache), &platform).unwrap_err().to_string();
    assert!(refused.starts_with("spec.tls is `Required`") && refused.contains("spec.suspend"), "{refused}");
    let stopped = of(Tls::Required, true);
    assert!(desired(&stopped, &inputs(&stopped), &platform).is_ok());
}

#[test]
fn a_certificate_speaks_for_services_and_pods() {
    let slot = certificate(&load("sessions"), &Platform::eight_nodes());
    for name in [
        "sessions",
        "sessions-ro.hospital-st-anna.svc",
        "*.sessions-pods.hospital-st-anna.svc.cluster.local",
        "localhost",
    ] {
        assert!(slot.dns_names.iter().any(|known| known == name), "{name}");
    }
}

#[test]
fn users_may_do_what_is_said_and_nothing_to_the_server() {
    let rules = acl(&with_users(json!([
        { "name": "booking", "keys": ["session:*", "lock:*"] },
        { "name": "report", "access": "ReadOnly" },
        { "name": "counter", "commands": ["get", "@hash"] },
    ])));
    let held = |name: &str| format!("#{}", hash(&format!("made-up-{name}")));
    let tail = "-@admin -@dangerous +info +role";
    assert_eq!(rules["default"], format!("on {} ~* &* +@all {tail}", held("default")));
    assert_eq!(
        rules["booking"],
        format!("on {} resetchannels ~session:* ~lock:* &session:* &lock:* +@all {tail}", held("booking"))
    );
    assert!(rules["report"].contains("%R~* ") && rules["report"].ends_with(&format!("-@write {tail}")), "{rules:?}");
    assert!(rules["counter"].ends_with(&format!("-@all +@connection +get +@hash {tail}")), "{rules:?}");
    assert!(rules["hz-system"].ends_with("~* &* +@all"));
}

#[test]
fn commands_that_nobody_may_be_given_are_refused_by_name() {
    let refused =
        |word: &str| plan(&with_users(json!([{ "name": "x", "commands": [word] }]))).map(drop).unwrap_err().to_string();
    assert!(refused("flushall").starts_with("spec.users[0].commands[0] is `flushall`: this command acts on"));
    assert!(refused("hgett").ends_with("did you mean hget?"), "{}", refused("hgett"));
    assert!(refused("@hahs").ends_with("did you mean @hash?"), "{}", refused("@hahs"));
    assert!(refused("@dangerous").contains("whole server"));
    assert!(plan(&with_users(json!([{ "name": "x", "commands": ["client|setname", "@read", "info"] }]))).is_ok());
}

#[test]
fn names_and_patterns_that_cannot_be_are_refused_at_the_door() {
    let ok = |manifest: serde_json::Value| with_users(json!([manifest])).validate_cel().is_ok();
    assert!(ok(json!({ "name": "booking" })));
    for name in ["default", "auth", "system", "tls", "hz-system"] {
        assert!(!ok(json!({ "name": name })), "{name}");
    }
}

#[test]
fn a_secret_of_a_tenants_is_described_and_never_shown() {
    let secret = SecretRef { name: "mine".into(), key: "password".into() };
    let of = |password: &str| {
        let data = BTreeMap::from([("password".to_owned(), password.to_owned())]);
        password_of(1, &secret, SecretGiven::Holds(&data))
    };
    assert_eq!(of("0123456789abcdef").unwrap(), "0123456789abcdef");
    let short = of("hush").unwrap_err();
    assert!(
        short.starts_with("spec.users[1].secretRef.key is `password`: ") && short.contains("4 characters"),
        "{short}"
    );
    assert!(!short.contains("hush") && short.contains("16 to 128 letters"));
    let odd = of("0123456789abcdef\n").unwrap_err();
    assert!(odd.contains("a character that a URI") && odd.contains("no line break"), "{odd}");
    let missing = password_of(0, &secret, SecretGiven::Missing).unwrap_err();
    assert!(missing.starts_with("spec.users[0].secretRef.name is `mine`: there is no such Secret"), "{missing}");
    assert!(password_of(0, &secret, SecretGiven::Platforms).unwrap_err().contains("the platform's"));
    assert!(password_of(0, &secret, SecretGiven::Holds(&BTreeMap::new())).unwrap_err().contains("no text under"));
}

fn pass(cache: &CacheInstance, held: Option<Credentials>, given: &[(&str, &str)], now: Timestamp) -> Credentials {
    let mut number = 0;
    let mut fresh = || {
        number += 1;
        format!("fresh{number}@{}", now.as_second())
    };
    let given = given.iter().map(|(user, password)| ((*user).to_owned(), (*password).to_owned())).collect();
    let before = BTreeMap::from([("default".to_owned(), "from before".to_owned())]);
    Credentials::next(cache, Found { held, before, given, fresh: &mut fresh }, now)
}

#[test]
fn a_new_password_is_accepted_before_it_is_handed_out_and_the_old_one_a_while_longer() {
    let mut cache = load("sessions");
    let first = pass(&cache, None, &[], at("08:00:00"));
    assert_eq!(first.users["default"].password, "from before", "caches from before keep theirs");
    assert!(!first.waits());
    assert_eq!(pass(&cache, Some(first.clone()), &[], at("08:01:00")), first, "nothing changes by itself");

    cache.spec.credentials_generation = 2;
    let mut turned = pass(&cache, Some(first), &[], at("08:02:00"));
    let accepted = turned.users["default"].accepted();
    assert!(turned.waits() && accepted.len() == 2 && turned.users["default"].password == "from before");
    assert_eq!(pass(&cache, Some(turned.clone()), &[], at("08:02:10")), turned, "killed here, the next one goes on");
    turned.hand_out(at("08:03:00"));
    assert_ne!(turned.users["default"].password, "from before");
    assert_eq!(turned.users["default"].accepted(), accepted, "no server has to be told again");
    assert_eq!(turned.next_end(&cache.spec), Some(at("08:13:00").as_second()));
    let late = pass(&cache, Some(turned.clone()), &[], at("08:12:59"));
    assert_eq!(late.users["default"].accepted().len(), 2);
    let over = pass(&cache, Some(turned), &[], at("08:13:00"));
    assert_eq!(over.users["default"].accepted().len(), 1);
}

#[test]
fn a_users_own_secret_gives_its_password_and_a_wrong_one_changes_nothing() {
    let mut cache = with_users(json!([{ "name": "report", "secretRef": { "name": "mine" } }]));
    let none = pass(&cache, None, &[], at("08:00:00"));
    assert!(!none.users.contains_key("report"), "nobody gets in without a password");
    let first = pass(&cache, Some(none), &[("report", "one")], at("08:00:00"));
    assert_eq!(first.users["report"].password, "one");
    assert_eq!(pass(&cache, Some(first.clone()), &[], at("08:00:00")), first, "its Secret is wrong: all stays");
    let second = pass(&cache, Some(first.clone()), &[("report", "two")], at("08:00:00"));
    assert_eq!(second.users["report"].accepted().len(), 2);
    cache.spec.credentials_generation = 2;
    let turned = pass(&cache, Some(first), &[("report", "one")], at("08:00:00"));
    assert!(turned.users["report"].next.is_none() && turned.users["default"].next.is_some());
}

#[test]
fn a_user_that_is_taken_out_is_forgotten() {
    let cache = with_users(json!([{ "name": "report" }]));
    let first = pass(&cache, None, &[], at("08:00:00"));
    assert!(first.users.contains_key("report"));
    assert!(!pass(&load("sessions"), Some(first), &[], at("08:00:00")).users.contains_key("report"));
}

#[test]
fn passwords_are_raised_and_never_taken_back() {
    let of = |generation| changed("sessions", |cache| cache.spec.credentials_generation = generation);
    assert!(of(3).validate_cel_update(&of(2)).is_ok());
    assert!(of(2).validate_cel_update(&of(3)).is_err());
}

#[test]
fn settings_are_checked_by_name_and_value() {
    let of = |name: &str, value: &str| {
        let cache = changed("queue", |cache| cache.spec.parameters = [(name.to_owned(), value.to_owned())].into());
        parameters::live(&cache.spec)
    };
    assert_eq!(of("notify-keyspace-events", "KEA").unwrap()["notify-keyspace-events"], "AKE");
    assert_eq!(of("notify-keyspace-events", "xE").unwrap()["notify-keyspace-events"], "xE");
    let refused = |name: &str, value: &str| of(name, value).unwrap_err().to_string();
    assert!(refused("timout", "5").ends_with("did you mean timeout?"));
    assert!(refused("maxmemory", "5").ends_with("it follows from spec.memory: change that"));
    assert!(refused("loadmodule", "/tmp/x.so").ends_with("leave it out"));
    assert!(refused("timeout", "soon").ends_with("possible: 0 to 604800"));
    assert!(refused("lazyfree-lazy-expire", "maybe").ends_with("possible: no, yes"));
    assert!(refused("notify-keyspace-events", "A").contains("K or E"));
}

#[test]
fn appending_is_set_only_where_something_is_appended() {
    let set =
        |cache: &mut CacheInstance| cache.spec.parameters = [("appendfsync".to_owned(), "always".to_owned())].into();
    assert!(changed("queue", set).validate_cel().is_ok());
    assert!(changed("sessions", set).validate_cel().is_err());
}

#[test]
fn what_can_be_lost_is_said() {
    let said = |cache: &CacheInstance| durable::durable(&cache.spec);
    let plain = format!("{:?}", said(&load("sessions")));
    assert!(plain.contains("CopiesFollowLater") && plain.contains("loses everything") && plain.contains("cut off"));
    let strict = format!("{:?}", said(&load("queue")));
    assert!(strict.contains("after 10 seconds") && strict.contains("up to the last second"), "{strict}");
    let single = format!("{:?}", said(&changed("sessions", |cache| cache.spec.replicas = 1)));
    assert!(single.contains("SingleServer"), "{single}");
    assert!(!said(&load("queue")).holds());
}

#[test]
fn what_became_of_passwords_is_said() {
    let mut observed = serving();
    let told = |observed: &Observed| {
        let told = status(&load("sessions"), observed, &Platform::eight_nodes(), at("08:00:00"));
        told.conditions.into_iter().find(|c| c.type_ == CREDENTIALS_APPLIED).map(|c| (c.status, c.reason, c.message))
    };
    assert_eq!(told(&observed), None, "nobody looked");
    observed.given = Given::Everywhere(3);
    assert_eq!(told(&observed).unwrap().1, "Applied");
    observed.old_until = Some(at("08:10:00").as_second());
    let (status, reason, message) = told(&observed).unwrap();
    assert_eq!((status.as_str(), reason.as_str()), ("True", "OldStillAccepted"));
    assert!(message.ends_with("2026-07-01T08:10:00Z"), "{message}");
    observed.wrong = vec!["spec.users[0].secretRef.name is `mine`: there is no such Secret".into()];
    assert_eq!(told(&observed).unwrap().1, "SecretWrong");
}

#[test]
fn no_password_is_ever_printed() {
    let inputs = Inputs::made_up(&load("sessions"), &Platform::eight_nodes());
    let printed = format!("{inputs:?} {:?}", live(&load("sessions"), &inputs).unwrap().acl);
    assert!(!printed.contains("made-up"), "{printed}");
}
