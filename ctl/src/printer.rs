//! Everything that reaches the person: data on stdout, talk on stderr, failures with their causes.

use std::io::{self, IsTerminal, Write};
use std::sync::{Arc, Mutex};

use serde::Serialize;

use crate::exit::{ExitStatus, Failure, Finding};
use crate::interrupt::Farewell;
use crate::screen::Screen;

/// The form data is printed in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Output {
    /// For people: tables and sentences.
    #[default]
    Table,
    /// One JSON document on stdout; progress and failures as JSON lines on stderr.
    Json,
    /// One YAML document on stdout.
    Yaml,
}

/// Where a command prints. Data and talk never mix: `hzctl ... -o json | jq` always works.
pub struct Printer {
    output: Output,
    colour: bool,
    interactive: bool,
    out: Box<dyn Write + Send>,
    screen: Screen,
    farewell: Farewell,
}

impl Printer {
    /// The process's own stdout and stderr.
    pub fn standard(output: Output, no_colour: bool) -> Self {
        let terminal = io::stderr().is_terminal();
        let dumb = std::env::var("TERM").is_ok_and(|term| term == "dumb");
        let refused = no_colour || std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Printer {
            output,
            colour: terminal && !dumb && !refused,
            interactive: terminal && !dumb && output != Output::Json,
            out: Box::new(io::stdout()),
            screen: Screen::new(Box::new(io::stderr())),
            farewell: Farewell::default(),
        }
    }

    /// A printer that keeps what it is told, for tests.
    pub fn captured(output: Output) -> (Self, Captured) {
        let captured = Captured::default();
        let printer = Printer {
            output,
            colour: false,
            interactive: false,
            out: Box::new(Pipe(captured.out.clone())),
            screen: Screen::new(Box::new(Pipe(captured.err.clone()))),
            farewell: Farewell::default(),
        };
        (printer, captured)
    }

    /// The form the person asked for.
    pub fn output(&self) -> Output {
        self.output
    }

    /// Standard error, for live lines and for tracing.
    pub fn screen(&self) -> Screen {
        self.screen.clone()
    }

    /// Whether stderr is a terminal that can be redrawn.
    pub fn interactive(&self) -> bool {
        self.interactive
    }

    /// Whether talk may be coloured.
    pub fn colour(&self) -> bool {
        self.colour
    }

    /// What is told to a person who presses Ctrl-C.
    pub fn farewell(&self) -> Farewell {
        self.farewell.clone()
    }

    /// Print bytes as they are, at once. False when nobody reads them any more (`| head`): no failure, and no reason
    /// to go on.
    pub fn bytes(&mut self, bytes: &[u8]) -> Result<bool, Failure> {
        match self.out.write_all(bytes).and_then(|()| self.out.flush()) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
            written => quiet_pipe(written).map(|()| true),
        }
    }

    /// Print data as it is, ending in one newline.
    pub fn data(&mut self, text: &str) -> Result<(), Failure> {
        let text = text.strip_suffix('\n').unwrap_or(text);
        quiet_pipe(writeln!(self.out, "{text}").and_then(|()| self.out.flush()))
    }

    /// Print a value in the form the person asked for; `table` makes the one for people.
    pub fn value<T: Serialize>(&mut self, value: &T, table: impl FnOnce(&T) -> String) -> Result<(), Failure> {
        let text = match self.output {
            Output::Table => table(value),
            Output::Json => serde_json::to_string_pretty(value)
                .map_err(|error| Failure::fault("failed to write JSON").because(error))?,
            Output::Yaml => crate::cluster::yaml::write(value)?,
        };
        self.data(&text)
    }

    /// Tell the person something. Never fails: talk that nobody can hear is no reason to stop.
    pub fn say(&mut self, text: impl AsRef<str>) {
        self.screen.say(text.as_ref());
    }

    /// Tell the person what they should look at.
    pub fn warn(&mut self, text: impl AsRef<str>) {
        let mark = if self.colour { "\u{1b}[33mwarning:\u{1b}[0m" } else { "warning:" };
        self.say(format!("{mark} {}", text.as_ref()));
    }

    /// Show a failure, with its causes, places and way out.
    pub fn failure(&mut self, failure: &Failure) {
        self.talker().failure(failure);
    }

    /// What can talk from another thread.
    pub fn talker(&self) -> Talker {
        Talker { screen: self.screen.clone(), output: self.output, colour: self.colour }
    }
}

/// Tells of failures from any thread.
#[derive(Clone)]
pub struct Talker {
    screen: Screen,
    output: Output,
    colour: bool,
}

