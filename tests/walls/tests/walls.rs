//! The walls between the crates: which of them may touch the world, and through what.
//!
//! A new dependency of a pure crate fails here until it is written down with its reason. Asks cargo
//! for each package by itself, as it is built without the features that other packages ask for.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::Command;

/// Crates that decide: no IO, no clock, no randomness.
const PURE: [&str; 6] = ["machine", "group", "shard", "api", "plan", "check"];

/// What the pure crates of the node may use, beside themselves.
const NODE: &[(&str, &str)] = &[
    ("anyhow", "error type inside of prost's generator; no IO"),
    ("bytes", "counted byte strings"),
    ("either", "data type, of itertools"),
    ("itertools", "iterators, of prost"),
    ("prost", "encoding of messages"),
    ("prost-types", "well-known messages"),
    ("thiserror", "error types"),
    // Persistent maps of the machine.
    ("archery", "counted pointers, of imbl"),
    ("bytemuck", "casts, of imbl"),
    ("equivalent", "a trait, of imbl"),
    ("imbl", "persistent maps"),
    ("imbl-sized-chunks", "nodes of imbl's trees"),
    ("rand_core", "trait of imbl's generator, which draws nothing from the system"),
    ("rand_xoshiro", "imbl's generator, with a constant seed, in its sort only"),
    ("safe_arch", "vector instructions, of wide"),
    ("wide", "vector instructions, of imbl"),
    // Raft.
    ("byteorder", "of rand_chacha"),
    ("cfg-if", "compiles by platform"),
    ("erased-serde", "log values, of slog"),
    ("fxhash", "hash function without a seed, of raft"),
    ("getrandom", "seeds raft's generator, whose draws are replaced (design 6.1)"),
    ("getset", "accessors, of raft"),
    ("lazy_static", "constants, of raft"),
    ("libc", "of getrandom"),
    ("ppv-lite86", "arithmetic of rand_chacha"),
    ("protobuf", "feature-less dependency of raft-proto"),
    ("raft", "the algorithm; sans IO"),
    ("raft-proto", "its messages"),
    ("rand", "raft's election timeout, replaced by one from (seed, node, term)"),
    ("rand_chacha", "of rand"),
    ("serde", "of slog"),
    ("serde_core", "of slog"),
    ("slog", "raft's logging, which goes nowhere here"),
    ("zerocopy", "of ppv-lite86"),
];

/// What the pure crates of the operator may use.
const OPERATOR: &[(&str, &str)] = &[
    ("ahash", "hash function, of kube's types; constant seed"),
    ("base64", "encoding"),
    ("block-buffer", "of sha2"),
    ("bytes", "counted byte strings"),
    ("cfg-if", "compiles by platform"),
    ("cpufeatures", "of sha2"),
    ("crypto-common", "of sha2"),
    ("digest", "of sha2"),
    ("equivalent", "a trait"),
    ("form_urlencoded", "URLs of kube's requests, which nobody sends here"),
    ("generic-array", "of sha2"),
    ("hashbrown", "maps"),
    ("hybrid-array", "of sha2"),
    ("http", "types of a request"),
    ("indexmap", "maps in order of insertion"),
    ("itoa", "numbers as text"),
    ("jiff", "time as a value, of k8s-openapi; its clock is not called"),
    ("jiff-core", "of jiff"),
    ("jiff-static", "of jiff"),
    ("json-patch", "of kube-core"),
    ("jsonptr", "of json-patch"),
    ("k8s-openapi", "types of Kubernetes"),
    ("kube", "derive of the resource types only: no client feature"),
    ("kube-core", "types of kube, without its client"),
    ("kube-derive", "writes the resource types"),
    ("libc", "of cpufeatures"),
    ("memchr", "of serde_json"),
    ("multiraft-proto", "the node's messages"),
    ("num-traits", "traits of numbers"),
    ("once_cell", "values made once"),
    ("percent-encoding", "of form_urlencoded"),
    ("autocfg", "build-time look at the compiler"),
    ("portable-atomic", "of jiff"),
    ("portable-atomic-util", "of jiff"),
    ("prost", "encoding of messages"),
    ("prost-types", "well-known messages"),
    ("either", "data type"),
    ("itertools", "iterators"),
    ("anyhow", "error type"),
    ("dyn-clone", "of schemars"),
    ("ref-cast", "of schemars"),
    ("ryu", "numbers as text"),
    ("schemars", "schemas of the resource types"),
    ("serde", "reads and writes resources"),
    ("serde-value", "of k8s-openapi"),
    ("ordered-float", "of serde-value"),
    ("serde_core", "of serde"),
    ("serde_json", "JSON"),
    ("serde_yaml", "YAML of the generated files"),
    ("sha2", "hash of a plan"),
    ("static_assertions", "checked by the compiler"),
    ("thiserror", "error types"),
    ("typenum", "of sha2"),
    ("unsafe-libyaml", "of serde_yaml"),
    ("version_check", "build-time look at the compiler"),
    ("zerocopy", "of ahash"),
    ("zmij", "numbers as text, of serde_json"),
    ("educe", "derives, of k8s-openapi"),
];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn cargo(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO"))
        .args(arguments)
        .arg("--locked")
        .stdin(std::process::Stdio::null())
        .current_dir(root())
        .output()
        .expect("cargo runs: it started this test");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("cargo writes UTF-8")
}

