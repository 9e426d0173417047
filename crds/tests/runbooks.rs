//! Every reason that the code gives for a condition has a runbook, and every runbook is a page with all it needs.
#![allow(clippy::disallowed_methods, clippy::unwrap_used)] // files are what this test is about

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use hz_crds::runbooks::TABLE;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// Which kinds a folder or file of crds/src speaks of, and what their ids begin with. What is not named here speaks of
/// every kind.
const SPEAKS_OF: &[(&str, &[&str], &str)] = &[
    ("postgres/", &["PostgresInstance"], "HZ-PG"),
    ("cache/", &["CacheInstance"], "HZ-CACHE"),
    ("store/", &["ObjectStore"], "HZ-STORE"),
    ("service/", &["MedicalService"], "HZ-SVC"),
    ("hospital/", &["Hospital"], "HZ-HOSP"),
    ("operation/", &["DataOperation"], "HZ-OP"),
    ("backup/plan_status.rs", &["BackupPlan", "Backup"], "HZ-BAK"),
    ("backup/restore.rs", &["Restore"], "HZ-RST"),
    ("backup/drill.rs", &["RestoreDrill"], "HZ-DRILL"),
    ("backup/", &["BackupPlan", "Backup", "Restore", "RestoreDrill"], "HZ-BAK"),
    ("shared.rs", &["PostgresInstance", "CacheInstance"], "HZ-PG"),
];

/// Words that begin a reason that is not well, in the sources.
const BEGINNINGS: &[&str] = &[
    "Verdict::no(",
    "Verdict::unknown(",
    "Decision::of(Phase::Failed,",
    "Decision::of(Phase::Pending,",
    "Decision::of(Phase::Running,",
    "Decision::of(Phase::Cancelled,",
    "Self::of(Phase::Failed,",
];

/// Where a reason comes from a variable, whose values are found by another of [`BEGINNINGS`].
const FORWARDS: &[(&str, &str)] =
    &[("conditions.rs", "unfit.reason()"), ("operation/status.rs", "decision.reason"), ("postgres/room.rs", "reason")];

/// Reasons given in words that are not next to one of [`BEGINNINGS`]: file, word, kinds.
const ELSEWHERE: &[(&str, &str, &str)] = &[
    ("unfit.rs", "\"Unfit\"", "*"),
    ("unfit.rs", "\"Waiting\"", "*"),
    ("unfit.rs", "\"NameTaken\"", "*"),
    ("../../operator/src/engine/report.rs", "\"Malformed\"", "*"),
    ("postgres/room.rs", "\"Full\"", "PostgresInstance"),
    ("postgres/room.rs", "\"NearlyFull\"", "PostgresInstance"),
    ("postgres/status.rs", "\"WritesWait\"", "PostgresInstance"),
];

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        match path.is_dir() {
            true => sources(&path, found),
            false if name.ends_with(".rs") && !name.ends_with("tests.rs") && name != "runbooks.rs" => found.push(path),
            false => {}
        }
    }
}

/// The code of a file without its tests.
fn code(path: &Path) -> String {
    let text = std::fs::read_to_string(path).unwrap();
    let end = text.find("#[cfg(test)]\nmod tests").unwrap_or(text.len());
    text[..end].to_owned()
}

fn kinds(file: &str) -> (Vec<&'static str>, &'static str) {
    let found = SPEAKS_OF.iter().find(|(start, ..)| file.starts_with(start));
    found.map_or_else(|| (vec!["*"], "HZ-ANY"), |(_, kinds, prefix)| (kinds.to_vec(), prefix))
}

fn next_id(prefix: &str) -> String {
    let number = |id: &str| id.strip_prefix(prefix)?.strip_prefix('-')?.parse::<u32>().ok();
    let last = TABLE.iter().filter_map(|row| number(row.id)).max().unwrap_or_default();
    format!("{prefix}-{:03}", last + 1)
}

