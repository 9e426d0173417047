//! The one report of the preflight, as a table for people.

use comfy_table::{ContentArrangement, Table, presets};

use super::{ALL, Finding, Severity};

/// All findings, the worst first.
pub fn table(findings: &[Finding], hosts: usize) -> String {
    let count = |severity| findings.iter().filter(|finding| finding.severity == severity).count();
    let (errors, warnings, waived) = (count(Severity::Error), count(Severity::Warning), count(Severity::Waived));
    let checks = ALL.len();
    if findings.is_empty() {
        return format!("Preflight: {checks} checks on {hosts} hosts, all passed.");
    }
    let mut table = Table::new();
    table.load_style(presets::UTF8_HORIZONTAL_ONLY).set_content_arrangement(ContentArrangement::Dynamic);
    table.set_header(["check", "", "host", "found", "what to do"]);
    let mut sorted: Vec<&Finding> = findings.iter().collect();
    sorted.sort_by_key(|finding| (finding.severity, finding.id, &finding.host));
    for finding in sorted {
        let severity = match finding.severity {
            Severity::Error => "mend",
            Severity::Warning => "note",
            Severity::Waived => "waived",
        };
        table.add_row([finding.id, severity, &finding.host, &finding.found, &finding.fix]);
    }
    format!(
        "{table}\nPreflight: {checks} checks on {hosts} hosts: {errors} to mend, {warnings} to note, {waived} waived."
    )
}
