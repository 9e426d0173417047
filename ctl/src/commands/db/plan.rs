//! The BackupPlan of a database server. The server may be gone: its plan and its backups are still there.

use hz_crds::backup::BackupPlan;
use hz_crds::postgres::PostgresInstance;
use kube::{Client, ResourceExt};

use crate::cluster::nearest::nearest;
use crate::commands::data::DATABASE;
use crate::commands::reach::{Place, Reach, choose, list};
use crate::exit::Failure;

/// What people call them: one, and many.
pub const NOUNS: (&str, &str) = ("BackupPlan", "BackupPlans");

/// A database server that is backed up, and where it is.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Of {
    /// Name of the database server; it may be gone as long as its BackupPlan is there
    pub name: String,
    /// The BackupPlan, where the database server has several
    #[arg(long, value_name = "PLAN")]
    pub plan: Option<String>,
    #[command(flatten)]
    pub reach: Reach,
}

/// A database server and its plan.
#[derive(Clone, Debug)]
pub struct Planned {
    /// Where the database server is, or was.
    pub place: Place,
    /// Its plan.
    pub plan: BackupPlan,
    /// Names of the database servers of its namespace.
    pub servers: Vec<String>,
}

impl Planned {
    /// Name of the plan.
    pub fn plan(&self) -> String {
        self.plan.name_any()
    }
}

impl Of {
    /// Find the plan.
    pub async fn find(&self, client: &Client) -> Result<Planned, Failure> {
        let namespace = self.reach.namespace.as_deref();
        let (servers, plans) = tokio::try_join!(
            list::<PostgresInstance>(client, namespace, DATABASE.nouns.1),
            list::<BackupPlan>(client, namespace, NOUNS.1),
        )?;
        self.pick(&servers.iter().map(Place::of).collect::<Vec<_>>(), &plans)
    }

    fn pick(&self, servers: &[Place], plans: &[BackupPlan]) -> Result<Planned, Failure> {
        let place = instance(servers, plans, self.reach.namespace.as_deref(), &self.name)?;
        let plan = one(&place, plans, self.plan.as_deref())?.clone();
        let here = servers.iter().filter(|server| server.namespace == place.namespace);
        Ok(Planned { servers: here.map(|server| server.name.clone()).collect(), place, plan })
    }

    /// The command that shows its backups.
    pub fn backups_again(&self, place: &Place) -> String {
        format!("hzctl db backups {} -n {}{}", place.name, place.namespace, self.reach.spelt())
    }
}

/// The database server of this name, be it there or only in a plan.
pub fn instance(
    servers: &[Place],
    plans: &[BackupPlan],
    namespace: Option<&str>,
    name: &str,
) -> Result<Place, Failure> {
    let planned = plans.iter().map(target);
    let mut places: Vec<Place> = servers.iter().cloned().chain(planned).collect();
    places.sort();
    places.dedup();
    let index = choose(&places, namespace, name, DATABASE.nouns)?;
    Ok(places.swap_remove(index))
}

/// What a plan backs up.
pub fn target(plan: &BackupPlan) -> Place {
    Place { namespace: plan.namespace().unwrap_or_default(), name: plan.spec.instance.clone() }
}

fn one<'a>(place: &Place, plans: &'a [BackupPlan], asked: Option<&str>) -> Result<&'a BackupPlan, Failure> {
    let own: Vec<&BackupPlan> = plans.iter().filter(|plan| target(plan) == *place).collect();
    let names: Vec<String> = own.iter().map(|plan| plan.name_any()).collect();
    let list = names.join(", ");
    if own.is_empty() {
        return Err(Failure::input(format!("{} is not backed up: it has no BackupPlan", place.name))
            .hint(format!("write one, and put it into the cluster with `kubectl apply -f`:\n{}", manifest(place))));
    }
    let Some(asked) = asked else {
        return match own.as_slice() {
            [only] => Ok(only),
            several => Err(Failure::input(format!("{} has {} BackupPlans: {list}", place.name, several.len()))
                .hint(format!("name one with --plan, such as --plan {}", names[0]))),
        };
    };
    own.into_iter().find(|plan| plan.name_any() == asked).ok_or_else(|| {
        let failure = Failure::input(format!("{} has no BackupPlan `{asked}`", place.name));
        match nearest(asked, names.iter().map(String::as_str)) {
            Some(near) => failure.hint(format!("did you mean `{near}`? BackupPlans: {list}")),
            None => failure.hint(format!("BackupPlans: {list}")),
        }
    })
}

