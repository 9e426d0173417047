//! How long something may take as a whole, whatever it is waiting for. Every wait of ours looks here, and programs that
//! were started and do not come back are ended, so that a run always gets to its end and says where it stood.

use std::{
    collections::BTreeSet,
    fs,
    process::Command,
    sync::{
        Mutex, MutexGuard, PoisonError,
        mpsc::{RecvTimeoutError, channel},
    },
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Result, anyhow, bail};

/// What a journey may still do after its end to leave things as they were.
const GRACE: Duration = Duration::from_secs(180);
/// Between asking programs to end and ending them.
const PATIENCE: Duration = Duration::from_secs(5);
/// Programs that were started after that are asked to end in turn.
const AGAIN: Duration = Duration::from_secs(60);

static NOW: Mutex<Option<Watch>> = Mutex::new(None);

/// What is under way.
#[derive(Clone, Debug)]
struct Watch {
    begun: Instant,
    limit: Duration,
    /// What it said last of where it is.
    part: String,
    /// What it waited for last.
    wait: String,
}

impl Watch {
    fn new(begun: Instant, limit: Duration) -> Self {
        Self { begun, limit, part: String::new(), wait: String::new() }
    }

    fn is_over(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.begun) >= self.limit
    }

    fn place(&self) -> String {
        match (self.part.as_str(), self.wait.as_str()) {
            ("", "") => "it had not said what it does".to_owned(),
            ("", wait) => format!("it waited for {wait}"),
            (part, "") => format!("it was at `{part}`"),
            (part, wait) => format!("it was at `{part}`, and waited last for {wait}"),
        }
    }
}

fn now() -> MutexGuard<'static, Option<Watch>> {
    NOW.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Say which part of a journey begins.
pub fn part(what: &str) {
    if let Some(watch) = now().as_mut() {
        watch.part = what.to_owned();
        watch.wait.clear();
    }
}

/// Say what is waited for.
pub fn waits_for(what: &str) {
    if let Some(watch) = now().as_mut() {
        watch.wait = what.to_owned();
    }
}

/// Has the whole taken too long?
pub fn is_over() -> bool {
    now().as_ref().is_some_and(|watch| watch.is_over(Instant::now()))
}

/// Let time pass, if time itself is what is tested.
pub fn pause(long: Duration) -> Result<()> {
    let start = Instant::now();
    while start.elapsed() < long {
        if is_over() {
            bail!("the time of the whole was over in a pause of {} s", long.as_secs());
        }
        sleep(Duration::from_millis(100).min(long.saturating_sub(start.elapsed())));
    }
    Ok(())
}

/// How something under a limit went wrong.
#[derive(Debug)]
pub enum Failure {
    /// It failed, or its time was over and it ended.
    Failed(anyhow::Error),
    /// It did not end, and still does what it does.
    Stuck(anyhow::Error),
}

/// Do it within a limit. When that is over, waits give up and programs are ended; what then still does not end is left
/// alone, and told.
pub fn within<T: Send + 'static>(
    limit: Duration,
    act: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T, Failure> {
    let watch = Watch::new(Instant::now(), limit);
    *now() = Some(watch.clone());
    let (send, receive) = channel();
    let thread = std::thread::spawn(move || {
        let _ = send.send(act());
    });
    let mut ender = Ender::default();
    let end = loop {
        match receive.recv_timeout(Duration::from_millis(500)) {
            Ok(end) => break end,
            Err(RecvTimeoutError::Disconnected) => {
                let _ = thread.join();
                break Err(anyhow!("it panicked; see above"));
            }
            Err(RecvTimeoutError::Timeout) if !watch.is_over(Instant::now()) => {}
            Err(RecvTimeoutError::Timeout) => {
                let late = watch.begun.elapsed().saturating_sub(limit);
                if late > GRACE {
                    return Err(Failure::Stuck(over(limit)));
                }
                ender.look(late);
            }
        }
    };
    let over = is_over().then(|| over(limit));
    *now() = None;
    match (end, over) {
        (Ok(done), _) => Ok(done),
        (Err(cause), Some(over)) => Err(Failure::Failed(cause.context(over.to_string()))),
        (Err(cause), None) => Err(Failure::Failed(cause)),
    }
}

