//! `hzctl cache connect`: Open a valkey-cli shell on the master, or run commands given or from standard input.

use std::io::IsTerminal;

use crate::commands::data::exec::{self, Feed, Job, at_a_terminal};
use crate::commands::data::{CACHE, pods};
use crate::commands::reach::{Place, Reach};
use crate::exit::{ExitStatus, Failure};
use crate::printer::Printer;

/// Options of valkey-cli with which it reads standard input besides a command.
const READS_INPUT: [&str; 3] = ["-x", "-X", "--pipe"];

/// valkey-cli in the pod, with what it needs to be let in.
const CLIENT: &str = "/etc/hz/cli.sh";

/// Arguments of `hzctl cache connect`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Name of the cache
    name: String,
    /// A command to run instead of a shell, such as `-- GET key`
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<String>,
    #[command(flatten)]
    reach: Reach,
}

/// Run it.
pub async fn run(args: Args, printer: &mut Printer) -> Result<ExitStatus, Failure> {
    let client = args.reach.client().await?;
    let place = CACHE.find(&client, args.reach.namespace.as_deref(), &args.name).await?;
    let pods = pods::of(&client, &CACHE, &place).await?;
    let pod = pods::leader(&CACHE, &place.name, &pods)?;
    let how = How { shell: args.command.is_empty() && at_a_terminal(), seen: std::io::stdout().is_terminal() };
    let job = Job {
        pod: Place { name: pod.name.clone(), namespace: place.namespace.clone() },
        container: CACHE.container,
        program: "valkey-cli",
        command: command(how, &args.command),
        // It is in the pod already.
        secret: None,
    };
    if how.shell {
        printer.say(format!("cache {} on {} ({})", place.name, pod.name, CACHE.leader));
        return exec::terminal(&client, &job, printer).await;
    }
    exec::piped(&client, &job, feed(&args.command), printer).await
}

#[derive(Clone, Copy)]
struct How {
    /// A person types.
    shell: bool,
    /// A person reads.
    seen: bool,
}

/// What is started in the pod. The shell keeps no history: keys hold what patients are called.
fn command(how: How, given: &[String]) -> Vec<String> {
    let mut words: Vec<&str> = match how {
        How { shell: true, .. } => {
            vec!["env", "VALKEYCLI_HISTFILE=/dev/null", "REDISCLI_HISTFILE=/dev/null", "bash", CLIENT]
        }
        // An error that the server answers is a failure of the command.
        How { seen: true, .. } => vec!["bash", CLIENT, "-e", "--no-raw"],
        How { .. } => vec!["bash", CLIENT, "-e"],
    };
    words.extend(given.iter().map(String::as_str));
    words.into_iter().map(str::to_owned).collect()
}

/// A command reads nothing, so that a loop around us keeps its input; a script is read.
fn feed(given: &[String]) -> Feed {
    let reads = given.is_empty() || given.iter().any(|word| READS_INPUT.contains(&word.as_str()));
    if reads { Feed::StandardInput } else { Feed::Nothing }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn a_command_is_run_as_it_was_given() {
        let plain = How { shell: false, seen: false };
        assert_eq!(command(plain, &words("GET key")), words("bash /etc/hz/cli.sh -e GET key"));
        assert_eq!(
            command(How { seen: true, ..plain }, &words("GET key")),
            words("bash /etc/hz/cli.sh -e --no-raw GET key")
        );
        assert!(command(How { shell: true, seen: true }, &[]).contains(&"VALKEYCLI_HISTFILE=/dev/null".to_owned()));
    }

    #[test]
    fn standard_input_is_read_by_scripts_and_by_commands_that_say_so() {
        assert_eq!(feed(&[]), Feed::StandardInput);
        assert_eq!(feed(&words("-x SET key")), Feed::StandardInput);
        assert_eq!(feed(&words("GET key")), Feed::Nothing);
    }
}
