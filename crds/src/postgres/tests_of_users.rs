use serde_json::json;

use super::pooler::{Pooler, PoolerSeen, pooled};
use super::users::{Access, Grant, PasswordRef, User, password_from, turned, turning};
use super::*;
use crate::conditions::is_true;
use crate::shared::Probe;
use crate::testing::{at, fixture, refuse_misfits, refuse_unknown_fields, refuse_what_restricted_refuses, running};
use crate::{Plan, Platform, Unfit};

fn pooled_instance() -> PostgresInstance {
    fixture("postgres", "pooled")
}

fn inputs(instance: &PostgresInstance) -> Inputs {
    let users = [("auditor".to_owned(), Ok("of-the-tenant".to_owned()))].into();
    Inputs { users, ..super::tests::inputs(instance) }
}

fn plan(instance: &PostgresInstance) -> Result<Plan, Unfit> {
    desired(instance, &inputs(instance), &Platform::eight_nodes())
}

fn told(provision: &Provision) -> Vec<String> {
    let told = provision.statements.iter().map(|statement| {
        let unless = statement.unless.as_ref().map_or_else(String::new, |unless| format!(" -- unless {unless}"));
        format!("{}: {}{unless}", statement.database, statement.sql)
    });
    told.collect()
}

#[test]
fn a_pooler_stands_behind_its_wall_and_hosts_are_in_the_secrets() {
    let plan = plan(&pooled_instance()).unwrap();
    refuse_unknown_fields(&plan);
    refuse_what_restricted_refuses(&plan);
    refuse_misfits(&plan);
    let its = |object: &&crate::DynamicObject| {
        let name = object.metadata.name.as_deref().unwrap_or_default();
        name.starts_with("records-pooler") || name.starts_with("records-user") || name == "records-orthanc"
    };
    let objects: Vec<_> = plan.objects().iter().filter(its).collect();
    insta::assert_yaml_snapshot!(objects);
    let wall = plan.find("NetworkPolicy", "records").unwrap();
    assert!(wall.data["spec"]["ingress"].to_string().contains("\"app.kubernetes.io/name\":\"pooler\""));
}

#[test]
fn its_pods_are_not_taken_for_the_databases() {
    let plan = plan(&pooled_instance()).unwrap();
    let pods = &plan.find("Deployment", "records-pooler").unwrap().data["spec"]["template"]["metadata"]["labels"];
    for (kind, name) in [("Service", "records"), ("Service", "records-pods")] {
        let selector = plan.find(kind, name).unwrap().data["spec"]["selector"].clone();
        let all = selector.as_object().unwrap().iter().all(|(key, value)| pods.get(key) == Some(value));
        assert!(!all, "{kind} {name} selects the pooler");
    }
}

#[test]
fn without_a_pooler_nothing_of_it_is_there() {
    let mut instance = pooled_instance();
    instance.spec.pooler = None;
    let plan = plan(&instance).unwrap();
    assert!(plan.find("Deployment", "records-pooler").is_none());
    let secret = plan.find("Secret", "records-orthanc").unwrap();
    assert!(secret.data["data"].get("pooler-host").is_none());
    let provision = provision(&instance, &inputs(&instance)).unwrap();
    assert!(told(&provision).iter().any(|line| line.contains("ALTER ROLE \"pooler\" NOLOGIN")));
}

#[test]
fn a_single_copy_has_none_that_only_reads() {
    let mut instance = pooled_instance();
    instance.spec.instances = 1;
    let unfit = plan(&instance).unwrap_err().to_string();
    assert!(unfit.starts_with("spec.pooler.readOnly is `true`"), "{unfit}");
}

#[test]
fn the_pooler_may_look_up_tenants_and_nobody_of_the_platform() {
    let instance = pooled_instance();
    let provision = provision(&instance, &inputs(&instance)).unwrap();
    let lines: Vec<String> = told(&provision).into_iter().filter(|line| line.contains("pooler")).collect();
    insta::assert_yaml_snapshot!(lines);
}

#[test]
fn users_get_what_they_are_granted_and_nothing_else() {
    let instance = pooled_instance();
    let provision = grants(&instance, &inputs(&instance)).unwrap().unwrap();
    insta::assert_yaml_snapshot!(told(&provision));
}

