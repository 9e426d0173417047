//! A file against the schema: each mistake with the nearest right name.

use std::collections::HashMap;

use serde_json::Value as Json;

use super::{join, properties, resolve};
use crate::cluster::nearest::{nearest, one_of};
use crate::cluster::problem::{Problem, names_a_secret};
use crate::cluster::words::{quoted, rule_for};
use crate::cluster::yaml::{Entry, Node, Span, Value};

/// A field while it is checked: its path, and where to point when something is missing in it.
pub(super) struct Place {
    path: String,
    name: Span,
}

impl Place {
    /// The whole file.
    pub(super) fn root(node: &Node) -> Self {
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

/// Goes through the file and the schema side by side.
pub(super) struct Checker<'a> {
    pub(super) root: &'a Json,
    pub(super) homes: HashMap<String, Vec<String>>,
    pub(super) problems: Vec<Problem>,
}

impl Checker<'_> {
    fn tell(&mut self, place: &Place, problem: Problem) {
        self.problems.push(problem.path(&place.path));
    }

    /// Check a value.
    pub(super) fn value(&mut self, node: &Node, schema: &Json, place: &Place) {
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
            let problem =
                Problem::at(place.name.clone(), format!("{} entries; at most {most} are allowed", entries.len()));
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
            let about =
                schema.get("properties").and_then(|fields| fields.get(name)).and_then(|field| self.about(field));
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
        problem
            .label("no such field")
            .hint(format!("the fields of {owner} are {}", one_of(names).replace(" or ", " and ")))
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
            let problem =
                Problem::at(node.span.clone(), format!("{length} characters long; at most {most} are allowed"));
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
            let problem =
                Problem::at(node.span.clone(), format!("{number} is out of range")).label(format!("allowed: {range}"));
            self.tell(place, problem);
        }
    }

    fn choice(&mut self, node: &Node, choices: &[&str], place: &Place) {
        let given = match &node.value {
            Value::Text(text) if choices.contains(&text.as_str()) => return,
            Value::Text(text) => text.clone(),
            Value::Null => {
                let problem = Problem::at(node.span.clone(), "has no value")
                    .label(format!("write {}", one_of(choices.iter().copied())));
                return self.tell(place, problem);
            }
            other => describe(other),
        };
        let mut problem = Problem::at(node.span.clone(), format!("{} is not one of the values", quoted(&given)));
        let near = nearest(&given, choices.iter().copied());
        problem = match near {
            Some(name) => problem.label(format!("did you mean `{name}`?")),
            None => problem.label("not allowed"),
        };
        // Where the nearest is told, a long list or the same word again would only be noise.
        if near.is_none() || (2..=5).contains(&choices.len()) {
            problem = problem.hint(format!("write {}", one_of(choices.iter().copied())));
        }
        self.tell(place, problem);
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
            .hint(if default {
                "remove the field to have its default"
            } else {
                "give it a value, or remove it if it is optional"
            }),
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
        (Value::Map(_) | Value::Text(_), "array") => {
            Problem::at(span, format!("must be a list, found {}", describe(&node.value)))
                .label("not a list")
                .hint("start each item with `- `, or write [first, second]")
        }
        (found, _) => Problem::at(span, format!("must be {wanted_words}, found {}", describe(found)))
            .label(format!("not {wanted_words}")),
    }
}
