//! Running a program in a container through the API server, with our input and output as its own.

use std::io::IsTerminal;
use std::time::Duration;

use futures::SinkExt;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Status;
use kube::Client;
use kube::api::{Api, AttachParams, AttachedProcess, TerminalSize};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinHandle;

use crate::commands::reach::{Place, refused};
use crate::exit::{ExitStatus, Failure};
use crate::printer::Printer;
use crate::screen::Screen;
use crate::terminal::Raw;

/// What the start of a program in a terminal says when it no longer shows what is typed.
pub const HIDDEN: u8 = 0x06;
/// Long for a program that only has to start.
const START_WITHIN: Duration = Duration::from_secs(15);
/// Enough for a fast network; less would wait for every answer.
const BUFFER: usize = 64 * 1024;

/// A program to run.
#[derive(Clone, Debug)]
pub struct Job<'a> {
    /// Its pod.
    pub pod: Place,
    /// Its container.
    pub container: &'static str,
    /// Its name, as people are told of it.
    pub program: &'static str,
    /// What is started.
    pub command: Vec<String>,
    /// Its first line of input, which nobody may see; in a terminal it waits for [`HIDDEN`].
    pub secret: Option<&'a str>,
}

/// What the program reads after the secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Feed {
    /// Nothing.
    Nothing,
    /// Our standard input.
    StandardInput,
}

/// Whether a person sits before it: keys can be read from it, and what is written can be seen.
pub fn at_a_terminal() -> bool {
    std::io::stdin().is_terminal() && std::io::stdout().is_terminal()
}

/// Run it with its output as ours.
pub async fn piped(client: &Client, job: &Job<'_>, feed: Feed, printer: &mut Printer) -> Result<ExitStatus, Failure> {
    let stdin = job.secret.is_some() || feed == Feed::StandardInput;
    let mut process = start(client, job, AttachParams { stdin, ..AttachParams::default() }).await?;
    let status = process.take_status();
    let (input, output, errors) = (process.stdin(), process.stdout(), process.stderr());
    let feeding = input.map(|input| Task(tokio::spawn(fed(input, job.secret.map(str::to_owned), feed))));
    let screen = printer.screen();
    let heard = async { tokio::try_join!(copied(output, printer), said(errors, screen)).map(drop) };
    let ended = watched(heard, status).await;
    drop(feeding);
    told(job, ended?)
}

/// Run it in a terminal of its own, which is this one.
pub async fn terminal(client: &Client, job: &Job<'_>, printer: &mut Printer) -> Result<ExitStatus, Failure> {
    let params = AttachParams { stdin: true, stderr: false, tty: true, ..AttachParams::default() };
    let mut process = start(client, job, params).await?;
    let status = process.take_status();
    let (Some(mut input), Some(mut output)) = (process.stdin(), process.stdout()) else {
        return Err(Failure::fault(format!("failed to hand the terminal to {}", job.program)));
    };
    let sizes = process.terminal_size().map(|sizes| Task(tokio::spawn(sized(sizes))));
    if let Some(secret) = job.secret
        && hidden(job, &mut output, printer).await?
    {
        let line = format!("{secret}\n");
        input.write_all(line.as_bytes()).await.map_err(|error| broken(job).because(error))?;
    }
    let raw = Raw::enter()?;
    let keys = Task(tokio::spawn(async move {
        let _ = tokio::io::copy(&mut tokio::io::stdin(), &mut input).await;
    }));
    let ended = watched(copied(Some(output), printer), status).await;
    drop((keys, sizes, raw));
    if matches!(ended, Ok(Ended::Lost)) {
        // What was cut off ended in the middle of a line.
        printer.bytes(b"\n")?;
    }
    told(job, ended?)
}

async fn start(client: &Client, job: &Job<'_>, params: AttachParams) -> Result<AttachedProcess, Failure> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), &job.pod.namespace);
    let params = AttachParams {
        container: Some(job.container.into()),
        max_stdin_buf_size: Some(BUFFER),
        max_stdout_buf_size: Some(BUFFER),
        ..params
    };
    let started = pods.exec(&job.pod.name, job.command.clone(), &params).await;
    started.map_err(|error| refused(format!("failed to start {} in {}", job.program, job.pod.name), &error))
}

