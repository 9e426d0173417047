//! Makes the cluster hold what a plan says: writes only what differs, removes what is no longer wanted.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hasher};
use std::time::Duration;

use futures::{StreamExt, TryStreamExt, stream};
use hz_crds::labels;
use hz_crds::plan::Plan;
use kube::Client;
use kube::api::{Api, DeleteParams, DynamicObject, Patch, PatchParams, PostParams, Preconditions};
use serde_json::Value;
use tracing::{debug, info};

use super::differ::differs;
use super::error::Error;
use super::kinds::{KINDS, Kind, KindId, find};
use super::world::World;

/// Reads under way at a time while a plan is compared with the cluster.
const READS_AT_ONCE: usize = 8;
/// Rights granted a moment ago (in the same plan) take a moment to work.
const RIGHTS_ARRIVE_WITHIN: Duration = Duration::from_secs(3);

/// What a pass changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Objects written.
    pub applied: usize,
    /// Objects removed.
    pub pruned: usize,
}

/// An object of a plan, ready to compare.
struct Wish {
    kind: KindId,
    namespace: Option<String>,
    name: String,
    body: Value,
    hash: u64,
}

impl Wish {
    fn of(object: DynamicObject) -> Result<Self, Error> {
        let types = object.types.clone().unwrap_or_default();
        let kind = find(&types.api_version, &types.kind)
            .ok_or_else(|| Error::UnknownKind(format!("{} {}", types.api_version, types.kind)))?;
        let name = object.metadata.name.clone().unwrap_or_default();
        let namespace = object.metadata.namespace.clone().filter(|_| KINDS[kind].namespaced);
        let shape = |source| Error::Shape { kind: KINDS[kind].kind, name: name.clone(), source };
        let body = serde_json::to_value(&object).map_err(shape)?;
        let hash = hash_of(&body);
        Ok(Self { kind, namespace, name, body, hash })
    }

    fn kind(&self) -> &'static Kind {
        &KINDS[self.kind]
    }

    fn full_name(&self) -> String {
        full_name(self.namespace.as_deref(), &self.name)
    }

    fn api(&self, client: &Client) -> Api<DynamicObject> {
        api(client, self.kind, self.namespace.as_deref())
    }
}

/// `namespace/name`, or the name alone.
pub fn full_name(namespace: Option<&str>, name: &str) -> String {
    namespace.map_or_else(|| name.to_owned(), |namespace| format!("{namespace}/{name}"))
}

/// The API of one kind in one namespace.
pub fn api(client: &Client, kind: KindId, namespace: Option<&str>) -> Api<DynamicObject> {
    let resource = KINDS[kind].resource();
    match namespace {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
        None => Api::all_with(client.clone(), &resource),
    }
}

/// Feeds JSON to a hasher without building the text.
struct Fed<'a>(&'a mut DefaultHasher);