/// The least that a plan needs.
fn manifest(Place { namespace, name }: &Place) -> String {
    format!(
        "apiVersion: hz.hospital/v1alpha1\n\
         kind: BackupPlan\n\
         metadata: {{ name: {name}, namespace: {namespace} }}\n\
         spec:\n  \
           instance: {name}\n  \
           destination: {{ objectStore: {{ name: archive }} }} # an ObjectStore of this namespace, or s3: {{ … }}"
    )
}

#[cfg(test)]
pub mod tests {
    use serde_json::json;

    use super::*;

    /// A plan with this status.
    pub fn plan(name: &str, instance: &str, status: serde_json::Value) -> BackupPlan {
        serde_json::from_value(json!({
            "apiVersion": "hz.hospital/v1alpha1",
            "kind": "BackupPlan",
            "metadata": { "name": name, "namespace": "hospital-anna" },
            "spec": { "instance": instance, "destination": { "objectStore": { "name": "archive" } } },
            "status": status,
        }))
        .unwrap()
    }

    fn places(list: &[(&str, &str)]) -> Vec<Place> {
        list.iter().map(|(namespace, name)| Place { namespace: (*namespace).into(), name: (*name).into() }).collect()
    }

    /// As the API server lists them for one namespace.
    fn servers() -> Vec<Place> {
        places(&[("hospital-anna", "records"), ("hospital-anna", "billing")])
    }

    fn of(name: &str, plan: Option<&str>) -> Of {
        let mut of = Of { name: name.into(), plan: plan.map(Into::into), ..Of::default() };
        of.reach.namespace = Some("hospital-anna".into());
        of
    }

    #[test]
    fn a_plan_is_found_by_its_instance_even_when_that_is_gone() {
        let plans = [plan("nightly", "records", json!({})), plan("old", "retired", json!({}))];
        assert_eq!(of("records", None).pick(&servers(), &plans).unwrap().plan(), "nightly");
        assert_eq!(of("retired", None).pick(&servers(), &plans).unwrap().plan(), "old");
    }

    #[test]
    fn a_name_in_two_namespaces_is_never_guessed_although_only_one_has_a_plan() {
        let any = Of { name: "records".into(), ..Of::default() };
        let servers = places(&[("hospital-anna", "records"), ("hospital-berta", "records")]);
        let failure = any.pick(&servers, &[plan("nightly", "records", json!({}))]).unwrap_err();
        assert!(failure.message.contains("several namespaces: hospital-anna, hospital-berta"), "{failure}");
    }

    #[test]
    fn without_a_plan_the_least_of_one_is_shown_and_it_is_a_plan() {
        let failure = of("billing", None).pick(&servers(), &[]).unwrap_err();
        assert_eq!(failure.message, "billing is not backed up: it has no BackupPlan");
        let hint = failure.hint.unwrap();
        let (_, manifest) = hint.split_once('\n').unwrap();
        let plan: BackupPlan = serde_yaml::from_str(manifest).unwrap();
        assert_eq!((plan.spec.instance.as_str(), plan.namespace().as_deref()), ("billing", Some("hospital-anna")));
    }

    #[test]
    fn of_several_plans_one_is_named() {
        let plans = [plan("nightly", "records", json!({})), plan("offsite", "records", json!({}))];
        let failure = |asked| of("records", asked).pick(&servers(), &plans).unwrap_err();
        assert_eq!(failure(None).message, "records has 2 BackupPlans: nightly, offsite");
        assert_eq!(failure(None).hint.as_deref(), Some("name one with --plan, such as --plan nightly"));
        assert_eq!(
            failure(Some("offsit")).hint.as_deref(),
            Some("did you mean `offsite`? BackupPlans: nightly, offsite")
        );
        let found = of("records", Some("offsite")).pick(&servers(), &plans).unwrap();
        assert_eq!(found.plan(), "offsite");
    }
}