#[test]
fn an_instance_that_never_had_users_runs_nothing_for_them() {
    let mut instance = pooled_instance();
    instance.spec.users.clear();
    assert_eq!(grants(&instance, &inputs(&instance)).unwrap(), None);
    instance.status = Some(PostgresInstanceStatus { granted: Some("f00d".into()), ..Default::default() });
    let last = grants(&instance, &inputs(&instance)).unwrap().unwrap();
    assert!(told(&last).iter().any(|line| line.contains("NOLOGIN")), "who was left out gets in no more");
}

#[test]
fn a_user_whose_secret_cannot_be_used_keeps_its_password() {
    let instance = pooled_instance();
    let mut broken = inputs(&instance);
    broken.users = [("auditor".to_owned(), Err("spec.users[2].secretRef.name: there is no Secret".to_owned()))].into();
    let lines = told(&grants(&instance, &broken).unwrap().unwrap());
    assert!(!lines.iter().any(|line| line.contains("ALTER ROLE \"auditor\" PASSWORD")));
    assert!(lines.iter().any(|line| line.contains("NOT IN ('reporter', 'loader', 'auditor')")), "it is not left out");
}

#[test]
fn a_secret_of_a_tenant_is_told_what_is_wrong_with_it() {
    let from = PasswordRef { name: "hr".into(), key: "pw".into() };
    let said = |held| password_from(3, &from, held);
    assert_eq!(said(Some(Some("longenough\n"))), Ok("longenough".into()));
    let expected = "8 to 128 visible ASCII characters without spaces";
    for (held, problem) in [
        (None, "spec.users[3].secretRef.name: there is no Secret hr; expected one with key pw: "),
        (Some(None), "spec.users[3].secretRef.key: Secret hr has no key pw that is text; expected "),
        (Some(Some("short")), "spec.users[3].secretRef: Secret hr key pw has 5 characters; expected "),
        (Some(Some("with space")), "spec.users[3].secretRef: Secret hr key pw has the character \\u{20}; expected "),
    ] {
        assert_eq!(said(held), Err(format!("{problem}{expected}")));
    }
}

#[test]
fn names_that_meet_are_refused_with_the_field() {
    let with = |change: fn(&mut PostgresInstance)| {
        let mut instance = pooled_instance();
        change(&mut instance);
        plan(&instance).map(drop).map_err(|unfit| unfit.to_string())
    };
    let unfit = with(|instance| instance.spec.users[0].name = "orthanc".into()).unwrap_err();
    assert!(unfit.starts_with("spec.users[0].name is `orthanc`"), "{unfit}");
    let unfit = with(|instance| {
        instance.spec.databases[0].name = "user_reporter".into();
        instance.spec.users.iter_mut().for_each(|user| user.grants.clear());
    })
    .unwrap_err();
    assert!(unfit.contains("has Secret of that name"), "{unfit}");
    let unfit = with(|instance| instance.spec.users[0].grants[0].database = "orthnc".into()).unwrap_err();
    assert_eq!(
        unfit,
        "spec.users[0].grants[0].database is `orthnc`: it is not one of spec.databases; possible: orthanc, lab_results"
    );
}

#[test]
fn names_of_the_platform_are_refused_by_the_schema() {
    let named = |name: &str| {
        let mut instance = pooled_instance();
        instance.spec.users[0].name = name.into();
        instance.validate_cel()
    };
    assert!(named("billing").is_ok());
    for name in ["postgres", "pooler", "standby", "rewinder", "pg_read_all_data", "hz_users", "orthanc"] {
        assert!(named(name).is_err(), "{name}");
    }
}

/// An instance that was provisioned with passwords of generation 0.
fn provisioned_before() -> PostgresInstance {
    let mut instance = pooled_instance();
    let status = PostgresInstanceStatus { provisioned: Some("f00d".into()), ..Default::default() };
    instance.status = Some(status);
    instance
}

#[test]
fn new_passwords_are_for_tenants_alone_and_the_same_until_they_are_everywhere() {
    let mut instance = provisioned_before();
    assert_eq!(turning(&instance), None);
    instance.spec.credentials_generation = 1;
    assert_eq!(turning(&instance), Some(1));
    let before = inputs(&instance);
    let next = turned(&instance, &before).unwrap();
    assert_eq!(turned(&instance, &before).unwrap(), next);
    for slot in slots(&instance) {
        let same = before.passwords.get(&slot) == next.passwords.get(&slot);
        let tenants = ["records-orthanc", "records-lab-results", "records-user-reporter", "records-user-loader"];
        assert_eq!(!same, tenants.contains(&slot.secret.as_str()), "{slot:?}");
    }
    let kept = desired(&instance, &before, &Platform::eight_nodes()).unwrap();
    assert!(kept.find("Secret", "records-rotation-1").is_some(), "an operator that is stopped goes on with the same");
    assert_ne!(provision(&instance, &before).unwrap().fingerprint, provision(&instance, &next).unwrap().fingerprint);
}

