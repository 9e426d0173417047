//! Caches: what stands for them, whom they let in, and what is said of Secrets that do not fit.

use serde_json::{Value, json};

use crate::lab::{HOSPITAL, Lab, eventually, example};

fn cache(change: impl FnOnce(&mut Value)) -> Value {
    let mut manifest = example().into_iter().find(|manifest| manifest["kind"] == "CacheInstance").unwrap();
    change(&mut manifest["spec"]);
    manifest
}

fn condition(object: &Value, type_: &str) -> Value {
    let conditions = object["status"]["conditions"].as_array().cloned().unwrap_or_default();
    conditions.into_iter().find(|condition| condition["type"] == type_).unwrap_or(Value::Null)
}

fn text(secret: &Value, key: &str) -> String {
    use base64::Engine as _;
    let data = secret["data"][key].as_str().unwrap_or_default();
    String::from_utf8(base64::engine::general_purpose::STANDARD.decode(data).unwrap()).unwrap()
}

impl Lab {
    async fn secret(&self, name: &str) -> Value {
        eventually("the Secret stands", || self.get("Secret", Some(HOSPITAL), name)).await
    }

    async fn applied(&self, reason: &str) -> Value {
        self.until("CacheInstance", Some(HOSPITAL), "sessions", |object| {
            let told = condition(object, "CredentialsApplied");
            told["reason"] == reason && told["observedGeneration"] == object["metadata"]["generation"]
        })
        .await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cache_is_encrypted_and_its_passwords_give_way_without_a_restart() {
    let lab = Lab::new().await;
    let operator = lab.operator();
    lab.open_example().await;
    let told = lab.applied("Applied").await;
    assert_eq!(condition(&told, "Encrypted")["status"], "True");
    assert_eq!(condition(&told, "Durable")["status"], "False");
    let auth = lab.secret("sessions-auth").await;
    assert!(text(&auth, "uri").starts_with("rediss://:") && text(&auth, "ca.crt").contains("BEGIN CERTIFICATE"));
    let system = lab.secret("sessions-system").await;
    assert!(text(&system, "users.acl").contains("user hz-system on #"));
    assert!(!text(&system, "users.acl").contains(&text(&auth, "password")), "hashes only");
    assert_eq!(system["metadata"]["ownerReferences"], Value::Null, "it stays when the cache goes");

    lab.apply(&cache(|spec| {
        spec["credentialsGeneration"] = json!(2);
        spec["rotationOverlapSeconds"] = json!(4);
    }))
    .await;
    lab.applied("OldStillAccepted").await;
    let turned = lab.secret("sessions-auth").await;
    assert_ne!(text(&turned, "password"), text(&auth, "password"));
    let accepted = |lab_acl: &hz_crds::cache::Live| {
        let (_, rules) = lab_acl.acl.users.iter().find(|(name, _)| name == "default").unwrap();
        rules.iter().filter(|rule| rule.starts_with('#')).count()
    };
    assert_eq!(accepted(operator.probes.brought.lock().unwrap().as_ref().unwrap()), 2);
    lab.applied("Applied").await;
    assert_eq!(accepted(operator.probes.brought.lock().unwrap().as_ref().unwrap()), 1);
    let set = lab.get("StatefulSet", Some(HOSPITAL), "sessions").await.unwrap();
    assert_eq!(set["metadata"]["generation"], 1, "no server starts again");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_that_does_not_fit_is_named_and_what_runs_is_left_alone() {
    let lab = Lab::new().await;
    let _operator = lab.operator();
    lab.open_example().await;
    let with_report = |reference: &str| {
        cache(|spec| spec["users"] = json!([{ "name": "report", "secretRef": { "name": reference } }]))
    };
    let expected = |object: &Value, words: &[&str]| {
        let message = condition(object, "CredentialsApplied")["message"].as_str().unwrap_or_default().to_owned();
        for word in words {
            assert!(message.contains(word), "{message}");
        }
    };
    lab.apply(&with_report("mine")).await;
    expected(&lab.applied("SecretWrong").await, &["spec.users[0].secretRef.name is `mine`", "16 to 128"]);
    lab.until_ready("CacheInstance", Some(HOSPITAL), "sessions", "True").await;
    let secret = |password: &str| {
        json!({ "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "mine", "namespace": HOSPITAL },
                "stringData": { "password": password } })
    };
    lab.apply(&secret("short")).await;
    lab.until("CacheInstance", Some(HOSPITAL), "sessions", |object| {
        condition(object, "CredentialsApplied")["message"].as_str().is_some_and(|why| why.contains("has 5 characters"))
    })
    .await;
    lab.apply(&secret("long-enough-for-a-password")).await;
    lab.applied("Applied").await;
    assert_eq!(text(&lab.secret("sessions-report").await, "username"), "report");
    assert_eq!(text(&lab.secret("sessions-report").await, "password"), "long-enough-for-a-password");

    // What the platform made for something else is nobody's to hand out.
    lab.apply(&with_report("records-system")).await;
    expected(&lab.applied("SecretWrong").await, &["records-system", "the platform's"]);
    assert_eq!(text(&lab.secret("sessions-report").await, "password"), "long-enough-for-a-password");
    lab.apply(&cache(|_| {})).await;
    lab.applied("Applied").await;
    eventually("the Secret of a user that is gone goes", || async {
        lab.get("Secret", Some(HOSPITAL), "sessions-report").await.is_none().then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_reach_servers_that_run_and_wrong_ones_are_refused_by_name() {
    let lab = Lab::new().await;
    let operator = lab.operator();
    lab.open_example().await;
    lab.apply(&cache(|spec| {
        spec["parameters"] = json!({ "timeout": "300" });
        spec["eviction"] = json!("Never");
    }))
    .await;
    eventually("servers are given the settings", || async {
        let brought = operator.probes.brought.lock().unwrap().clone()?;
        let is = |name: &str, value: &str| brought.settings.get(name).is_some_and(|there| there == value);
        (is("timeout", "300") && is("maxmemory-policy", "noeviction")).then_some(())
    })
    .await;
    let set = lab.get("StatefulSet", Some(HOSPITAL), "sessions").await.unwrap();
    assert_eq!(set["metadata"]["generation"], 1, "no server starts again");
    lab.apply(&cache(|spec| spec["parameters"] = json!({ "timout": "300" }))).await;
    let refused = lab
        .until("CacheInstance", Some(HOSPITAL), "sessions", |object| condition(object, "Ready")["reason"] == "Unfit")
        .await;
    let message = condition(&refused, "Ready")["message"].to_string();
    assert!(message.contains("spec.parameters.timout") && message.contains("did you mean timeout?"), "{message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_is_refused_at_the_door() {
    let lab = Lab::new().await;
    // Without an operator there is no hospital; the server judges all the same.
    let cache = |change: &dyn Fn(&mut Value)| {
        let mut manifest = cache(change);
        manifest["metadata"]["namespace"] = json!("default");
        manifest
    };
    let refused = async |manifest: Value| {
        let error = lab.try_apply(&manifest).await.expect_err("the server takes it");
        error.to_string()
    };
    assert!(refused(cache(&|spec| spec["users"] = json!([{ "name": "system" }]))).await.contains("the platform's"));
    let twice = json!([{ "name": "a" }, { "name": "a" }]);
    assert!(refused(cache(&|spec| spec["users"] = twice.clone())).await.to_lowercase().contains("duplicate"));
    let append = json!({ "appendfsync": "always" });
    assert!(refused(cache(&|spec| spec["parameters"] = append.clone())).await.contains("AppendOnly"));
    lab.apply(&cache(&|spec| spec["credentialsGeneration"] = json!(2))).await;
    assert!(refused(cache(&|spec| spec["credentialsGeneration"] = json!(1))).await.contains("only be raised"));
    let disabled = cache(&|spec| {
        spec["credentialsGeneration"] = json!(2);
        spec["tls"] = json!("Disabled");
    });
    assert!(refused(disabled).await.contains("spec.suspend"));
}
