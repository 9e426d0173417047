//! From state to lines: pure, so that tests can look at every width.

use std::time::Duration;

use super::state::{Host, Now, State};
use super::{CLUSTER, Event};

/// How lines look.
#[derive(Clone, Copy, Debug)]
pub struct Look {
    /// With colours.
    pub colour: bool,
    /// With signs beyond ASCII.
    pub unicode: bool,
}

impl Look {
    /// As this process's terminal can show.
    pub fn of_terminal(colour: bool) -> Self {
        let locale = ["LC_ALL", "LC_CTYPE", "LANG"]
            .into_iter()
            .find_map(|name| std::env::var(name).ok().filter(|value| !value.is_empty()));
        let unicode = locale.is_some_and(|locale| {
            let locale = locale.to_lowercase();
            locale.contains("utf-8") || locale.contains("utf8")
        });
        Look { colour, unicode }
    }

    pub(super) fn paint(&self, code: &str, text: &str) -> String {
        if self.colour { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
    }

    pub(super) fn mark(&self, now: Now, at: Duration) -> String {
        let spinner = if self.unicode {
            ["⠋", "⠙", "⠹", "⠸", "⠼", "⠴", "⠦", "⠧"]
        } else {
            ["|", "/", "-", "\\", "|", "/", "-", "\\"]
        };
        let pick = |unicode: &'static str, ascii: &'static str| if self.unicode { unicode } else { ascii };
        match now {
            Now::Waiting => self.paint("2", pick("·", ".")),
            Now::Running => self.paint("36", spinner[(at.as_millis() / 120 % 8) as usize]),
            Now::Between => self.paint("2", pick("·", ".")),
            Now::Done => self.paint("32", pick("✓", "+")),
            Now::Failed => self.paint("1;31", pick("✗", "x")),
            Now::Stopped => self.paint("33", pick("■", "#")),
        }
    }
}

/// The live lines: one a host, then the bar. Never wider than the terminal, never higher.
pub fn render(state: &State, at: Duration, width: usize, height: usize, look: &Look) -> Vec<String> {
    // One column stays free: some terminals wrap a line that fills the last.
    let width = width.saturating_sub(1).max(10);
    let (shown, hidden) = fitting(state, height.saturating_sub(2).max(1));
    let longest = shown.iter().map(|host| host.name.chars().count()).max().unwrap_or(0);
    let names = longest.min(width / 3);
    let mut lines: Vec<String> = shown.iter().map(|host| host_line(host, at, width, names, look)).collect();
    if hidden > 0 {
        lines.push(fit(&format!("  and {hidden} more hosts"), width));
    }
    lines.push(bar(state, at, width, look));
    lines
}

/// All hosts if there is room; else those that have something to tell first, in the order of the plan.
fn fitting(state: &State, room: usize) -> (Vec<&Host>, usize) {
    if state.hosts.len() <= room {
        return (state.hosts.iter().collect(), 0);
    }
    let rank = |host: &Host| match host.now {
        Now::Failed => 0,
        Now::Running => 1,
        Now::Stopped => 2,
        Now::Between => 3,
        Now::Waiting => 4,
        Now::Done => 5,
    };
    let mut order: Vec<usize> = (0..state.hosts.len()).collect();
    order.sort_by_key(|index| rank(&state.hosts[*index]));
    let mut kept: Vec<usize> = order.into_iter().take(room.saturating_sub(1).max(1)).collect();
    kept.sort_unstable();
    let hidden = state.hosts.len() - kept.len();
    (kept.into_iter().map(|index| &state.hosts[index]).collect(), hidden)
}

fn host_line(host: &Host, at: Duration, width: usize, names: usize, look: &Look) -> String {
    let elapsed = match host.now {
        Now::Running => short(at.saturating_sub(host.since)),
        Now::Done | Now::Between | Now::Failed => short(host.took),
        Now::Waiting | Now::Stopped => String::new(),
    };
    // mark, space, name, two spaces, text, two spaces, elapsed
    let fixed = 2 + names + 2;
    let room = width.saturating_sub(fixed + 2 + elapsed.len().max(6));
    if room < 8 {
        let narrow = fit(&format!("{} {}", host.name, host.step), width.saturating_sub(2));
        return format!("{} {narrow}", look.mark(host.now, at));
    }
    let (long, brief) = what(host);
    let text = pad(&fit(if long.chars().count() <= room { &long } else { &brief }, room), room);
    let text = match host.now {
        Now::Failed => look.paint("31", &text),
        Now::Waiting | Now::Between => look.paint("2", &text),
        _ => text,
    };
    let name = pad(&fit(&host.name, names), names);
    format!("{} {name}  {text}  {elapsed:>6}", look.mark(host.now, at)).trim_end().to_owned()
}

/// What it is at, and the same without the phase, for narrow terminals.
fn what(host: &Host) -> (String, String) {
    let brief = sentence(host, &host.step);
    if host.phase.is_empty() || host.phase == host.step {
        return (brief.clone(), brief);
    }
    (sentence(host, &format!("{}: {}", host.phase, host.step)), brief)
}

fn sentence(host: &Host, step: &str) -> String {
    match (host.now, &host.cause) {
        (Now::Waiting, _) => "waiting".to_owned(),
        (Now::Between, _) => format!("{step} done, waiting"),
        (Now::Done, _) => "done".to_owned(),
        (Now::Stopped, _) => format!("{step} stopped"),
        (Now::Failed, Some(cause)) => format!("{step}: {}", one_line(cause)),
        (Now::Failed, None) => format!("{step} failed"),
        (Now::Running, Some(cause)) => format!("{step}, again: {}", one_line(cause)),
        (Now::Running, None) => match (host.fraction, host.bytes) {
            (Some(fraction), Some(bytes)) => {
                format!("{step}  {:.0} %  {}", fraction * 100.0, size(bytes))
            }
            (Some(fraction), None) => format!("{step}  {:.0} %", fraction * 100.0),
            (None, Some(bytes)) => format!("{step}  {}", size(bytes)),
            (None, None) => step.to_owned(),
        },
    }
}

fn bar(state: &State, at: Duration, width: usize, look: &Look) -> String {
    let fraction = state.fraction(at);
    let left = state.left(at);
    // To the second only when the end is near: a number that jumps is worse than a rough one.
    let grain = if left > Duration::from_secs(90) { 10 } else { 1 };
    let left = Duration::from_secs(left.as_secs_f64().ceil() as u64).as_secs().div_ceil(grain) * grain;
    let left = if left < 60 { format!("{left}s") } else { short(Duration::from_secs(left)) };
    let percent = format!("{:3.0} %", (fraction * 100.0).min(99.0_f64.max(fraction.floor() * 100.0)));
    let words = [format!("{percent}  {}  about {left} left", short(at)), format!("{percent}  {left} left"), percent];
    let fits = words.iter().find(|words| words.len() + 12 <= width).unwrap_or(&words[2]);
    let room = width.saturating_sub(fits.len() + 2).min(50);
    if room < 4 {
        return fit(fits, width);
    }
    format!("{}  {fits}", blocks(fraction, room, look))
}

/// A bar of this many columns.
pub(super) fn blocks(fraction: f64, room: usize, look: &Look) -> String {
    let full = (fraction.clamp(0.0, 1.0) * room as f64).floor() as usize;
    let (on, off) = if look.unicode { ("█", "░") } else { ("#", ".") };
    format!("{}{}", look.paint("32", &on.repeat(full)), look.paint("2", &off.repeat(room - full)))
}

/// The line an event leaves behind for good, if any.
pub(super) fn lasting(event: &Event, look: &Look) -> Option<String> {
    let at = Duration::ZERO;
    match event {
        Event::PhaseFinished { phase, took } => {
            let took = Duration::try_from_secs_f64(*took).unwrap_or_default();
            Some(format!("{} {phase} {}", look.mark(Now::Done, at), look.paint("2", &format!("({})", short(took)))))
        }
        Event::StepFailed { host, phase, step, cause, .. } => {
            let whose = if host == CLUSTER { String::new() } else { format!("{host}: ") };
            Some(format!("{} {whose}{phase}: {step} failed: {cause}", look.mark(Now::Failed, at)))
        }
        Event::Note { text } => Some(text.clone()),
        _ => None,
    }
}

/// A time as people say it: `0.4s`, `12s`, `3m 05s`, `1h 02m`.
pub fn short(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0..10 => format!("{:.1}s", (time.as_secs_f64() * 10.0).floor() / 10.0),
        10..60 => format!("{seconds}s"),
        60..3600 => format!("{}m {:02}s", seconds / 60, seconds % 60),
        _ => format!("{}h {:02}m", seconds / 3600, seconds / 60 % 60),
    }
}

fn size(bytes: u64) -> String {
    match bytes {
        0..1_000 => format!("{bytes} B"),
        1_000..1_000_000 => format!("{:.0} kB", bytes as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.0} MB", bytes as f64 / 1e6),
        _ => format!("{:.1} GB", bytes as f64 / 1e9),
    }
}

pub(super) fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Text in at most this many columns. Our words are of one column a character.
pub(super) fn fit(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let mut cut: String = text.chars().take(width.saturating_sub(1)).collect();
    cut.push('…');
    cut
}

fn pad(text: &str, width: usize) -> String {
    format!("{text:<width$}")
}
