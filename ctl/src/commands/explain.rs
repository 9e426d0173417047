//! `hzctl explain`: what a condition means and what to do, from the runbooks in this program. No cluster and no network.

use serde::Serialize;

use crate::cluster::nearest::nearest;
use crate::exit::{ExitStatus, Failure};
use crate::printer::Printer;

/// Arguments of `hzctl explain`.
#[derive(Debug, clap::Args)]
#[command(after_help = "The id stands at the end of a condition's message:\n  \
    kubectl get postgresinstances -A -o custom-columns=NAME:.metadata.name,SAID:.status.conditions[*].message")]
pub struct Args {
    /// Id of a runbook, such as HZ-PG-003; without one, all are listed
    #[arg(value_name = "ID")]
    id: Option<String>,
}

/// The pages of docs/runbooks.
const PAGES: [&str; 7] = [
    include_str!("../../../docs/runbooks/databases.md"),
    include_str!("../../../docs/runbooks/caches.md"),
    include_str!("../../../docs/runbooks/stores.md"),
    include_str!("../../../docs/runbooks/backups.md"),
    include_str!("../../../docs/runbooks/operations.md"),
    include_str!("../../../docs/runbooks/services.md"),
    include_str!("../../../docs/runbooks/everything.md"),
];

/// One runbook.
#[derive(Debug, Clone, Serialize)]
pub struct Runbook {
    /// Its id.
    pub id: &'static str,
    /// What it is about, in a sentence.
    pub title: &'static str,
    /// All of it, as Markdown.
    pub text: &'static str,
}

/// Every runbook, in the order of the pages.
pub fn all() -> Vec<Runbook> {
    let parts = PAGES.iter().flat_map(|page| page.split("\n## ").skip(1));
    parts
        .filter_map(|part| {
            let (id, rest) = part.split_once('\n')?;
            let (title, text) = rest.trim_start().split_once('\n')?;
            Some(Runbook { id, title, text: text.trim() })
        })
        .collect()
}

/// Run it.
pub async fn run(args: Args, printer: &mut Printer) -> Result<ExitStatus, Failure> {
    match args.id {
        None => printer.value(&all(), |all| list(all))?,
        Some(id) => printer.value(&find(&id)?, page)?,
    }
    Ok(ExitStatus::Success)
}

fn find(wanted: &str) -> Result<Runbook, Failure> {
    let all = all();
    if let Some(found) = all.iter().find(|runbook| runbook.id.eq_ignore_ascii_case(wanted.trim())) {
        return Ok(found.clone());
    }
    if wanted.to_uppercase().starts_with("HZ-PF") || wanted.to_uppercase().starts_with("HZ-HC") {
        return Err(Failure::input(format!("{wanted} is the id of a check, and has no runbook of its own"))
            .hint("docs/troubleshooting.md lists the checks; `hzctl check --list` prints them"));
    }
    let unknown = Failure::input(format!("there is no runbook {wanted}"));
    Err(match nearest(wanted, all.iter().map(|runbook| runbook.id)) {
        Some(near) => unknown.hint(format!("did you mean {near}? `hzctl explain` lists all")),
        None => unknown.hint("`hzctl explain` lists all"),
    })
}

fn list(all: &[Runbook]) -> String {
    let width = all.iter().map(|runbook| runbook.id.len()).max().unwrap_or_default();
    let lines: Vec<String> =
        all.iter().map(|runbook| format!("{:width$}  {}", runbook.id, runbook.title.trim_end_matches('.'))).collect();
    lines.join("\n")
}

/// As text for a terminal: headings stand out by their place, commands are indented, and a line is a line.
fn page(runbook: &Runbook) -> String {
    let mut lines = vec![format!("{}: {}", runbook.id, runbook.title)];
    let mut in_block = false;
    for line in runbook.text.lines() {
        if line.starts_with("```") {
            in_block = !in_block;
        } else if in_block {
            lines.push(format!("    {line}"));
        } else if let Some(heading) = line.strip_prefix("### ") {
            lines.push(heading.to_uppercase());
        } else {
            lines.push(line.replace("**", ""));
        }
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_id_that_a_condition_names_is_explained() {
        let ids: BTreeSet<&str> = all().iter().map(|runbook| runbook.id).collect();
        let named: BTreeSet<&str> = hz_crds::runbooks::TABLE.iter().map(|row| row.id).collect();
        assert_eq!(ids, named, "a page that is missing in PAGES, or an id without a row");
    }

    #[test]
    fn a_slip_finds_its_runbook_and_an_id_of_a_check_its_page() {
        assert_eq!(find("hz-pg-003").unwrap().id, "HZ-PG-003");
        let failure = find("HZ-PQ-003").unwrap_err();
        assert!(format!("{failure:?}").contains("HZ-PG-003"), "{failure:?}");
        assert!(format!("{:?}", find("HZ-PF-FSYNC").unwrap_err()).contains("troubleshooting"));
    }

    #[test]
    fn a_page_reads_well_on_a_terminal() {
        let told = page(&find("HZ-PG-002").unwrap());
        assert!(told.starts_with("HZ-PG-002: A database server is stopped"), "{told}");
        assert!(told.contains("\nWHAT STILL WORKS\n") && told.contains("\n    hzctl db list -n NAMESPACE\n"), "{told}");
        assert!(!told.contains("```") && !told.contains("###"), "{told}");
    }

    /// Whoever types what a runbook says at night must not be told that there is no such command.
    #[test]
    fn every_command_that_a_runbook_names_is_one_that_hzctl_takes() {
        let mut tried = 0;
        for runbook in all() {
            let (mut in_block, mut lines, mut prose) = (false, Vec::new(), String::new());
            for line in runbook.text.lines() {
                match line.starts_with("```") {
                    true => in_block = !in_block,
                    false if in_block => lines.push(line.trim().to_owned()),
                    false => prose.extend([line, " "]),
                }
            }
            let spans = prose.split('`').skip(1).step_by(2).map(|span| span.trim().to_owned());
            for command in spans.chain(lines).filter(|command| command.starts_with("hzctl ")) {
                // Names of new objects are checked, and those of a runbook are to be filled in.
                let command = command.replace(" NEW", " new");
                let words: Vec<&str> = command.split_whitespace().collect();
                let refused = crate::cli::command().try_get_matches_from(&words).err();
                let refused = refused.filter(|error| error.use_stderr());
                // `hzctl db list` alone names the command and not how it is called.
                let names = refused.as_ref().is_some_and(|_| exists(&words));
                assert!(refused.is_none() || names, "{}: `{command}`: {}", runbook.id, refused.unwrap());
                tried += 1;
            }
        }
        assert!(tried > 100, "{tried}");
    }

    /// The words are those of a command and nothing else.
    fn exists(words: &[&str]) -> bool {
        let root = crate::cli::command();
        let mut at = Some(&root);
        for word in &words[1..] {
            at = at.and_then(|command| command.find_subcommand(word));
        }
        at.is_some()
    }
}
