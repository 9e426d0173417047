//! PostgresInstance: PostgreSQL kept by Patroni, with its databases.

use std::sync::Arc;

use hz_crds::labels::PATRONI;
use hz_crds::operation::moves::Rules;
use hz_crds::operation::{Target, TargetKind};
use hz_crds::plan::Plan;
use hz_crds::postgres::tls::{self, Encryption};
use hz_crds::postgres::users::turned;
use hz_crds::postgres::{
    Inputs, Observed, PostgresInstance, Provisioned, SUPERUSER, SUPERUSER_KEY, Settings, Synchronous, database_secret,
    desired, provision, slots, status, system_secret,
};
use hz_crds::shared::{PodSeen, Probe};
use hz_crds::{Outcome, Slot, Timestamp, Unfit};
use kube::ResourceExt;
use kube::api::ListParams;

use super::cache::patiently;
use super::observe::pods;
use super::upgrade::{self, Described};
use super::upkeep::{self, Looked};
use super::{
    Context, backup_plan, copies, encryption, hands, next_look, operation, outcome, pooler, room, settings, told, users,
};
use crate::engine::Error;
use crate::engine::apply::api;
use crate::engine::kinds::named;
use crate::engine::run::Next;
use crate::probes::{Silent, Sql, Trust};

const PORT: u16 = 5432;

/// One pass over one database server.
pub async fn reconcile(instance: Arc<PostgresInstance>, ctx: Arc<Context>) -> Result<Next, Error> {
    let (namespace, name) = (instance.namespace().unwrap_or_default(), instance.name_any());
    let target = Target { kind: TargetKind::PostgresInstance, name: name.clone() };
    let _turn = ctx.turns.of(&namespace, &target).await;
    let platform = ctx.platform.get();
    let (ordered, instance) = (Arc::clone(&instance), encryption::as_it_can_be(&instance, &ctx));
    let described = upgrade::described(&instance, &ctx);
    let (inputs, (outcome, said)) = match plan(&described, &namespace, &name, &ctx).await? {
        Ok((inputs, plan)) => {
            hands::make_way(&ctx, &namespace, &name, &instance.spec.storage.size).await?;
            (inputs, outcome(ctx.engine.apply(plan).await)?)
        }
        Err(unfit) => (Inputs::default(), (Outcome::Unfit(unfit), None)),
    };
    let pods = pods(&ctx.engine.world, "PostgresInstance", &namespace, &name);
    let at_work = operation::at_work(&ctx, &namespace, &target);
    let still = at_work.as_ref().is_some_and(|(_, still)| *still);
    let operation = at_work.map(|(name, _)| name);
    let backups = backup_plan::seen(&ctx, &namespace, &name);
    let (unusable, data) = (users::unusable(&inputs), described.data);
    let mut observed = Observed { outcome, pods, operation, data, backups, unusable, ..Observed::default() };
    if observed.outcome == Outcome::Applied && !instance.spec.suspend {
        observed.rooms = room::ask(&namespace, &name, &observed.pods, &ctx).await;
        // With the passwords that come next, where new ones are on their way: the server has them before any Secret.
        if let Ok(next) = turned(&instance, &inputs) {
            ask(&instance, &next, &mut observed, still, &ctx).await;
            observed.turned = users::hand_out(&instance, &next, &observed, &ctx).await?;
        }
        observed.poolers = pooler::look(&instance, &inputs, &ctx).await;
        if !still {
            keep_up(&instance, &inputs, &target, &mut observed, &ctx).await?;
        }
    }
    let mismatch = described.mismatch.is_some();
    if let Some(mismatch) = described.mismatch.filter(|_| observed.outcome == Outcome::Applied) {
        observed.settings = Settings::Failed(mismatch);
    }
    let status = status(&instance, &observed, &platform, Timestamp::now());
    ctx.engine.reporter.report(&*ordered, &status).await?;
    let when_ready = match (instance.spec.suspend, &observed.settings) {
        (true, _) => Next::OnChange,
        // That is for a person to mend.
        (false, _) if mismatch => Next::After(ctx.ask_again),
        (false, Settings::OnTheirWay(_) | Settings::Failed(_)) => Next::Soon,
        // Until the kubelet has brought the files, and the copy has read them.
        (false, _) if matches!(observed.encryption, Encryption::Other(_)) => Next::Soon,
        (false, _) => Next::After(ctx.ask_again),
    };
    Ok(next_look(&observed.outcome, said, &status.conditions, when_ready))
}

