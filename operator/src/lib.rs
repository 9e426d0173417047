//! The operator of the hospital cloud: keeps what hospitals ordered standing.
//!
//! Decisions are pure and live in `hz-crds`; here is all contact with the cluster. `engine` knows nothing of hospitals,
//! `controllers` has one short file a kind, `probes` asks databases, caches and stores whether they answer.

pub mod controllers;
pub mod engine;
pub mod holder;
pub mod platform;
pub mod probes;

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::channel::mpsc;
use hz_crds::Platform;
use hz_crds::backup::{Backup, BackupPlan, Restore, RestoreDrill};
use hz_crds::cache::CacheInstance;
use hz_crds::hospital::Hospital;
use hz_crds::labels::namespace_of;
use hz_crds::operation::{DataOperation, Phase, Target, TargetKind};
use hz_crds::postgres::PostgresInstance;
use hz_crds::service::{MedicalService, secrets};
use hz_crds::store::ObjectStore;
use kube::{Client, ResourceExt};
use tokio::task::JoinSet;

use controllers::hands::Turns;
use controllers::{Answers, Context, Known};
use engine::run::{Controller, Objects, in_namespace};
use engine::watches::Watches;
use engine::{Engine, Metrics, World};
use platform::PlatformCell;
use probes::Probes;

/// What a leading operator needs.
pub struct Settings {
    /// The cluster as configured.
    pub platform: Platform,
    /// How often to ask what is Ready whether it still answers.
    pub ask_again: Duration,
    /// Name of this replica, for events.
    pub instance: Option<String>,
}

impl Default for Settings {
    fn default() -> Self {
        Self { platform: Platform::default(), ask_again: Duration::from_secs(45), instance: None }
    }
}

/// Passes over objects of one kind at a time. A pass mostly waits for answers, so a few go a long way; more would only
/// press the API server when a hundred hospitals change at once.
const AT_ONCE: u16 = 8;

/// How long the first pass waits for the platform to be looked at.
const SETTLE_WITHIN: Duration = Duration::from_secs(10);

