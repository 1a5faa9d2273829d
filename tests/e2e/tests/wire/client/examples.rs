//! The Rust examples of the guides, which the build has made functions of.

use std::time::Duration;

use super::three;

include!(concat!(env!("OUT_DIR"), "/examples.rs"));

#[tokio::test]
async fn the_examples_of_the_guides_run() {
    let nodes = three().await;
    all(nodes.endpoints()).await;
}
