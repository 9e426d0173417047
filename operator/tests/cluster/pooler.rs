//! Users, new passwords and the pooler: what the operator writes for them, and what it says when a Secret is wrong.

use serde_json::{Value, json};

use crate::lab::{HOSPITAL, Lab, eventually, example};

fn of<'a>(object: &'a Value, type_: &str) -> &'a Value {
    let conditions = object["status"]["conditions"].as_array().map(Vec::as_slice).unwrap_or_default();
    conditions.iter().find(|condition| condition["type"] == type_).unwrap_or(&Value::Null)
}

/// The example's database with more in its spec.
fn records(more: &Value) -> Value {
    let mut manifest = example().into_iter().find(|manifest| manifest["kind"] == "PostgresInstance").unwrap();
    for (key, value) in more.as_object().unwrap() {
        manifest["spec"][key] = value.clone();
    }
    manifest
}

async fn password(lab: &Lab, secret: &str) -> Value {
    let found = eventually(secret, || lab.get("Secret", Some(HOSPITAL), secret)).await;
    found["data"]["password"].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pooler_comes_answers_and_goes_again() {
    let lab = Lab::new().await;
    let operator = lab.operator();
    lab.open_example().await;
    lab.apply(&records(&json!({"pooler": {"readOnly": true}}))).await;
    for name in ["records-pooler", "records-pooler-ro"] {
        lab.play_rollout(HOSPITAL, name).await;
        for kind in ["Service", "PodDisruptionBudget"] {
            eventually(kind, || lab.get(kind, Some(HOSPITAL), name)).await;
        }
    }
    eventually("its wall", || lab.get("NetworkPolicy", Some(HOSPITAL), "records-pooler")).await;
    let pooled = |status: &'static str| move |object: &Value| of(object, "Pooled")["status"] == status;
    let object = lab.until("PostgresInstance", Some(HOSPITAL), "records", pooled("True")).await;
    assert_eq!(object["status"]["poolerEndpoint"], format!("records-pooler.{HOSPITAL}.svc.cluster.local:5432"));
    assert_eq!(object["status"]["members"].as_array().unwrap().len(), 3, "its pods are no copies of the database");
    let secret = lab.get("Secret", Some(HOSPITAL), "records-orthanc").await.unwrap();
    assert!(secret["data"]["pooler-host"].is_string());
    assert!(operator.probes.consoles.lock().unwrap().contains(&"postgres: SELECT 1".to_owned()));

    lab.apply(&records(&json!({}))).await;
    eventually("the pooler is gone", || async {
        let left = lab.get("Deployment", Some(HOSPITAL), "records-pooler").await;
        let secret = lab.get("Secret", Some(HOSPITAL), "records-pooler").await;
        (left.is_none() && secret.is_none()).then_some(())
    })
    .await;
    lab.until("PostgresInstance", Some(HOSPITAL), "records", |object| of(object, "Pooled").is_null()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_of_a_tenant_that_is_wrong_is_told_and_found_mended() {
    let lab = Lab::new().await;
    let _operator = lab.operator();
    lab.open_example().await;
    let users = json!({"users": [{"name": "reporter", "secretRef": {"name": "mine", "key": "pw"}, "grants": [{"database": "orthanc"}]}]});
    lab.apply(&records(&users)).await;
    let told = |text: &'static str| {
        move |object: &Value| of(object, "Provisioned")["message"].as_str().is_some_and(|said| said.contains(text))
    };
    let secret = |data: Value| json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "mine", "namespace": HOSPITAL}, "stringData": data});
    let missing = "spec.users[0].secretRef.name: there is no Secret mine; expected one with key pw";
    let object = lab.until("PostgresInstance", Some(HOSPITAL), "records", told(missing)).await;
    assert_eq!(of(&object, "Provisioned")["reason"], "SecretNotUsable");
    assert_eq!(of(&object, "Ready")["status"], "True", "the database is not touched");
    lab.apply(&secret(json!({"other": "x"}))).await;
    lab.until("PostgresInstance", Some(HOSPITAL), "records", told("Secret mine has no key pw")).await;
    lab.apply(&secret(json!({"pw": "short"}))).await;
    lab.until("PostgresInstance", Some(HOSPITAL), "records", told("Secret mine key pw has 5 characters")).await;
    lab.apply(&secret(json!({"pw": "long-enough-now"}))).await;
    let mended = |object: &Value| of(object, "Provisioned")["status"] == "True";
    let object = lab.until("PostgresInstance", Some(HOSPITAL), "records", mended).await;
    assert_eq!(object["status"]["users"], json!([{"name": "reporter", "secret": "mine"}]));
    let kept = lab.get("Secret", Some(HOSPITAL), "mine").await.unwrap();
    assert!(kept["metadata"]["labels"].is_null(), "it is the tenant's and stays as it is");
}

#[tokio::test(flavor = "multi_thread")]
async fn new_passwords_reach_owners_and_users_and_nobody_of_the_platform() {
    let lab = Lab::new().await;
    let _operator = lab.operator();
    lab.open_example().await;
    let with = |generation: i64| {
        records(
            &json!({"credentialsGeneration": generation, "users": [{"name": "reporter", "grants": [{"database": "orthanc"}]}]}),
        )
    };
    lab.apply(&with(0)).await;
    let (owner, user) = (password(&lab, "records-orthanc").await, password(&lab, "records-user-reporter").await);
    let system = lab.get("Secret", Some(HOSPITAL), "records-system").await.unwrap()["data"].clone();
    lab.until("PostgresInstance", Some(HOSPITAL), "records", |object| object["status"]["granted"].is_string()).await;
    lab.apply(&with(1)).await;
    let turned = |object: &Value| object["status"]["credentialsGeneration"] == 1;
    lab.until("PostgresInstance", Some(HOSPITAL), "records", turned).await;
    assert_ne!(password(&lab, "records-orthanc").await, owner);
    assert_ne!(password(&lab, "records-user-reporter").await, user);
    assert_eq!(lab.get("Secret", Some(HOSPITAL), "records-system").await.unwrap()["data"], system);
    eventually("what they were made from is gone", || async {
        lab.get("Secret", Some(HOSPITAL), "records-rotation-1").await.is_none().then_some(())
    })
    .await;
    let back = lab.try_apply(&with(0)).await.unwrap_err().to_string();
    assert!(back.contains("credentialsGeneration counts up"), "{back}");
}
