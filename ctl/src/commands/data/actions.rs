//! What can be asked of a database or cache: each becomes a DataOperation, which the operator does.

use hz_crds::operation::{Action, DataOperation, DataOperationSpec, Target, a_week};
use hz_crds::postgres::PostgresVersion;
use hz_crds::quantity::Amount;
use hz_crds::shared::PodSeen;

use super::{Sort, create, pods};
use crate::bootstrap::site::random;
use crate::commands::confirm::Question;
use crate::commands::operation::row::{Row, deed};
use crate::commands::operation::{end, follow};
use crate::commands::reach::{Place, Reach};
use crate::exit::{ExitStatus, Failure};
use crate::printer::{Output, Printer};

/// What every action takes.
#[derive(Debug, clap::Args)]
pub struct Asked {
    /// Name of the database server or cache
    name: String,
    /// Follow it to its end
    #[arg(long)]
    wait: bool,
    /// Seconds after which no further step is begun
    #[arg(long, value_name = "SECONDS", default_value_t = 1800, value_parser = clap::value_parser!(i32).range(30..=86_400))]
    timeout: i32,
    /// Do not ask, even where data is thrown away
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    reach: Reach,
}

/// Arguments of a restart, and of a switchover that chooses by itself.
#[derive(Debug, clap::Args)]
pub struct Plain {
    #[command(flatten)]
    asked: Asked,
}

/// Arguments of a switchover to a copy of choice.
#[derive(Debug, clap::Args)]
pub struct To {
    #[command(flatten)]
    asked: Asked,
    /// The copy that is to become the primary; default: one that has every confirmed write
    #[arg(long, value_name = "POD")]
    to: Option<String>,
}

/// Arguments of a scaling.
#[derive(Debug, clap::Args)]
pub struct Scale {
    #[command(flatten)]
    asked: Asked,
    /// Copies there should be, 1 to 7; a cache takes an odd number
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(1..=7))]
    instances: i32,
}

/// Arguments of an expansion.
#[derive(Debug, clap::Args)]
pub struct Expand {
    #[command(flatten)]
    asked: Asked,
    /// Room for data of each copy, such as 20Gi; it can grow and never shrink
    #[arg(long, value_name = "SIZE", value_parser = size)]
    size: Amount,
}

/// Arguments of a rebuild.
#[derive(Debug, clap::Args)]
pub struct Rebuild {
    #[command(flatten)]
    asked: Asked,
    /// The copy to build anew from the others; what is on its disk goes
    #[arg(long, value_name = "POD")]
    member: String,
}

/// Room for data, as a person writes it.
pub fn size(text: &str) -> Result<Amount, String> {
    let amount = Amount::from(text);
    // Thousandths of a byte are an amount to the API server, and nobody's disk.
    match amount.units() {
        Some(bytes) if bytes > 0 && !text.ends_with('m') => Ok(amount),
        _ => Err("a size is a number with a unit, such as 20Gi or 500Mi".into()),
    }
}

/// What is asked for, apart from of whom.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Wish {
    /// Copies there should be.
    pub instances: Option<i32>,
    /// Room for data of each copy.
    pub size: Option<Amount>,
    /// The copy to build anew.
    pub member: Option<String>,
    /// The copy that is to lead.
    pub candidate: Option<String>,
    /// Version to upgrade to.
    pub version: Option<PostgresVersion>,
    /// Do without a backup of today.
    pub skip_backup: bool,
    /// What was written since the upgrade may be lost.
    pub accept_loss_since: bool,
    /// What is said before the question, where data goes.
    pub warning: Option<String>,
}

/// Run a switchover.
pub async fn switchover(sort: &Sort, args: To, printer: &mut Printer) -> Result<ExitStatus, Failure> {
    ask(sort, Action::Switchover, args.asked, Wish { candidate: args.to, ..Wish::default() }, printer).await
}

/// Run a switchover that chooses by itself.
pub async fn switchover_to_any(sort: &Sort, args: Plain, printer: &mut Printer) -> Result<ExitStatus, Failure> {
    ask(sort, Action::Switchover, args.asked, Wish::default(), printer).await
}

/// Run a restart.
pub async fn restart(sort: &Sort, args: Plain, printer: &mut Printer) -> Result<ExitStatus, Failure> {
    ask(sort, Action::Restart, args.asked, Wish::default(), printer).await
}

/// Run a scaling.
pub async fn scale(sort: &Sort, args: Scale, printer: &mut Printer) -> Result<ExitStatus, Failure> {
    ask(sort, Action::Scale, args.asked, Wish { instances: Some(args.instances), ..Wish::default() }, printer).await
}

/// Run an expansion.
pub async fn expand(sort: &Sort, args: Expand, printer: &mut Printer) -> Result<ExitStatus, Failure> {
    ask(sort, Action::Expand, args.asked, Wish { size: Some(args.size), ..Wish::default() }, printer).await
}

/// Run a rebuild.
pub async fn rebuild(sort: &Sort, args: Rebuild, printer: &mut Printer) -> Result<ExitStatus, Failure> {
    ask(sort, Action::Rebuild, args.asked, Wish { member: Some(args.member), ..Wish::default() }, printer).await
}

