use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::conditions::{READY, is_true};
use crate::testing::{at, fixture, refuse_misfits, refuse_unknown_fields, refuse_what_restricted_refuses};
use crate::{Plan, Platform, Unfit};

fn load(name: &str) -> MedicalService {
    fixture("service", name)
}

fn inputs(service: &MedicalService) -> Inputs {
    let secrets = secrets(service).into_iter().map(|secret| (secret, "0123456789abcdef".to_owned())).collect();
    Inputs { secrets, domains: vec!["st-anna.example".into()], ..Inputs::default() }
}

fn plan(service: &MedicalService) -> Result<Plan, Unfit> {
    desired(service, &inputs(service), &Platform::eight_nodes())
}

fn changed(name: &str, change: impl FnOnce(&mut MedicalServiceSpec)) -> MedicalService {
    let mut service = load(name);
    change(&mut service.spec);
    service
}

#[test]
fn imaging_reaches_its_database_and_the_gateway_reaches_imaging() {
    let plan = plan(&load("imaging")).unwrap();
    refuse_unknown_fields(&plan);
    refuse_what_restricted_refuses(&plan);
    refuse_misfits(&plan);
    insta::assert_yaml_snapshot!(plan.objects());
}

#[test]
fn appointments_get_a_database_and_a_cache_by_their_prefixes() {
    let plan = plan(&load("appointments")).unwrap();
    refuse_unknown_fields(&plan);
    refuse_what_restricted_refuses(&plan);
    insta::assert_yaml_snapshot!(plan.objects());
}

#[test]
fn a_service_without_routes_is_reached_from_inside_only() {
    let service = load("code-list");
    let plan = plan(&service).unwrap();
    refuse_unknown_fields(&plan);
    assert!(plan.find("HTTPRoute", "icd-10").is_none());
    assert_eq!(plan.find("Deployment", "icd-10").unwrap().data["spec"]["replicas"], 0);
    insta::assert_yaml_snapshot!(plan.find("NetworkPolicy", "icd-10"));
}

#[test]
fn the_wall_is_written_before_the_copies() {
    let plan = plan(&load("imaging")).unwrap();
    let kinds: Vec<&str> = plan.objects().iter().map(crate::plan::kind).collect();
    let place = |kind| kinds.iter().position(|other| *other == kind).unwrap();
    assert!(place("NetworkPolicy") < place("Deployment"));
}

#[test]
fn a_secret_that_is_not_there_yet_is_waited_for() {
    let unfit = desired(&load("imaging"), &Inputs::default(), &Platform::eight_nodes()).unwrap_err();
    assert_eq!(
        unfit.to_string(),
        "spec.bindings[0] waits for Secret records-orthanc, which postgres instance records makes"
    );
    assert!(unfit.may_pass());
}

#[test]
fn a_changed_secret_rolls_the_copies() {
    let service = load("imaging");
    let template = |print: &str| {
        let inputs = Inputs { secrets: [("records-orthanc".into(), print.into())].into(), ..Inputs::default() };
        let plan = desired(&service, &inputs, &Platform::eight_nodes()).unwrap();
        plan.find("Deployment", "imaging").unwrap().data["spec"]["template"].clone()
    };
    assert_eq!(template("one"), template("one"));
    assert_ne!(template("one"), template("two"));
}

#[test]
fn a_fingerprint_is_of_keys_and_values_together() {
    let of = |pairs: &[(&str, &str)]| {
        let data: BTreeMap<String, Vec<u8>> =
            pairs.iter().map(|(key, value)| ((*key).into(), value.as_bytes().to_vec())).collect();
        fingerprint(data.iter().map(|(key, value)| (key, value.as_slice())))
    };
    assert_eq!(of(&[("user", "a"), ("password", "b")]), of(&[("password", "b"), ("user", "a")]));
    assert_ne!(of(&[("a", "bc")]), of(&[("ab", "c")]));
}

#[test]
fn no_hospital_publishes_under_anothers_name() {
    let host = |host: &str| {
        let service = changed("imaging", |spec| spec.routes[0].host = Some(host.into()));
        plan(&service)
    };
    assert!(host("ct.st-anna.hospital.internal").is_ok());
    assert!(host("ct.st-anna.example").is_ok());
    for foreign in ["imaging.st-josef.hospital.internal", "evil-st-anna.example", "hospital.internal"] {
        let unfit = host(foreign).unwrap_err();
        assert!(
            unfit.to_string().contains("possible: names that end in st-anna.example or st-anna.hospital.internal"),
            "{unfit}"
        );
    }
}