type Planned = Result<(Inputs, Plan), Unfit>;

async fn plan(described: &Described, namespace: &str, name: &str, ctx: &Context) -> Result<Planned, Error> {
    let instance = &described.instance;
    if let Err(unfit) = ctx.hospital(namespace) {
        return Ok(Err(unfit));
    }
    let (passwords, mut foreign) = ctx.passwords(namespace, "postgres", name, slots(instance)).await?;
    let slot = tls::certificate(instance, &ctx.platform.get());
    let (certificates, others) = ctx.certificates(namespace, "postgres", name, &[slot]).await?;
    foreign.extend(others);
    let patroni_maps = if instance.spec.deletion_policy.retains() {
        Vec::new()
    } else {
        patroni_maps(instance, namespace, ctx).await?
    };
    let users = users::passwords(instance, namespace, ctx).await?;
    let inputs = Inputs { passwords, certificates, foreign, patroni_maps, users, course: described.course.clone() };
    Ok(desired(instance, &inputs, &ctx.platform.get()).map(|plan| (inputs, plan)))
}

/// What Patroni wrote for itself; looked up only where it has to go with the instance, and only until it is known. What a
/// namesake that was deleted had is not ours: made anew by us, empty, it would keep Patroni from ever beginning.
async fn patroni_maps(instance: &PostgresInstance, namespace: &str, ctx: &Context) -> Result<Vec<String>, Error> {
    let (name, uid) = (instance.name_any(), instance.uid().unwrap_or_default());
    let key = format!("patroni {namespace}/{name} {uid}");
    if let Some(known) = ctx.known.get(&key) {
        return Ok(known);
    }
    let params = ListParams::default().labels(&format!("{PATRONI}={name}"));
    let maps = api(&ctx.engine.client, named("ConfigMap"), Some(namespace)).list_metadata(&params).await.map_err(
        |source| Error::Read {
            kind: "ConfigMap",
            name: format!("{namespace} ({PATRONI}={name})"),
            source: Box::new(source),
        },
    )?;
    let ours = maps.iter().filter(|map| map.owner_references().iter().all(|owner| owner.uid == uid));
    let mut names: Vec<String> = ours.map(ResourceExt::name_any).collect();
    names.sort();
    ctx.known.note(&key, &names);
    Ok(names)
}

/// Once a pod says it is the primary: databases are made if they are not yet what the spec says, and a query is
/// answered through the Service.
async fn ask(instance: &PostgresInstance, inputs: &Inputs, observed: &mut Observed, still: bool, ctx: &Context) {
    let (namespace, name) = (instance.namespace().unwrap_or_default(), instance.name_any());
    let Ok(pair) = inputs.certificates.get(&tls::certificate(instance, &ctx.platform.get())) else { return };
    let trust = encryption::trust(instance, &pair.ca_crt, ctx);
    let Some(admin) = admin(&namespace, &name, inputs, trust, &observed.pods, ctx) else { return };
    let wanted = match provision(instance, inputs) {
        Ok(wanted) => wanted,
        Err(unfit) => return observed.provisioned = Provisioned::Failed(unfit.to_string()),
    };
    let stands = instance.status.as_ref().and_then(|status| status.provisioned.as_ref()) == Some(&wanted.fingerprint);
    let (object, question) = (format!("postgres {namespace}/{name}"), format!("{admin:?} {:?}", observed.pods));
    let in_force = still || settings::in_force(instance);
    if let Some(confirming) =
        ctx.answers.fresh(&object, &question).filter(|_| stands && in_force && users::stand(instance, inputs))
    {
        observed.probe = Probe::Answered;
        observed.confirming = confirming;
        return;
    }
    let answer = patiently(|| ctx.probes.select_one(&admin)).await;
    observed.probe = told(&answer);
    observed.confirming = answer.clone().unwrap_or_default();
    if answer.is_ok() && !(stands && owners_get_in(instance, inputs, &admin, ctx).await) {
        observed.provisioned = match ctx.probes.provision(&admin, &wanted.statements).await {
            Ok(()) => Provisioned::Done(wanted.fingerprint),
            Err(silent) => Provisioned::Failed(silent.to_string()),
        };
    }
    if answer.is_ok() {
        observed.granted = users::grant(instance, inputs, &admin, &observed.provisioned, ctx).await;
    }
    if answer.is_ok() && !still {
        observed.settings = settings::carry_out(instance, inputs, &observed.pods, ctx).await;
    }
    // Also where no answer came: copies that still show a certificate of another authority get no answer through to us.
    observed.encryption = encryption::look(instance, inputs, &observed.pods, ctx).await;
    ctx.answers.note(&object, &question, answer.ok());
}

