//! The reference of kinds, written from their schemas, so that it cannot say what the API server does not do.

use std::fmt::Write;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSONSchemaProps, JSONSchemaPropsOrArray,
};

use crate::crd;

/// The page, in Markdown.
pub fn page() -> String {
    let mut page = String::from(
        "<!-- Generated from crds/src; do not edit. -->\n\n# Kinds\n\nEvery kind is of the group `hz.hospital`, version `v1alpha1`. \
         `kubectl get hz` lists all of them; `kubectl explain <kind>.spec` says the same as this page.\n",
    );
    for crd in crd::all() {
        kind(&mut page, &crd).expect("writing to a String succeeds");
    }
    page
}

fn kind(page: &mut String, crd: &CustomResourceDefinition) -> std::fmt::Result {
    let names = &crd.spec.names;
    let version = crd.spec.versions.first().expect("a definition has a version");
    let root =
        version.schema.as_ref().and_then(|schema| schema.open_api_v3_schema.as_ref()).expect("ours have a schema");
    writeln!(page, "\n## {}\n\n{}\n", names.kind, text(root))?;
    let scope = if crd.spec.scope == "Cluster" { "the whole cluster" } else { "a hospital's namespace" };
    let short = names.short_names.iter().flatten().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    writeln!(
        page,
        "Lives in {scope}. Short: {short}. Columns: {}.",
        columns(version.additional_printer_columns.as_deref())
    )?;
    for part in ["spec", "status"] {
        if let Some(schema) = root.properties.as_ref().and_then(|properties| properties.get(part)) {
            writeln!(page, "\n### {} {part}\n", names.kind)?;
            writeln!(page, "| field | type | default | limits | what it is |\n|---|---|---|---|---|")?;
            fields(page, "", schema)?;
            rules(page, root, part, schema)?;
        }
    }
    Ok(())
}

fn columns(
    columns: Option<
        &[k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceColumnDefinition],
    >,
) -> String {
    let all = columns.unwrap_or_default().iter();
    all.map(|column| {
        if column.priority.is_some_and(|priority| priority > 0) {
            format!("{} (wide)", column.name)
        } else {
            column.name.clone()
        }
    })
    .collect::<Vec<_>>()
    .join(", ")
}

fn fields(page: &mut String, prefix: &str, schema: &JSONSchemaProps) -> std::fmt::Result {
    let required = schema.required.as_deref().unwrap_or_default();
    for (name, field) in schema.properties.iter().flatten() {
        let path = format!("{prefix}{name}");
        let default = match &field.default {
            Some(default) => format!("`{}`", default.0),
            None if required.contains(name) => "required".into(),
            None => String::new(),
        };
        writeln!(page, "| `{path}` | {} | {default} | {} | {} |", type_of(field), limits(field), text(field))?;
        // Conditions have the same fields everywhere in Kubernetes.
        if name != "conditions" {
            fields(page, &format!("{path}."), field)?;
            if let Some(item) = item(field) {
                fields(page, &format!("{path}[]."), item)?;
            }
        }
    }
    Ok(())
}

fn item(schema: &JSONSchemaProps) -> Option<&JSONSchemaProps> {
    match schema.items.as_ref()? {
        JSONSchemaPropsOrArray::Schema(item) => Some(item),
        JSONSchemaPropsOrArray::Schemas(items) => items.first(),
    }
}

fn type_of(schema: &JSONSchemaProps) -> String {
    let name = schema.type_.as_deref().unwrap_or("object");
    item(schema)
        .map_or_else(|| name.to_owned(), |item| format!("list of {}", item.type_.as_deref().unwrap_or("object")))
}

fn limits(schema: &JSONSchemaProps) -> String {
    let mut limits = Vec::new();
    if let Some(values) = &schema.enum_ {
        limits.push(
            values
                .iter()
                .map(|value| format!("`{}`", value.0.as_str().unwrap_or_default()))
                .collect::<Vec<_>>()
                .join(", "),
        );
    }
    match (schema.minimum, schema.maximum) {
        (Some(least), Some(most)) => limits.push(format!("{least} to {most}")),
        (Some(least), None) => limits.push(format!("at least {least}")),
        (None, Some(most)) => limits.push(format!("at most {most}")),
        (None, None) => {}
    }
    limits.extend(schema.max_length.map(|most| format!("at most {most} letters")));
    limits.extend(schema.max_items.map(|most| format!("at most {most}")));
    limits.extend(schema.max_properties.map(|most| format!("at most {most}")));
    limits.join("; ")
}

fn rules(page: &mut String, root: &JSONSchemaProps, part: &str, schema: &JSONSchemaProps) -> std::fmt::Result {
    let mut found = Vec::new();
    if part == "spec" {
        own_rules(&mut found, "metadata.name", root);
    }
    all_rules(&mut found, part, schema);
    if !found.is_empty() {
        writeln!(page, "\nRefused at once by the API server:\n")?;
    }
    found.into_iter().try_for_each(|(path, message)| writeln!(page, "- `{path}`: {message}"))
}

fn all_rules(found: &mut Vec<(String, String)>, path: &str, schema: &JSONSchemaProps) {
    own_rules(found, path, schema);
    for (name, field) in schema.properties.iter().flatten() {
        all_rules(found, &format!("{path}.{name}"), field);
    }
    if let Some(item) = item(schema) {
        all_rules(found, &format!("{path}[]"), item);
    }
}

fn own_rules(found: &mut Vec<(String, String)>, path: &str, schema: &JSONSchemaProps) {
    let rules = schema.x_kubernetes_validations.iter().flatten();
    found.extend(rules.map(|rule| (path.to_owned(), rule.message.clone().unwrap_or_else(|| rule.rule.clone()))));
}

/// A description on one line, as a table needs it.
fn text(schema: &JSONSchemaProps) -> String {
    schema
        .description
        .as_deref()
        .unwrap_or_default()
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ")
        .replace('|', "\\|")
}
