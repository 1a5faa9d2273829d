//! Data directories that are not what they were.

use std::path::Path;
use std::time::Duration;

use multiraft_e2e::load::Load;

use multiraft_e2e::nodes::{Node, Nodes};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_of_a_running_directory_opens_or_is_refused_clearly() {
    let nodes = Nodes::formed(3, 16, 3).await;
    let load = Load::start(nodes.endpoints(), "count", 8).await;
    load.progress(300).await;
    let mut copy = Node::new(&nodes.folder.path().join("copy"));
    duplicate(&nodes.nodes[0].data(), &copy.data());
    load.progress(100).await;

    copy.start();

    // Its fate shows soon; the others are not disturbed meanwhile.
    for _ in 0..30 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        if let Some(status) = copy.ended() {
            let log = copy.log();
            println!("refused ({status}): {}", log.lines().last().unwrap_or_default());
            assert!(!status.success() && status.code().is_some(), "{status}: {log}");
            assert!(!log.contains("panicked"), "{log}");
            break;
        }
    }
    if copy.ended().is_none() {
        println!("opened, with {} groups", copy.info().await.groups.len());
    }
    load.progress(300).await;
    load.check().await;
}

/// A copy as `cp -r` makes it: files vanish and grow meanwhile.
fn duplicate(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("writable");
    for entry in std::fs::read_dir(from).expect("readable").flatten() {
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            duplicate(&entry.path(), &target);
        } else {
            let _ = std::fs::copy(entry.path(), target);
        }
    }
}