/// Runs every controller until dropped. Call it only while leading.
pub async fn lead(client: Client, metrics: Arc<Metrics>, settings: Settings, probes: Arc<dyn Probes>) {
    let world = Arc::new(World::default());
    let engine = Arc::new(Engine::new(client.clone(), Arc::clone(&world), metrics, settings.instance));
    let platform = PlatformCell::new(settings.platform);
    let hospitals = Controller::<Hospital>::new(&engine, "Hospital", AT_ONCE);
    let databases = Controller::<PostgresInstance>::new(&engine, "PostgresInstance", AT_ONCE);
    let caches = Controller::<CacheInstance>::new(&engine, "CacheInstance", AT_ONCE);
    let stores = Controller::<ObjectStore>::new(&engine, "ObjectStore", AT_ONCE);
    let services = Controller::<MedicalService>::new(&engine, "MedicalService", AT_ONCE);
    let operations = Controller::<DataOperation>::new(&engine, "DataOperation", AT_ONCE);
    let plans = Controller::<BackupPlan>::new(&engine, "BackupPlan", AT_ONCE);
    let backups = Controller::<Backup>::new(&engine, "Backup", AT_ONCE);
    let restores = Controller::<Restore>::new(&engine, "Restore", AT_ONCE);
    let drills = Controller::<RestoreDrill>::new(&engine, "RestoreDrill", AT_ONCE);
    let all = All {
        hospitals: hospitals.objects(),
        databases: databases.objects(),
        caches: caches.objects(),
        stores: stores.objects(),
        services: services.objects(),
        operations: operations.objects(),
        plans: plans.objects(),
        backups: backups.objects(),
        restores: restores.objects(),
        drills: drills.objects(),
    };
    let ctx = Arc::new(Context {
        engine: Arc::clone(&engine),
        platform: platform.clone(),
        probes,
        ask_again: settings.ask_again,
        answers: Answers::default(),
        known: Known::default(),
        turns: Turns::default(),
        databases: all.databases.clone(),
        caches: all.caches.clone(),
        operations: all.operations.clone(),
        plans: all.plans.clone(),
        backups: all.backups.clone(),
        restores: all.restores.clone(),
        drills: all.drills.clone(),
    });

    // Everything below ends when this future is dropped: a replica that lost the lease must fall silent at once.
    let mut tasks = JoinSet::new();
    let watches = Watches::start(&client, &world);
    tasks.spawn(all.clone().follow_secrets(Arc::clone(&world)));
    {
        let (all, world, platform) = (all.clone(), Arc::clone(&world), platform.clone());
        tasks.spawn(async move { platform::follow(client, platform, || all.nudge_everything(&world)).await });
    }
    if tokio::time::timeout(SETTLE_WITHIN, platform.settled()).await.is_err() {
        tracing::warn!("going on without having counted the servers or found the API servers");
    }
    {
        let (ctx, all) = (Arc::clone(&ctx), all.clone());
        let touched = move |engine: &Engine, _: &str, name: &str| all.nudge_inside(&engine.world, &namespace_of(name));
        tasks.spawn(hospitals.run(move |object| controllers::hospital::reconcile(object, Arc::clone(&ctx)), touched));
    }
    {
        let (ctx, all) = (Arc::clone(&ctx), all.clone());
        let touched = move |engine: &Engine, ns: &str, name: &str| {
            all.nudge_users(&engine.world, ns, Uses::Database(name));
            all.nudge_operations(&engine.world, ns, TargetKind::PostgresInstance, name);
            all.nudge_backups(&engine.world, ns, Backups::Of(name));
        };
        tasks.spawn(databases.run(move |object| controllers::postgres::reconcile(object, Arc::clone(&ctx)), touched));
    }
    {
        let (ctx, all) = (Arc::clone(&ctx), all.clone());
        let touched = move |engine: &Engine, ns: &str, name: &str| {
            all.nudge_users(&engine.world, ns, Uses::Cache(name));
            all.nudge_operations(&engine.world, ns, TargetKind::CacheInstance, name);
        };
        tasks.spawn(caches.run(move |object| controllers::cache::reconcile(object, Arc::clone(&ctx)), touched));
    }
    {
        let ctx = Arc::clone(&ctx);
        tasks.spawn(stores.run(move |object| controllers::store::reconcile(object, Arc::clone(&ctx)), |_, _, _| {}));
    }
    {
        let (ctx, hospitals) = (Arc::clone(&ctx), all.hospitals.clone());
        let pass = move |object| controllers::service::reconcile(object, Arc::clone(&ctx), hospitals.clone());
        tasks.spawn(services.run(pass, |_, _, _| {}));
    }
    {
        let (ctx, all) = (Arc::clone(&ctx), all.clone());
        let touched = move |engine: &Engine, ns: &str, name: &str| all.nudge_target(&engine.world, ns, name);
        tasks.spawn(operations.run(move |object| controllers::operation::reconcile(object, Arc::clone(&ctx)), touched));
    }
    {
        let (ctx, all) = (Arc::clone(&ctx), all.clone());
        let touched = move |engine: &Engine, ns: &str, name: &str| {
            all.nudge_backups(&engine.world, ns, Backups::By(name));
        };
        tasks.spawn(plans.run(move |object| controllers::backup_plan::reconcile(object, Arc::clone(&ctx)), touched));
    }
    {
        let (ctx, all) = (Arc::clone(&ctx), all.clone());
        let touched = move |engine: &Engine, ns: &str, _: &str| all.nudge_backups(&engine.world, ns, Backups::Made);
        tasks.spawn(backups.run(move |object| controllers::backup::reconcile(object, Arc::clone(&ctx)), touched));
    }
    {
        let ctx = Arc::clone(&ctx);
        tasks
            .spawn(restores.run(move |object| controllers::restore::reconcile(object, Arc::clone(&ctx)), |_, _, _| {}));
    }
    {
        let (ctx, all) = (Arc::clone(&ctx), all.clone());
        let touched = move |engine: &Engine, ns: &str, _: &str| all.nudge_backups(&engine.world, ns, Backups::Drilled);
        tasks.spawn(drills.run(move |object| controllers::drill::reconcile(object, Arc::clone(&ctx)), touched));
    }
    // Controllers never end by themselves; a panic in one must end all, so that a fresh process starts over.
    let ended = tasks.join_next().await;
    drop(watches);
    tracing::error!(?ended, "a controller ended");
}

/// What all controllers have seen, to tell one of changes in another's.
#[derive(Clone)]
struct All {
    hospitals: Objects<Hospital>,
    databases: Objects<PostgresInstance>,
    caches: Objects<CacheInstance>,
    stores: Objects<ObjectStore>,
    services: Objects<MedicalService>,
    operations: Objects<DataOperation>,
    plans: Objects<BackupPlan>,
    backups: Objects<Backup>,
    restores: Objects<Restore>,
    drills: Objects<RestoreDrill>,
}

