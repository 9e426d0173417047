//! One object that nobody can read must not stop the others.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

use crate::lab::{Lab, eventually, ready};

fn hospital(name: &str) -> Value {
    json!({"apiVersion": "hz.hospital/v1alpha1", "kind": "Hospital", "metadata": {"name": name}, "spec": {"displayName": name}})
}

/// Takes all rules from the definition, as an older or newer version of it might lack them.
async fn loosened(lab: &Lab) -> CustomResourceDefinition {
    let crds: Api<CustomResourceDefinition> = Api::all(lab.admin.clone());
    let strict = crds.get("hospitals.hz.hospital").await.unwrap();
    let open = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    let patch = json!([{"op": "replace", "path": "/spec/versions/0/schema/openAPIV3Schema", "value":
        {"type": "object", "properties": {"spec": open, "status": open}}}]);
    let patch: Patch<()> = Patch::Json(serde_json::from_value(patch).unwrap());
    crds.patch("hospitals.hz.hospital", &PatchParams::default(), &patch).await.unwrap();
    strict
}

async fn restored(lab: &Lab, strict: &CustomResourceDefinition) {
    let crds: Api<CustomResourceDefinition> = Api::all(lab.admin.clone());
    let schema = serde_json::to_value(&strict.spec.versions[0].schema.as_ref().unwrap().open_api_v3_schema).unwrap();
    let patch = json!([{"op": "replace", "path": "/spec/versions/0/schema/openAPIV3Schema", "value": schema}]);
    let patch: Patch<()> = Patch::Json(serde_json::from_value(patch).unwrap());
    crds.patch("hospitals.hz.hospital", &PatchParams::default(), &patch).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_that_cannot_be_read_is_told_so_and_the_others_go_on() {
    let lab = Lab::new().await;
    let strict = loosened(&lab).await;
    let bad = json!({"apiVersion": "hz.hospital/v1alpha1", "kind": "Hospital", "metadata": {"name": "bad"},
                     "spec": {"displayName": 7, "quota": "a lot"}});
    eventually("the loose definition is served", || async { lab.try_apply(&bad).await.ok() }).await;
    lab.apply(&hospital("before")).await;
    let operator = lab.operator();
    lab.until_ready("Hospital", None, "before", "True").await;
    lab.apply(&hospital("after")).await;
    lab.until_ready("Hospital", None, "after", "True").await;
    let told = lab.until("Hospital", None, "bad", |object| ready(object)["reason"] == "Malformed").await;
    assert!(ready(&told)["message"].as_str().unwrap().contains("Expected a string"), "{told:#}");
    operator.at_rest().await;
    operator.stop().await;
    lab.delete("Hospital", None, "bad").await;
    restored(&lab, &strict).await;
    // The next test must find the rules in force again.
    let invalid =
        json!({"apiVersion": "hz.hospital/v1alpha1", "kind": "Hospital", "metadata": {"name": "bad"}, "spec": {}});
    eventually("the rules are in force again", || async {
        match lab.try_apply(&invalid).await {
            Ok(_) => {
                lab.delete("Hospital", None, "bad").await;
                None
            }
            Err(_) => Some(()),
        }
    })
    .await;
}
