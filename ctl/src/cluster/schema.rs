//! The schema of cluster.yaml, made from the types, and a check of a file against it.
//!
//! Editors read the same schema (`hzctl schema`), so what they underline and what hzctl refuses cannot drift apart.

use std::collections::HashMap;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::LazyLock;

use ipnet::Ipv4Net;
use serde_json::Value as Json;

use super::Cluster;
use super::nearest::{nearest, one_of};
use super::problem::{Problem, names_a_secret};
use super::yaml::{Entry, Node, Span, Value};

/// The JSON schema of cluster.yaml.
pub fn schema() -> Json {
    let mut schema = schemars::schema_for!(Cluster).to_value();
    without_null(&mut schema);
    schema
}

/// An optional field is left out, not set to null: a null is more often a forgotten value.
fn without_null(schema: &mut Json) {
    match schema {
        Json::Object(fields) => {
            if let Some(Json::Array(types)) = fields.get_mut("type") {
                types.retain(|kind| kind != "null");
                if let [only] = types.as_slice() {
                    let only = only.clone();
                    fields.insert("type".to_owned(), only);
                }
            }
            if let Some(Json::Array(choices)) = fields.get_mut("anyOf") {
                choices.retain(|choice| choice.get("type") != Some(&Json::from("null")));
                if let [Json::Object(only)] = choices.as_slice() {
                    let only = only.clone();
                    fields.remove("anyOf");
                    fields.extend(only);
                }
            }
            fields.values_mut().for_each(without_null);
        }
        Json::Array(items) => items.iter_mut().for_each(without_null),
        _ => {}
    }
}

/// Everything in the file that the schema does not allow.
pub fn check(root: &Node) -> Vec<Problem> {
    static SCHEMA: LazyLock<Json> = LazyLock::new(schema);
    let mut checker = Checker { root: &SCHEMA, homes: homes(&SCHEMA), problems: Vec::new() };
    checker.value(root, &SCHEMA, &Place::root(root));
    checker.problems
}

/// Which objects have a field of this name, for a field that stands on the wrong level.
fn homes(root: &Json) -> HashMap<String, Vec<String>> {
    fn walk(root: &Json, schema: &Json, path: &str, homes: &mut HashMap<String, Vec<String>>) {
        let schema = resolve(root, schema);
        for (name, field) in properties(schema) {
            homes.entry(name.to_owned()).or_default().push(path.to_owned());
            walk(root, field, &join(path, name), homes);
        }
        if let Some(items) = schema.get("items") {
            walk(root, items, &format!("{path}[]"), homes);
        }
    }
    let mut homes = HashMap::new();
    walk(root, root, "", &mut homes);
    homes
}

fn resolve<'a>(root: &'a Json, schema: &'a Json) -> &'a Json {
    let target = schema.get("$ref").and_then(Json::as_str).and_then(|path| path.strip_prefix("#/$defs/"));
    target.and_then(|name| root.get("$defs")?.get(name)).unwrap_or(schema)
}

fn properties(schema: &Json) -> impl Iterator<Item = (&str, &Json)> {
    schema.get("properties").and_then(Json::as_object).into_iter().flatten().map(|(name, field)| (name.as_str(), field))
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

/// A field while it is checked: its path, and where to point when something is missing in it.
struct Place {
    path: String,
    name: Span,
}

impl Place {
    fn root(node: &Node) -> Self {
        Place { path: String::new(), name: first_key(node) }
    }

    fn field(&self, entry: &Entry) -> Self {
        Place { path: join(&self.path, &entry.key), name: entry.key_span.clone() }
    }

    fn item(&self, index: usize, node: &Node) -> Self {
        Place { path: format!("{}[{index}]", self.path), name: first_key(node) }
    }
}

fn first_key(node: &Node) -> Span {
    match &node.value {
        Value::Map(entries) => entries.first().map_or(node.span.clone(), |entry| entry.key_span.clone()),
        _ => node.span.clone(),
    }
}

struct Checker<'a> {
    root: &'a Json,
    homes: HashMap<String, Vec<String>>,
    problems: Vec<Problem>,
}

