//! Killed in the middle of its work, the next one finishes it, and nothing is made twice.

use serde_json::Value;

use crate::faults::Death;
use crate::lab::{HOSPITAL, Lab};

/// The first k of which no death came: the work has fewer writes.
async fn killed_at(death: impl Fn(usize) -> Death, at: &[usize]) {
    let lab = Lab::new().await;
    lab.order_namespace().await;
    let mut passwords: Option<Value> = None;
    for k in at {
        let mut doomed = lab.operator_that_dies(Some(death(*k)));
        lab.order_rest().await;
        if !doomed.died().await {
            break; // everything there was to write is written
        }
        // Whatever was made of passwords by then stands for ever.
        if let Some(secret) = lab.get("Secret", Some(HOSPITAL), "records-system").await {
            let data = secret["data"].clone();
            assert_eq!(passwords.get_or_insert(data.clone()), &data, "after death at write {k}");
        }
    }
    let operator = lab.operator();
    lab.play_example().await;
    operator.at_rest().await;
    let secret = lab.get("Secret", Some(HOSPITAL), "records-system").await.unwrap();
    assert_eq!(passwords.unwrap_or(secret["data"].clone()), secret["data"]);
    for (kind, name, object) in lab.everything(HOSPITAL).await {
        let generation = &object["metadata"]["generation"];
        let once = generation.is_null() || generation == 1;
        assert!(once, "{kind} {name} is at generation {generation}");
    }
}

impl Lab {
    /// A hospital, made by an operator that lives.
    async fn order_namespace(&self) {
        let operator = self.operator();
        self.apply(&crate::lab::example()[0]).await;
        self.until_ready("Hospital", None, "st-anna", "True").await;
        operator.stop().await;
    }

    async fn order_rest(&self) {
        for manifest in &crate::lab::example()[1..] {
            self.apply(manifest).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_before_any_of_its_writes_it_converges() {
    killed_at(Death::Before, &[1, 2, 3, 5, 8, 13, 21]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_after_any_of_its_writes_it_converges() {
    killed_at(Death::After, &[1, 1, 2, 3, 5, 8, 13]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_while_a_hospital_is_made_it_converges() {
    let lab = Lab::new().await;
    for k in 1..12 {
        let mut doomed = lab.operator_that_dies(Some(Death::After(1)));
        lab.apply(&crate::lab::example()[0]).await;
        if !doomed.died().await {
            break;
        }
        assert!(k < 11, "every life writes one object; a hospital has fewer");
    }
    let _operator = lab.operator();
    lab.until_ready("Hospital", None, "st-anna", "True").await;
}