/// What changed about backups.
enum Backups<'a> {
    /// A database.
    Of(&'a str),
    /// A plan.
    By(&'a str),
    /// A backup.
    Made,
    /// A drill.
    Drilled,
}

/// What a service may use.
enum Uses<'a> {
    Database(&'a str),
    Cache(&'a str),
    Secret(&'a str),
}

impl All {
    /// Services that use something look at it again.
    fn nudge_users(&self, world: &World, namespace: &str, what: Uses<'_>) {
        for service in in_namespace(&self.services, namespace) {
            let uses = match what {
                Uses::Database(name) => {
                    service.spec.bindings.iter().any(|b| b.database.as_ref().is_some_and(|d| d.instance == name))
                }
                Uses::Cache(name) => {
                    service.spec.bindings.iter().any(|b| b.cache.as_ref().is_some_and(|c| c.instance == name))
                }
                Uses::Secret(name) => secrets(&service).iter().any(|secret| secret == name),
            };
            if uses {
                world.nudge("MedicalService", Some(namespace), &service.name_any());
            }
        }
    }

    /// Operations on a database or cache that changed look again, unless they have ended.
    fn nudge_operations(&self, world: &World, namespace: &str, kind: TargetKind, name: &str) {
        for operation in in_namespace(&self.operations, namespace) {
            let target = &operation.spec.target;
            let ended = operation.status.as_ref().and_then(|status| status.phase).is_some_and(Phase::is_final);
            if target.kind == kind && target.name == name && !ended {
                world.nudge("DataOperation", Some(namespace), &operation.name_any());
            }
        }
    }

    /// Plans, backups, restores and drills look again when what they wait for has changed.
    fn nudge_backups(&self, world: &World, namespace: &str, what: Backups<'_>) {
        let nudge = |kind: &str, name: &str| world.nudge(kind, Some(namespace), name);
        let plans = in_namespace(&self.plans, namespace);
        match what {
            Backups::Of(database) => {
                plans.iter().filter(|p| p.spec.instance == database).for_each(|p| nudge("BackupPlan", &p.name_any()));
                let restores = in_namespace(&self.restores, namespace);
                restores.iter().filter(|r| r.spec.instance == database).for_each(|r| nudge("Restore", &r.name_any()));
            }
            Backups::By(plan) => {
                plans.iter().filter(|p| p.name_any() == plan).for_each(|p| nudge("PostgresInstance", &p.spec.instance));
                let backups = in_namespace(&self.backups, namespace);
                let open = backups.iter().filter(|backup| {
                    let ended = backup.status.as_ref().and_then(|status| status.phase).is_some_and(Phase::is_final);
                    backup.spec.plan == plan && !ended
                });
                open.for_each(|backup| nudge("Backup", &backup.name_any()));
            }
            Backups::Made => {
                plans.iter().for_each(|plan| nudge("BackupPlan", &plan.name_any()));
                let drills = in_namespace(&self.drills, namespace);
                drills.iter().for_each(|drill| nudge("RestoreDrill", &drill.name_any()));
            }
            Backups::Drilled => plans.iter().for_each(|plan| nudge("BackupPlan", &plan.name_any())),
        }
    }

    /// What an operation works on looks again, and with it whoever waits for the operation to end.
    fn nudge_target(&self, world: &World, namespace: &str, name: &str) {
        let all = in_namespace(&self.operations, namespace);
        let touched = all.iter().find(|operation| operation.name_any() == name);
        let targets: Vec<Target> = match touched {
            Some(operation) => vec![operation.spec.target.clone()],
            // It is gone, and nobody knows any more what it worked on.
            None => all.iter().map(|operation| operation.spec.target.clone()).collect(),
        };
        for target in targets {
            world.nudge(target.kind.word(), Some(namespace), &target.name);
            let others = all.iter().filter(|other| other.spec.target == target && other.name_any() != name);
            for other in others {
                world.nudge("DataOperation", Some(namespace), &other.name_any());
            }
        }
    }

    /// Everything in a hospital looks again: the hospital has come, or changed.
    fn nudge_inside(&self, world: &World, namespace: &str) {
        for object in in_namespace(&self.databases, namespace) {
            world.nudge("PostgresInstance", Some(namespace), &object.name_any());
        }
        for object in in_namespace(&self.caches, namespace) {
            world.nudge("CacheInstance", Some(namespace), &object.name_any());
        }
        for object in in_namespace(&self.stores, namespace) {
            world.nudge("ObjectStore", Some(namespace), &object.name_any());
        }
        for object in in_namespace(&self.services, namespace) {
            world.nudge("MedicalService", Some(namespace), &object.name_any());
        }
    }

    /// The platform changed.
    fn nudge_everything(&self, world: &World) {
        for hospital in self.hospitals.state() {
            world.nudge("Hospital", None, &hospital.name_any());
            self.nudge_inside(world, &namespace_of(&hospital.name_any()));
        }
    }

    async fn follow_secrets(self, world: Arc<World>) {
        let (sender, mut changed) = mpsc::unbounded();
        world.listen("Secret", sender);
        while let Some((namespace, name)) = changed.next().await {
            self.nudge_users(&world, &namespace.unwrap_or_default(), Uses::Secret(&name));
        }
    }
}
