//! The walls between the crates: which of them may touch the world, and through what.
//!
//! A new dependency of a pure crate fails here until it is written down with its reason. Asks cargo
//! for each package by itself, as it is built without the features that other packages ask for.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::Command;

/// Crates that decide: no IO, no clock, no randomness.
const PURE: [&str; 6] = ["machine", "group", "shard", "api", "plan", "check"];

/// What the pure crates of the node may use, by what it is for.
const NODE: &[(&str, &[&str])] = &[
    (
        "messages, data types and errors",
        &["anyhow", "bytes", "either", "itertools", "prost", "prost-types", "thiserror"],
    ),
    ("checksums and hashes without a seed", &["cfg-if", "crc32fast", "fxhash"]),
    (
        "persistent maps; their generator has a constant seed, and is drawn from in a sort only",
        &[
            "archery",
            "bytemuck",
            "equivalent",
            "imbl",
            "imbl-sized-chunks",
            "rand_core",
            "rand_xoshiro",
            "safe_arch",
            "wide",
        ],
    ),
    ("the Raft algorithm, sans IO", &["getset", "lazy_static", "protobuf", "raft", "raft-proto"]),
    ("its logging, which goes nowhere", &["erased-serde", "serde", "serde_core", "slog"]),
    (
        "its election timeout, which group replaces by one from (seed, node, term)",
        &["byteorder", "getrandom", "libc", "ppv-lite86", "rand", "rand_chacha", "zerocopy"],
    ),
];

/// What the pure crates of the operator may use, by what it is for.
const OPERATOR: &[(&str, &[&str])] = &[
    ("data types and errors", &["anyhow", "bytes", "either", "itertools", "thiserror"]),
    ("the node's messages", &["prost", "prost-types"]),
    (
        "resources as JSON, YAML and schemas",
        &[
            "dyn-clone",
            "equivalent",
            "hashbrown",
            "indexmap",
            "itoa",
            "memchr",
            "ref-cast",
            "ryu",
            "ordered-float",
            "schemars",
            "serde",
            "serde-value",
            "serde_core",
            "serde_json",
            "serde_yaml",
            "unsafe-libyaml",
            "zmij",
        ],
    ),
    (
        "types of Kubernetes; their times are values, and nobody asks them for the present one",
        &["base64", "jiff", "jiff-core", "k8s-openapi", "portable-atomic", "portable-atomic-util"],
    ),
    (
        "writes the resource types; without kube's client, which would be kube-client",
        &[
            "derive_more",
            "form_urlencoded",
            "http",
            "json-patch",
            "jsonptr",
            "kube",
            "kube-core",
            "percent-encoding",
        ],
    ),
    (
        "evaluates the rules of resource definitions; rules cannot ask for the time",
        &[
            "aho-corasick",
            "antlr4rust",
            "better_any",
            "bit-set",
            "bit-vec",
            "byteorder",
            "cel",
            "cfg-if",
            "chrono",
            "iana-time-zone",
            "icu_collections",
            "icu_locale_core",
            "icu_normalizer",
            "icu_normalizer_data",
            "icu_properties",
            "icu_properties_data",
            "icu_provider",
            "idna",
            "idna_adapter",
            "ipnet",
            "kube-cel",
            "lazy_static",
            "libc",
            "litemap",
            "lock_api",
            "minimal-lexical",
            "murmur3",
            "nom",
            "num-traits",
            "once_cell",
            "parking_lot",
            "parking_lot_core",
            "potential_utf",
            "regex",
            "regex-automata",
            "regex-syntax",
            "scopeguard",
            "semver",
            "smallvec",
            "stable_deref_trait",
            "tinystr",
            "typed-arena",
            "url",
            "utf8_iter",
            "utf_types",
            "uuid",
            "writeable",
            "yoke",
            "zerofrom",
            "zerotrie",
            "zerovec",
        ],
    ),
    (
        "hash of a plan",
        &[
            "block-buffer",
            "const-oid",
            "cpufeatures",
            "crypto-common",
            "digest",
            "generic-array",
            "hybrid-array",
            "sha2",
            "typenum",
        ],
    ),
];

fn root() -> PathBuf {
    // Asked when the test runs: a cache of builds may hold one that another checkout made.
    let folder = std::env::var_os("CARGO_MANIFEST_DIR").expect("cargo runs the test");
    PathBuf::from(folder).join("../..")
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
        let known = |dependency: &String| match dependency.strip_prefix("multiraft-") {
            Some(ours) => ours == "proto" || PURE.contains(&ours),
            None => allowed.iter().any(|(_, names)| names.contains(&dependency.as_str())),
        };
        let unknown: Vec<_> = dependencies(&package).into_iter().filter(|d| !known(d)).collect();
        assert!(
            unknown.is_empty(),
            "{package} depends on {unknown:?}: what can do no IO, reads no clock and draws no \
             randomness may be written down with its reason in {}",
            file!()
        );
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
fn only_one_crate_links_tls() {
    for package in packages() {
        let name = package["name"].as_str().expect("a name");
        let direct = package["dependencies"].as_array().expect("a list");
        for library in ["rustls", "tokio-rustls", "rustls-webpki", "tokio-native-tls"] {
            let links = direct.iter().any(|dependency| dependency["name"] == library);
            assert!(!links || name == "multiraft-tls", "{name} depends on {library} itself");
        }
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
