//! Never two that take writes. While something goes wrong, every copy of a database is asked all the time whether it is the
//! primary, and who says so is given a row to write; each by itself, over the socket in its own pod, from this machine, so that
//! neither the network nor the API server nor the host's own power stands between. What counts is an *acknowledged* write:
//! a primary that was given up may believe for a moment that it still is one, but nobody confirms what it is told then.

use std::{
    collections::BTreeMap,
    fs,
    io::Write,
    process::{Command, Stdio},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};

use super::writer::now;
use crate::{cluster::Cluster, limit::Stat};

/// Between two questions to one copy.
const PAUSE: Duration = Duration::from_millis(500);
/// User of PostgreSQL in the image.
const USER: &str = "10002";
const TABLE: &str = "hz_e2e_guard";
/// Who is no primary says so; who is says that first, and then whether the row was taken, and on which timeline. On standard
/// error, since that is not buffered: who waits for ever is ended, and what it said until then must be heard.
const ASK: &str = r"select pg_is_in_recovery() as replica \gset
\if :replica
\warn replica
\else
\warn primary
insert into hz_e2e_guard values (:'pod');
select substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8) as timeline \gset
\warn wrote :timeline
\endif
";
/// Where psql is in every image, whatever its version.
const PSQL: &str = "for b in /usr/lib/postgresql/*/bin; do PATH=$b:$PATH; done; exec psql -X -q -A -t -h /var/run/postgresql \
                    -U postgres -d postgres -v ON_ERROR_STOP=1 -v pod=guard -f -";

/// What a copy answered.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Answer {
    pod: String,
    /// Asked and heard, in milliseconds.
    begun: u64,
    ended: u64,
    /// It says that it is the primary.
    primary: bool,
    /// The timeline on which a row was acknowledged.
    wrote: Option<u32>,
}

