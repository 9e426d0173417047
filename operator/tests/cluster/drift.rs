//! Writes what differs, and nothing else.

use hz_crds::labels;
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use crate::lab::{HOSPITAL, Lab, eventually, example, ready};

fn versions(everything: &[(String, String, Value)]) -> Vec<(String, String, Value)> {
    everything
        .iter()
        .map(|(kind, name, object)| (kind.clone(), name.clone(), object["metadata"]["resourceVersion"].clone()))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_that_starts_anew_writes_nothing_into_what_stands() {
    let lab = Lab::new().await;
    let operator = lab.operator();
    lab.open_example().await;
    operator.at_rest().await;
    let before = lab.everything(HOSPITAL).await;
    assert!(before.len() > 25, "only {} objects", before.len());
    operator.stop().await;

    let anew = lab.operator();
    anew.at_rest().await;
    assert!(anew.metrics.reconciles("PostgresInstance") > 0);
    assert_eq!(anew.metrics.writes(), 0, "{}", anew.metrics.render());
    assert_eq!(versions(&before), versions(&lab.everything(HOSPITAL).await));
}

#[tokio::test(flavor = "multi_thread")]
async fn every_object_says_who_made_it_and_for_whom() {
    let lab = Lab::new().await;
    let _operator = lab.operator();
    lab.open_example().await;
    for (kind, name, object) in lab.everything(HOSPITAL).await {
        let on = &object["metadata"]["labels"];
        assert_eq!(on[labels::MANAGED_BY], "hz-operator", "{kind} {name}");
        assert_eq!(on[labels::PART_OF], "st-anna", "{kind} {name}");
        let kept = on[labels::RETAIN] == "true";
        assert_eq!(object["metadata"]["ownerReferences"].is_null(), kept, "{kind} {name}: what is kept has no owner");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_somebody_bent_is_bent_back_and_what_they_added_stays() {
    let lab = Lab::new().await;
    let _operator = lab.operator();
    lab.open_example().await;
    let services = lab.of("Service", Some(HOSPITAL));
    let bend = json!({"metadata": {"annotations": {"somebody": "was here"}}, "spec": {"selector": {"hz.hospital/role": "replica"}}});
    services.patch("records", &PatchParams::default(), &Patch::Merge(bend)).await.unwrap();
    lab.until("Service", Some(HOSPITAL), "records", |service| {
        service["spec"]["selector"][labels::ROLE] == "primary"
            && service["metadata"]["annotations"]["somebody"] == "was here"
    })
    .await;

    let role = lab.get("Role", Some(HOSPITAL), "records").await.unwrap();
    let mut rules = role["rules"].as_array().unwrap().clone();
    rules.push(json!({"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"]}));
    let smuggle = Patch::Merge(json!({"rules": rules}));
    lab.of("Role", Some(HOSPITAL)).patch("records", &PatchParams::default(), &smuggle).await.unwrap();
    lab.until("Role", Some(HOSPITAL), "records", |now| now["rules"] == role["rules"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_deleted_comes_back_secrets_too() {
    let lab = Lab::new().await;
    let _operator = lab.operator();
    lab.open_example().await;
    for (kind, name) in [
        ("Service", "records"),
        ("NetworkPolicy", "hospital.default-deny"),
        ("Deployment", "imaging"),
        ("Secret", "records-orthanc"),
    ] {
        let before = lab.get(kind, Some(HOSPITAL), name).await.unwrap()["metadata"]["uid"].clone();
        lab.delete(kind, Some(HOSPITAL), name).await;
        lab.until(kind, Some(HOSPITAL), name, |now| now["metadata"]["uid"] != before).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_password_reaches_the_service_and_an_old_one_is_never_overwritten() {
    let lab = Lab::new().await;
    let operator = lab.operator();
    lab.open_example().await;
    let print = |deployment: &Value| {
        deployment["spec"]["template"]["metadata"]["annotations"]["secret.hz.hospital/records-orthanc"].clone()
    };
    let before = print(&lab.get("Deployment", Some(HOSPITAL), "imaging").await.unwrap());
    let secret = lab.get("Secret", Some(HOSPITAL), "records-orthanc").await.unwrap()["data"].clone();

    // Of all that the spec can change, nothing changes a password.
    let mut manifest = example()[1].clone();
    manifest["spec"]["databases"][0]["extensions"] = json!(["pg_trgm"]);
    lab.apply(&manifest).await;
    operator.at_rest().await;
    assert_eq!(lab.get("Secret", Some(HOSPITAL), "records-orthanc").await.unwrap()["data"], secret);

    // Deleting the Secret is the way to a new one: the server and the service get it.
    let provisioned = operator.probes.provisioned.load(std::sync::atomic::Ordering::SeqCst);
    lab.delete("Secret", Some(HOSPITAL), "records-orthanc").await;
    lab.until("Deployment", Some(HOSPITAL), "imaging", |deployment| print(deployment) != before).await;
    assert_ne!(
        lab.get("Secret", Some(HOSPITAL), "records-orthanc").await.unwrap()["data"]["password"],
        secret["password"]
    );
    eventually("the new password is written into the server", || async {
        (operator.probes.provisioned.load(std::sync::atomic::Ordering::SeqCst) > provisioned).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn changed_settings_reach_the_copies_that_run_and_the_status_says_when() {
    let lab = Lab::new().await;
    let operator = lab.operator();
    let spec = |manifest: &Value| {
        serde_json::from_value::<hz_crds::postgres::PostgresInstance>(manifest.clone()).unwrap().spec
    };
    let mut manifest = example()[1].clone();
    *operator.probes.agreed.lock().unwrap() = hz_crds::postgres::patroni::agreed(&spec(&manifest));
    lab.open_example().await;
    for number in 0..3 {
        let seen = json!({"podIP": "10.0.0.1", "podIPs": [{"ip": "10.0.0.1"}]});
        lab.play("Pod", HOSPITAL, &format!("records-{number}"), seen).await;
    }
    let configured = |object: &Value| {
        let conditions = object["status"]["conditions"].as_array().cloned().unwrap_or_default();
        conditions.into_iter().find(|condition| condition["type"] == "Configured").unwrap_or_default()
    };
    lab.until("PostgresInstance", Some(HOSPITAL), "records", |object| configured(object)["status"] == "True").await;

    manifest["spec"]["parameters"] = json!({"work_mem": "12MB"});
    let generation = lab.apply(&manifest).await["metadata"]["generation"].clone();
    lab.until("PostgresInstance", Some(HOSPITAL), "records", |object| configured(object)["status"] == "False").await;
    assert_eq!(operator.probes.agreed.lock().unwrap()["postgresql"]["parameters"]["work_mem"], "12MB");
    lab.until("PostgresInstance", Some(HOSPITAL), "records", |object| {
        configured(object)["status"] == "True" && configured(object)["observedGeneration"] == generation
    })
    .await;
    let set = lab.get("StatefulSet", Some(HOSPITAL), "records").await.unwrap();
    assert_eq!(set["metadata"]["generation"], 1, "settings are no reason to make pods anew");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_longer_wanted_is_removed_and_nothing_else() {
    let lab = Lab::new().await;
    let operator = lab.operator();
    lab.open_example().await;
    let mine = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "mine", "namespace": HOSPITAL}});
    lab.apply(&mine).await;
    let mut manifest = example()[3].clone();
    manifest["spec"].as_object_mut().unwrap().remove("routes");
    lab.apply(&manifest).await;
    eventually("the route is gone", || async {
        lab.get("HTTPRoute", Some(HOSPITAL), "imaging").await.is_none().then_some(())
    })
    .await;
    operator.at_rest().await;
    assert!(lab.get("HTTPRoute", Some(HOSPITAL), "appointments").await.is_some(), "another's");
    assert!(lab.get("ConfigMap", Some(HOSPITAL), "mine").await.is_some());

    // A database that leaves the spec keeps its Secret: data and the way to it are never pruned.
    let mut manifest = example()[1].clone();
    manifest["spec"]["databases"].as_array_mut().unwrap().pop();
    lab.apply(&manifest).await;
    operator.at_rest().await;
    assert!(lab.get("Secret", Some(HOSPITAL), "records-appointments").await.is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_of_somebody_else_is_never_taken() {
    let lab = Lab::new().await;
    let _operator = lab.operator();
    lab.apply(&example()[0]).await;
    lab.until_ready("Hospital", None, "st-anna", "True").await;
    let theirs = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "records", "namespace": HOSPITAL},
                        "spec": {"ports": [{"port": 1}], "selector": {"app": "theirs"}}});
    lab.apply(&theirs).await;
    lab.apply(&example()[1]).await;
    let instance =
        lab.until("PostgresInstance", Some(HOSPITAL), "records", |object| ready(object)["reason"] == "NameTaken").await;
    let message = ready(&instance)["message"].as_str().unwrap().to_owned();
    assert!(message.contains("Service") && message.contains("records"), "{message}");
    let service = lab.get("Service", Some(HOSPITAL), "records").await.unwrap();
    assert_eq!(service["spec"]["selector"], json!({"app": "theirs"}));
    assert!(
        lab.get("StatefulSet", Some(HOSPITAL), "records").await.is_none(),
        "half a server would be worse than none"
    );

    // Once the way is clear it goes on by itself.
    lab.delete("Service", Some(HOSPITAL), "records").await;
    eventually("the StatefulSet stands", || lab.get("StatefulSet", Some(HOSPITAL), "records")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_that_somebody_made_is_not_turned_into_a_hospital() {
    let lab = Lab::new().await;
    let _operator = lab.operator();
    lab.apply(&json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "hospital-taken"}})).await;
    let hospital = json!({"apiVersion": "hz.hospital/v1alpha1", "kind": "Hospital", "metadata": {"name": "taken"}, "spec": {"displayName": "T"}});
    lab.apply(&hospital).await;
    let hospital = lab.until("Hospital", None, "taken", |object| ready(object)["reason"] == "NameTaken").await;
    assert_eq!(ready(&hospital)["status"], "False");
    let namespace = lab.get("Namespace", None, "hospital-taken").await.unwrap();
    assert!(namespace["metadata"]["labels"].get(labels::HOSPITAL).is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_kept_is_taken_up_again_by_a_namesake() {
    let lab = Lab::new().await;
    let _operator = lab.operator();
    lab.open_example().await;
    let before = lab.get("Secret", Some(HOSPITAL), "records-system").await.unwrap();
    lab.delete("PostgresInstance", Some(HOSPITAL), "records").await;
    // The garbage collector is not here; play it.
    for (kind, name, object) in lab.everything(HOSPITAL).await {
        if object["metadata"]["ownerReferences"][0]["kind"] == "PostgresInstance" {
            lab.delete(&kind, Some(HOSPITAL), &name).await;
        }
    }
    assert!(lab.get("StatefulSet", Some(HOSPITAL), "records").await.is_none());
    lab.apply(&example()[1]).await;
    eventually("the StatefulSet stands", || lab.get("StatefulSet", Some(HOSPITAL), "records")).await;
    let after = lab.get("Secret", Some(HOSPITAL), "records-system").await.unwrap();
    assert_eq!(before["metadata"]["uid"], after["metadata"]["uid"]);
    assert_eq!(before["data"], after["data"], "the volumes hold the old passwords");
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_of_the_example_pass_the_restricted_standard() {
    let lab = Lab::new().await;
    let _operator = lab.operator();
    lab.order_example().await;
    for (kind, name) in [
        ("StatefulSet", "records"),
        ("StatefulSet", "sessions"),
        ("Deployment", "imaging"),
        ("Deployment", "appointments"),
    ] {
        let workload = eventually(name, || lab.get(kind, Some(HOSPITAL), name)).await;
        let mut pod = workload["spec"]["template"].clone();
        pod["metadata"]["name"] = json!(format!("trial-{name}"));
        pod["spec"]["volumes"] = json!(
            pod["spec"]["volumes"]
                .as_array()
                .into_iter()
                .flatten()
                .cloned()
                .chain(
                    workload["spec"]["volumeClaimTemplates"]
                        .as_array()
                        .into_iter()
                        .flatten()
                        .map(|claim| json!({"name": claim["metadata"]["name"], "emptyDir": {}}))
                )
                .collect::<Vec<_>>()
        );
        pod["apiVersion"] = json!("v1");
        pod["kind"] = json!("Pod");
        let params = PostParams { dry_run: true, ..PostParams::default() };
        let object = serde_json::from_value(pod).unwrap();
        lab.of("Pod", Some(HOSPITAL)).create(&params, &object).await.unwrap_or_else(|error| panic!("{name}: {error}"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn walls_lead_to_the_api_servers_and_nowhere_else() {
    let lab = Lab::new().await;
    let _operator = lab.operator();
    lab.order_example().await;
    let wall = eventually("the wall stands", || lab.get("NetworkPolicy", Some(HOSPITAL), "records")).await;
    assert_eq!(wall["metadata"]["generation"], 1, "found before the first decision");
    assert!(wall["spec"]["egress"].to_string().contains("192.0.2.1/32"), "{:#}", wall["spec"]["egress"]);
}
