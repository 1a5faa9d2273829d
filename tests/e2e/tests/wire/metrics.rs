//! `/metrics` as Prometheus reads it.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use crate::nodes::{Node, Nodes, eventually};
use serde_json::json;

/// Types by family, and samples by name with labels.
#[derive(Default)]
struct Scrape {
    types: BTreeMap<String, String>,
    samples: BTreeMap<String, f64>,
}

fn scrape(node: &Node) -> Scrape {
    let mut stream = TcpStream::connect(&node.http).expect("the port is open");
    let request = format!("GET /metrics HTTP/1.0\r\nHost: {}\r\n\r\n", node.http);
    stream.write_all(request.as_bytes()).expect("it is sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("it is answered");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
    assert!(head.starts_with("HTTP/1.0 200") && head.contains("application/openmetrics-text"));
    assert!(body.ends_with("# EOF\n"), "{body}");
    let mut scrape = Scrape::default();
    let mut helped = String::new();
    for line in body.lines() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            let (name, text) = help.split_once(' ').expect("a name and a text");
            assert!(!text.is_empty(), "{line}");
            helped = name.to_owned();
        } else if let Some(kind) = line.strip_prefix("# TYPE ") {
            let (name, kind) = kind.split_once(' ').expect("a name and a type");
            assert_eq!(name, helped, "a type follows its help");
            let twice = scrape.types.insert(name.to_owned(), kind.to_owned());
            assert_eq!(twice, None, "{name} stands once");
        } else if line != "# EOF" {
            let (name, value) = line.rsplit_once(' ').expect("a name and a value");
            let value = value.parse().unwrap_or_else(|e| panic!("{line}: {e}"));
            let twice = scrape.samples.insert(name.to_owned(), value);
            assert_eq!(twice, None, "{name} stands once");
        }
    }
    scrape
}

impl Scrape {
    /// The sum of all samples of a name, whatever their labels.
    fn sum(&self, name: &str) -> f64 {
        let of_name = |sample: &str| sample.split('{').next() == Some(name);
        self.samples.iter().filter(|(sample, _)| of_name(sample)).map(|(_, value)| value).sum()
    }
}

#[test]
fn alerts_and_dashboards_name_metrics_that_there_are() {
    let nodes = Nodes::formed();
    let scrape = scrape(&nodes.nodes[0]);
    let folder =
        std::env::var_os("CARGO_MANIFEST_DIR").expect("cargo runs the test").into_string().unwrap();
    let chart = folder + "/../../charts/multiraft-operator/files";
    let mut seen = 0;
    for file in ["alerts.yaml", "dashboards/cluster.json"] {
        let text = std::fs::read_to_string(format!("{chart}/{file}")).expect("the chart's file");
        for rest in text.split("multiraft_node_").skip(1) {
            let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_');
            let name = format!("multiraft_node_{}", &rest[..end.unwrap_or(rest.len())]);
            let told = |sample: &String| sample.split('{').next() == Some(&name);
            let family = ["_total", "_bucket", "_count"].iter().find_map(|s| name.strip_suffix(s));
            let known = scrape.types.contains_key(family.unwrap_or(&name));
            assert!(known || scrape.samples.keys().any(told), "{file}: {name} is not served");
            // What they ask of its labels is there too.
            if let Some((_, wanted)) =
                rest.split_once("state=").filter(|(before, _)| !before.contains(')'))
            {
                let state = wanted.trim_start_matches(['\\', '"']).split(['\\', '"']).next();
                let label = format!("state=\"{}\"", state.unwrap_or_default());
                let has = |sample: &String| told(sample) && sample.contains(&label);
                assert!(scrape.samples.keys().any(has), "{file}: {name} has no {label}");
            }
            seen += 1;
        }
    }
    assert!(seen > 15, "only {seen} names were found");
}

