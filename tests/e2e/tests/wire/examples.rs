//! The examples of the guides, run as they stand there.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output};

use multiraft_e2e::nodes::program;
use multiraft_proto::rpc;
use serde_json::Value;

use crate::nodes::{Nodes, Primitive, Session, eventually, grpcurl, number, ports, status};

const TYPES: [&str; 9] = [
    rpc::counter::TYPE,
    rpc::countermap::TYPE,
    rpc::election::TYPE,
    rpc::indexedmap::TYPE,
    rpc::lock::TYPE,
    rpc::map::TYPE,
    rpc::multimap::TYPE,
    rpc::set::TYPE,
    rpc::value::TYPE,
];

fn guide(name: &str) -> String {
    let folder =
        PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").expect("cargo runs the test"));
    let path = folder.join("../../docs").join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// A fenced block of a guide.
struct Block {
    /// Of the nearest heading of the second level.
    heading: String,
    /// `sh`, `json`, …; empty = a conversation.
    language: String,
    /// In the guide.
    line: usize,
    text: String,
}

fn blocks(guide: &str) -> Vec<Block> {
    let (mut blocks, mut heading, mut open) = (Vec::new(), String::new(), None::<Block>);
    for (line, text) in guide.lines().enumerate() {
        if let Some(language) = text.strip_prefix("```") {
            match open.take() {
                Some(block) => blocks.push(block),
                None => {
                    let (heading, language) = (heading.clone(), language.to_owned());
                    open = Some(Block { heading, language, line: line + 1, text: String::new() });
                }
            }
        } else if let Some(block) = &mut open {
            block.text.push_str(text);
            block.text.push('\n');
        } else if let Some(text) = text.strip_prefix("## ") {
            heading = text.to_owned();
        }
    }
    blocks
}

/// What is said, and what is answered.
enum Step {
    Shell { command: String, printed: String },
    Operation { name: String, input: Value, answer: Expected },
}

enum Expected {
    /// OK, with an output that has these fields.
    Output(Value),
    /// A status, and words of the message.
    Refusal(String, String),
}

/// `Operation {input}   {output}`, or `STATUS words of the message`, where an indented line goes on
/// with the one before; and `$ command` with what it prints below it.
fn steps(block: &Block) -> Vec<Step> {
    let mut lines: Vec<String> = Vec::new();
    for line in block.text.lines() {
        match lines.last_mut().filter(|_| line.starts_with(' ')) {
            Some(last) => last.push_str(line),
            None => lines.push(line.to_owned()),
        }
    }
    let mut steps = Vec::new();
    for line in lines {
        let operation = line.split_once(' ').filter(|(name, rest)| {
            name.starts_with(char::is_uppercase) && rest.trim_start().starts_with('{')
        });
        if let Some(command) = line.strip_prefix("$ ") {
            steps.push(Step::Shell { command: command.into(), printed: String::new() });
        } else if let Some((name, rest)) = operation {
            let (input, rest) = json(rest);
            let answer = match rest.trim_start() {
                output if output.starts_with('{') => Expected::Output(json(output).0),
                refusal => {
                    let (status, words) = refusal.split_once(' ').expect("a status and words");
                    Expected::Refusal(status.into(), words.trim().into())
                }
            };
            steps.push(Step::Operation { name: name.into(), input, answer });
        } else if let Some(Step::Shell { printed, .. }) = steps.last_mut() {
            printed.push_str(&line);
            printed.push('\n');
        } else {
            panic!("line {} and below: what is {line:?}?", block.line);
        }
    }
    steps
}

/// A value and what follows it.
fn json(text: &str) -> (Value, &str) {
    let mut values = serde_json::Deserializer::from_str(text).into_iter();
    let value = values.next().and_then(Result::ok).unwrap_or_else(|| panic!("no JSON: {text}"));
    (value, &text[values.byte_offset()..])
}

/// Whether the answer has all that is expected. Indexes and versions are others each time.
fn has(answer: &Value, expected: &Value, name: &str) -> bool {
    match (answer, expected) {
        (Value::Object(answer), Value::Object(expected)) => expected
            .iter()
            .all(|(name, value)| answer.get(name).is_some_and(|found| has(found, value, name))),
        (Value::Array(answer), Value::Array(expected)) => {
            answer.len() == expected.len()
                && answer.iter().zip(expected).all(|(found, value)| has(found, value, name))
        }
        _ if matches!(name, "index" | "version") => number(answer) > 0,
        _ => answer == expected,
    }
}

fn operate(primitive: &Primitive, service: &str, number: u64, step: &Step) -> Result<(), String> {
    let Step::Operation { name, input, answer } = step else { return Ok(()) };
    let method = format!("{service}/{name}");
    let got = primitive.operate(&method, number, input.clone());
    let message = got["headers"]["operation"]["message"].as_str().unwrap_or_default();
    let holds = match answer {
        Expected::Output(output) => status(&got) == "OK" && has(&got["output"], output, ""),
        Expected::Refusal(wanted, words) => status(&got) == wanted && message.contains(words),
    };
    holds.then_some(()).ok_or_else(|| format!("{name} {input}: {got}"))
}

/// Numbers are others each time.
fn without_numbers(text: &str) -> String {
    let mut plain = String::new();
    for c in text.trim_end().chars() {
        match c {
            '0'..='9' if plain.ends_with('#') => {}
            '0'..='9' => plain.push('#'),
            c => plain.push(c),
        }
    }
    plain
}

fn run(nodes: &Nodes, command: &str) -> String {
    let (name, arguments) = command.split_once(' ').expect("a program and its arguments");
    let endpoints: Vec<&str> = nodes.nodes.iter().map(|node| node.address.as_str()).collect();
    let output = Command::new(program(name))
        .args(arguments.split(' '))
        .env("MULTIRAFT_ENDPOINTS", endpoints.join(","))
        .output()
        .expect("the program starts");
    String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
}

#[test]
fn the_conversations_of_the_guide_to_primitives_are_true() {
    let nodes = Nodes::formed();
    let mut seen = std::collections::BTreeSet::new();
    for block in blocks(&guide("primitives.md")).iter().filter(|b| b.language.is_empty()) {
        let session: Session = nodes.nodes[0].session(1);
        let of =
            TYPES.iter().find(|of| of.to_lowercase().contains(&format!(".{}.", block.heading)));
        let of = of.unwrap_or_else(|| panic!("line {}: what is {}?", block.line, block.heading));
        let primitive = session.primitive(1, of, &format!("line-{}", block.line));
        let service = of.strip_prefix("atomix.runtime.").expect("types begin so");
        for (step, number) in steps(block).iter().zip(2..) {
            let done = match step {
                Step::Shell { command, printed } => {
                    let got = run(&nodes, command);
                    let same = without_numbers(&got).starts_with(&without_numbers(printed));
                    same.then_some(()).ok_or(format!("{command}: {got}"))
                }
                step => operate(&primitive, service, number, step),
            };
            done.unwrap_or_else(|e| panic!("primitives.md, block at line {}: {e}", block.line));
        }
        seen.insert(*of);
    }
    assert_eq!(seen.len(), TYPES.len(), "a primitive has no example: only {seen:?}");
}

#[test]
fn the_shell_session_of_the_guide_for_clients_is_true() {
    let nodes = Nodes::start(3);
    (1..=3).for_each(|group| nodes.form(group, 3));
    let guide = guide("client.md");
    let scripts: Vec<_> = blocks(&guide).into_iter().filter(|b| b.language == "sh").collect();
    let [script] = &scripts[..] else { panic!("{} scripts", scripts.len()) };
    let text = script.text.replace("127.0.0.1:5678", &nodes.nodes[0].address);
    let text = text.replace("127.0.0.1:5688", &nodes.nodes[1].address);
    assert!(!text.contains(":56"), "a node of the example is none of the test");
    let tools = grpcurl().parent().unwrap_or(Path::new("")).display().to_string();
    let path = format!("{tools}:{}", std::env::var("PATH").unwrap_or_default());
    let mut bash = Command::new("bash");
    bash.args(["-c", &format!("exec 2>&1\n{text}")]).env("PATH", path);
    let output = bash.output().expect("bash runs");
    let printed = String::from_utf8_lossy(&output.stdout);
    // What its comments promise, in their order.
    let mut rest = &printed[..];
    for promised in [r#""value": "5""#, r#""value": "5""#, r#""value": "5""#, "Aborted", "DataLoss"]
    {
        let found = rest.find(promised);
        let at = found.unwrap_or_else(|| panic!("no {promised} in {rest:?} of {printed}"));
        rest = &rest[at + promised.len()..];
    }
}

#[test]
fn the_keys_of_etcd_are_copied_as_the_guide_says() {
    let nodes = Nodes::formed();
    let etcd = Etcd::start();
    let keys = [("/users/ada", "programmer"), ("/users/grace", "rear admiral"), ("/others", "no")];
    for (key, value) in keys {
        etcd.bash(&format!(
            r#"curl -sf $etcd/v3/kv/put -d '{{"key": "'$(printf '{key}' | base64)'", "value": "'$(printf '{value}' | base64)'"}}'"#
        ));
    }
    let guide = guide("coming-from.md");
    let scripts: Vec<_> = blocks(&guide).into_iter().filter(|b| b.language == "sh").collect();
    let [script] = &scripts[..] else { panic!("{} scripts", scripts.len()) };
    let (address, text) = script.text.split_once('\n').expect("a line for the address, and others");
    assert!(address.starts_with("etcd="), "{address}");
    let endpoints: Vec<&str> = nodes.nodes.iter().map(|node| node.address.as_str()).collect();
    let setting = format!("export MULTIRAFT_ENDPOINTS={}\n", endpoints.join(","));
    let printed = etcd.bash(&(setting + text));
    assert!(printed.ends_with("2\n2\n"), "both sides have 2 keys: {printed}");
    assert_eq!(run(&nodes, "multiraft map get users /users/grace").trim(), "rear admiral");
}

/// A member alone.
struct Etcd {
    process: Child,
    address: String,
    /// With the programs that the guides name.
    path: String,
    _folder: tempfile::TempDir,
}

impl Etcd {
    fn start() -> Self {
        let tools = grpcurl().parent().expect("it is in a folder").to_owned();
        let folder = tempfile::tempdir().expect("a temporary folder");
        let [client, peer, _] = ports().map(|port| format!("http://127.0.0.1:{port}"));
        let process = Command::new(tools.join("etcd"))
            .args(["--name", "one", "--log-level", "error", "--data-dir"])
            .arg(folder.path())
            .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
            .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
            .args(["--initial-cluster", &format!("one={peer}")])
            .spawn()
            .expect("etcd starts");
        let ours = program("multiraft").parent().expect("it is in a folder").to_owned();
        let path = [tools.display().to_string(), ours.display().to_string()].join(":");
        let path = format!("{path}:{}", std::env::var("PATH").unwrap_or_default());
        let etcd = Self { process, address: client, path, _folder: folder };
        eventually("etcd", || {
            etcd.run(r#"curl -sf $etcd/health | grep -q '"health":"true"'"#).status.success()
        });
        etcd
    }

    /// Runs a script that knows the member as `$etcd`.
    fn run(&self, script: &str) -> Output {
        let script = format!("exec 2>&1; set -euo pipefail; etcd={}\n{script}", self.address);
        let mut bash = Command::new("bash");
        bash.args(["-c", &script]).env("PATH", &self.path).output().expect("bash runs")
    }

    fn bash(&self, script: &str) -> String {
        let output = self.run(script);
        let printed = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{script}: {printed}");
        printed
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