/// A task that ends with whoever holds it.
struct Task(JoinHandle<()>);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn fed(mut input: impl AsyncWrite + Unpin, secret: Option<String>, feed: Feed) {
    // A program that reads no further is no failure: how it ended is told by its exit code.
    if let Some(secret) = secret
        && input.write_all(format!("{secret}\n").as_bytes()).await.is_err()
    {
        return;
    }
    if feed == Feed::StandardInput {
        let _ = tokio::io::copy(&mut tokio::io::stdin(), &mut input).await;
    }
    let _ = input.shutdown().await;
}

/// Why nothing more is printed, before all was.
enum Stop {
    /// Nobody reads it any more.
    Unheard,
    /// It cannot be printed.
    Failed(Failure),
}

/// Print what comes until it ends.
async fn copied(output: Option<impl AsyncRead + Unpin>, printer: &mut Printer) -> Result<(), Stop> {
    let Some(mut output) = output else { return Ok(()) };
    let mut buffer = vec![0; BUFFER];
    loop {
        match output.read(&mut buffer).await {
            Ok(0) | Err(_) => return Ok(()),
            Ok(count) => match printer.bytes(&buffer[..count]) {
                Ok(true) => {}
                Ok(false) => return Err(Stop::Unheard),
                Err(failure) => return Err(Stop::Failed(failure)),
            },
        }
    }
}

/// Say each line that comes.
async fn said(errors: Option<impl AsyncRead + Unpin>, screen: Screen) -> Result<(), Stop> {
    let Some(mut errors) = errors else { return Ok(()) };
    let mut buffer = [0; 4096];
    let mut lines = Lines::default();
    loop {
        match errors.read(&mut buffer).await {
            Ok(0) | Err(_) => break,
            Ok(count) => lines.take(&buffer[..count]).iter().for_each(|line| screen.say(line)),
        }
    }
    lines.rest().iter().for_each(|line| screen.say(line));
    Ok(())
}

/// Collects bytes to whole lines.
#[derive(Default)]
struct Lines(Vec<u8>);

impl Lines {
    fn take(&mut self, bytes: &[u8]) -> Vec<String> {
        self.0.extend_from_slice(bytes);
        let Some(end) = self.0.iter().rposition(|byte| *byte == b'\n') else { return Vec::new() };
        let rest = self.0.split_off(end + 1);
        let whole = std::mem::replace(&mut self.0, rest);
        String::from_utf8_lossy(&whole).lines().map(str::to_owned).collect()
    }

    fn rest(self) -> Option<String> {
        (!self.0.is_empty()).then(|| String::from_utf8_lossy(&self.0).into_owned())
    }
}

/// How a program ended.
enum Ended {
    /// By itself; the API server tells how.
    Told(Box<Status>),
    /// Nobody reads its output any more.
    Unheard,
    /// The connection broke off.
    Lost,
}

/// Listen until the program has ended. A connection that breaks off ends the wait as well: its output never does.
async fn watched(
    heard: impl Future<Output = Result<(), Stop>>,
    status: Option<impl Future<Output = Option<Status>>>,
) -> Result<Ended, Failure> {
    let Some(status) = status else { return Ok(Ended::Lost) };
    let (mut heard, mut status) = (std::pin::pin!(heard), std::pin::pin!(status));
    let (heard, how) = tokio::select! {
        heard = &mut heard => match heard {
            Ok(()) => (Ok(()), status.await),
            stopped => (stopped, None),
        },
        how = &mut status => match how {
            // The rest of its output is still on its way.
            Some(how) => (heard.await, Some(how)),
            None => (Ok(()), None),
        },
    };
    match heard {
        Ok(()) => Ok(how.map_or(Ended::Lost, |how| Ended::Told(Box::new(how)))),
        Err(Stop::Unheard) => Ok(Ended::Unheard),
        Err(Stop::Failed(failure)) => Err(failure),
    }
}

fn told(job: &Job<'_>, ended: Ended) -> Result<ExitStatus, Failure> {
    match ended {
        Ended::Unheard => Ok(ExitStatus::Success),
        Ended::Lost => Err(broken(job).because("the connection broke off")),
        Ended::Told(status) => verdict(job.program, &status),
    }
}

fn broken(job: &Job<'_>) -> Failure {
    Failure::new(ExitStatus::HostFailed, format!("{} in {} is out of reach", job.program, job.pod.name))
        .hint("what it was doing may have been done or not; look before doing it again")
}

