use super::*;
use crate::testing::{at, fixture, refuse_misfits, refuse_unknown_fields};
use crate::{Outcome, Platform, Unfit, conditions, rbac};

fn st_anna() -> Hospital {
    fixture("hospital", "st-anna")
}

#[test]
fn a_hospital_becomes_a_namespace_with_a_wall_and_its_people() {
    let plan = desired(&st_anna(), &Inputs::default(), &Platform::eight_nodes()).unwrap();
    refuse_unknown_fields(&plan);
    refuse_misfits(&plan);
    insta::assert_yaml_snapshot!(plan.objects());
}

#[test]
fn what_is_retained_has_no_owner_and_is_never_pruned() {
    let plan = desired(&st_anna(), &Inputs::default(), &Platform::eight_nodes()).unwrap();
    for object in plan.objects() {
        assert_eq!(object.metadata.owner_references, None);
        assert!(object.metadata.labels.as_ref().unwrap().contains_key(crate::labels::RETAIN));
    }
}

#[test]
fn a_hospital_to_be_deleted_takes_its_namespace_along() {
    let hospital: Hospital = fixture("hospital", "to-delete");
    let plan = desired(&hospital, &Inputs::default(), &Platform::eight_nodes()).unwrap();
    for object in plan.objects() {
        let owner = &object.metadata.owner_references.as_ref().unwrap()[0];
        assert_eq!((owner.kind.as_str(), owner.name.as_str()), ("Hospital", "pilot"));
    }
}

#[test]
fn the_namespace_comes_first_and_then_the_right_to_write_into_it() {
    let plan = desired(&st_anna(), &Inputs::default(), &Platform::eight_nodes()).unwrap();
    let kinds: Vec<&str> = plan.objects().iter().map(crate::plan::kind).collect();
    assert_eq!(kinds[..2], ["Namespace", "RoleBinding"]);
}

#[test]
fn a_namespace_that_is_not_ours_is_left_alone() {
    let stranger = Inputs { namespace: Some(None) };
    let other = Inputs { namespace: Some(Some("st-josef".into())) };
    let own = Inputs { namespace: Some(Some("st-anna".into())) };
    let plan = |inputs| desired(&st_anna(), inputs, &Platform::eight_nodes());
    assert!(matches!(plan(&stranger), Err(Unfit::Taken { .. })));
    assert_eq!(
        plan(&other).unwrap_err().to_string(),
        "Namespace hospital-st-anna exists and belongs to hospital st-josef; rename this object, or remove that one"
    );
    assert!(plan(&own).is_ok());
}

#[test]
fn the_operator_holds_every_right_that_it_gives() {
    let held = rbac::operator_in_namespace();
    for wanted in rbac::hospital_admin() {
        assert!(rbac::covers(&held, &wanted), "the operator may not grant {wanted:?}");
    }
}

#[test]
fn admins_see_no_secrets_and_no_one_holds_wildcards() {
    let rules = rbac::hospital_admin();
    assert!(rules.iter().all(|rule| { !rule.resources.as_ref().unwrap().contains(&"secrets".to_owned()) }));
    for rule in rules.iter().chain(&rbac::operator_in_namespace()) {
        let words = rule.verbs.iter().chain(rule.resources.as_ref().unwrap()).chain(rule.api_groups.as_ref().unwrap());
        assert!(words.into_iter().all(|word| word != "*"), "{rule:?}");
    }
}

#[test]
fn names_that_would_not_fit_into_a_namespace_are_refused() {
    let named = |name: &str| {
        let mut hospital = st_anna();
        hospital.metadata.name = Some(name.into());
        hospital.validate_cel()
    };
    assert!(named("st-anna").is_ok(), "{:?}", named("st-anna"));
    assert!(named(&"a".repeat(40)).is_ok());
    assert!(named(&"a".repeat(41)).is_err());
    assert!(named("st.anna").is_err());
    assert!(named("1st").is_err());
}

#[test]
fn a_service_account_needs_a_namespace_and_a_person_has_none() {
    let with = |subject: &str| {
        let mut hospital = st_anna();
        hospital.spec.admins = vec![serde_yaml::from_str(subject).unwrap()];
        hospital.validate_cel()
    };
    assert!(with("{ kind: ServiceAccount, name: gitops, namespace: hz-gitops }").is_ok());
    assert!(with("{ kind: ServiceAccount, name: gitops }").is_err());
    assert!(with("{ kind: User, name: weber }").is_ok());
    assert!(with("{ kind: User, name: weber, namespace: hz-gitops }").is_err());
}

#[test]
fn names_of_the_system_are_no_admins() {
    let with = |name: &str| {
        let mut hospital = st_anna();
        hospital.spec.admins[0].name = name.into();
        hospital.validate_cel()
    };
    assert!(with("weber").is_ok());
    assert!(with("system:admin").is_err());
}

#[test]
fn a_condition_keeps_its_time_until_it_turns() {
    let mut hospital = st_anna();
    let standing = Observed { used: [("requests.cpu".into(), "2".into())].into(), ..Observed::default() };
    hospital.status = Some(status(&hospital, &standing, at("08:00:00")));
    assert_eq!(status(&hospital, &standing, at("09:00:00")), hospital.status.clone().unwrap());

    let failed = Observed { outcome: Outcome::Failed("failed to apply ResourceQuota".into()), ..Observed::default() };
    let after = status(&hospital, &failed, at("10:00:00"));
    assert_eq!(after.conditions[0].last_transition_time.0, at("10:00:00"));
    insta::assert_yaml_snapshot!(after);
}

#[test]
fn what_only_a_person_can_mend_is_stalled_until_mended() {
    let mut hospital = st_anna();
    let refused = Unfit::refused("spec.quota.cpu", "x", "no amount", "possible: 8");
    let unfit = Observed { outcome: Outcome::Unfit(refused), ..Observed::default() };
    hospital.status = Some(status(&hospital, &unfit, at("08:00:00")));
    let stalled = &hospital.status.as_ref().unwrap().conditions;
    assert!(conditions::is_true(stalled, conditions::STALLED) && !conditions::is_true(stalled, conditions::READY));

    let mended = status(&hospital, &Observed::default(), at("09:00:00")).conditions;
    assert!(conditions::is_true(&mended, conditions::READY));
    assert!(mended.iter().all(|condition| condition.type_ != conditions::STALLED));
}
