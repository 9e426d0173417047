//! `hzctl docs`: the reference of all commands as Markdown, as it stands in docs/reference/commands.md.

use std::fmt::Write;

use clap::{Arg, Command};

use crate::exit::{ExitStatus, Failure};
use crate::printer::Printer;

/// Arguments of `hzctl docs`.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Run it.
pub async fn run(_args: Args, printer: &mut Printer) -> Result<ExitStatus, Failure> {
    printer.data(&markdown())?;
    Ok(ExitStatus::Success)
}

/// The whole reference.
pub fn markdown() -> String {
    let mut command = crate::cli::public_command();
    command.build();
    let mut text =
        String::from("# Commands of hzctl\n\n<!-- Made by `hzctl docs`; a test finds drift. Do not edit. -->\n\n");
    let _ = writeln!(text, "{}.\n", command.get_about().map(ToString::to_string).unwrap_or_default());
    contents(&command, &mut text);
    text.push_str("\n## Options of every command\n\n");
    options(command.get_arguments().filter(|option| option.is_global_set()), &mut text);
    text.push_str(EXPLAINED);
    text.push_str("\n## Exit codes\n\n| code | meaning |\n|---|---|\n");
    for status in ExitStatus::ALL {
        let _ = writeln!(text, "| {} | {} |", status.code(), status.meaning());
    }
    for sub in visible(&command) {
        section(sub, &format!("hzctl {}", sub.get_name()), 2, &mut text);
    }
    text
}

const EXPLAINED: &str = "
Data goes to standard output, everything else to standard error, so `hzctl ... -o json | jq` always works. With
`-o json` a failure is one JSON object on standard error: `{\"error\": {message, hint, exitCode, causes, findings}}`.
Progress is drawn on a terminal; elsewhere each event is one JSON object a line on standard error. Colours are left out
where standard error is no terminal, with `--no-color`, and where `NO_COLOR` is set.
";

fn visible(command: &Command) -> impl Iterator<Item = &Command> {
    command.get_subcommands().filter(|sub| !sub.is_hide_set() && sub.get_name() != "help")
}

fn contents(command: &Command, text: &mut String) {
    text.push_str("| command | what it does |\n|---|---|\n");
    for sub in visible(command) {
        let name = sub.get_name();
        let about = sub.get_about().map(ToString::to_string).unwrap_or_default();
        let _ = writeln!(text, "| [`hzctl {name}`](#hzctl-{name}) | {about} |");
    }
}

fn section(command: &Command, name: &str, level: usize, text: &mut String) {
    let about = command.get_long_about().or(command.get_about()).map(ToString::to_string).unwrap_or_default();
    let stop = if about.ends_with(['.', '?', '!']) { "" } else { "." };
    let _ = writeln!(text, "\n{} {name}\n\n{about}{stop}\n", "#".repeat(level));
    let usage = command.clone().render_usage().to_string();
    let _ = writeln!(text, "```\n{}\n```", usage.trim_start_matches("Usage: ").trim());
    let own = || {
        command
            .get_arguments()
            .filter(|option| !option.is_global_set() && !option.is_hide_set() && option.get_id() != "help")
    };
    if own().next().is_some() {
        text.push('\n');
        options(own(), text);
    }
    if let Some(after) = command.get_after_long_help().or(command.get_after_help()) {
        let _ = writeln!(text, "\n```text\n{after}\n```");
    }
    for sub in visible(command) {
        section(sub, &format!("{name} {}", sub.get_name()), level + 1, text);
    }
}

fn options<'a>(options: impl Iterator<Item = &'a Arg>, text: &mut String) {
    text.push_str("| option | meaning |\n|---|---|\n");
    for option in options {
        let _ = writeln!(text, "| {} | {} |", spelling(option), meaning(option));
    }
}

fn spelling(option: &Arg) -> String {
    let value = option
        .get_value_names()
        .unwrap_or_default()
        .iter()
        .map(|name| format!("<{name}>"))
        .collect::<Vec<_>>()
        .join(" ");
    let takes = option.get_action().takes_values();
    if option.is_positional() {
        return format!("`{value}`");
    }
    let short = option.get_short().map(|letter| format!("-{letter}"));
    let long = option.get_long().map(|word| format!("--{word}"));
    let names = short.into_iter().chain(long).collect::<Vec<_>>().join(", ");
    if takes { format!("`{names} {value}`") } else { format!("`{names}`") }
}

fn meaning(option: &Arg) -> String {
    let mut text = option.get_long_help().or(option.get_help()).map(ToString::to_string).unwrap_or_default();
    text = text.replace('\n', " ").replace('|', "\\|");
    let choices: Vec<String> = match option.get_action().takes_values() {
        true => option.get_possible_values().iter().map(|value| format!("`{}`", value.get_name())).collect(),
        false => Vec::new(),
    };
    if !choices.is_empty() {
        let _ = write!(text, " (one of {})", choices.join(", "));
    }
    let defaults: Vec<_> =
        option.get_default_values().iter().map(|value| format!("`{}`", value.to_string_lossy())).collect();
    if option.get_action().takes_values() && !defaults.is_empty() {
        let _ = write!(text, " (default {})", defaults.join(", "));
    }
    text
}
