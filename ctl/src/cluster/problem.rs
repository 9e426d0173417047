//! A mistake in a cluster.yaml while it is being read, and how it becomes what the person is shown.

use std::sync::Arc;

use super::yaml::Span;
use crate::exit::Finding;

/// One mistake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where it stands.
    pub span: Span,
    /// The field's path, such as `spec.hosts[2].role`; empty for the file as a whole.
    pub path: String,
    /// What is wrong.
    pub message: String,
    /// A few words under the place.
    pub label: String,
    /// What to do about it.
    pub hint: Option<String>,
}

impl Problem {
    /// A mistake at a place.
    pub fn at(span: Span, message: impl Into<String>) -> Self {
        Problem { span, path: String::new(), message: message.into(), label: "here".to_owned(), hint: None }
    }

    /// Name the field.
    #[must_use]
    pub fn path(mut self, path: impl Into<String>) -> Self {
        self.path = path.into();
        self
    }

    /// Say something under the place.
    #[must_use]
    pub fn label(mut self, label: impl Into<String>) -> Self {
        self.label = label.into();
        self
    }

    /// Say what to do.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

/// Names under which people keep secrets, in lower case and without `-` and `_`.
const SECRET_NAMES: [&str; 13] = [
    "privatekey",
    "identity",
    "sshkey",
    "key",
    "password",
    "passwd",
    "passphrase",
    "sudopassword",
    "secret",
    "token",
    "apikey",
    "credentials",
    "becomepassword",
];

/// Whether a field of this name would hold a secret.
pub fn names_a_secret(key: &str) -> bool {
    let plain: String = key.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_lowercase();
    SECRET_NAMES.contains(&plain.as_str())
}

/// The mistakes in the order of the file, each with its line and column. Secrets are blacked out of the text first:
/// the lines around a mistake end up in terminals, logs and tickets.
pub fn findings(file: &str, text: &str, problems: Vec<Problem>) -> Vec<Finding> {
    let shown: Arc<str> = blacked_out(text).into();
    let mut problems = problems;
    problems.sort_by(|a, b| (a.span.start, &a.path).cmp(&(b.span.start, &b.path)));
    problems.dedup();
    problems
        .into_iter()
        .map(|problem| {
            let (line, column) = line_and_column(text, problem.span.start);
            Finding {
                file: file.to_owned(),
                text: shown.clone(),
                line,
                column,
                span: one_line(text, &problem.span),
                path: problem.path,
                message: problem.message,
                label: problem.label,
                hint: problem.hint,
            }
        })
        .collect()
}

/// Line and column from 1, the column in characters.
fn line_and_column(text: &str, offset: usize) -> (usize, usize) {
    let before = &text[..offset.min(text.len())];
    let line = before.matches('\n').count() + 1;
    let start = before.rfind('\n').map_or(0, |newline| newline + 1);
    (line, before[start..].chars().count() + 1)
}

/// A mark under more than one line says less than one under its first line.
fn one_line(text: &str, span: &Span) -> (usize, usize) {
    let start = span.start.min(text.len());
    let marked = &text[start..span.end.clamp(start, text.len())];
    let first = marked.split(['\n', '\r']).next().unwrap_or_default().trim_end();
    (start, first.len())
}

/// The text with the same length in bytes, in which stars stand for what may be secret.
fn blacked_out(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut in_key = false;
    // Lines indented deeper than a secret's name belong to its value.
    let mut below: Option<usize> = None;
    for line in text.split_inclusive('\n') {
        let indent = line.len() - line.trim_start().len();
        if !line.trim().is_empty() && below.is_some_and(|secret| indent <= secret) {
            below = None;
        }
        let begins = line.contains("-----BEGIN");
        if in_key || begins || below.is_some() {
            let keep = if begins && !in_key { line.find("-----BEGIN").unwrap_or(indent) } else { indent };
            shown.push_str(&line[..keep]);
            shown.push_str(&stars(&line[keep..]));
            in_key = (in_key || begins) && !line.contains("-----END");
        } else if let Some(value) = secret_value(line) {
            shown.push_str(&line[..value]);
            shown.push_str(&stars(&line[value..]));
            below = Some(indent);
        } else {
            shown.push_str(line);
        }
    }
    shown
}

/// Where a secret's value starts in this line.
fn secret_value(line: &str) -> Option<usize> {
    line.match_indices(':').map(|(colon, _)| colon).find_map(|colon| {
        let before = line[..colon].trim_end_matches(['"', '\'', ' ']);
        let start = before.char_indices().rfind(|(_, c)| !c.is_ascii_alphanumeric() && *c != '_' && *c != '-');
        let start = start.map_or(0, |(at, c)| at + c.len_utf8());
        (names_a_secret(&before[start..]) && !line[colon + 1..].trim().is_empty()).then_some(colon + 1)
    })
}

fn stars(text: &str) -> String {
    let mut stars = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            ' ' | '\n' | '\r' | '\t' => stars.push(character),
            other => stars.push_str(&"*".repeat(other.len_utf8())),
        }
    }
    stars
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_blacked_out_and_nothing_moves() {
        let text =
            "a: 1\nssh: { password: hünter2, port: 22 }\nkey: |\n  -----BEGIN X-----\n  abc\n  -----END X-----\nb: 2\n";
        let shown = blacked_out(text);
        assert_eq!(shown.len(), text.len());
        assert!(!shown.contains("nter2") && !shown.contains("abc") && !shown.contains("BEGIN"), "{shown}");
        assert!(shown.contains("b: 2") && shown.contains("password:"), "{shown}");
    }

    #[test]
    fn the_value_below_a_secrets_name_is_blacked_out_too() {
        let shown = blacked_out("password: >-\n  open\n  sesame\nport: 22\n");
        assert!(!shown.contains("open") && !shown.contains("sesame") && shown.contains("port: 22"), "{shown}");
    }

    #[test]
    fn columns_count_characters() {
        assert_eq!(line_and_column("ä: x\nü: y\n", "ä: x\nü: ".len()), (2, 4));
    }
}
