use serde_json::json;

use super::super::tests::pair;
use super::*;
use crate::postgres::{Inputs, Observed, desired, patroni, slots, status};
use crate::testing::{at, fixture, passwords};
use crate::{Certificates, Outcome, Plan};

fn instance(tls: Tls) -> PostgresInstance {
    let mut instance: PostgresInstance = fixture("postgres", "records");
    instance.spec.tls = tls;
    instance
}

fn plan(instance: &PostgresInstance, pair: KeyPair) -> Plan {
    let platform = Platform::eight_nodes();
    let certificates = Certificates::default().with(&certificate(instance, &platform), pair);
    let inputs = Inputs { passwords: passwords(slots(instance)), certificates, ..Inputs::default() };
    desired(instance, &inputs, &platform).unwrap()
}

/// What a Secret holds, as text.
fn text(plan: &Plan, secret: &str, key: &str) -> Option<String> {
    let value = plan.find("Secret", secret).unwrap().data.pointer(&format!("/data/{key}"))?;
    let bytes: k8s_openapi::ByteString = serde_json::from_value(value.clone()).unwrap();
    String::from_utf8(bytes.0).ok()
}

#[test]
fn who_does_not_encrypt_is_let_in_by_the_loopback_only() {
    let lines = pg_hba(&instance(Tls::Required).spec);
    let open = |line: &&serde_json::Value| {
        let line = line.as_str().unwrap();
        line.starts_with("host ") && !line.contains("127.0.0.1/32")
    };
    assert_eq!(lines.as_array().unwrap().iter().filter(open).count(), 0, "{lines}");
    assert_eq!(lines.as_array().unwrap().last(), Some(&json!("hostnossl all all all reject")));
    for tls in [Tls::Preferred, Tls::Introduced] {
        assert_eq!(pg_hba(&instance(tls).spec).as_array().unwrap().iter().filter(open).count(), 2);
    }
}

