//! Data directories that are not what they were.

use std::path::Path;
use std::time::Duration;

use multiraft_client::{node_service, v1};
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

/// A member whose disk went back never votes again: what is left of it is deleted, and the node
/// joins anew with another id.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_directory_that_went_back_is_given_up_member_by_member() {
    let mut nodes = Nodes::formed(3, 1, 3).await;
    let load = Load::start(nodes.endpoints(), "count", 4).await;
    load.progress(100).await;
    let old = nodes.folder.path().join("old");
    nodes.nodes[2].kill();
    nodes.nodes[2].wait();
    duplicate(&nodes.nodes[2].data(), &old);
    nodes.nodes[2].start();
    load.progress(200).await;
    nodes.nodes[2].kill();
    nodes.nodes[2].wait();
    std::fs::remove_dir_all(nodes.nodes[2].data()).expect("removed");
    duplicate(&old, &nodes.nodes[2].data());
    nodes.nodes[2].start();
    let back = &nodes.nodes[2];
    until("the member is closed", async || {
        let info = back.info().await;
        info.groups.first().is_some_and(|g| g.phase() == v1::GroupPhase::RolledBack)
    })
    .await;

    let info = back.info().await;
    let (node_id, member_id) = (info.node_id, info.groups[0].member_id);
    let delete = v1::DeleteDataRequest { group_id: 1, member_id, ..Default::default() };
    let _: v1::DeleteDataResponse =
        call(back, "/atomix.multiraft.v1.Node/DeleteData", &delete).await;
    assert_eq!(back.info().await.groups, []);
    until("the group without the member", async || {
        let leader = nodes.leader(1).await;
        let remove = v1::RemoveMemberRequest { group_id: 1, member_id, ..Default::default() };
        let path = "/atomix.multiraft.v1.Node/RemoveMember";
        let time = Duration::from_secs(12);
        let answer: Result<v1::RemoveMemberResponse, _> =
            node_service(&nodes.nodes[leader].address(), path, &remove, time).await;
        answer.is_ok()
    })
    .await;
    let group = nodes.nodes[0].info().await.groups[0].clone();
    let (host, port) = info.peer_address.rsplit_once(':').expect("host:port");
    let own = v1::MemberConfig {
        node_id,
        member_id: group.member_id_max + 1,
        host: host.into(),
        port: port.parse().expect("a port"),
        ..Default::default()
    };
    let config = v1::GroupConfig {
        group_id: 1,
        members: group.members.into_iter().chain([own]).collect(),
        ..Default::default()
    };
    let join = v1::JoinRequest { group: Some(config), ..Default::default() };
    let _: v1::JoinResponse = call(back, "/atomix.multiraft.v1.Node/Join", &join).await;
    until("a voter again", async || {
        let info = back.info().await;
        info.groups.first().is_some_and(|g| g.role() == v1::MemberRole::Member)
    })
    .await;
    load.progress(100).await;
    load.check().await;
}

async fn call<Q, R>(node: &Node, path: &'static str, request: &Q) -> R
where
    Q: prost::Message + Clone + 'static,
    R: prost::Message + Default + 'static,
{
    let answer = node_service(&node.address(), path, request, Duration::from_secs(30)).await;
    answer.unwrap_or_else(|error| panic!("{path}: {error}"))
}

async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let started = std::time::Instant::now();
    while !holds().await {
        assert!(started.elapsed() < Duration::from_secs(30), "never: {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
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