impl Checker<'_> {
    fn tell(&mut self, place: &Place, problem: Problem) {
        self.problems.push(problem.path(&place.path));
    }

    fn value(&mut self, node: &Node, schema: &Json, place: &Place) {
        let given = schema;
        let schema = resolve(self.root, schema);
        if let Some(choices) = choices(schema) {
            return self.choice(node, &choices, place);
        }
        let wanted = schema.get("type").and_then(Json::as_str).unwrap_or_default();
        match (wanted, &node.value) {
            ("object", Value::Map(entries)) => self.object(entries, schema, place),
            ("array", Value::List(items)) => self.array(node, items, schema, place),
            ("string", Value::Text(text)) => self.string(node, text, schema, place),
            ("integer", Value::Integer(number)) => self.integer(node, *number, schema, place),
            _ => {
                let problem = wrong_type(node, wanted, given, place);
                self.tell(place, problem);
            }
        }
    }

    fn object(&mut self, entries: &[Entry], schema: &Json, place: &Place) {
        for (index, entry) in entries.iter().enumerate() {
            if entries[..index].iter().any(|earlier| earlier.key == entry.key) {
                let problem = Problem::at(entry.key_span.clone(), format!("`{}` stands here a second time", entry.key))
                    .label("again")
                    .hint("keep one of the two");
                self.tell(&place.field(entry), problem);
                continue;
            }
            let field = schema.get("properties").and_then(|fields| fields.get(&entry.key));
            let any = schema.get("additionalProperties").filter(|other| other.is_object());
            match field.or(any) {
                Some(field) => self.value(&entry.node, field, &place.field(entry)),
                None => {
                    let problem = self.unknown(entry, entries, schema, place);
                    self.tell(&place.field(entry), problem);
                }
            }
        }
        self.missing(entries, schema, place);
        if let Some(most) = limit(schema, "maxProperties").filter(|most| entries.len() as i128 > *most) {
            let problem = Problem::at(place.name.clone(), format!("{} entries; at most {most} are allowed", entries.len()));
            self.tell(place, problem);
        }
    }

    fn missing(&mut self, entries: &[Entry], schema: &Json, place: &Place) {
        let required = schema.get("required").and_then(Json::as_array);
        for name in required.into_iter().flatten().filter_map(Json::as_str) {
            let there = entries.iter().any(|entry| entry.key == name);
            // A misspelt field is told as such; that it is also missing says nothing new.
            let misspelt = entries.iter().any(|entry| {
                let known = properties(schema).any(|(known, _)| known == entry.key);
                let meant = nearest(&entry.key, properties(schema).map(|(name, _)| name)) == Some(name);
                !known && (meant || name == "identityFile" && names_a_secret(&entry.key))
            });
            if there || misspelt {
                continue;
            }
            let about = schema.get("properties").and_then(|fields| fields.get(name)).and_then(|field| self.about(field));
            let mut problem = Problem::at(place.name.clone(), format!("the field `{name}` is missing"))
                .label(format!("`{name}` belongs in here"));
            if let Some(about) = about {
                problem = problem.hint(format!("`{name}`: {about}"));
            }
            self.tell(place, problem);
        }
    }

    /// The first sentence of a field's documentation.
    fn about(&self, field: &Json) -> Option<String> {
        let text = |schema: &Json| schema.get("description").and_then(Json::as_str).map(str::to_owned);
        let text = text(field).or_else(|| text(resolve(self.root, field)))?;
        let first = text.split("\n\n").next().unwrap_or_default().replace('\n', " ");
        Some(first.split_once(". ").map_or(first.clone(), |(sentence, _)| format!("{sentence}.")))
    }

    fn unknown(&self, entry: &Entry, entries: &[Entry], schema: &Json, place: &Place) -> Problem {
        let problem = Problem::at(entry.key_span.clone(), format!("unknown field `{}`", entry.key));
        if names_a_secret(&entry.key) {
            return secret(problem, &entry.key);
        }
        if entry.key == "<<" {
            return problem.label("merge keys are not read here").hint("write the fields out");
        }
        let names: Vec<&str> = properties(schema).map(|(name, _)| name).collect();
        let left = names.iter().copied().filter(|name| !entries.iter().any(|entry| entry.key == *name));
        if let Some(name) = nearest(&entry.key, left) {
            return problem.label(format!("did you mean `{name}`?"));
        }
        if let Some(home) = self.homes.get(&entry.key).and_then(|homes| homes.first()) {
            let right = if home.is_empty() { "the top level".to_owned() } else { format!("`{home}`") };
            return problem.label(format!("belongs in {right}"));
        }
        let owner = if place.path.is_empty() { "the top level" } else { &place.path };
        problem.label("no such field").hint(format!("the fields of {owner} are {}", one_of(names).replace(" or ", " and ")))
    }

    fn array(&mut self, node: &Node, items: &[Node], schema: &Json, place: &Place) {
        let count = items.len() as i128;
        if let Some(fewest) = limit(schema, "minItems").filter(|fewest| count < *fewest) {
            let problem = Problem::at(place.name.clone(), format!("the list needs at least {fewest} item"));
            self.tell(place, problem);
        }
        if let Some(most) = limit(schema, "maxItems").filter(|most| count > *most) {
            let problem = Problem::at(node.span.clone(), format!("{count} items; at most {most} are allowed"));
            self.tell(place, problem);
        }
        if let Some(schema) = schema.get("items") {
            for (index, item) in items.iter().enumerate() {
                self.value(item, schema, &place.item(index, item));
            }
        }
    }

    fn string(&mut self, node: &Node, text: &str, schema: &Json, place: &Place) {
        if text.contains("-----BEGIN") {
            let problem = Problem::at(node.span.clone(), "a key stands here where a path or a name belongs");
            return self.tell(place, secret(problem, "a private key"));
        }
        let length = text.chars().count() as i128;
        if limit(schema, "minLength").is_some_and(|fewest| length < fewest) && text.is_empty() {
            let problem = Problem::at(node.span.clone(), "must not be empty");
            return self.tell(place, problem);
        }
        if let Some(most) = limit(schema, "maxLength").filter(|most| length > *most) {
            let problem = Problem::at(node.span.clone(), format!("{length} characters long; at most {most} are allowed"));
            return self.tell(place, problem);
        }
        if text.chars().any(|character| character.is_control()) {
            let problem = Problem::at(node.span.clone(), "holds a control character or a line break");
            return self.tell(place, problem);
        }
        let rule = schema.get("pattern").or_else(|| schema.get("format")).and_then(Json::as_str);
        if let Some(Err((message, hint))) = rule.and_then(rule_for).map(|rule| rule(text)) {
            let mut problem = Problem::at(node.span.clone(), message);
            problem.hint = hint;
            self.tell(place, problem);
        }
    }

    fn integer(&mut self, node: &Node, number: i128, schema: &Json, place: &Place) {
        let (least, most) = (limit(schema, "minimum"), limit(schema, "maximum"));
        if least.is_some_and(|least| number < least) || most.is_some_and(|most| number > most) {
            let range = match (least, most) {
                (Some(least), Some(most)) => format!("{least} to {most}"),
                (Some(least), None) => format!("{least} or more"),
                (None, most) => format!("at most {}", most.unwrap_or_default()),
            };
            let problem = Problem::at(node.span.clone(), format!("{number} is out of range"))
                .label(format!("allowed: {range}"));
            self.tell(place, problem);
        }
    }

    fn choice(&mut self, node: &Node, choices: &[&str], place: &Place) {
        let given = match &node.value {
            Value::Text(text) if choices.contains(&text.as_str()) => return,
            Value::Text(text) => text.clone(),
            Value::Null => {
                let problem = Problem::at(node.span.clone(), "has no value").label(format!("write {}", one_of(choices.iter().copied())));
                return self.tell(place, problem);
            }
            other => describe(other),
        };
        let mut problem = Problem::at(node.span.clone(), format!("{} is not one of the values", quoted(&given)));
        problem = match nearest(&given, choices.iter().copied()) {
            Some(name) => problem.label(format!("did you mean `{name}`?")),
            None => problem.label("not allowed"),
        };
        self.tell(place, problem.hint(format!("write {}", one_of(choices.iter().copied()))));
    }
}

