//! Asking a person to type a name before something is lost.

use std::io::{BufRead, IsTerminal};

use crate::exit::Failure;
use crate::printer::Printer;

/// What is about to be done, to what.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// The command that asks: `reset`.
    pub act: &'a str,
    /// What is meant: `cluster`.
    pub thing: &'a str,
    /// Its name, which is to be typed.
    pub name: &'a str,
    /// The option that answers without being asked.
    pub instead: &'a str,
}

impl Question<'_> {
    /// Refuse where nobody can be asked.
    pub fn can_be_asked(&self) -> Result<(), Failure> {
        if std::io::stdin().is_terminal() {
            return Ok(());
        }
        Err(Failure::input(format!("{} wants to be confirmed", self.act)).hint(format!("add {}", self.instead)))
    }

    /// Take the answer that was given as an option, or ask for one.
    pub fn ask(&self, given: Option<&str>, printer: &mut Printer) -> Result<(), Failure> {
        let (thing, name) = (self.thing, self.name);
        let typed = match given {
            Some(given) => given.to_owned(),
            None => {
                self.can_be_asked()?;
                printer.say(format!("Type the {thing}'s name ({name}) to go on:"));
                let mut line = String::new();
                let read = std::io::stdin().lock().read_line(&mut line);
                read.map_err(|error| Failure::input("failed to read the answer").because(error))?;
                line.trim().to_owned()
            }
        };
        if typed == name {
            return Ok(());
        }
        Err(Failure::input(format!("`{typed}` is not the name of the {thing}; nothing was touched"))
            .hint(format!("the {thing} is called {name}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::printer::Output;

    #[test]
    fn a_wrong_name_touches_nothing() {
        let (mut printer, _) = Printer::captured(Output::Table);
        let question = Question { act: "reset", thing: "cluster", name: "st-anna", instead: "--confirm st-anna" };
        let refused = question.ask(Some("st-ana"), &mut printer).unwrap_err();
        assert_eq!(refused.message, "`st-ana` is not the name of the cluster; nothing was touched");
        assert!(question.ask(Some("st-anna"), &mut printer).is_ok());
    }
}
