//! Users of databases: passwords from tenants' Secrets, grants, and new passwords on their way out.

use std::collections::BTreeMap;

use hz_crds::postgres::users::{password_from, turning};
use hz_crds::postgres::{Inputs, Observed, PostgresInstance, Provisioned, desired, grants, provision};

use super::{Context, outcome};
use crate::engine::Error;
use crate::probes::Sql;

/// Passwords in Secrets of tenants, or what is wrong with them. No watch tells of these Secrets: they are read in each
/// pass.
pub async fn passwords(
    instance: &PostgresInstance,
    namespace: &str,
    ctx: &Context,
) -> Result<BTreeMap<String, Result<String, String>>, Error> {
    let mut found = BTreeMap::new();
    for (number, user) in instance.spec.users.iter().enumerate() {
        let Some(from) = &user.secret_ref else { continue };
        let secret = ctx.engine.secrets.get(namespace, &from.name).await?;
        let held = secret.as_ref().map(|secret| secret.data.get(&from.key).map(String::as_str));
        found.insert(user.name.clone(), password_from(number, from, held));
    }
    Ok(found)
}

/// What is wrong with them, in words.
pub fn unusable(inputs: &Inputs) -> Vec<String> {
    inputs.users.values().filter_map(|held| held.as_ref().err().cloned()).collect()
}

/// Whether the status says that users are as these inputs want them.
pub fn stand(instance: &PostgresInstance, inputs: &Inputs) -> bool {
    let stands = instance.status.as_ref().and_then(|status| status.granted.as_ref());
    matches!(grants(instance, inputs), Ok(None))
        || grants(instance, inputs).is_ok_and(|wanted| wanted.as_ref().map(|wanted| &wanted.fingerprint) == stands)
}

/// Makes users and grants as the spec says, if they are not. One that fails does not hold up the others; the first
/// failure is told.
pub async fn grant(
    instance: &PostgresInstance,
    inputs: &Inputs,
    admin: &Sql,
    provisioned: &Provisioned,
    ctx: &Context,
) -> Provisioned {
    let anew = match provisioned {
        // Databases come first.
        Provisioned::Failed(_) => return Provisioned::NotTried,
        Provisioned::Done(_) => true,
        Provisioned::NotTried => false,
    };
    let wanted = match grants(instance, inputs) {
        Ok(Some(wanted)) => wanted,
        Ok(None) => return Provisioned::NotTried,
        Err(unfit) => return Provisioned::Failed(unfit.to_string()),
    };
    let stands = instance.status.as_ref().and_then(|status| status.granted.as_ref()) == Some(&wanted.fingerprint);
    if stands && !anew {
        return Provisioned::NotTried;
    }
    let mut failed = None;
    for statement in &wanted.statements {
        if let Err(silent) = ctx.probes.provision(admin, std::slice::from_ref(statement)).await {
            tracing::warn!(%silent, "users are not as the spec says");
            failed.get_or_insert(silent);
        }
    }
    failed.map_or(Provisioned::Done(wanted.fingerprint), |silent| Provisioned::Failed(silent.to_string()))
}

/// New passwords that are in the server go into the Secrets, from where services get them. True when they are there.
pub async fn hand_out(
    instance: &PostgresInstance,
    next: &Inputs,
    observed: &Observed,
    ctx: &Context,
) -> Result<bool, Error> {
    let Some(generation) = turning(instance) else { return Ok(false) };
    let in_server = match &observed.provisioned {
        Provisioned::Done(_) => true,
        Provisioned::Failed(_) => false,
        Provisioned::NotTried => provision(instance, next).is_ok_and(|wanted| {
            instance.status.as_ref().and_then(|status| status.provisioned.as_ref()) == Some(&wanted.fingerprint)
        }),
    };
    let Ok(plan) = desired(instance, next, &ctx.platform.get()) else { return Ok(false) };
    if !in_server {
        return Ok(false);
    }
    outcome(ctx.engine.apply(plan).await)?;
    tracing::info!(generation, "new passwords are in the server and in the Secrets");
    Ok(true)
}
