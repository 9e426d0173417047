//! Settings of Valkey: those a hospital may choose, and those that follow from what it ordered. All of them can be
//! changed while servers run.

use std::collections::BTreeMap;

use super::{CacheInstanceSpec, Persistence};
use crate::Unfit;

/// What a setting takes.
enum Takes {
    /// Whole numbers from the first to the second.
    Number(i64, i64),
    /// One of these words.
    Word(&'static [&'static str]),
    /// Letters of events that are told to subscribers.
    Events,
}

use Takes::{Events, Number, Word};

const SWITCH: Takes = Word(&["no", "yes"]);
/// Letters for events of one sort each; `A` stands for all of them.
const SORTS: &str = "g$lshzxetd";

/// Settings that may be chosen, and what they are when they are not. A list of what is allowed, not of what is not: a
/// setting that names a file or a program would be a way out, and one the sentinels rely on would break failover.
const ALLOWED: [(&str, &str, Takes); 26] = [
    ("active-expire-effort", "1", Number(1, 10)),
    ("appendfsync", "everysec", Word(&["everysec", "always"])),
    ("auto-aof-rewrite-percentage", "100", Number(0, 1000)),
    ("busy-reply-threshold", "5000", Number(0, 60_000)),
    ("hash-max-listpack-entries", "512", Number(0, 100_000)),
    ("hash-max-listpack-value", "64", Number(0, 100_000)),
    ("latency-monitor-threshold", "0", Number(0, 3_600_000)),
    ("lazyfree-lazy-eviction", "yes", SWITCH),
    ("lazyfree-lazy-expire", "yes", SWITCH),
    ("lazyfree-lazy-server-del", "yes", SWITCH),
    ("lazyfree-lazy-user-del", "yes", SWITCH),
    ("lfu-decay-time", "1", Number(0, 1440)),
    ("lfu-log-factor", "10", Number(0, 100)),
    ("list-compress-depth", "0", Number(0, 1000)),
    ("list-max-listpack-size", "-2", Number(-5, 100_000)),
    ("maxmemory-eviction-tenacity", "10", Number(0, 100)),
    ("maxmemory-samples", "5", Number(1, 64)),
    ("notify-keyspace-events", "", Events),
    ("set-max-intset-entries", "512", Number(0, 100_000)),
    ("slowlog-log-slower-than", "10000", Number(-1, 3_600_000_000)),
    ("slowlog-max-len", "128", Number(0, 10_000)),
    ("stream-node-max-entries", "100", Number(0, 100_000)),
    ("tcp-keepalive", "15", Number(0, 7200)),
    ("timeout", "0", Number(0, 604_800)),
    ("zset-max-listpack-entries", "128", Number(0, 100_000)),
    ("zset-max-listpack-value", "64", Number(0, 100_000)),
];

/// Settings that follow from fields of the spec.
const ELSEWHERE: [(&str, &str); 11] = [
    ("aclfile", "spec.users"),
    ("appendonly", "spec.persistence"),
    ("maxmemory", "spec.memory"),
    ("maxmemory-policy", "spec.eviction"),
    ("min-replicas-to-write", "spec.minReplicasToWrite"),
    ("min-slaves-to-write", "spec.minReplicasToWrite"),
    ("requirepass", "spec.credentialsGeneration"),
    ("save", "spec.persistence"),
    ("tls-auth-clients", "spec.tls"),
    ("tls-port", "spec.tls"),
    ("user", "spec.users"),
];

/// Settings that may change while a server runs: what was chosen, and what follows from the spec. Values are as the
/// server itself prints them, so that a difference is one.
pub fn live(spec: &CacheInstanceSpec) -> Result<BTreeMap<String, String>, Unfit> {
    let mut all: BTreeMap<String, String> =
        ALLOWED.iter().map(|(name, value, _)| ((*name).to_owned(), (*value).to_owned())).collect();
    for (name, value) in &spec.parameters {
        all.insert(name.clone(), fitting(name, value)?);
    }
    let (save, append) = match spec.persistence {
        Persistence::None => ("", "no"),
        Persistence::Snapshot => ("900 1 300 10 60 1000", "no"),
        Persistence::AppendOnly => ("", "yes"),
    };
    let memory = spec.memory.units().unwrap_or_default();
    let derived = [
        ("appendonly", append.to_owned()),
        (MEMORY, memory.to_string()),
        ("maxmemory-policy", spec.eviction.word().to_owned()),
        ("min-replicas-to-write", spec.min_replicas_to_write.to_string()),
        ("save", save.to_owned()),
    ];
    all.extend(derived.map(|(name, value)| (name.to_owned(), value)));
    Ok(all)
}

/// Room for data. More of it needs a larger pod first.
pub const MEMORY: &str = "maxmemory";

/// The settings as lines of a configuration.
pub(super) fn lines(settings: &BTreeMap<String, String>) -> String {
    settings.iter().map(|(name, value)| format!("{name} {}\n", quoted(value))).collect()
}

/// What is empty is written as such; several words are several arguments.
fn quoted(value: &str) -> &str {
    if value.is_empty() { "\"\"" } else { value }
}

fn fitting(name: &str, value: &str) -> Result<String, Unfit> {
    let field = format!("spec.parameters.{name}");
    let Some((_, _, takes)) = ALLOWED.iter().find(|(known, _, _)| *known == name) else {
        let possible = match ELSEWHERE.iter().find(|(known, _)| *known == name) {
            Some((_, place)) => format!("it follows from {place}: change that"),
            None => nearest(name).map_or_else(|| "leave it out".to_owned(), |near| format!("did you mean {near}?")),
        };
        let problem = "this setting is not known, or it is the platform's to choose";
        return Err(Unfit::refused(field, value, problem, possible));
    };
    match takes {
        Number(least, most) => match value.parse::<i64>() {
            Ok(number) if (*least..=*most).contains(&number) => Ok(number.to_string()),
            _ => Err(Unfit::refused(field, value, "it takes a whole number", format!("possible: {least} to {most}"))),
        },
        Word(words) if words.contains(&value) => Ok(value.to_owned()),
        Word(words) => Err(Unfit::refused(field, value, "it takes a word", format!("possible: {}", words.join(", ")))),
        Events => events(value).ok_or_else(|| {
            let possible = format!("possible: K or E or both, with A or some of {SORTS}, and m");
            Unfit::refused(field, value, "it takes letters for events", possible)
        }),
    }
}

/// The letters in the server's own order; without `K` or `E` nobody would hear of anything.
fn events(value: &str) -> Option<String> {
    if !value.chars().all(|letter| "AKEm".contains(letter) || SORTS.contains(letter)) {
        return None;
    }
    if value.is_empty() {
        return Some(String::new());
    }
    if !value.contains(['K', 'E']) {
        return None;
    }
    let all = value.contains('A') || SORTS.chars().all(|letter| value.contains(letter));
    let sorts: String = if all { "A".into() } else { SORTS.chars().filter(|letter| value.contains(*letter)).collect() };
    let scope: String = "KEm".chars().filter(|letter| value.contains(*letter)).collect();
    Some(sorts + &scope)
}

fn nearest(name: &str) -> Option<&'static str> {
    let by_distance = |known: &&str| strsim::damerau_levenshtein(name, known);
    let names = ALLOWED.iter().map(|(name, _, _)| *name);
    names.min_by_key(by_distance).filter(|near| by_distance(near) <= name.len() / 3)
}
