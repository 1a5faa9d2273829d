//! A cluster's resource, followed: a picture on a terminal, else a line for each change.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::kubectl::{Kubectl, name};
use super::look::{condition, list, text};
use crate::report::{Failure, Report};
use crate::screen::{Paint, Screen, bar};
use crate::table::Table;

const PERIOD: Duration = Duration::from_secs(1);
/// Changes that stay on the screen.
const HISTORY: usize = 8;

/// Follows a cluster until Ctrl-C or, if asked for, until it is ready.
pub async fn watch(
    kubectl: &Kubectl,
    wanted: Option<&str>,
    until_ready: bool,
) -> Result<Report, Failure> {
    let screen = Screen::new(true);
    let begun = Instant::now();
    let mut history: VecDeque<String> = VecDeque::new();
    let mut last = String::new();
    loop {
        let lines = match kubectl.cluster(wanted).await {
            Ok(cluster) => {
                let now = change(&cluster);
                if now != last {
                    let line = format!("{:>4} s  {now}", begun.elapsed().as_secs());
                    last = now;
                    if !screen.is_terminal() {
                        println!("{line}");
                    }
                    history.push_back(line);
                    if history.len() > HISTORY {
                        history.pop_front();
                    }
                }
                if until_ready && is_done(&cluster) {
                    return Ok(Report::nothing());
                }
                picture(&cluster, &history, screen.paint())
            }
            // An API server that is away for a while is one of the things to watch.
            Err(failure) if screen.is_terminal() && begun.elapsed() > PERIOD => {
                vec![failure.to_string()]
            }
            Err(failure) => return Err(failure),
        };
        if screen.is_terminal() && !screen.show(&lines) {
            return Ok(Report::nothing());
        }
        tokio::select! {
            () = tokio::time::sleep(PERIOD) => {}
            _ = tokio::signal::ctrl_c() => return Ok(Report::nothing()),
        }
    }
}

/// Nothing that the spec asks for is left to do.
fn is_done(cluster: &Value) -> bool {
    let status = &cluster["status"];
    let ready = condition(cluster, "Ready").is_some_and(|ready| ready["status"] == "True");
    let seen = status["observedGeneration"] == cluster["metadata"]["generation"];
    ready && seen && status["operation"].is_null()
}

/// What goes on, in a line.
fn change(cluster: &Value) -> String {
    let operation = &cluster["status"]["operation"];
    if operation.is_object() {
        let [kind, subject, step, message] =
            ["type", "subject", "step", "message"].map(|field| text(&operation[field]));
        return format!("{kind} {subject}, {step}: {message}");
    }
    match condition(cluster, "Ready") {
        Some(ready) => format!("{}: {}", text(&ready["reason"]), text(&ready["message"])),
        None => "the operator has not seen it yet".to_owned(),
    }
}

fn picture(cluster: &Value, history: &VecDeque<String>, paint: Paint) -> Vec<String> {
    let (spec, status) = (&cluster["spec"], &cluster["status"]);
    let is = |kind: &str| condition(cluster, kind).is_some_and(|c| c["status"] == "True");
    let flag = |kind: &str, good: bool| match is(kind) == good {
        true => paint.green(kind),
        false => paint.yellow(kind),
    };
    let groups = &status["groups"];
    let mut lines = vec![
        format!(
            "{}  version {}  {} nodes  {} groups: {} available, {} leaderless",
            paint.bold(name(cluster)),
            text(&spec["version"]),
            spec["replicas"],
            spec["groups"],
            groups["available"],
            groups["leaderless"],
        ),
        ["Ready", "Available", "FullyReplicated", "Balanced", "NodesConnected"]
            .map(|kind| flag(kind, true))
            .join("  "),
        String::new(),
    ];
    let nodes = list(&status["nodes"]);
    let table = nodes_table(nodes, spec["groups"].as_u64().unwrap_or(0)).lines();
    lines.push(paint.bold(&table[0]));
    for (line, node) in table[1..].iter().zip(nodes) {
        lines.push(match text(&node["state"]) {
            "Serving" => line.clone(),
            "Unknown" | "Absent" => paint.red(line),
            _ => paint.yellow(line),
        });
    }
    if is("Stalled") {
        let stalled = condition(cluster, "Stalled").map_or("", |c| text(&c["message"]));
        lines.extend([String::new(), paint.red(stalled)]);
    }
    lines.push(String::new());
    lines.extend(history.iter().cloned());
    lines
}

fn nodes_table(nodes: &[Value], groups: u64) -> Table {
    let head = ["NODE", "STATE", "VERSION", "MACHINE", "ZONE", "VOTERS", "", "LEADS", ""];
    let mut table = Table::new(head);
    for node in nodes {
        let count = |field: &str| node[field].as_u64().unwrap_or(0);
        let learners = match count("learners") {
            0 => String::new(),
            learners => format!(" +{learners}"),
        };
        let share = |count: u64| bar(count as usize, groups as usize);
        let [name, state, version, machine, zone] =
            ["name", "state", "version", "machine", "zone"].map(|f| text(&node[f]).to_owned());
        table.row([
            name,
            state,
            version,
            machine,
            zone,
            format!("{}{learners}", count("voters")),
            share(count("voters")),
            count("leaders").to_string(),
            share(count("leaders")),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn cluster(ready: &str, operation: Value) -> Value {
        json!({
            "metadata": {"name": "orders", "generation": 2},
            "spec": {"version": "1.0.0", "replicas": 1, "groups": 10},
            "status": {
                "observedGeneration": 2,
                "operation": operation,
                "groups": {"available": 10, "leaderless": 0},
                "conditions": [{"type": "Ready", "status": ready, "reason": "Why", "message": "so"}],
                "nodes": [
                    {"name": "orders-0", "state": "Draining", "machine": "m", "zone": "z",
                     "leaders": 5, "voters": 10, "learners": 2},
                ],
            },
        })
    }

    #[test]
    fn it_is_done_when_it_is_ready_and_nothing_goes_on() {
        assert!(is_done(&cluster("True", Value::Null)));
        assert!(!is_done(&cluster("False", Value::Null)));
        assert!(!is_done(&cluster("True", json!({"type": "Rebalance"}))));
        let mut old = cluster("True", Value::Null);
        old["metadata"]["generation"] = json!(3);
        assert!(!is_done(&old));
    }

    #[test]
    fn a_picture_has_nodes_and_what_goes_on() {
        let roll = json!({"type": "Roll", "subject": "orders-0", "step": "Drain", "message": "m"});
        let cluster = cluster("False", roll);
        let history = VecDeque::from([change(&cluster)]);
        let told = picture(&cluster, &history, Paint(false)).join("\n");
        for words in ["10 +2   ██████████  5      █████·····", "Roll orders-0, Drain: m"]
        {
            assert!(told.contains(words), "{words:?} is not in\n{told}");
        }
        assert!(picture(&cluster, &history, Paint(true)).join("\n").contains("\x1b[33m"));
    }
}