fn secret(problem: Problem, name: &str) -> Problem {
    let way = match name.to_lowercase() {
        name if name.contains("pass") && !name.contains("phrase") => {
            "hzctl logs in with a key (`identityFile`), and sudo must not ask for a password"
        }
        name if name.contains("passphrase") => "use a key without a passphrase, readable by you alone",
        _ => "put the key into a file that only you can read and name that file in `identityFile`",
    };
    problem.label("no secret may stand in this file").hint(way)
}

fn quoted(text: &str) -> String {
    let short: String = text.chars().take(60).collect();
    if short.len() < text.len() { format!("`{short}…`") } else { format!("`{short}`") }
}

/// The values a field may take, if it may take only some.
fn choices(schema: &Json) -> Option<Vec<&str>> {
    if let Some(only) = schema.get("const").and_then(Json::as_str) {
        return Some(vec![only]);
    }
    if let Some(names) = schema.get("enum").and_then(Json::as_array) {
        return Some(names.iter().filter_map(Json::as_str).collect());
    }
    let variants = schema.get("oneOf")?.as_array()?;
    Some(variants.iter().filter_map(choices).flatten().collect())
}

fn limit(schema: &Json, name: &str) -> Option<i128> {
    schema.get(name).and_then(Json::as_i64).map(i128::from)
}

fn describe(value: &Value) -> String {
    match value {
        Value::Null => "nothing".to_owned(),
        Value::Bool(value) => value.to_string(),
        Value::Integer(number) => number.to_string(),
        Value::Float(text) => text.clone(),
        Value::Text(_) => "text".to_owned(),
        Value::List(_) => "a list".to_owned(),
        Value::Map(_) => "fields".to_owned(),
    }
}