#[test]
fn every_reason_that_the_code_gives_has_a_runbook() {
    let base = root().join("crds/src");
    let mut files = Vec::new();
    sources(&base, &mut files);
    files.sort();
    let (mut missing, mut seen) = (BTreeSet::new(), 0);
    for path in files {
        let file = path.strip_prefix(&base).unwrap().to_string_lossy().into_owned();
        let text = code(&path);
        for beginning in BEGINNINGS {
            for rest in text.split(beginning).skip(1) {
                let rest = rest.trim_start();
                let Some(reason) = rest.strip_prefix('"').and_then(|rest| rest.split('"').next()) else {
                    let word: String = rest.chars().take_while(|c| !",)".contains(*c) || *c == ')').take(40).collect();
                    let forwarded = FORWARDS.iter().any(|(of, start)| *of == file && rest.starts_with(start));
                    let parameter = rest.starts_with("reason: &'static str");
                    assert!(
                        forwarded || parameter,
                        "crds/src/{file}: the reason of `{beginning}{word}` is no literal: write it as one, so that its \
                         runbook can be found, or name it in FORWARDS and its values in ELSEWHERE of crds/tests/runbooks.rs"
                    );
                    continue;
                };
                seen += 1;
                let (kinds, prefix) = kinds(&file);
                let known =
                    TABLE.iter().any(|row| row.reason == reason && (kinds.contains(&row.kind) || row.kind == "*"));
                if !known {
                    missing.insert((file.clone(), kinds[0], reason.to_owned(), prefix));
                }
            }
        }
    }
    assert!(seen > 60, "{seen} reasons found: BEGINNINGS does not fit the code any more");
    let lines: Vec<String> = missing
        .iter()
        .map(|(file, kind, reason, prefix)| {
            let (id, page) = (next_id(prefix), page_of(prefix));
            format!(
                "crds/src/{file} gives the reason {reason}, which has no runbook.\n  \
                 Add to TABLE in crds/src/runbooks.rs (with the type of the condition; each new id one higher):\n    \
                 row(\"{kind}\", \"Ready\", \"{reason}\", \"{id}\"),\n  \
                 and to docs/runbooks/{page}:\n    ## {id}\n    (a title, and the sections {SECTIONS:?} as `###`)"
            )
        })
        .collect();
    assert!(lines.is_empty(), "\n{}\n", lines.join("\n"));
}

#[test]
fn reasons_that_are_given_elsewhere_are_still_given_and_have_runbooks() {
    for (file, word, kind) in ELSEWHERE {
        let path = root().join("crds/src").join(file);
        assert!(code(&path).contains(word), "{} gives {word} no more: take it out of ELSEWHERE", path.display());
        let reason = word.trim_matches('"');
        assert!(TABLE.iter().any(|row| row.kind == *kind && row.reason == reason), "{kind} {reason}");
    }
}

/// The other way round: a row that nothing gives any more would be a runbook that nobody is sent to.
#[test]
fn every_row_is_of_a_reason_that_the_code_gives() {
    let mut files = Vec::new();
    sources(&root().join("crds/src"), &mut files);
    let mut all: String = files.iter().map(|file| code(file)).collect();
    all.push_str(&code(&root().join("operator/src/engine/report.rs")));
    for row in TABLE {
        assert!(
            all.contains(&format!("\"{}\"", row.reason)),
            "nothing gives {} {} {}",
            row.kind,
            row.type_,
            row.reason
        );
        let type_ = format!("\"{}\"", row.type_);
        assert!(all.contains(&type_), "no condition is called {}", row.type_);
    }
}

const SECTIONS: [&str; 5] = ["What it means", "What still works", "Look", "Do", "Call for help"];

fn page_of(prefix: &str) -> &'static str {
    match prefix {
        "HZ-PG" => "databases.md",
        "HZ-CACHE" => "caches.md",
        "HZ-STORE" => "stores.md",
        "HZ-BAK" | "HZ-RST" | "HZ-DRILL" => "backups.md",
        "HZ-OP" => "operations.md",
        "HZ-SVC" | "HZ-HOSP" => "services.md",
        _ => "everything.md",
    }
}

/// Text of each runbook by its id.
fn pages() -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(root().join("docs/runbooks")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let text = std::fs::read_to_string(&path).unwrap();
        for part in text.split("\n## ").skip(1) {
            let (id, body) = part.split_once('\n').unwrap();
            let prefix = id.rsplit_once('-').unwrap().0;
            assert_eq!(page_of(prefix), name, "{id} is on the wrong page");
            assert!(found.insert(id.to_owned(), body.to_owned()).is_none(), "{id} is there twice");
        }
    }
    found
}

#[test]
fn every_runbook_says_what_it_means_what_works_and_what_to_do() {
    for (id, body) in pages() {
        let title = body.trim_start().lines().next().unwrap();
        assert!(title.len() > 10 && !title.starts_with('#'), "{id} has no title in the line below its id");
        let mut from = 0;
        for section in SECTIONS {
            let heading = format!("\n### {section}\n");
            let at =
                body[from..].find(&heading).unwrap_or_else(|| panic!("{id} has no section `{section}` in its place"));
            from += at + heading.len();
            let text = body[from..].split("\n### ").next().unwrap().trim();
            assert!(text.len() >= 10, "{id} says nothing under `{section}`");
        }
        let look = body.split("\n### Look\n").nth(1).unwrap().split("\n### ").next().unwrap();
        assert!(look.contains("```\n"), "{id}: `Look` names no command in a block");
    }
}

#[test]
fn every_id_has_a_runbook_and_every_runbook_an_id() {
    let linked: BTreeSet<String> = TABLE.iter().map(|row| row.id.to_owned()).collect();
    let written: BTreeSet<String> = pages().into_keys().collect();
    let unwritten: Vec<_> = linked.difference(&written).collect();
    assert!(unwritten.is_empty(), "no page in docs/runbooks has {unwritten:?}");
    let unlinked: Vec<_> = written.difference(&linked).collect();
    assert!(unlinked.is_empty(), "no condition leads to {unlinked:?}: add a row in crds/src/runbooks.rs");
}
