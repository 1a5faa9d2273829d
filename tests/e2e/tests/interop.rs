//! Both wires as Python's gRPC sees them: its stubs, its HTTP/2, none of our code.

use std::path::{Path, PathBuf};
use std::process::Command;

use multiraft_e2e::nodes::{Node, Nodes};

/// The Python that has what tests/interop/requirements.txt names.
fn python(repository: &Path) -> PathBuf {
    if let Some(path) = std::env::var_os("INTEROP_PYTHON") {
        return path.into();
    }
    let output = Command::new(repository.join("scripts/setup.sh")).arg("python").output();
    let output = output.expect("scripts/setup.sh runs").stdout;
    let path = PathBuf::from(String::from_utf8_lossy(&output).trim());
    assert!(path.exists(), "Python's gRPC is missing: run scripts/setup.sh interop");
    path
}

#[tokio::test]
async fn python_calls_all_of_both_wires() {
    let folder = std::env::var_os("CARGO_MANIFEST_DIR").expect("cargo runs the test");
    let repository = Path::new(&folder).join("../..");
    let python = python(&repository);
    let mut nodes = Nodes::prepared(3);
    for node in &mut nodes.nodes {
        // Snapshots are part of what is looked at.
        node.arguments = ["--snapshot-log-bytes", "65536"].map(str::to_owned).into();
        node.start();
    }
    for node in &nodes.nodes {
        node.info().await;
    }
    let script = repository.join("tests/interop/run.py");
    let process = |node: &Node| format!("{}={}", node.address(), node.pid());
    let processes = nodes.nodes.iter().map(process);
    let ended = Command::new(python).arg(script).args(processes).status();
    assert!(ended.expect("Python runs").success(), "a check failed: see above");
}
