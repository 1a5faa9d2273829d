//! Configurations and directories that a node must refuse at its start: it ends with the exit code
//! that its help promises, and says what to change.

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use crate::nodes::{self, Nodes};

const USAGE: i32 = 2;
const DATA_DIRECTORY: i32 = 3;
/// The operator counts such ends, and replaces the node.
const DAMAGED: i32 = 5;

/// The node ends by itself with this code and these words.
fn refused(command: &mut Command, code: i32, words: &[&str]) {
    let output = command.output().expect("the node's program starts");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{said}");
    for word in words {
        assert!(said.contains(word), "{said:?} lacks {word:?}");
    }
}

fn configured(yaml: &str, words: &[&str]) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("node.yaml");
    std::fs::write(&file, yaml).expect("the folder is writable");
    for check in [&["--check"][..], &[]] {
        let mut command = Command::new(nodes::program());
        command.current_dir(folder.path()).arg("--config").arg(&file).args(check);
        refused(&mut command, USAGE, words);
    }
    let left = std::fs::read_dir(folder.path()).expect("the folder is readable").count();
    assert_eq!(left, 1, "a refused node leaves nothing behind");
}

#[test]
fn a_wrong_type_in_the_configuration() {
    configured("data_dir: [1, 2]\n", &["node.yaml", "data_dir"]);
    configured("heartbeat: [5]\n", &["node.yaml", "heartbeat", "expected a string"]);
}

#[test]
fn an_unknown_key_in_the_configuration() {
    configured("data_directory: x\n", &["node.yaml", "unknown field", "data_directory"]);
}

#[test]
fn an_election_timeout_below_five_heartbeats() {
    configured(
        "election_timeout: 400ms\nheartbeat: 100ms\n",
        &["election_timeout", "5 heartbeats"],
    );
}

#[test]
fn a_configuration_that_is_not_there() {
    let mut command = Command::new(nodes::program());
    refused(command.args(["--config", "/nowhere/node.yaml"]), USAGE, &["/nowhere/node.yaml"]);
}

#[test]
fn a_port_in_use() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = taken.local_addr().expect("a bound listener has an address").port();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let data = folder.path().join("data");
    let [free, other, _] = nodes::ports();
    let ports = [[port, free, other], [free, port, other], [free, other, port]];
    for (ports, key) in ports.into_iter().zip(["client_address", "peer_address", "http_address"]) {
        let mut command = nodes::command(&data, ports);
        refused(&mut command, USAGE, &[key, &port.to_string(), "another process"]);
        assert!(!data.exists(), "the directory is not touched");
    }
}

#[test]
fn a_data_directory_that_is_a_file() {
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    unusable(file.path());
}

#[test]
fn a_data_directory_that_cannot_be_written() {
    // Permissions do not bind every user, a file system that has no files does.
    unusable(Path::new("/proc/multiraft"));
}

#[test]
fn a_data_directory_with_foreign_content() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let foreign = folder.path().join("letters.txt");
    std::fs::write(&foreign, "dear reader").expect("the folder is writable");
    let before = folder.path().metadata().expect("the folder is there").permissions().mode();
    unusable(folder.path());
    assert_eq!(std::fs::read(&foreign).expect("it is still there"), b"dear reader");
    let after = folder.path().metadata().expect("the folder is there").permissions().mode();
    assert_eq!(before, after);
}

#[test]
fn a_data_directory_in_use() {
    let nodes = Nodes::start(1);
    unusable(&nodes.folder().join("0/data"));
}

#[test]
fn a_damaged_data_directory() {
    let nodes = Nodes::start(1);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let data = folder.path().join("data");
    let mut copy = Command::new("cp");
    let copied = copy.arg("-r").arg(nodes.folder().join("0/data")).arg(&data).status();
    assert!(copied.expect("cp starts").success());
    let beacon = data.join("BEACON");
    let length = beacon.metadata().expect("it has a beacon").len();
    std::fs::write(&beacon, vec![0; length as usize]).expect("the copy is writable");
    let mut command = nodes::command(&data, nodes::ports());
    refused(&mut command, DAMAGED, &["BEACON"]);
}

fn unusable(data: &Path) {
    let mut command = nodes::command(data, nodes::ports());
    let name = data.to_string_lossy();
    refused(&mut command, DATA_DIRECTORY, &["data_dir", &name]);
}