#[test]
fn hosts_with_different_paths_are_two_services() {
    let route = |host: &str, path: &str| Route { host: Some(format!("{host}.st-anna.example")), path: path.into() };
    let with = |routes| plan(&changed("imaging", |spec| spec.routes = routes));
    assert!(with(vec![route("a", "/"), route("b", "/")]).is_ok());
    assert!(with(vec![route("a", "/x"), route("a", "/y")]).is_ok());
    assert!(with(vec![route("a", "/x"), route("b", "/y")]).is_err());
    assert!(with(vec![route("a", "/x"), route("a", "/x")]).is_err());
}

#[test]
fn a_setting_may_not_hide_a_binding() {
    let service = changed("imaging", |spec| {
        spec.env = vec![Variable { name: "DATABASE_HOST".into(), value: "elsewhere".into() }]
    });
    assert_eq!(
        plan(&service).unwrap_err().to_string(),
        "spec.env is `DATABASE_HOST`: spec.bindings[0] gives a variable of that name; leave it out, or give the binding another prefix"
    );
}

#[test]
fn a_service_is_as_strict_as_what_it_is_bound_to() {
    let service = load("appointments");
    let class = |database, cache| {
        effective_class(&service, &[("records-appointments".into(), database), ("sessions-auth".into(), cache)].into())
    };
    use DataClass::{Administrative, Clinical, Public};
    assert_eq!(class(Administrative, Public), Administrative);
    assert_eq!(class(Clinical, Public), Clinical);
    assert_eq!(effective_class(&service, &BTreeMap::new()), Clinical, "not knowing is safe");
    assert_eq!(effective_class(&load("code-list"), &BTreeMap::new()), Public);
}

#[test]
fn an_image_needs_a_version() {
    let image = |image: &str| changed("imaging", |spec| spec.image = image.into()).validate_cel();
    for good in [
        "hz.hospital/orthanc:1.12.7",
        "localhost:5000/a/b:v1",
        "a@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
    ] {
        assert!(image(good).is_ok(), "{good}: {:?}", image(good));
    }
    for bad in ["hz.hospital/orthanc", "localhost:5000/orthanc", "hz.hospital/orthanc:latest", "Not An Image:1"] {
        assert!(image(bad).is_err(), "{bad}");
    }
}

#[test]
fn a_binding_names_one_thing() {
    let with = |binding: &str| {
        changed("imaging", |spec| spec.bindings = vec![serde_yaml::from_str(binding).unwrap()]).validate_cel()
    };
    assert!(with("{ cache: { instance: sessions } }").is_ok());
    assert!(with("{ prefix: NOTHING }").is_err());
    assert!(with("{ cache: { instance: a }, database: { instance: b, name: c } }").is_err());
}

#[test]
fn two_bindings_need_two_prefixes() {
    let with = |bindings: &str| {
        changed("imaging", |spec| spec.bindings = serde_yaml::from_str(bindings).unwrap()).validate_cel()
    };
    assert!(
        with("[{ database: { instance: a, name: b } }, { database: { instance: a, name: c }, prefix: REPORTS }]")
            .is_ok()
    );
    assert!(with("[{ database: { instance: a, name: b } }, { database: { instance: a, name: c } }]").is_err());
    assert!(with("[{ cache: { instance: a } }, { database: { instance: a, name: c }, prefix: CACHE }]").is_err());
}

#[test]
fn folders_of_the_system_are_no_scratch() {
    let path = |path: &str| changed("imaging", |spec| spec.scratch[0].path = path.into()).validate_cel();
    assert!(path("/var/lib/orthanc").is_ok());
    assert!(path("/etcetera").is_ok());
    for bad in ["/etc", "/etc/orthanc", "/proc/self", "/var/../etc", "/run/secrets/x"] {
        assert!(path(bad).is_err(), "{bad}");
    }
}

#[test]
fn memory_may_be_limited_above_what_is_set_aside_and_not_below() {
    let limited =
        |limit: &str| changed("imaging", |spec| spec.resources.memory_limit = Some(limit.into())).validate_cel();
    assert!(limited("1Gi").is_ok());
    assert!(limited("128Mi").is_err());
}

#[test]
fn names_are_short_enough_for_hosts() {
    let named = |name: &str| {
        let mut service = load("imaging");
        service.metadata.name = Some(name.into());
        service.validate_cel()
    };
    assert!(named(&"a".repeat(40)).is_ok());
    assert!(named(&"a".repeat(41)).is_err());
}

fn serving() -> Observed {
    Observed {
        rollout: Some(Rollout { current: true, updated: 2, ready: 2, available: 2, total: 2 }),
        route: Some(Ok(())),
        classes: [("records-orthanc".into(), DataClass::Clinical)].into(),
        ..Observed::default()
    }
}

fn told(service: &MedicalService, observed: &Observed, clock: &str) -> MedicalServiceStatus {
    status(service, observed, &Platform::eight_nodes(), at(clock))
}

#[test]
fn a_serving_service_says_where() {
    insta::assert_yaml_snapshot!(told(&load("imaging"), &serving(), "08:00:00"));
}

