//! Words for a POSIX shell on the other side.

/// One word, quoted only where it must be.
pub fn word(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,@%+".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// A command line from words.
pub fn line<S: AsRef<str>>(words: &[S]) -> String {
    words.iter().map(|text| word(text.as_ref())).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_words_stay_plain() {
        assert_eq!(line(&["/usr/bin/ctr", "-n", "k8s.io"]), "/usr/bin/ctr -n k8s.io");
    }

    #[test]
    fn a_quote_a_space_and_nothing_survive_the_shell() {
        assert_eq!(line(&["it's", "a b", "", "$HOME"]), r"'it'\''s' 'a b' '' '$HOME'");
    }
}
