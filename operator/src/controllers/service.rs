//! MedicalService: copies, bindings, routes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use hz_crds::certificates::CA_CRT;
use hz_crds::hospital::Hospital;
use hz_crds::labels::DATA_CLASS;
use hz_crds::plan::Plan;
use hz_crds::service::{Inputs, MedicalService, Observed, desired, fingerprint, secrets, status};
use hz_crds::shared::DataClass;
use hz_crds::{Outcome, Timestamp, Unfit};
use kube::ResourceExt;

use super::observe::{accepted, pods, rollout};
use super::{Context, next_look, outcome};
use crate::engine::Error;
use crate::engine::kinds::named;
use crate::engine::run::{Next, Objects, find};

/// One pass over one service.
pub async fn reconcile(
    service: Arc<MedicalService>,
    ctx: Arc<Context>,
    hospitals: Objects<Hospital>,
) -> Result<Next, Error> {
    let (namespace, name) = (service.namespace().unwrap_or_default(), service.name_any());
    let platform = ctx.platform.get();
    let (classes, (outcome, said)) = match plan(&service, &namespace, &ctx, &hospitals).await? {
        (inputs, Ok(plan)) => (inputs.classes, outcome(ctx.engine.apply(plan).await)?),
        (inputs, Err(unfit)) => (inputs.classes, (Outcome::Unfit(unfit), None)),
    };
    let world = &ctx.engine.world;
    let seen = |kind: &str| world.get(named(kind), Some(&namespace), &name);
    let observed = Observed {
        outcome,
        rollout: seen("Deployment").map(|seen| rollout(&seen.facts)),
        pods: pods(world, "MedicalService", &namespace, &name),
        route: seen("HTTPRoute").and_then(|seen| accepted(&seen.facts)),
        classes,
    };
    let status = status(&service, &observed, &platform, Timestamp::now());
    ctx.engine.reporter.report(&*service, &status).await?;
    let next = next_look(&observed.outcome, said, &status.conditions, Next::OnChange);
    // Rollouts make themselves known: there is nobody to ask but the watches.
    Ok(if next == Next::Soon { Next::OnChange } else { next })
}

async fn plan(
    service: &MedicalService,
    namespace: &str,
    ctx: &Context,
    hospitals: &Objects<Hospital>,
) -> Result<(Inputs, Result<Plan, Unfit>), Error> {
    let hospital = match ctx.hospital(namespace) {
        Ok(hospital) => hospital,
        Err(unfit) => return Ok((Inputs::default(), Err(unfit))),
    };
    let (mut prints, mut classes, mut keys) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
    let mut authorities = BTreeSet::new();
    for name in secrets(service) {
        let Some(secret) = ctx.engine.secrets.get(namespace, &name).await?.filter(|secret| secret.is_ours()) else {
            continue;
        };
        prints.insert(name.clone(), fingerprint(secret.data.iter().map(|(key, value)| (key, value.as_bytes()))));
        if secret.data.get(CA_CRT).is_some_and(|pem| !pem.is_empty()) {
            authorities.insert(name.clone());
        }
        keys.insert(name.clone(), secret.data.keys().cloned().collect());
        classes.insert(name, class(secret.label(DATA_CLASS)));
    }
    let domains = find(hospitals, None, &hospital).map(|hospital| hospital.spec.domains).unwrap_or_default();
    let inputs = Inputs { secrets: prints, classes, authorities, keys, domains };
    let plan = desired(service, &inputs, &ctx.platform.get());
    Ok((inputs, plan))
}

/// What is not said is Clinical, so that forgetting it is safe.
fn class(word: &str) -> DataClass {
    [DataClass::Public, DataClass::Administrative].into_iter().find(|class| class.word() == word).unwrap_or_default()
}
