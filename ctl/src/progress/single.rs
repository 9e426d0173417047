//! One piece of work that is done elsewhere, on one line. Pure, so that tests can look at every width.

use std::time::Duration;

use super::render::{Look, blocks, fit, one_line, short};
use super::state::Now;

/// Columns of the bar.
const BAR: usize = 12;

/// What is known of it.
#[derive(Clone, Copy, Debug)]
pub struct Single<'a> {
    /// Whether it moves, or waits for something.
    pub moving: bool,
    /// How far it is, in a word.
    pub word: &'a str,
    /// Parts done, of all.
    pub parts: Option<(u32, u32)>,
    /// What is being done.
    pub message: &'a str,
}

/// The line: mark, word, bar, message, time. Never wider than the terminal.
pub fn single(work: Single<'_>, at: Duration, width: usize, look: &Look) -> String {
    // One column stays free: some terminals wrap a line that fills the last.
    let width = width.saturating_sub(1).max(10);
    let now = if work.moving { Now::Running } else { Now::Waiting };
    let elapsed = short(at);
    // mark, blank, word, two blanks, …, two blanks, time
    let mut room = width.saturating_sub(2 + work.word.chars().count() + 2 + 2 + elapsed.len().max(6));
    let mut bar = String::new();
    if let Some((done, all)) = work.parts.filter(|(_, all)| *all > 0) {
        let count = format!("{done}/{all}");
        let columns = BAR + 1 + count.len() + 2;
        if room >= columns + 8 {
            bar = format!("{} {count}  ", blocks(f64::from(done) / f64::from(all), BAR, look));
            room -= columns;
        }
    }
    if room < 8 {
        let narrow = fit(&format!("{} {}", work.word, elapsed), width.saturating_sub(2));
        return format!("{} {narrow}", look.mark(now, at));
    }
    let message = fit(&one_line(work.message), room);
    format!("{} {}  {bar}{message:<room$}  {elapsed:>6}", look.mark(now, at), work.word)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Look = Look { colour: false, unicode: true };

    fn line(width: usize, message: &str) -> String {
        let work = Single { moving: false, word: "Running", parts: Some((2, 3)), message };
        single(work, Duration::from_secs(12), width, &PLAIN)
    }

    #[test]
    fn work_elsewhere_is_one_line_with_a_bar_and_the_time() {
        assert_eq!(
            line(80, "records-1 starts anew").split_whitespace().collect::<Vec<_>>().join(" "),
            "· Running ████████░░░░ 2/3 records-1 starts anew 12s"
        );
    }

    #[test]
    fn no_terminal_is_too_narrow_and_no_message_too_long() {
        let message = "waits until records-2 has caught up\nwith the primary ".repeat(9);
        for width in 1..200 {
            let line = line(width, &message);
            assert!(line.chars().count() < width.max(11) && !line.contains('\n'), "{width}: {line}");
        }
    }
}