/// The exit code of the program as ours. What was typed wrong has been told by the program itself.
fn verdict(program: &str, status: &Status) -> Result<ExitStatus, Failure> {
    if status.status.as_deref() == Some("Success") {
        return Ok(ExitStatus::Success);
    }
    let causes = status.details.as_ref().and_then(|details| details.causes.as_deref()).unwrap_or_default();
    let cause = causes.iter().find(|cause| cause.reason.as_deref() == Some("ExitCode"));
    let code: Option<i32> = cause.and_then(|cause| cause.message.as_deref()?.parse().ok());
    let message = status.message.clone().unwrap_or_default();
    Err(match code {
        // psql: 1 for its own faults and those of the person, 3 for a statement that failed; valkey-cli: 1.
        Some(code @ (1 | 3)) => Failure::input(format!("{program} ended with exit code {code}")),
        Some(2) => Failure::fault(format!("{program} ended with exit code 2"))
            .because("it found no way to the server, or lost it")
            .hint("the server may be starting or handing its work over; try again in a moment"),
        Some(code @ 126..=127) => {
            Failure::fault(format!("{program} cannot be started")).because(format!("exit code {code}"))
        }
        Some(code) => Failure::fault(format!("{program} ended with exit code {code}")),
        None => Failure::fault(format!("{program} could not be run")).because(message),
    })
}

/// Wait until what is typed is no longer shown. False when the program ended instead; what it said is printed.
async fn hidden(job: &Job<'_>, output: &mut (impl AsyncRead + Unpin), printer: &mut Printer) -> Result<bool, Failure> {
    let mut said = Vec::new();
    let waiting = async {
        let mut byte = [0];
        loop {
            match output.read(&mut byte).await {
                Ok(0) | Err(_) => return false,
                Ok(_) if byte[0] == HIDDEN => return true,
                Ok(_) => said.push(byte[0]),
            }
        }
    };
    match tokio::time::timeout(START_WITHIN, waiting).await {
        Ok(true) => Ok(true),
        Ok(false) => {
            printer.bytes(&said)?;
            Ok(false)
        }
        Err(_) => Err(Failure::fault(format!("{} in {} does not begin", job.program, job.pod.name))
            .because(String::from_utf8_lossy(&said).trim().to_owned())
            .hint("without a terminal it needs less: give a statement with -c")),
    }
}

/// Tell the size of the terminal, now and whenever it changes.
async fn sized(mut sizes: impl futures::Sink<TerminalSize> + Unpin) {
    let Ok(mut changes) = signal(SignalKind::window_change()) else { return };
    loop {
        if let Some((width, height)) = terminal_size::terminal_size()
            && sizes.send(TerminalSize { width: width.0, height: height.0 }).await.is_err()
        {
            return;
        }
        if changes.recv().await.is_none() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn ended(status: serde_json::Value) -> Result<ExitStatus, Failure> {
        verdict("psql", &serde_json::from_value(status).unwrap())
    }

    fn code(code: &str) -> serde_json::Value {
        json!({ "status": "Failure", "reason": "NonZeroExitCode", "message": "command terminated",
            "details": { "causes": [{ "reason": "ExitCode", "message": code }] } })
    }

    #[test]
    fn the_exit_code_of_the_program_becomes_one_of_ours() {
        assert_eq!(ended(json!({ "status": "Success" })).unwrap(), ExitStatus::Success);
        for (theirs, ours) in [
            ("1", ExitStatus::BadInput),
            ("3", ExitStatus::BadInput),
            ("2", ExitStatus::Fault),
            ("127", ExitStatus::Fault),
        ] {
            assert_eq!(ended(code(theirs)).unwrap_err().code, ours, "{theirs}");
        }
        let failure = ended(json!({ "status": "Failure", "message": "container not found" })).unwrap_err();
        assert_eq!(failure.causes(), ["container not found"]);
    }

    #[test]
    fn errors_are_said_by_whole_lines_also_when_they_come_in_pieces() {
        let mut lines = Lines::default();
        assert!(lines.take(b"ERR").is_empty());
        assert_eq!(lines.take(b"OR: no\nsecond\nthi"), ["ERROR: no", "second"]);
        assert_eq!(lines.take("rd ü\nlast".as_bytes()), ["third ü"]);
        assert_eq!(lines.rest().as_deref(), Some("last"));
    }
}