fn over(limit: Duration) -> anyhow::Error {
    let place = now().as_ref().map(Watch::place).unwrap_or_default();
    anyhow!("its {:.0} minutes were over: {place}", limit.as_secs_f64() / 60.0)
}

/// Ends programs that we started and that do not come back.
#[derive(Default)]
struct Ender {
    asked: BTreeSet<u32>,
    asked_at: Option<Duration>,
}

impl Ender {
    fn look(&mut self, late: Duration) {
        match self.asked_at {
            Some(at) if late < at + PATIENCE => {}
            Some(at) if late < at + AGAIN => {
                let left: BTreeSet<u32> = children().intersection(&self.asked).copied().collect();
                signal("-KILL", &left);
                self.asked.clear();
            }
            _ => {
                self.asked = children();
                signal("-TERM", &self.asked);
                self.asked_at = Some(late);
            }
        }
    }
}

fn signal(name: &str, processes: &BTreeSet<u32>) {
    for process in processes {
        let _ = Command::new("kill").args([name, &process.to_string()]).status();
    }
}

/// Programs that this one started, but for the lab's daemon, without which nothing could be put right.
fn children() -> BTreeSet<u32> {
    let own = std::process::id();
    let all = fs::read_dir("/proc").into_iter().flatten().flatten();
    let stats = all.filter_map(|entry| fs::read_to_string(entry.path().join("stat")).ok());
    let parsed = stats.filter_map(|stat| {
        let stat = Stat::of(&stat)?;
        (stat.parent == own && stat.name != "dockerd").then_some(stat.id)
    });
    parsed.collect()
}

/// The beginning of /proc/PID/stat.
#[derive(Debug, PartialEq, Eq)]
pub struct Stat {
    /// The process.
    pub id: u32,
    /// Its program.
    pub name: String,
    /// Who started it.
    pub parent: u32,
}

impl Stat {
    /// `id (name) state parent …`; a name may have blanks and brackets in it.
    pub fn of(text: &str) -> Option<Self> {
        let (id, rest) = text.split_once(" (")?;
        let (name, rest) = rest.rsplit_once(") ")?;
        let parent = rest.split(' ').nth(1)?.parse().ok()?;
        Some(Self { id: id.parse().ok()?, name: name.to_owned(), parent })
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// One after the other: there is one clock, and it ends whatever program was started.
    pub(crate) static TURN: Mutex<()> = Mutex::new(());

    #[test]
    fn what_ends_in_time_gives_what_it_found() {
        let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        assert_eq!(within(Duration::from_secs(60), || Ok(7)).unwrap(), 7);
        let Err(Failure::Failed(cause)) = within::<()>(Duration::from_secs(60), || bail!("no")) else { panic!() };
        assert_eq!(format!("{cause:#}"), "no");
    }

    #[test]
    fn a_wait_that_is_too_long_for_the_whole_names_where_it_stood() {
        let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let act = || {
            part("the second half");
            waits_for("rain");
            pause(Duration::from_secs(600))
        };
        let Err(Failure::Failed(cause)) = within(Duration::from_millis(200), act) else { panic!() };
        let said = format!("{cause:#}");
        assert!(said.contains("at `the second half`, and waited last for rain"), "{said}");
    }

    #[test]
    fn a_program_that_does_not_come_back_is_ended() {
        let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let start = Instant::now();
        let act = || crate::run::output(&mut crate::run::cmd("sleep", ["600"])).map(drop);
        let Err(Failure::Failed(cause)) = within(Duration::from_millis(200), act) else { panic!() };
        assert!(start.elapsed() < Duration::from_secs(60));
        assert!(format!("{cause:#}").contains("`sleep 600` failed"), "{cause:#}");
    }

    #[test]
    fn a_panic_is_a_failure() {
        let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let end = within::<()>(Duration::from_secs(60), || panic!("on purpose"));
        assert!(matches!(end, Err(Failure::Failed(_))));
    }

    #[test]
    fn a_process_is_read_whatever_its_name_is() {
        let stat = Stat::of("25029 (a (b) c) S 17 25029 0").unwrap();
        assert_eq!(stat, Stat { id: 25029, name: "a (b) c".into(), parent: 17 });
        assert!(Stat::of("nonsense").is_none());
    }
}