/// Copies of an older description, and copies in too little room, are replaced one by one; settings go first.
async fn keep_up(
    instance: &PostgresInstance,
    inputs: &Inputs,
    target: &Target,
    observed: &mut Observed,
    ctx: &Context,
) -> Result<(), Error> {
    let (namespace, room) = (instance.namespace().unwrap_or_default(), Some(&instance.spec.storage.size));
    if matches!(observed.settings, Settings::OnTheirWay(_) | Settings::Failed(_)) {
        return Ok(());
    }
    if !upkeep::is_due(&copies::standing(&ctx.engine.world, target, &namespace), room) {
        return Ok(());
    }
    let (copies, cluster) = match copies::of_database(instance, inputs, ctx).await {
        Ok(known) => known,
        Err(silent) => {
            observed.settings = Settings::Failed(silent);
            return Ok(());
        }
    };
    let rules = Rules {
        wanted: usize::try_from(instance.spec.instances).unwrap_or_default(),
        strict: instance.spec.synchronous == Synchronous::Strict,
        told: true,
    };
    observed.settings = match upkeep::carry_out(ctx, &namespace, &copies, room, rules).await? {
        Looked::Said(settings) => settings,
        Looked::HandOver(from, to) => {
            let said = format!("{from} hands its work to {to}");
            match operation::hand_over(ctx, instance, inputs, &cluster, &from, &to).await {
                Ok(()) => Settings::OnTheirWay(said),
                Err(silent) => Settings::Failed(silent),
            }
        }
    };
    Ok(())
}

/// The status may remember databases that a lost volume took along: their owners find out.
async fn owners_get_in(instance: &PostgresInstance, inputs: &Inputs, admin: &Sql, ctx: &Context) -> bool {
    for database in &instance.spec.databases {
        let slot = Slot::new(database_secret(&instance.name_any(), &database.name), "password");
        let Ok(password) = inputs.passwords.get(&slot) else { return false };
        let owner = Sql {
            database: database.name.clone(),
            user: database.name.clone(),
            password: password.to_owned(),
            ..admin.clone()
        };
        if let Err(Silent::NotProvisioned(why)) = ctx.probes.select_one(&owner).await {
            tracing::warn!(database = database.name, why, "an owner does not get in; making databases anew");
            return false;
        }
    }
    true
}

/// The superuser of an instance that has a primary.
pub(super) async fn superuser(instance: &PostgresInstance, ctx: &Context) -> Option<Sql> {
    let (namespace, name) = (instance.namespace()?, instance.name_any());
    let slot = Slot::new(system_secret(&name), SUPERUSER_KEY);
    let (passwords, _) = ctx.passwords(&namespace, "postgres", &name, vec![slot]).await.ok()?;
    let inputs = Inputs { passwords, ..Inputs::default() };
    let trust = encryption::kept(instance, ctx).await?;
    admin(&namespace, &name, &inputs, trust, &pods(&ctx.engine.world, "PostgresInstance", &namespace, &name), ctx)
}

fn admin(namespace: &str, name: &str, inputs: &Inputs, trust: Trust, pods: &[PodSeen], ctx: &Context) -> Option<Sql> {
    pods.iter().find(|pod| pod.ready && pod.role.as_deref() == Some("primary"))?;
    let slot = Slot::new(system_secret(name), SUPERUSER_KEY);
    Some(Sql {
        address: ctx.service_address(namespace, name)?,
        port: PORT,
        database: "postgres".to_owned(),
        user: SUPERUSER.to_owned(),
        password: inputs.passwords.get(&slot).ok()?.to_owned(),
        tls: Some(trust),
    })
}
