//! Makes functions of the Rust examples in the guides, for a test to run them against nodes.

use std::fmt::Write as _;
use std::path::Path;

const GUIDES: [&str; 2] = ["../../README.md", "../../docs/client.md"];

fn main() {
    let mut source = String::new();
    let mut calls = String::new();
    for guide in GUIDES {
        println!("cargo:rerun-if-changed={guide}");
        let text = std::fs::read_to_string(guide).unwrap_or_else(|e| panic!("{guide}: {e}"));
        for (n, block) in text.split("\n```rust\n").skip(1).enumerate() {
            let example = block.split("\n```").next().unwrap_or_default();
            let name =
                format!("{}_{n}", if guide.contains("README") { "readme" } else { "client" });
            // The addresses are those of nodes that run.
            let example = with_endpoints(example);
            let _ = write!(
                source,
                "async fn {name}(endpoints: Vec<String>) -> Result<(), multiraft_client::Error> {{\n\
                 {example}\nOk(())\n}}\n"
            );
            let _ = writeln!(calls, "{name}(endpoints.clone()).await.expect({name:?});");
        }
    }
    let _ = write!(source, "async fn all(endpoints: Vec<String>) {{\n{calls}}}\n");
    let folder = std::env::var_os("OUT_DIR").expect("cargo sets it");
    std::fs::write(Path::new(&folder).join("examples.rs"), source).expect("cargo made the folder");
}

/// Replaces the list of addresses behind `connect(`.
fn with_endpoints(example: &str) -> String {
    let (before, rest) = example.split_once("connect([").expect("an example connects first");
    let (_, after) = rest.split_once(']').expect("the list ends");
    format!("{before}connect(endpoints{after}")
}