#[test]
fn a_new_instance_begins_with_the_generation_of_its_spec() {
    let mut instance = pooled_instance();
    instance.spec.credentials_generation = 7;
    assert_eq!(turning(&instance), None);
    let status = status(&instance, &serving(), &Platform::eight_nodes(), at("08:00:00"));
    assert_eq!(status.credentials_generation, 7);
}

#[test]
fn generations_count_up() {
    let (mut one, mut two) = (pooled_instance(), pooled_instance());
    (one.spec.credentials_generation, two.spec.credentials_generation) = (1, 2);
    assert!(two.validate_cel_update(&one).is_ok());
    assert!(one.validate_cel_update(&two).is_err());
}

fn serving() -> Observed {
    let pooler = |name: &str| PoolerSeen { name: name.into(), ready: 2, wanted: 2, probe: Probe::Answered };
    Observed {
        pods: vec![running("records-0", "primary"), running("records-1", "replica"), running("records-2", "replica")],
        probe: Probe::Answered,
        provisioned: Provisioned::Done("f00d".into()),
        granted: Provisioned::Done("cafe".into()),
        poolers: vec![pooler("records-pooler"), pooler("records-pooler-ro")],
        ..Observed::default()
    }
}

#[test]
fn the_status_says_what_is_provisioned_and_pooled() {
    let status = status(&pooled_instance(), &serving(), &Platform::eight_nodes(), at("08:00:00"));
    assert!(is_true(&status.conditions, "Provisioned") && is_true(&status.conditions, "Pooled"));
    insta::assert_yaml_snapshot!(status);
}

#[test]
fn what_is_wrong_with_a_user_leaves_the_database_ready() {
    let said = |observed: Observed| {
        let status = status(&pooled_instance(), &observed, &Platform::eight_nodes(), at("08:00:00"));
        assert!(is_true(&status.conditions, "Ready"));
        let condition = status.conditions.into_iter().find(|condition| condition.type_ == "Provisioned").unwrap();
        (condition.status, condition.reason, condition.message)
    };
    let unusable =
        said(Observed { unusable: vec!["spec.users[2].secretRef.name: there is no Secret hr".into()], ..serving() });
    assert_eq!((unusable.0.as_str(), unusable.1.as_str()), ("False", "SecretNotUsable"));
    assert!(unusable.2.contains("there is no Secret hr"));
    let failed = said(Observed { granted: Provisioned::Failed("failed to grant: no schema".into()), ..serving() });
    assert_eq!((failed.0.as_str(), failed.1.as_str()), ("False", "UsersNotProvisioned"));
}

#[test]
fn passwords_on_their_way_are_told_until_they_are_everywhere() {
    let mut instance = provisioned_before();
    instance.spec.credentials_generation = 1;
    let look = |observed: &Observed| status(&instance, observed, &Platform::eight_nodes(), at("08:00:00"));
    let on_their_way = look(&serving());
    assert_eq!(on_their_way.credentials_generation, 0);
    assert!(on_their_way.conditions.iter().any(|condition| condition.reason == "Rotating"));
    let there = look(&Observed { turned: true, ..serving() });
    assert_eq!(there.credentials_generation, 1);
    assert!(is_true(&there.conditions, "Provisioned"));
}

#[test]
fn a_pooler_that_does_not_answer_is_told_with_its_counts() {
    let instance = pooled_instance();
    let mut seen = serving().poolers;
    seen[0].probe = Probe::Failed("connection refused".into());
    seen[0].ready = 1;
    let verdict = pooled(&instance, &seen).unwrap();
    assert!(!verdict.holds());
    let said = format!("{verdict:?}");
    assert!(said.contains("records-pooler: 1 of 2 copies are ready") && said.contains("connection refused"), "{said}");
}

#[test]
fn what_is_left_out_of_users_and_poolers_is_safe() {
    let user: User = serde_json::from_value(json!({"name": "x", "grants": [{"database": "y"}]})).unwrap();
    assert_eq!(user.grants, [Grant { database: "y".into(), access: Access::ReadOnly, schemas: vec![] }]);
    let pooler: Pooler = serde_json::from_value(json!({})).unwrap();
    assert_eq!(pooler, Pooler::default());
}