#[test]
fn names_and_types_follow_the_conventions() {
    let nodes = Nodes::formed();
    let scrape = scrape(&nodes.nodes[0]);
    assert!(scrape.types.len() >= 25, "{:?}", scrape.types);
    for (name, kind) in &scrape.types {
        assert!(name.starts_with("multiraft_node_"), "{name}");
        assert!(name.chars().all(|c| c.is_ascii_lowercase() || c == '_'), "{name}");
        match kind.as_str() {
            "counter" => assert!(!name.ends_with("_total"), "{name}: the samples have it"),
            "histogram" => assert!(name.ends_with("_seconds"), "{name}"),
            kind => assert_eq!(kind, "gauge", "{name}"),
        }
    }
    for name in scrape.samples.keys() {
        let base = name.split('{').next().unwrap_or_default();
        let family = ["_total", "_bucket", "_sum", "_count"].iter().find_map(|suffix| {
            base.strip_suffix(suffix).filter(|family| scrape.types.contains_key(*family))
        });
        let kind = scrape.types.get(family.unwrap_or(base));
        assert!(kind.is_some(), "{name} has no type");
        assert_eq!(kind.map(String::as_str) == Some("counter"), base.ends_with("_total"), "{name}");
        let labels = name.split_once('{').map_or("", |(_, labels)| labels);
        assert!(!labels.contains("group"), "{name}: never a series for each group");
    }
}

#[test]
fn counters_move_with_the_work() {
    let mut nodes = Nodes::formed();
    eventually("a look at the disk", || {
        scrape(&nodes.nodes[0]).sum("multiraft_node_disk_free_bytes") > 0.0
    });
    let before: Vec<Scrape> = nodes.nodes.iter().map(scrape).collect();
    nodes.assert_serving();
    let unknown = json!({"headers": {"partitionId": 7}});
    assert!(nodes.nodes[0].call("Partition/OpenSession", &unknown).is_err());
    let drain = json!({"drain": true});
    eventually("nothing led", || nodes.nodes[0].ok("Node/Drain", &drain)["ledGroups"] == json!([]));
    let after: Vec<Scrape> = nodes.nodes.iter().map(scrape).collect();
    for name in [
        "multiraft_node_applied_items_total",
        "multiraft_node_log_entries_total",
        "multiraft_node_log_records_total",
        "multiraft_node_log_written_bytes_total",
        "multiraft_node_rounds_total",
        "multiraft_node_sync_duration_seconds_count",
        "multiraft_node_sync_duration_seconds_sum",
        "multiraft_node_sync_seconds_total",
    ] {
        for (before, after) in before.iter().zip(&after) {
            assert!(before.sum(name) < after.sum(name), "{name}");
        }
    }
    let first = &after[0];
    for (sample, least) in [
        ("multiraft_node_refusals_total{reason=\"unknown_group\"}", 1.0),
        ("multiraft_node_groups{state=\"followed\"}", 1.0),
        ("multiraft_node_members{role=\"voter\",phase=\"ready\"}", 1.0),
        ("multiraft_node_peers{state=\"up\"}", 2.0),
        ("multiraft_node_draining", 1.0),
        ("multiraft_node_memory_bytes", 1e6),
        ("multiraft_node_disk_used_bytes", 1.0),
        ("multiraft_node_call_duration_seconds_count{kind=\"command\",outcome=\"ok\"}", 3.0),
        ("multiraft_node_call_duration_seconds_count{kind=\"command\",outcome=\"refused\"}", 1.0),
        ("multiraft_node_call_duration_seconds_count{kind=\"administration\",outcome=\"ok\"}", 2.0),
    ] {
        let value = first.samples.get(sample).copied();
        assert!(value.is_some_and(|value| value >= least), "{sample}: {value:?}");
    }
    let all = |name: &str| after.iter().map(|scrape| scrape.sum(name)).sum::<f64>();
    assert!(all("multiraft_node_sessions") >= 1.0, "the leader's");
    assert!(all("multiraft_node_elections_total") >= 3.0);
    assert!(all("multiraft_node_leader_changes_total") >= 3.0);
}