#[test]
fn a_pass_that_changes_nothing_changes_no_status() {
    let mut service = load("imaging");
    service.status = Some(told(&service, &serving(), "08:00:00"));
    assert_eq!(Some(told(&service, &serving(), "09:00:00")), service.status);
}

#[test]
fn ready_speaks_of_the_wanted_version_and_of_the_route() {
    let ready = |change: &dyn Fn(&mut Observed)| {
        let mut observed = serving();
        change(&mut observed);
        is_true(&told(&load("imaging"), &observed, "08:00:00").conditions, READY)
    };
    let rollout = |observed: &mut Observed| observed.rollout.take().unwrap();
    assert!(ready(&|_| {}));
    assert!(!ready(&|observed| observed.rollout = None));
    assert!(!ready(&|observed| observed.rollout = Some(Rollout { current: false, ..rollout(observed) })));
    assert!(!ready(&|observed| observed.rollout = Some(Rollout { updated: 1, ..rollout(observed) })));
    assert!(!ready(&|observed| observed.rollout = Some(Rollout { available: 1, ..rollout(observed) })));
    assert!(!ready(&|observed| observed.rollout = Some(Rollout { total: 3, ..rollout(observed) })));
    assert!(!ready(&|observed| observed.route = None));
    assert!(!ready(&|observed| observed.route = Some(Err("no such listener".into()))));
}

#[test]
fn a_service_for_patients_shows_its_address_with_a_port_that_is_not_80() {
    let mut platform = Platform::eight_nodes();
    platform.gateway.http_port = 8081;
    let url = status(&load("appointments"), &serving(), &platform, at("08:00:00")).url;
    assert_eq!(url.as_deref(), Some("http://appointments.st-anna.hospital.internal:8081/"));
}

proptest! {
    #[test]
    fn every_name_that_is_let_in_fits_everywhere(name in "[a-z]([-a-z0-9]{0,38}[a-z0-9])?", instance in "[a-z]([-a-z0-9]{0,38}[a-z0-9])?") {
        let mut service = load("imaging");
        service.metadata.name = Some(name);
        service.spec.bindings[0].database.as_mut().unwrap().instance = instance;
        let first = plan(&service).unwrap();
        refuse_misfits(&first);
        prop_assert_eq!(first, plan(&service).unwrap());
    }

    /// No combination of words of the hospital makes a service less strict than anything it uses.
    #[test]
    fn the_class_never_sinks_below_a_binding(own in 0..3_usize, database in 0..3_usize, cache in 0..3_usize) {
        let classes = [DataClass::Public, DataClass::Administrative, DataClass::Clinical];
        let service = changed("appointments", |spec| spec.data_class = classes[own]);
        let bound = [("records-appointments".into(), classes[database]), ("sessions-auth".into(), classes[cache])].into();
        prop_assert_eq!(effective_class(&service, &bound), classes[own.max(database).max(cache)]);
    }
}

#[test]
fn what_the_gateway_needs_is_named_as_the_platform_says() {
    let mut platform = Platform::eight_nodes();
    platform.gateway.namespace = "entry".into();
    let service = load("imaging");
    let plan = desired(&service, &inputs(&service), &platform).unwrap();
    assert_eq!(plan.find("HTTPRoute", "imaging").unwrap().data["spec"]["parentRefs"][0]["namespace"], "entry");
    let wall = plan.find("NetworkPolicy", "imaging").unwrap().data.to_string();
    assert!(wall.contains(&json!({ "kubernetes.io/metadata.name": "entry" }).to_string()), "{wall}");
}

#[test]
fn the_authority_of_a_database_is_handed_on_as_a_file() {
    let service = load("appointments");
    let inputs = Inputs { authorities: secrets(&service).into_iter().collect(), ..inputs(&service) };
    let plan = desired(&service, &inputs, &Platform::eight_nodes()).unwrap();
    refuse_unknown_fields(&plan);
    refuse_what_restricted_refuses(&plan);
    let pod = plan.find("Deployment", "appointments").unwrap().data.pointer("/spec/template/spec").unwrap().clone();
    insta::assert_yaml_snapshot!(serde_json::json!({
        "volumes": pod["volumes"], "mounts": pod["containers"][0]["volumeMounts"], "env": pod["containers"][0]["env"],
    }));
}

#[test]
fn what_a_binding_says_of_trust_is_not_hidden_by_a_setting() {
    let service = changed("imaging", |spec| {
        spec.env.push(Variable { name: "DATABASE_CA_FILE".into(), value: "/tmp/mine".into() });
    });
    assert!(plan(&service).is_ok(), "there is none");
    let inputs = Inputs { authorities: ["records-orthanc".to_owned()].into(), ..inputs(&service) };
    let unfit = desired(&service, &inputs, &Platform::eight_nodes()).unwrap_err();
    assert!(unfit.to_string().contains("DATABASE_CA_FILE"), "{unfit}");
}