#[test]
fn into_a_sealed_instance_come_those_alone_whose_passwords_the_operator_made_for_it() {
    let mut sealed = instance(Tls::Required);
    sealed.spec.sealed = true;
    let lines = pg_hba(&sealed.spec);
    let lines: Vec<&str> = lines.as_array().unwrap().iter().filter_map(|line| line.as_str()).collect();
    assert!(
        lines
            .contains(&r#"hostssl all "postgres","rewinder","orthanc","lab_results","appointments" all scram-sha-256"#),
        "{lines:?}"
    );
    assert!(!lines.contains(&"hostssl all all all scram-sha-256"));
}

#[test]
fn tenants_verify_the_server_by_its_name_and_authority() {
    for tls in [Tls::Required, Tls::Preferred] {
        let plan = plan(&instance(tls), pair("(certificate)"));
        assert_eq!(text(&plan, "records-orthanc", "ca.crt").as_deref(), Some("(authority)"));
        assert_eq!(text(&plan, "records-orthanc", "sslmode").as_deref(), Some("verify-full"));
        assert!(text(&plan, "records-orthanc", "uri").unwrap().ends_with("/orthanc?sslmode=verify-full"));
    }
}

#[test]
fn a_renewal_changes_no_pod_and_no_secret_of_a_tenant() {
    let instance = instance(Tls::Required);
    let (before, after) = (plan(&instance, pair("one")), plan(&instance, pair("two")));
    for (kind, name) in [("StatefulSet", "records"), ("Secret", "records-orthanc"), ("ConfigMap", "records-patroni")] {
        assert_eq!(before.find(kind, name), after.find(kind, name), "{name}");
    }
    assert_ne!(before.find("Secret", "records-tls"), after.find("Secret", "records-tls"));
}

#[test]
fn pods_get_the_certificate_and_never_the_key_of_the_authority() {
    let plan = plan(&instance(Tls::Required), pair("(certificate)"));
    let pod = plan.find("StatefulSet", "records").unwrap().data.pointer("/spec/template/spec").unwrap().clone();
    let volumes = pod["volumes"].as_array().unwrap();
    let tls = volumes.iter().find(|volume| volume["name"] == "tls").unwrap();
    assert_eq!(tls["secret"]["secretName"], "records-tls");
    // PostgreSQL takes a key of root's that its group may read, and no other may.
    assert_eq!(tls["secret"]["defaultMode"], 0o440);
    assert!(!tls.to_string().contains("ca.key"));
    let mounts = pod["containers"][0]["volumeMounts"].as_array().unwrap();
    assert!(mounts.iter().any(|mount| mount["name"] == "tls" && mount["mountPath"] == FOLDER));
}

#[test]
fn the_certificate_speaks_for_every_service_and_pod_of_the_instance() {
    let names = certificate(&instance(Tls::Required), &Platform::eight_nodes()).dns_names;
    for name in [
        "records",
        "records-ro.hospital-st-anna",
        "records-pooler.hospital-st-anna.svc",
        "records-pooler-ro.hospital-st-anna.svc.cluster.local",
        "*.records-pods.hospital-st-anna.svc.cluster.local",
    ] {
        assert!(names.iter().any(|there| there == name), "{name} is not in {names:?}");
    }
}

#[test]
fn while_there_are_pods_from_before_nobody_insists_and_nobody_is_told() {
    let before = introducing(&instance(Tls::Required));
    let plan = plan(&before, pair("(certificate)"));
    assert_eq!(text(&plan, "records-orthanc", "ca.crt"), None);
    assert!(text(&plan, "records-orthanc", "uri").unwrap().ends_with("/orthanc"));
    let file = patroni::file("records", &before.spec);
    assert_eq!(file["postgresql"]["authentication"]["replication"]["sslmode"], "prefer");
    assert_eq!(file["postgresql"]["parameters"]["ssl"], "on", "new pods offer it");
    let settled = patroni::file("records", &instance(Tls::Required).spec);
    assert_eq!(settled["postgresql"]["authentication"]["replication"]["sslmode"], "verify-ca");
    assert_eq!(settled["postgresql"]["authentication"]["rewind"]["sslrootcert"], "/etc/hz/tls/ca.crt");
}

#[test]
fn whether_clear_text_is_let_in_changes_without_a_restart() {
    let template = |tls| plan(&instance(tls), pair("x")).find("StatefulSet", "records").unwrap().data["spec"].clone();
    assert_eq!(template(Tls::Required), template(Tls::Preferred));
    assert_ne!(patroni::agreed(&instance(Tls::Required).spec), patroni::agreed(&instance(Tls::Preferred).spec));
}

#[test]
fn what_is_not_said_is_required_and_what_is_not_known_is_refused() {
    let spec = |tls: serde_json::Value| {
        let spec = json!({ "storage": { "size": "1Gi" }, "tls": tls });
        serde_json::from_value::<crate::postgres::PostgresInstanceSpec>(spec)
    };
    assert_eq!(fixture::<PostgresInstance>("postgres", "minimal").spec.tls, Tls::Required);
    assert_eq!(spec(json!("Preferred")).unwrap().tls, Tls::Preferred);
    for wrong in ["Introduced", "Off", "required"] {
        let error = spec(json!(wrong)).unwrap_err().to_string();
        assert!(error.contains("`Required` or `Preferred`"), "{error}");
    }
}

#[test]
fn what_was_seen_is_told() {
    let until = || Encryption::Kept("2027-07-01T00:00:00Z".parse().unwrap());
    let verdict = |seen: &Encryption, tls| seen.verdict(&instance(tls), &Settings::InForce);
    let told = |seen: &Encryption, tls| format!("{:?}", verdict(seen, tls).unwrap());
    assert!(told(&until(), Tls::Required).contains("Secret records-tls holds until 2027-07-01"));
    assert!(verdict(&until(), Tls::Required).unwrap().holds());
    assert!(!verdict(&until(), Tls::Preferred).unwrap().holds());
    assert!(told(&until(), Tls::Preferred).contains("Preferred"));
    assert!(told(&Encryption::Other("records-1 shows another".into()), Tls::Required).contains("OtherCertificate"));
    assert!(told(&Encryption::Unreached("records-1: no answer".into()), Tls::Required).contains("Unknown"));
    assert!(told(&Encryption::Introducing(vec!["records-2".into()]), Tls::Required).contains("records-2"));
    assert_eq!(verdict(&Encryption::NotSeen, Tls::Required), None);
    let mut stopped = instance(Tls::Required);
    stopped.spec.suspend = true;
    assert!(format!("{:?}", Encryption::NotSeen.verdict(&stopped, &Settings::NotSeen)).contains("Suspended"));
}

#[test]
fn who_is_let_in_is_told_when_it_is_in_force_and_stays_told() {
    let kept = Encryption::Kept("2027-07-01T00:00:00Z".parse().unwrap());
    let under_way = Settings::OnTheirWay("records-1 restarts".into());
    let mut records = instance(Tls::Required);
    assert_eq!(kept.verdict(&records, &under_way), None, "nobody is refused yet");
    let observed = Observed {
        encryption: kept.clone(),
        settings: Settings::InForce,
        outcome: Outcome::Applied,
        ..Observed::default()
    };
    records.status = Some(status(&records, &observed, &Platform::eight_nodes(), at("08:00:00")));
    assert!(kept.verdict(&records, &under_way).unwrap().holds(), "another setting is none of its business");
    records.spec.tls = Tls::Preferred;
    records.metadata.generation = Some(2);
    assert_eq!(kept.verdict(&records, &under_way), None);
}

#[test]
fn a_setting_of_tls_is_answered_with_where_it_is_said() {
    let mut instance = instance(Tls::Required);
    instance.spec.parameters = [("ssl_min_protocol_version".to_owned(), "TLSv1".to_owned())].into();
    let unfit = crate::postgres::parameters::check(&instance.spec).unwrap_err();
    assert!(unfit.to_string().contains("spec.tls"), "{unfit}");
}
