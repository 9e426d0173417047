//! Running programs: one place that turns a failed program into a message one can act on.

use std::{
    ffi::OsStr,
    io::Write,
    process::{Command, Output, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

use crate::limit;

/// The program with its arguments, as one would type it.
fn line(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|w| w.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
}

/// A command from a program and its arguments.
pub fn cmd<S: AsRef<OsStr>>(program: &str, args: impl IntoIterator<Item = S>) -> Command {
    let mut command = Command::new(program);
    command.args(args).stdin(Stdio::null());
    command
}

/// Run to the end; an error carries what the program said.
pub fn output(command: &mut Command) -> Result<Output> {
    let typed = line(command);
    let out = command.output().with_context(|| format!("failed to start `{typed}`"))?;
    if !out.status.success() {
        let said = String::from_utf8_lossy(&out.stderr);
        let said = if said.trim().is_empty() { String::from_utf8_lossy(&out.stdout) } else { said };
        bail!("`{typed}` failed ({}): {}", out.status, said.trim());
    }
    Ok(out)
}

/// Run to the end and give its standard output without the last line end.
pub fn text(command: &mut Command) -> Result<String> {
    Ok(String::from_utf8_lossy(&output(command)?.stdout).trim_end().to_owned())
}

/// Run with `input` on standard input.
pub fn feed(command: &mut Command, input: &[u8]) -> Result<String> {
    let typed = line(command);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().with_context(|| format!("failed to start `{typed}`"))?;
    let mut pipe = child.stdin.take().expect("stdin was asked for above");
    // From a thread of its own: a program that answers before it has read all would stand still otherwise.
    let out = std::thread::scope(|scope| {
        scope.spawn(move || pipe.write_all(input));
        child.wait_with_output()
    })
    .with_context(|| format!("failed to wait for `{typed}`"))?;
    if !out.status.success() {
        bail!("`{typed}` failed ({}): {}", out.status, String::from_utf8_lossy(&out.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&out.stdout).trim_end().to_owned())
}

/// Look every 100 ms until `look` gives something, or until the limit, or that of the whole, has passed. The error says
/// what was last seen.
pub fn until<T>(what: &str, limit: Duration, mut look: impl FnMut() -> Result<T>) -> Result<T> {
    let start = Instant::now();
    limit::waits_for(what);
    loop {
        match look() {
            Ok(found) => return Ok(found),
            Err(seen) if start.elapsed() > limit => {
                return Err(seen.context(format!("waited {} s for {what}", limit.as_secs())));
            }
            Err(seen) if limit::is_over() => {
                return Err(seen.context(format!("waited {} s for {what}", start.elapsed().as_secs())));
            }
            Err(_) => std::thread::sleep(Duration::from_millis(100)),
        }
    }
}

/// Do the same to each item at once; the first failure wins, but all are waited for.
pub fn each<T: Sync>(items: &[T], act: impl Fn(&T) -> Result<()> + Sync) -> Result<()> {
    std::thread::scope(|scope| {
        let threads: Vec<_> = items.iter().map(|item| scope.spawn(|| act(item))).collect();
        let ends = threads.into_iter().map(|t| t.join().unwrap_or_else(|_| bail!("a lab thread panicked")));
        ends.collect::<Vec<_>>().into_iter().collect()
    })
}