/// Asks until it is dropped.
pub struct Guard {
    answers: Arc<Mutex<Vec<Answer>>>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Guard {
    /// Watch every copy that there can be of a database server.
    pub fn over(cluster: &Cluster<'_>, instance: &str) -> Result<Self> {
        let primary = cluster.pod_with_role(instance, "primary")?;
        let table = format!("drop table if exists {TABLE}; create table {TABLE} (pod text);");
        cluster.psql_in(&primary, &table).context("the guard's table could not be made")?;
        let (answers, stop) = (Arc::default(), Arc::new(AtomicBool::new(false)));
        let threads = (0..3)
            .map(|number| {
                let (pod, answers, stop) = (format!("{instance}-{number}"), Arc::clone(&answers), Arc::clone(&stop));
                std::thread::spawn(move || watch(&pod, &answers, &stop))
            })
            .collect();
        Ok(Self { answers, stop, threads })
    }

    /// Insist on one writable primary at a time since then, and on having looked. Says what was seen.
    pub fn check(&self, since: u64) -> Result<String> {
        let answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        let recent: Vec<Answer> = answers.iter().filter(|answer| answer.ended >= since).cloned().collect();
        drop(answers);
        one_at_a_time(&recent)?;
        let wrote = recent.iter().filter(|answer| answer.wrote.is_some()).count();
        ensure!(wrote >= 3, "the guard saw only {wrote} writes in {} answers: it proved nothing", recent.len());
        let mut seen = format!("never two writable primaries, asked {} times", recent.len());
        for (pod, long) in believed(&recent) {
            seen += &format!("; {pod} believed for {:.1} s that it still was one", long as f64 / 1000.0);
        }
        Ok(seen)
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// Each acknowledged row must be on a timeline that no later one had begun before it was asked for, and a timeline is one
/// copy's alone.
fn one_at_a_time(answers: &[Answer]) -> Result<()> {
    let mut owners: BTreeMap<u32, &str> = BTreeMap::new();
    let writes: Vec<(&Answer, u32)> = answers.iter().filter_map(|answer| Some((answer, answer.wrote?))).collect();
    for (write, timeline) in &writes {
        let owner = owners.entry(*timeline).or_insert(&write.pod);
        if *owner != write.pod {
            bail!("two writable primaries: {owner} and {} both acknowledged rows on timeline {timeline}", write.pod);
        }
        let newer = writes.iter().find(|(other, newer)| newer > timeline && other.ended < write.begun);
        if let Some((other, newer)) = newer {
            bail!(
                "two writable primaries: {} acknowledged a row on timeline {timeline}, asked {} ms after {} had acknowledged \
                 one on timeline {newer}",
                write.pod,
                write.begun - other.ended,
                other.pod
            );
        }
    }
    Ok(())
}

/// Who said that it is the primary after another had acknowledged rows, and for how long (ms).
fn believed(answers: &[Answer]) -> BTreeMap<&str, u64> {
    let mut found: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
    for answer in answers.iter().filter(|answer| answer.primary && answer.wrote.is_none()) {
        // Both have written since: it was given up in between, and has not been made one again.
        let others = answers.iter().filter(|other| other.pod != answer.pod && other.ended < answer.begun);
        let Some(newest) = others.filter_map(|other| other.wrote).max() else { continue };
        let own = answers.iter().filter(|own| own.pod == answer.pod && own.ended < answer.begun);
        if own.filter_map(|own| own.wrote).max().is_some_and(|own| own > newest) {
            continue;
        }
        let later = answers.iter().filter(|own| own.pod == answer.pod && own.begun > answer.ended);
        // A new primary says so before its first row is taken.
        if later.filter_map(|own| own.wrote).min().is_some_and(|next| next > newest) {
            continue;
        }
        let span = found.entry(&answer.pod).or_insert((answer.begun, answer.ended));
        span.1 = answer.ended;
    }
    found.into_iter().map(|(pod, (from, to))| (pod, to - from)).collect()
}

fn watch(pod: &str, answers: &Mutex<Vec<Answer>>, stop: &AtomicBool) {
    let mut known = None;
    while !stop.load(Ordering::Relaxed) {
        known = known.filter(|process| is_of(*process, pod)).or_else(|| postmaster(pod));
        if let Some(process) = known {
            let begun = now();
            let said = ask(process).unwrap_or_default();
            if let Some(answer) = read(pod, begun, now(), &said) {
                answers.lock().unwrap_or_else(PoisonError::into_inner).push(answer);
            }
        }
        std::thread::sleep(PAUSE);
    }
}

/// None if it said nothing: it is down, or hangs.
fn read(pod: &str, begun: u64, ended: u64, said: &str) -> Option<Answer> {
    let primary = said.lines().any(|line| line == "primary");
    if !primary && !said.lines().any(|line| line == "replica") {
        return None;
    }
    let wrote = said.lines().find_map(|line| u32::from_str_radix(line.strip_prefix("wrote ")?, 16).ok());
    // Taken with a warning that nobody else has it is not acknowledged.
    let wrote = wrote.filter(|_| !said.contains("canceling wait"));
    Some(Answer { pod: pod.to_owned(), begun, ended, primary, wrote })
}

fn ask(process: u32) -> Result<String> {
    let mut command = Command::new("timeout");
    command.args(["-k", "1", "3", "nsenter", "-t", &process.to_string(), "-m", "-S", USER, "-G", USER, "--"]);
    command
        .args(["sh", "-c", PSQL])
        .env_clear()
        .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().context("failed to start `timeout`")?;
    let mut pipe = child.stdin.take().context("no standard input")?;
    let _ = pipe.write_all(ASK.as_bytes());
    drop(pipe);
    let out = child.wait_with_output().context("failed to wait for psql")?;
    Ok(String::from_utf8_lossy(&out.stderr).into_owned())
}

/// The process of PostgreSQL in that pod that started the others, as this machine sees it: lab hosts hide nothing from it.
pub fn postmaster(pod: &str) -> Option<u32> {
    program(pod, "postgres")
}

/// The first process of a program in a pod.
pub fn program(pod: &str, name: &str) -> Option<u32> {
    let all = fs::read_dir("/proc").ok()?.flatten();
    let stat = |path: std::path::PathBuf| Stat::of(&fs::read_to_string(path.join("stat")).ok()?);
    let own = all.filter_map(|entry| stat(entry.path())).filter(|found| found.name == name);
    own.into_iter()
        .filter(|found| stat(format!("/proc/{}", found.parent).into()).is_none_or(|parent| parent.name != name))
        .map(|found| found.id)
        .find(|process| is_of(*process, pod))
}

/// Its host name is the pod's: by its variables, or, where a program has written its title over those (Valkey does), by the
/// file that every container has.
fn is_of(process: u32, pod: &str) -> bool {
    let wanted = format!("HOSTNAME={pod}");
    let variables = fs::read(format!("/proc/{process}/environ")).unwrap_or_default();
    let file = || fs::read_to_string(format!("/proc/{process}/root/etc/hostname")).unwrap_or_default();
    variables.split(|byte| *byte == 0).any(|variable| variable == wanted.as_bytes()) || file().trim() == pod
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(pod: &str, begun: u64, said: &str) -> Answer {
        read(pod, begun, begun + 50, said).unwrap()
    }

    #[test]
    fn what_a_copy_says_is_read_even_if_it_was_ended_in_the_midst() {
        assert_eq!(
            answer("a", 0, "replica\n"),
            Answer { pod: "a".into(), begun: 0, ended: 50, primary: false, wrote: None }
        );
        assert_eq!(answer("a", 0, "primary\nwrote 0000000A\n").wrote, Some(10));
        assert_eq!(answer("a", 0, "primary\n").wrote, None);
        let alone =
            "primary\nWARNING:  canceling wait for synchronous replication due to user request\nwrote 00000001\n";
        assert_eq!(answer("a", 0, alone).wrote, None);
        assert_eq!(read("a", 0, 1, "psql: error: connection failed"), None);
    }

    #[test]
    fn a_failover_is_two_primaries_one_after_the_other() {
        let (old, new) = ("primary\nwrote 00000001\n", "primary\nwrote 00000002\n");
        let seen = [answer("a", 0, old), answer("a", 300, old), answer("b", 5000, new), answer("a", 9000, "replica")];
        assert!(one_at_a_time(&seen).is_ok());
        assert!(believed(&seen).is_empty());
        // And back again.
        let back = [answer("a", 0, old), answer("b", 5000, new), answer("a", 9000, "primary\nwrote 00000003\n")];
        assert!(one_at_a_time(&back).is_ok());
    }

    #[test]
    fn a_row_on_an_old_timeline_after_one_on_a_new_one_is_two_primaries() {
        let (old, new) = ("primary\nwrote 00000001\n", "primary\nwrote 00000002\n");
        let seen = [answer("a", 0, old), answer("b", 5000, new), answer("a", 6000, old)];
        let said = one_at_a_time(&seen).unwrap_err().to_string();
        assert!(said.contains("two writable primaries: a acknowledged") && said.contains("950 ms after b"), "{said}");
        // One that was asked for before the other was there has just taken long.
        let mut slow = answer("a", 4000, old);
        slow.ended = 6000;
        assert!(one_at_a_time(&[answer("a", 0, old), answer("b", 5000, new), slow]).is_ok());
    }

    #[test]
    fn two_copies_on_one_timeline_are_two_primaries() {
        let old = "primary\nwrote 00000001\n";
        assert!(one_at_a_time(&[answer("a", 0, old), answer("b", 300, old)]).is_err());
    }

    #[test]
    fn who_believes_to_be_the_primary_and_gets_nothing_acknowledged_is_told_of() {
        let (old, new) = ("primary\nwrote 00000001\n", "primary\nwrote 00000002\n");
        let seen = [
            answer("a", 0, old),
            answer("b", 4000, "primary\n"),
            answer("b", 5000, new),
            answer("a", 9000, "primary\n"),
            answer("a", 10_000, "primary\n"),
            answer("a", 11_000, "replica\n"),
        ];
        assert!(one_at_a_time(&seen).is_ok());
        assert_eq!(believed(&seen), BTreeMap::from([("a", 1050)]));
    }

    #[test]
    fn a_program_is_found_by_the_host_name_in_its_variables() {
        let _turn = crate::limit::tests::TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let mut child = Command::new("sleep").arg("30").env("HOSTNAME", "e2e-guard-7").spawn().unwrap();
        let found = program("e2e-guard-7", "sleep");
        let _ = child.kill();
        let _ = child.wait();
        assert_eq!(found, Some(child.id()));
        assert_eq!(program("e2e-guard-8", "sleep"), None);
    }
}