/// Names of all packages that end up in a package's build, without those that only run at compile
/// time.
fn dependencies(package: &str) -> BTreeSet<String> {
    let tree = cargo(&[
        "tree",
        "--package",
        package,
        "--edges",
        "normal,no-proc-macro",
        "--prefix",
        "none",
        "--format",
        "{p}",
    ]);
    tree.lines().filter_map(|line| line.split(' ').next()).map(str::to_owned).collect()
}

/// Every package of the workspace.
fn packages() -> Vec<serde_json::Value> {
    let metadata = cargo(&["metadata", "--no-deps", "--format-version", "1"]);
    let metadata: serde_json::Value = serde_json::from_str(&metadata).expect("cargo writes JSON");
    metadata["packages"].as_array().expect("a list").clone()
}

fn names() -> impl Iterator<Item = String> {
    packages().into_iter().map(|package| package["name"].as_str().expect("a name").to_owned())
}

#[test]
fn pure_crates_depend_on_nothing_that_touches_the_world() {
    for name in PURE {
        let package = format!("multiraft-{name}");
        let allowed = match name {
            "machine" | "group" | "shard" => NODE,
            _ => OPERATOR,
        };
        for dependency in dependencies(&package) {
            let ours = dependency.strip_prefix("multiraft-");
            let known = match ours {
                Some(ours) => ours == "proto" || PURE.contains(&ours),
                None => allowed.iter().any(|(name, _)| *name == dependency),
            };
            assert!(
                known,
                "{package} depends on {dependency}: if it can do no IO, read no clock and draw no \
                 randomness, write it down with its reason in {}",
                file!()
            );
        }
    }
}

#[test]
fn only_the_log_links_rocksdb() {
    let with_log: BTreeSet<String> =
        names().filter(|name| dependencies(name).contains("rocksdb")).collect();
    for name in &with_log {
        let through_log = name == "multiraft-log" || dependencies(name).contains("multiraft-log");
        assert!(through_log, "{name} links rocksdb, and not through multiraft-log");
    }
    for package in packages() {
        let name = package["name"].as_str().expect("a name");
        let direct = package["dependencies"].as_array().expect("a list");
        let direct = direct.iter().any(|dependency| dependency["name"] == "rocksdb");
        assert!(!direct || name == "multiraft-log", "{name} depends on rocksdb itself");
    }
}

#[test]
fn only_the_controller_and_the_system_tests_talk_to_kubernetes() {
    for name in names().filter(|name| dependencies(name).contains("kube-client")) {
        assert!(
            ["multiraft-controller", "multiraft-e2e"].contains(&name.as_str()),
            "{name} depends on kube's client"
        );
    }
}

#[test]
fn unsafe_code_is_forbidden_everywhere() {
    let root_manifest = std::fs::read_to_string(root().join("Cargo.toml")).expect("readable");
    assert!(root_manifest.contains("[workspace.lints.rust]\nunsafe_code = \"forbid\""));
    for package in packages() {
        let manifest = package["manifest_path"].as_str().expect("a path");
        let text = std::fs::read_to_string(manifest).expect("readable");
        assert!(
            text.contains("[lints]\nworkspace = true"),
            "{manifest} does not take the workspace's lints"
        );
    }
}