impl std::io::Write for Fed<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.write(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn hash_of(body: &Value) -> u64 {
    let mut hasher = DefaultHasher::new();
    serde_json::to_writer(Fed(&mut hasher), body).expect("JSON values of string keys always serialize");
    hasher.finish()
}

/// Applies a plan in its order and prunes what the owner no longer wants.
pub async fn apply(client: &Client, world: &World, plan: Plan) -> Result<Changes, Error> {
    let owner_uid = plan.owner().uid.clone();
    let wishes: Vec<Wish> = plan.into_objects().into_iter().map(Wish::of).collect::<Result<_, _>>()?;
    let wanted: HashSet<_> =
        wishes.iter().map(|wish| (wish.kind, wish.namespace.clone().unwrap_or_default(), wish.name.clone())).collect();

    let mut changes = Changes::default();
    let open = wishes
        .into_iter()
        .filter(|wish| !world.is_verified(wish.kind, wish.namespace.as_deref(), &wish.name, wish.hash));
    // Reads run ahead; writes keep the plan's order.
    let mut compared = stream::iter(open)
        .map(|wish| async move {
            let live = read(client, &wish).await?;
            Ok::<_, Error>((wish, live))
        })
        .buffered(READS_AT_ONCE);
    while let Some((wish, live)) = compared.try_next().await? {
        if settle(client, world, &wish, live, &owner_uid).await? {
            changes.applied += 1;
        }
    }
    drop(compared);
    changes.pruned = prune(client, world, &owner_uid, &wanted).await?;
    Ok(changes)
}

async fn read(client: &Client, wish: &Wish) -> Result<Option<Value>, Error> {
    let fail = |source| Error::Read { kind: wish.kind().kind, name: wish.full_name(), source: Box::new(source) };
    match wish.api(client).get_opt(&wish.name).await {
        Ok(live) => Ok(live.and_then(|live| serde_json::to_value(live).ok())),
        // We may not look yet: rights come with this very plan. Writing will tell.
        Err(kube::Error::Api(status)) if status.code == 403 => Ok(None),
        Err(error) => Err(fail(error)),
    }
}

/// Writes one object if the live one differs; true if it wrote.
async fn settle(client: &Client, world: &World, wish: &Wish, live: Option<Value>, owner: &str) -> Result<bool, Error> {
    if let Some(live) = &live {
        check_ours(wish, live, owner)?;
        if !differs(&wish.body, live, labels::MANAGER) {
            world.verify(wish.kind, live, wish.hash);
            return Ok(false);
        }
    }
    let written = write(client, wish, live.is_some()).await?;
    debug!(kind = wish.kind().kind, name = wish.full_name(), "applied");
    let written = serde_json::to_value(written).map_err(|source| Error::Shape {
        kind: wish.kind().kind,
        name: wish.full_name(),
        source,
    })?;
    world.verify(wish.kind, &written, wish.hash);
    Ok(true)
}

/// Refuses to touch what somebody else made under the same name.
fn check_ours(wish: &Wish, live: &Value, owner: &str) -> Result<(), Error> {
    let (kind, name) = (wish.kind().kind, wish.full_name());
    let meta = &live["metadata"];
    if meta.get("deletionTimestamp").is_some_and(|stamp| !stamp.is_null()) {
        return Err(Error::Leaving { kind, name });
    }
    let controller =
        meta["ownerReferences"].as_array().into_iter().flatten().find(|reference| reference["controller"] == true);
    if let Some(controller) = controller.filter(|controller| controller["uid"] != owner) {
        let wanted = &wish.body["metadata"]["ownerReferences"][0];
        if controller["kind"] == wanted["kind"] && controller["name"] == wanted["name"] {
            return Err(Error::Leaving { kind, name }); // of a namesake that was deleted before
        }
        let text = |field: &str| controller[field].as_str().unwrap_or("?").to_owned();
        return Err(Error::Foreign { kind, name, holder: format!("{} {}", text("kind"), text("name")) });
    }
    let ours = [labels::MANAGED_BY, labels::NAME, labels::INSTANCE]
        .iter()
        .all(|label| meta["labels"].get(*label) == wish.body["metadata"]["labels"].get(*label));
    // What Patroni wrote for this instance is taken under its wing, so that it goes with it.
    let patronis = meta["labels"]
        .get(labels::PATRONI)
        .is_some_and(|name| *name == wish.body["metadata"]["labels"][labels::INSTANCE]);
    if controller.is_none() && !ours && !patronis {
        return Err(Error::Foreign { kind, name, holder: "somebody else".to_owned() });
    }
    Ok(())
}

async fn write(client: &Client, wish: &Wish, exists: bool) -> Result<DynamicObject, Error> {
    let started = tokio::time::Instant::now();
    let mut wait = Duration::from_millis(25);
    loop {
        match write_once(client, wish, exists).await {
            Err(kube::Error::Api(status))
                if status.code == 403
                    && !status.message.contains("exceeded quota")
                    && started.elapsed() < RIGHTS_ARRIVE_WITHIN
                    && wish.namespace.is_some() =>
            {
                tokio::time::sleep(wait).await;
                wait = (wait * 2).min(Duration::from_millis(400));
            }
            Err(source) => {
                return Err(Error::Apply { kind: wish.kind().kind, name: wish.full_name(), source: Box::new(source) });
            }
            Ok(written) => return Ok(written),
        }
    }
}

async fn write_once(client: &Client, wish: &Wish, exists: bool) -> Result<DynamicObject, kube::Error> {
    let api = wish.api(client);
    if wish.kind().kind == "Secret" && !exists {
        // Passwords are made once. If another pass was faster, creating fails and its passwords stand.
        let object: DynamicObject = serde_json::from_value(wish.body.clone()).map_err(kube::Error::SerdeError)?;
        let params = PostParams { dry_run: false, field_manager: Some(labels::MANAGER.to_owned()) };
        return api.create(&params, &object).await;
    }
    api.patch(&wish.name, &PatchParams::apply(labels::MANAGER).force(), &Patch::Apply(&wish.body)).await
}

async fn prune(
    client: &Client,
    world: &World,
    owner_uid: &str,
    wanted: &HashSet<(KindId, String, String)>,
) -> Result<usize, Error> {
    let mut pruned = 0;
    for (kind, namespace, name, uid) in world.owned_by(owner_uid) {
        let place = (kind, namespace, name);
        if wanted.contains(&place) || !world.is_synced(kind, &place.1) {
            continue;
        }
        let (_, namespace, name) = place;
        let namespace = KINDS[kind].namespaced.then_some(namespace);
        let params = DeleteParams::background().preconditions(Preconditions { uid: Some(uid), resource_version: None });
        match api(client, kind, namespace.as_deref()).delete(&name, &params).await {
            Ok(_) => {
                info!(kind = KINDS[kind].kind, name, namespace, "removed what is no longer wanted");
                pruned += 1;
            }
            // Gone already, or replaced by a namesake.
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => {}
            Err(source) => {
                let name = full_name(namespace.as_deref(), &name);
                return Err(Error::Delete { kind: KINDS[kind].kind, name, source: Box::new(source) });
            }
        }
        world.forget(kind, namespace.as_deref(), &name);
    }
    Ok(pruned)
}
