//! What a text may be: addresses, ranges, names. Each reader says what is wrong and, where it can, what to write.

use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::Ipv4Net;

/// What is wrong, and what to do.
pub type Refusal = (String, Option<String>);
/// Says what is wrong with a text.
pub type Rule = fn(&str) -> Result<(), Refusal>;

/// The reader behind a pattern or format: it says what is wrong, where a pattern only says that something is.
pub fn rule_for(pattern: &str) -> Option<Rule> {
    match pattern {
        "ipv4" => Some(ipv4),
        r"^[0-9]+(\.[0-9]+){3}/[0-9]+$" => Some(cidr),
        r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$" => Some(dns_label),
        r"^[a-z_][a-z0-9_-]*$" => Some(user),
        "^/" => Some(absolute),
        _ => None,
    }
}

fn ipv4(text: &str) -> Result<(), Refusal> {
    if text.parse::<Ipv4Addr>().is_ok() {
        return Ok(());
    }
    let given = quoted(text);
    if text.trim_matches(['[', ']']).split('%').next().is_some_and(|text| text.parse::<Ipv6Addr>().is_ok()) {
        return Err((
            format!("{given} is an IPv6 address; hosts are reached by IPv4"),
            Some("give the host's IPv4 address".into()),
        ));
    }
    if let Some((address, _)) = text.split_once('/').filter(|(address, _)| address.parse::<Ipv4Addr>().is_ok()) {
        return Err((format!("{given} is a range; one address belongs here"), Some(format!("write {address}"))));
    }
    if let Some((address, port)) = text.split_once(':').filter(|(address, _)| address.parse::<Ipv4Addr>().is_ok()) {
        return Err((
            format!("{given} has a port; an address belongs here"),
            Some(format!("write {address}, and the port as `ssh: {{ port: {port} }}`")),
        ));
    }
    if text.chars().any(char::is_alphabetic) {
        return Err((
            format!("{given} is a name; an IPv4 address belongs here"),
            Some("hosts must find each other without DNS, so write the address".into()),
        ));
    }
    Err((
        format!("{given} is not an IPv4 address"),
        Some("four numbers from 0 to 255 without leading zeros, such as 10.0.0.11".into()),
    ))
}

fn cidr(text: &str) -> Result<(), Refusal> {
    let given = quoted(text);
    let hint = Some("an address and a length, such as 10.244.0.0/16".to_owned());
    if text.contains(':') {
        return Err((format!("{given} is an IPv6 range; only IPv4 is supported"), hint));
    }
    let Some((address, length)) = text.split_once('/') else {
        return Err((format!("{given} has no length"), hint));
    };
    if !length.parse::<u8>().is_ok_and(|length| length <= 32) {
        return Err((format!("{given}: the length must be 0 to 32"), hint));
    }
    if address.parse::<Ipv4Addr>().is_err() {
        return Err((format!("{given}: `{address}` is not an IPv4 address"), hint));
    }
    let Ok(range) = text.parse::<Ipv4Net>() else {
        return Err((format!("{given} is not a range of IPv4 addresses"), hint));
    };
    if range.trunc() != range {
        return Err((
            format!("{given} does not start at the beginning of the range"),
            Some(format!("write {}", range.trunc())),
        ));
    }
    Ok(())
}

fn dns_label(text: &str) -> Result<(), Refusal> {
    let good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if !text.is_empty() && text.chars().all(good) && !text.starts_with('-') && !text.ends_with('-') {
        return Ok(());
    }
    let repaired: String = text.to_lowercase().chars().map(|c| if good(c) { c } else { '-' }).collect();
    let repaired = repaired.split('-').filter(|part| !part.is_empty()).collect::<Vec<_>>().join("-");
    let hint = (!repaired.is_empty()).then(|| format!("write `{repaired}`"));
    Err((format!("{} is not a name: lower-case letters, digits and `-` inside", quoted(text)), hint))
}

fn user(text: &str) -> Result<(), Refusal> {
    let mut letters = text.chars();
    let first = letters.next().is_some_and(|c| c.is_ascii_lowercase() || c == '_');
    if first && letters.all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || c == '-') {
        return Ok(());
    }
    Err((format!("{} is not the name of a Linux user", quoted(text)), None))
}

fn absolute(text: &str) -> Result<(), Refusal> {
    if text.starts_with('/') {
        return Ok(());
    }
    Err((format!("{} is not an absolute path on the hosts", quoted(text)), Some("start it with `/`".into())))
}

/// The text as it is shown: in backticks, and not longer than anyone reads.
pub fn quoted(text: &str) -> String {
    let short: String = text.chars().take(60).collect();
    if short.len() < text.len() { format!("`{short}…`") } else { format!("`{short}`") }
}