/// Ask for it, and follow it if that was asked for.
pub async fn ask(
    sort: &Sort,
    action: Action,
    asked: Asked,
    wish: Wish,
    printer: &mut Printer,
) -> Result<ExitStatus, Failure> {
    let member = wish.member.clone().filter(|_| !asked.yes);
    let server = wish.warning.as_ref().map(|_| asked.name.clone()).filter(|_| !asked.yes);
    let question = match (&member, &server) {
        (Some(name), _) => Some(Question { act: "rebuild", thing: "copy", name, instead: "--yes" }),
        (None, Some(name)) => Some(Question { act: "this", thing: "database server", name, instead: "--yes" }),
        (None, None) => None,
    };
    // Before anything takes time: who cannot be asked should know at once.
    question.map_or(Ok(()), |question| question.can_be_asked())?;
    let client = asked.reach.client().await?;
    let place = sort.find(&client, asked.reach.namespace.as_deref(), &asked.name).await?;
    if wish.member.is_some() || wish.candidate.is_some() {
        check(sort, &place.name, &wish, &pods::of(&client, sort, &place).await?)?;
    }
    if let Some(question) = question {
        printer.say(wish.warning.clone().unwrap_or_else(|| warning(&place, question.name)));
        question.ask(None, printer)?;
    }
    let operation = operation(sort, &place, action, wish, asked.timeout, &random(5));
    let made = create(&client, &operation, &deed(&operation)).await?;
    let place = Place::of(&made);
    if !asked.wait {
        let again = format!("hzctl operation wait {} -n {}{}", place.name, place.namespace, asked.reach.spelt());
        printer.value(&Row::of(&made), |row| format!("operation {} was asked for\nto follow it: {again}", row.name))?;
        return Ok(ExitStatus::Success);
    }
    // Scripts read the name in the events.
    if printer.output() != Output::Json {
        printer.say(format!("operation {}: {}", place.name, deed(&made)));
    }
    let ended = follow::to_end(&client, &place, &asked.reach, printer).await?;
    end::tell(&ended, printer)
}

/// The copies that are named must be there, and a switchover must lead away from the leader.
fn check(sort: &Sort, name: &str, wish: &Wish, pods: &[PodSeen]) -> Result<(), Failure> {
    if let Some(member) = &wish.member {
        pods::member(name, member, pods)?;
    }
    let Some(candidate) = &wish.candidate else { return Ok(()) };
    let pod = pods::member(name, candidate, pods)?;
    if pod.role.as_deref() == Some(sort.leader) && pod.ready {
        return Err(Failure::input(format!("{candidate} is the {} already", sort.leader)));
    }
    Ok(())
}

fn warning(place: &Place, member: &str) -> String {
    format!(
        "This throws away the disk of {member} and builds the copy anew from the others of {} in {}.\n  Until that is done there is one copy less.",
        place.name, place.namespace
    )
}

/// The object that asks for it. Its name tells people what it is; the suffix keeps it apart from others.
fn operation(sort: &Sort, place: &Place, action: Action, wish: Wish, deadline: i32, suffix: &str) -> DataOperation {
    let name = format!("{}-{}-{suffix}", place.name, action.word().to_lowercase());
    let spec = DataOperationSpec {
        target: Target { kind: sort.kind, name: place.name.clone() },
        action,
        instances: wish.instances,
        size: wish.size,
        member: wish.member,
        candidate: wish.candidate,
        version: wish.version,
        skip_backup: wish.skip_backup,
        accept_loss_since: wish.accept_loss_since,
        deadline_seconds: deadline,
        ttl_seconds_after_finished: a_week(),
        cancel: false,
    };
    let mut operation = DataOperation::new(&name, spec);
    operation.metadata.namespace = Some(place.namespace.clone());
    operation
}

#[cfg(test)]
mod tests {
    use super::super::pods::tests::pod;
    use super::super::{CACHE, DATABASE};
    use super::*;

    fn place() -> Place {
        Place { namespace: "hospital-anna".into(), name: "records".into() }
    }

    #[test]
    fn an_operation_is_named_after_its_target_and_what_is_done() {
        let wish = Wish { instances: Some(5), ..Wish::default() };
        let made = operation(&CACHE, &place(), Action::Scale, wish, 60, "x7k2p");
        assert_eq!(
            serde_json::to_value(&made).unwrap(),
            serde_json::json!({
                "apiVersion": "hz.hospital/v1alpha1",
                "kind": "DataOperation",
                "metadata": { "name": "records-scale-x7k2p", "namespace": "hospital-anna" },
                "spec": {
                    "target": { "kind": "CacheInstance", "name": "records" },
                    "action": "Scale",
                    "instances": 5,
                    "skipBackup": false,
                    "acceptLossSince": false,
                    "deadlineSeconds": 60,
                    "ttlSecondsAfterFinished": 604_800,
                    "cancel": false,
                },
            })
        );
    }

    #[test]
    fn a_suffix_is_five_letters_or_digits() {
        let suffix = random(5);
        assert!(suffix.len() == 5 && suffix.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit()));
    }

    #[test]
    fn a_size_has_a_unit_that_disks_have() {
        for good in ["20Gi", "500Mi", "1.5Gi", "20G"] {
            assert!(size(good).is_ok(), "{good}");
        }
        for bad in ["", "20GB", "-1Gi", "0", "250m", "much"] {
            assert!(size(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_switchover_leads_to_a_copy_that_is_there_and_not_the_primary() {
        let pods = [pod("records-0", Some("primary"), true), pod("records-1", Some("replica"), true)];
        let to = |name: &str| Wish { candidate: Some(name.into()), ..Wish::default() };
        assert!(check(&DATABASE, "records", &to("records-1"), &pods).is_ok());
        let primary = check(&DATABASE, "records", &to("records-0"), &pods).unwrap_err();
        assert_eq!(primary.message, "records-0 is the primary already");
        assert!(check(&DATABASE, "records", &to("records-7"), &pods).is_err());
    }
}
