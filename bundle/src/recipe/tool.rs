//! Running the programs that recipes drive.

use std::ffi::OsStr;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;
use std::process::{Command, Stdio};

use crate::product::RecipeError;

/// How much of a failed program's last words an error carries.
const LAST_WORDS: usize = 40;

/// A program about to be run, and what for.
pub(crate) struct Tool<'a> {
    program: &'a str,
    act: String,
    command: Command,
}

impl<'a> Tool<'a> {
    /// `act` completes "failed to …".
    pub(crate) fn new(program: &'a str, act: impl Into<String>) -> Self {
        let mut command = Command::new(program);
        command.stdin(Stdio::null());
        Self { program, act: act.into(), command }
    }

    /// The same, giving way to whatever else the machine has to do.
    pub(crate) fn gentle(program: &'a str, act: impl Into<String>) -> Self {
        let mut command = Command::new("nice");
        command.args(["-n", "10", program]).stdin(Stdio::null());
        Self { program, act: act.into(), command }
    }

    pub(crate) fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.command.arg(arg);
        self
    }

    pub(crate) fn args<I: IntoIterator<Item = S>, S: AsRef<OsStr>>(mut self, args: I) -> Self {
        self.command.args(args);
        self
    }

    pub(crate) fn env(mut self, key: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(key, value);
        self
    }

    pub(crate) fn dir(mut self, dir: &Path) -> Self {
        self.command.current_dir(dir);
        self
    }

    /// Runs it; what it writes to standard output is the answer. Both outputs go through files, so
    /// that a program that says much never waits for us.
    pub(crate) fn run(mut self) -> Result<String, RecipeError> {
        self.require()?;
        let temporary = |what: &str| format!("keep the {what} of {}", self.program);
        let mut out = tempfile::tempfile().map_err(RecipeError::io(temporary("output")))?;
        let mut err = tempfile::tempfile().map_err(RecipeError::io(temporary("messages")))?;
        let handle = |file: &std::fs::File| file.try_clone().map_err(RecipeError::io("share a temporary file"));
        self.command.stdout(handle(&out)?).stderr(handle(&err)?);
        let status = self.command.status().map_err(RecipeError::io(format!("start {}", self.program)))?;
        let said = read(&mut out).map_err(RecipeError::io(temporary("output")))?;
        if status.success() {
            return Ok(said);
        }
        let mut last = read(&mut err).map_err(RecipeError::io(temporary("messages")))?;
        if last.trim().is_empty() {
            last = said;
        }
        Err(RecipeError::failed(&self.act, format!("{} ({status})\n{}", self.line(), tail(&last, LAST_WORDS))))
    }

    /// The command as one would type it, cut where it gets long.
    fn line(&self) -> String {
        let mut words = vec![self.program.to_owned()];
        let own = self.command.get_args().map(|a| a.to_string_lossy().into_owned());
        words.extend(own.skip_while(|a| self.command.get_program() == "nice" && a != self.program));
        if words.len() > 1 && words[1] == self.program {
            words.remove(1);
        }
        let line = words.join(" ");
        match line.char_indices().nth(300) {
            Some((at, _)) => format!("{}…", &line[..at]),
            None => line,
        }
    }

    fn require(&self) -> Result<(), RecipeError> {
        if self.program.contains('/') || on_path(self.program) {
            return Ok(());
        }
        Err(missing(self.program, &self.act))
    }
}

/// Says which package has a program that is not here.
pub(crate) fn missing(program: &str, act: &str) -> RecipeError {
    let hint = match program {
        "go" => "install Go 1.26 or newer (https://go.dev/dl)",
        "cargo" | "rustc" => "install Rust through rustup (https://rustup.rs)",
        "gcc" | "cc" => "apt-get install gcc libc6-dev",
        "pkg-config" => "apt-get install pkg-config",
        "mmdebstrap" => "apt-get install mmdebstrap debian-archive-keyring",
        "apt-get" | "apt-cache" | "dpkg-deb" => "Debian packages can be fetched only on Debian or Ubuntu",
        "python3" | "pip" => "apt-get install python3 python3-pip",
        _ => "install it with the package manager of this machine",
    };
    RecipeError::Missing { program: program.into(), act: act.into(), hint: hint.into() }
}

/// Whether a program can be found.
pub(crate) fn on_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

fn read(file: &mut std::fs::File) -> std::io::Result<String> {
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(0))?;
    file.read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn tail(text: &str, lines: usize) -> String {
    let all: Vec<_> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_fails_is_named_with_its_last_words() {
        let told = Tool::new("sh", "greet").args(["-c", "echo hello; echo no, thanks >&2; exit 3"]).run().unwrap_err();
        let told = told.to_string();
        assert!(told.starts_with("failed to greet: sh -c"), "{told}");
        assert!(told.contains("exit status: 3") && told.ends_with("no, thanks"), "{told}");
    }

    #[test]
    fn a_gentle_program_is_named_without_what_makes_it_gentle() {
        let told = Tool::gentle("sh", "try").args(["-c", "exit 1"]).run().unwrap_err().to_string();
        assert!(told.contains("sh -c exit 1"), "{told}");
        assert!(!told.contains("nice"), "{told}");
    }

    #[test]
    fn a_missing_program_comes_with_the_package_that_has_it() {
        let told = missing("mmdebstrap", "make a root").to_string();
        assert_eq!(told, "mmdebstrap is needed to make a root; apt-get install mmdebstrap debian-archive-keyring");
        assert!(Tool::new("no-such-program-here", "x").run().unwrap_err().to_string().contains("no-such-program-here"));
    }

    #[test]
    fn much_output_is_cut_to_its_end() {
        let long: String = (0..100).map(|n| format!("line {n}\n")).collect();
        let cut = tail(&long, 3);
        assert_eq!(cut, "line 97\nline 98\nline 99");
    }
}