fn wrong_type(node: &Node, wanted: &str, schema: &Json, place: &Place) -> Problem {
    let wanted_words = match wanted {
        "object" => "fields",
        "array" => "a list",
        "integer" => "a whole number",
        _ => "text",
    };
    // A list or a map is long: its name says enough.
    let span = match node.value {
        Value::List(_) | Value::Map(_) | Value::Null => place.name.clone(),
        _ => node.span.clone(),
    };
    let default = schema.get("default").is_some();
    match (&node.value, wanted) {
        (Value::Null, _) => Problem::at(span, format!("has no value; {wanted_words} must follow"))
            .label("nothing follows")
            .hint(if default { "remove the field to have its default" } else { "give it a value, or remove it if it is optional" }),
        (Value::Integer(_) | Value::Float(_) | Value::Bool(_), "string") => {
            let found = describe(&node.value);
            Problem::at(span, format!("must be text, and YAML reads {found} as something else"))
                .label("not text")
                .hint(format!("put it in quotes: \"{found}\""))
        }
        (Value::Text(text), "integer") if text.parse::<i128>().is_ok() => {
            Problem::at(span, "must be a whole number, not text").label("remove the quotes")
        }
        (Value::Float(text), "integer") if text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-') => {
            Problem::at(span, "the number is too large").label("too large")
        }
        (Value::Text(_), "object") => Problem::at(span, "must be fields, found text")
            .label("not fields")
            .hint("a field is `name: value`, with a colon and a space"),
        (Value::Map(_) | Value::Text(_), "array") => Problem::at(span, format!("must be a list, found {}", describe(&node.value)))
            .label("not a list")
            .hint("start each item with `- `, or write [first, second]"),
        (found, _) => Problem::at(span, format!("must be {wanted_words}, found {}", describe(found)))
            .label(format!("not {wanted_words}")),
    }
}

type Refusal = (String, Option<String>);
type Rule = fn(&str) -> Result<(), Refusal>;

/// The reader behind a pattern or format: it says what is wrong, where a pattern only says that something is.
fn rule_for(pattern: &str) -> Option<Rule> {
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
        return Err((format!("{given} is an IPv6 address; hosts are reached by IPv4"), Some("give the host's IPv4 address".into())));
    }
    if let Some((address, _)) = text.split_once('/').filter(|(address, _)| address.parse::<Ipv4Addr>().is_ok()) {
        return Err((format!("{given} is a range; one address belongs here"), Some(format!("write {address}"))));
    }
    if let Some((address, port)) = text.split_once(':').filter(|(address, _)| address.parse::<Ipv4Addr>().is_ok()) {
        return Err((format!("{given} has a port; an address belongs here"), Some(format!("write {address}, and the port as `ssh: {{ port: {port} }}`"))));
    }
    if text.chars().any(char::is_alphabetic) {
        return Err((format!("{given} is a name; an IPv4 address belongs here"), Some("hosts must find each other without DNS, so write the address".into())));
    }
    Err((format!("{given} is not an IPv4 address"), Some("four numbers from 0 to 255 without leading zeros, such as 10.0.0.11".into())))
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
        return Err((format!("{given} does not start at the beginning of the range"), Some(format!("write {}", range.trunc()))));
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

#[cfg(test)]
mod tests {
    use super::*;

    fn every(schema: &Json, name: &str, found: &mut Vec<String>) {
        match schema {
            Json::Object(fields) => {
                if let Some(Json::String(text)) = fields.get(name) {
                    found.push(text.clone());
                }
                fields.values().for_each(|field| every(field, name, found));
            }
            Json::Array(items) => items.iter().for_each(|item| every(item, name, found)),
            _ => {}
        }
    }

    #[test]
    fn every_pattern_has_a_reader_that_says_what_is_wrong() {
        let mut patterns = Vec::new();
        every(&schema(), "pattern", &mut patterns);
        assert!(patterns.len() >= 6, "{patterns:?}");
        for pattern in patterns {
            assert!(rule_for(&pattern).is_some(), "{pattern}");
        }
    }

    #[test]
    fn nothing_in_the_schema_may_be_null() {
        assert!(!schema().to_string().contains("\"null\""));
    }

    #[test]
    fn every_field_is_explained() {
        let schema = schema();
        let mut silent = Vec::new();
        fn walk(root: &Json, schema: &Json, path: &str, silent: &mut Vec<String>) {
            let schema = resolve(root, schema);
            for (name, field) in properties(schema) {
                if field.get("description").is_none() {
                    silent.push(join(path, name));
                }
                walk(root, field, &join(path, name), silent);
            }
            if let Some(items) = schema.get("items") {
                walk(root, items, path, silent);
            }
        }
        walk(&schema, &schema, "", &mut silent);
        assert!(silent.is_empty(), "{silent:?}");
    }
}
