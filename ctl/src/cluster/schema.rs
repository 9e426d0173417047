//! The schema of cluster.yaml, made from the types, and a check of a file against it.
//!
//! Editors read the same schema (`hzctl schema`), so what they underline and what hzctl refuses cannot drift apart.

mod check;

use std::collections::HashMap;
use std::sync::LazyLock;

use serde_json::Value as Json;

use super::Cluster;
use super::problem::Problem;
use super::yaml::Node;
use check::{Checker, Place};

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
    static HOMES: LazyLock<HashMap<String, Vec<String>>> = LazyLock::new(|| homes(&SCHEMA));
    let mut checker = Checker { root: &SCHEMA, homes: HOMES.clone(), problems: Vec::new() };
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
#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::words::rule_for;

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
