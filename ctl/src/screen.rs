//! The terminal: lines that stay, and below them a few that are drawn anew while work goes on.

use std::io::{self, Write};
use std::sync::{Arc, Mutex, MutexGuard};

/// Standard error, shared by everything that talks, so that talk and live lines never garble each other.
#[derive(Clone)]
pub struct Screen(Arc<Mutex<Inner>>);

struct Inner {
    out: Box<dyn Write + Send>,
    live: Vec<String>,
}

impl Screen {
    /// A screen that writes here.
    pub fn new(out: Box<dyn Write + Send>) -> Self {
        Screen(Arc::new(Mutex::new(Inner { out, live: Vec::new() })))
    }

    /// Write a line that stays. Never fails: talk that nobody can hear is no reason to stop.
    pub fn say(&self, text: &str) {
        let mut inner = self.lock();
        let live = std::mem::take(&mut inner.live);
        let mut frame = erase(live.len());
        frame.push_str(text);
        frame.push('\n');
        live.iter().for_each(|line| push_line(&mut frame, line));
        inner.live = live;
        inner.write(&frame);
    }

    /// Draw the live lines anew. What did not change costs nothing.
    pub fn draw(&self, lines: Vec<String>) {
        let mut inner = self.lock();
        if inner.live == lines {
            return;
        }
        // Only from the first line that differs: less to send over a slow console, and no flicker.
        let same = inner.live.iter().zip(&lines).take_while(|(old, new)| old == new).count();
        let mut frame = erase(inner.live.len() - same);
        lines[same..].iter().for_each(|line| push_line(&mut frame, line));
        inner.live = lines;
        inner.write(&frame);
    }

    /// Take the live lines off.
    pub fn clear(&self) {
        self.draw(Vec::new());
    }

    /// A writer of whole lines, for tracing.
    pub fn writer(&self) -> ScreenWriter {
        ScreenWriter { screen: self.clone(), held: Vec::new() }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl Inner {
    fn write(&mut self, text: &str) {
        let _ = self.out.write_all(text.as_bytes()).and_then(|()| self.out.flush());
    }
}

fn push_line(frame: &mut String, line: &str) {
    frame.push_str(line);
    frame.push('\n');
}

/// Go up this many lines and wipe all below.
fn erase(lines: usize) -> String {
    if lines == 0 { String::new() } else { format!("\u{1b}[{lines}F\u{1b}[J") }
}

/// Collects what is written and says it when dropped.
pub struct ScreenWriter {
    screen: Screen,
    held: Vec<u8>,
}

impl Write for ScreenWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.held.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for ScreenWriter {
    fn drop(&mut self) {
        let text = String::from_utf8_lossy(&self.held);
        if !text.is_empty() {
            self.screen.say(text.trim_end_matches('\n'));
        }
    }
}
