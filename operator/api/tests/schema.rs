//! The schema's rules accept and refuse what the table says, and the committed files are fresh.

use multiraft_api::{MultiRaftClusterSpec, definitions};
use serde::Deserialize as _;
use serde_json::{Value, json};

/// `base` with the difference's fields in their place; null takes a field away.
fn spec(base: &Value, difference: &Value) -> Value {
    let mut spec = base.clone();
    for (field, value) in difference.as_object().expect("a difference is a map") {
        match value {
            Value::Null => drop(spec.as_object_mut().expect("base is a map").remove(field)),
            value => spec[field] = value.clone(),
        }
    }
    spec
}

#[test]
fn rules_say_what_the_table_says() {
    let table: Value =
        serde_yaml::from_str(include_str!("cel/cluster.yaml")).expect("the table is YAML");
    for case in table["cases"].as_array().expect("cases") {
        let new = spec(&table["base"], &case["spec"]);
        let old = case.get("old").map(|old| spec(&table["base"], old));
        let answer = MultiRaftClusterSpec::validate_cel(&new, old.as_ref());
        match case.get("message").and_then(Value::as_str) {
            None => assert!(answer.is_ok(), "{}: {answer:?}", case["name"]),
            Some(part) => {
                let refusal =
                    format!("{:?}", answer.expect_err(&format!("{} is refused", case["name"])));
                assert!(refusal.contains(part), "{}: {refusal}", case["name"]);
            }
        }
    }
}

#[test]
fn committed_definitions_are_fresh_and_small() {
    let committed = [
        include_str!("../../../config/crd/multiraft.atomix.io_multiraftclusters.yaml"),
        include_str!("../../../config/crd/multiraft.atomix.io_raftpartitionslices.yaml"),
    ];
    let chart = [
        include_str!(
            "../../../charts/multiraft-operator/files/crds/multiraft.atomix.io_multiraftclusters.yaml"
        ),
        include_str!(
            "../../../charts/multiraft-operator/files/crds/multiraft.atomix.io_raftpartitionslices.yaml"
        ),
    ];
    for (((name, definition), committed), chart) in definitions().iter().zip(committed).zip(chart) {
        let text = serde_yaml::to_string(definition).expect("a definition is YAML");
        assert!(text == committed && text == chart, "{name} is out of date: run `make fix`");
        // An annotation of client-side apply holds the whole file.
        assert!(text.len() < 262_144, "{name}: {} bytes", text.len());
        assert!(!text.contains(": []"), "{name} has an empty array, a permanent difference");
    }
}

#[test]
fn samples_have_only_fields_that_are_known_and_an_operator_minds_no_others() {
    for sample in [
        include_str!("../../../config/samples/minimal.yaml"),
        include_str!("../../../config/samples/full.yaml"),
        include_str!("../../../config/samples/tls.yaml"),
    ] {
        let documents = serde_yaml::Deserializer::from_str(sample);
        let mut all = documents.map(|document| Value::deserialize(document).expect("YAML"));
        let sample = all.find(|object| object["kind"] == "MultiRaftCluster").expect("a cluster");
        let mut spec = sample["spec"].clone();
        let typed: MultiRaftClusterSpec = serde_json::from_value(spec.clone()).expect("accepted");
        // The API server evaluates rules after it put the defaults in, as serialization does.
        let defaulted = serde_json::to_value(typed).expect("serializes");
        assert!(MultiRaftClusterSpec::validate_cel(&defaulted, None).is_ok());
        assert!(is_part(&spec, &defaulted), "a field that nobody knows: {spec}");
        spec["replicaz"] = json!(3);
        assert!(!is_part(&spec, &defaulted), "this would not be seen");
        // Of a later release, say: the API server refuses fields that its definition does not have.
        serde_json::from_value::<MultiRaftClusterSpec>(spec).expect("an operator goes on");
    }
}

/// Every field of the one is in the other.
fn is_part(part: &Value, whole: &Value) -> bool {
    match (part, whole) {
        (Value::Object(part), Value::Object(whole)) => part
            .iter()
            .all(|(name, value)| whole.get(name).is_some_and(|other| is_part(value, other))),
        (Value::Array(part), Value::Array(whole)) => {
            part.len() == whole.len() && part.iter().zip(whole).all(|(a, b)| is_part(a, b))
        }
        (part, whole) => part == whole,
    }
}