impl Talker {
    /// Show a failure, with its causes, places and way out. Live lines go first: nothing will draw them again.
    pub fn failure(&self, failure: &Failure) {
        let text = match self.output {
            Output::Json => as_json(failure),
            Output::Table | Output::Yaml => as_text(failure, self.colour),
        };
        self.screen.clear();
        self.screen.say(text.trim_end());
    }
}

/// A reader that went away (`| head`) is not a failure.
fn quiet_pipe(result: io::Result<()>) -> Result<(), Failure> {
    match result {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::new(ExitStatus::Fault, "failed to write to standard output").because(error))
        }
        _ => Ok(()),
    }
}

fn as_json(failure: &Failure) -> String {
    let findings: Vec<_> = failure.findings.iter().map(finding_json).collect();
    serde_json::json!({
        "error": {
            "message": failure.message,
            "hint": failure.hint,
            "exitCode": failure.code.code(),
            "causes": failure.causes(),
            "findings": findings,
        }
    })
    .to_string()
}

fn finding_json(finding: &Finding) -> serde_json::Value {
    serde_json::json!({
        "file": finding.file,
        "line": finding.line,
        "column": finding.column,
        "path": finding.path,
        "message": finding.message,
        "hint": finding.hint,
    })
}

/// What a person reads: each mistake with the lines around it, then the failure, its causes and the hint.
fn as_text(failure: &Failure, colour: bool) -> String {
    let mut text = String::new();
    for finding in &failure.findings {
        text.push_str(&snippet(finding, colour));
        text.push('\n');
    }
    let paint = |code: &str, word: &str| {
        if colour { format!("\u{1b}[{code}m{word}\u{1b}[0m") } else { word.to_owned() }
    };
    text.push_str(&format!("{} {}\n", paint("1;31", "error:"), failure.message));
    for cause in failure.causes() {
        text.push_str(&format!("  {} {}\n", paint("31", "because:"), indent_rest(&cause, 11)));
    }
    if let Some(hint) = &failure.hint {
        text.push_str(&format!("  {} {}\n", paint("36", "hint:"), indent_rest(hint, 8)));
    }
    text
}

/// Lines after the first stand under the first.
fn indent_rest(text: &str, by: usize) -> String {
    text.replace('\n', &format!("\n{}", " ".repeat(by)))
}

/// One mistake, drawn by miette under the lines it is in.
fn snippet(finding: &Finding, colour: bool) -> String {
    use miette::{
        GraphicalReportHandler, GraphicalTheme, LabeledSpan, MietteDiagnostic, NamedSource, Report, Severity,
    };
    let place = if finding.path.is_empty() { String::new() } else { format!("{}: ", finding.path) };
    let mut diagnostic = MietteDiagnostic::new(format!("{place}{}", finding.message)).with_severity(Severity::Error);
    if let Some(hint) = &finding.hint {
        diagnostic = diagnostic.with_help(hint.clone());
    }
    let (start, length) = finding.span;
    let label = (!finding.label.is_empty()).then(|| finding.label.clone());
    let diagnostic = diagnostic.with_label(LabeledSpan::new(label, start, length));
    let report = Report::new(diagnostic).with_source_code(NamedSource::new(&finding.file, finding.text.to_string()));
    let theme = if colour { GraphicalTheme::unicode() } else { GraphicalTheme::unicode_nocolor() };
    let mut text = String::new();
    // Rendering into a string fails only for a span outside the text; the sentence alone will do then.
    let drawn = GraphicalReportHandler::new_themed(theme)
        .with_links(false)
        // The terminal wraps; breaks of ours would stand in the middle of paths that people copy.
        .with_wrap_lines(false)
        .with_context_lines(1)
        .render_report(&mut text, report.as_ref());
    match drawn {
        Ok(()) => text,
        Err(_) => format!("{}:{}:{}: {place}{}\n", finding.file, finding.line, finding.column, finding.message),
    }
}

/// What a [`Printer::captured`] was told.
#[derive(Clone, Default)]
pub struct Captured {
    out: Arc<Mutex<Vec<u8>>>,
    err: Arc<Mutex<Vec<u8>>>,
}

impl Captured {
    /// All data so far.
    pub fn stdout(&self) -> String {
        read(&self.out)
    }

    /// All talk so far.
    pub fn stderr(&self) -> String {
        read(&self.err)
    }
}

fn read(buffer: &Mutex<Vec<u8>>) -> String {
    let bytes = buffer.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    String::from_utf8_lossy(&bytes).into_owned()
}

struct Pipe(Arc<Mutex<Vec<u8>>>);

impl Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
