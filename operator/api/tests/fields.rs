//! Every field of the spec has a row in the table of the test that changes each of them on a running
//! cluster (`tests/e2e/scenarios/fields.sh`), and every row a field.

use std::collections::BTreeSet;

use multiraft_api::definitions;
use serde_json::Value;

/// Types of Kubernetes: one field each, whatever is in them.
const WHOLE: [&str; 2] = ["pod.affinity", "pod.resources"];

/// Paths of all fields that have no fields of ours below them.
fn leaves(schema: &Value, path: &str, found: &mut BTreeSet<String>) {
    match schema.get("properties").and_then(Value::as_object) {
        Some(fields) if !WHOLE.contains(&path) => {
            for (name, field) in fields {
                let below = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                leaves(field, &below, found);
            }
        }
        _ => drop(found.insert(path.to_owned())),
    }
}

#[test]
fn every_field_of_the_spec_is_changed_on_a_running_cluster() {
    let (_, cluster) = definitions().swap_remove(0);
    let spec = "/spec/versions/0/schema/openAPIV3Schema/properties/spec";
    let mut fields = BTreeSet::new();
    leaves(cluster.pointer(spec).expect("a schema"), "", &mut fields);
    assert!(fields.contains("storage.retention.whenScaled"), "{fields:?}");
    let table = include_str!("../../../tests/e2e/fields.txt");
    let rows = table.lines().filter(|line| !line.starts_with('#'));
    let rows: BTreeSet<String> =
        rows.filter_map(|row| Some(row.split_once('|')?.0.trim().to_owned())).collect();
    assert_eq!(fields, rows, "tests/e2e/fields.txt: a row for each field, and for nothing else");
}
