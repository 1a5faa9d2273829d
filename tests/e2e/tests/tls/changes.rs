//! Modes and certificates change under load, and no command fails.

use std::time::{Duration, Instant};

use multiraft_e2e::load::Load;
use multiraft_e2e::members::until;

use crate::authority::{Authority, DAY, Wish};
use crate::support::{Secured, node_name};

const GROUPS: u32 = 4;
const CLIENTS: usize = 4;
const LAG: u64 = 200;

/// A load in plain text, one under TLS.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Speech {
    Plain,
    Tls,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tls_is_switched_on_and_off_node_by_node_and_no_command_fails() {
    let mut secured = Secured::formed(3, GROUPS, "Disabled", &[]).await;
    let (admin, writer) = (secured.tls("admin/test"), secured.tls("writer/load"));
    for (step, (mode, speech)) in [
        ("Permissive", Speech::Plain),
        ("Strict", Speech::Tls),
        ("Permissive", Speech::Tls),
        ("Disabled", Speech::Plain),
    ]
    .into_iter()
    .enumerate()
    {
        let started = Instant::now();
        let tls = (speech == Speech::Tls).then(|| writer.clone());
        let name = format!("step-{step}");
        let load = Load::start_under(tls, secured.nodes.endpoints(), &name, CLIENTS).await;
        for number in 0..3 {
            load.progress(20).await;
            secured.set_mode(number, mode);
            let node = &mut secured.nodes.nodes[number];
            node.signal("TERM");
            let ended = node.end().await;
            assert!(ended.success(), "{ended}");
            node.tls = (mode != "Disabled").then(|| admin.clone());
            node.start();
            secured.nodes.until_replicated(GROUPS, 3, LAG).await;
            load.all_go_on().await;
        }
        load.check().await;
        println!("all nodes are {mode} after {:?}", started.elapsed());
        if mode == "Strict" {
            for node in &secured.nodes.nodes {
                let tls = node.info().await.tls.expect("nodes of this release tell");
                assert_eq!(tls.mode(), multiraft_client::v1::TlsMode::Strict);
                assert_eq!((tls.plain_clients, tls.plain_peers), (0, 0));
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificates_and_ca_are_replaced_under_load_and_no_command_fails() {
    let mut secured = Secured::formed(3, GROUPS, "Strict", &[]).await;
    let (place, asker) = (secured.place("writer/load"), secured.place("admin/test"));
    let tls = crate::support::tls(&place);
    let endpoints = secured.nodes.endpoints();
    let load = Load::start_under(Some(tls), endpoints, "rotated", CLIENTS).await;
    let new = Authority::new("new");
    let both = format!("{}{}", secured.authority.pem(), new.pem());
    let leaf = |number: usize| Wish { life: 9 * DAY, ..Wish::of(&node_name(number)) };
    let client = Wish::of("orders/writer/load");
    let before = secured.nodes.nodes[0].info().await.tls.expect("told").not_after;

    // A new certificate of the same CA.
    for number in 0..3 {
        let issued = secured.authority.issue(&leaf(number));
        replaced(&secured, number, async |own| own.write(&issued, &secured.authority.pem())).await;
    }
    let after = secured.nodes.nodes[0].info().await.tls.expect("told");
    assert!(after.not_after > before + 5 * DAY.as_secs(), "{before} {after:?}");
    assert_eq!(after.peer_not_after, after.not_after);
    // Both CAs, then certificates of the new one, then the new one alone.
    for number in 0..3 {
        replaced(&secured, number, async |own| std::fs::write(&own.ca, &both).expect("writable"))
            .await;
    }
    for ca in [&place.ca, &asker.ca] {
        std::fs::write(ca, &both).expect("writable");
    }
    reconnect(&mut secured, &load).await;
    for number in 0..3 {
        let issued = new.issue(&leaf(number));
        replaced(&secured, number, async |own| own.write(&issued, &both)).await;
    }
    place.write(&new.issue(&client), &both);
    reconnect(&mut secured, &load).await;
    for number in 0..3 {
        replaced(&secured, number, async |own| {
            std::fs::write(&own.ca, new.pem()).expect("writable")
        })
        .await;
    }
    std::fs::write(&place.ca, new.pem()).expect("writable");
    // Who asks the nodes had an old certificate so far.
    asker.write(&new.issue(&Wish::of("orders/admin/test")), &new.pem());
    reconnect(&mut secured, &load).await;
    load.check().await;
    // What the old CA signed is nothing now.
    secured.refused(Some(secured.tls("writer/late")), "is of no CA").await;
}

/// Files of a node are replaced, and it says that it has them.
async fn replaced(
    secured: &Secured,
    number: usize,
    replace: impl AsyncFnOnce(crate::authority::Place),
) {
    let node = &secured.nodes.nodes[number];
    let count = || node.log().matches("new certificates are in use").count();
    let before = count();
    replace(secured.place_of(number)).await;
    node.signal("HUP");
    until("the node takes its new files", async || count() > before).await;
    assert!(!node.log().contains("cannot be used"), "{}", node.log());
}

/// Every node ends and comes back, so that every connection is made anew, with what is there now.
async fn reconnect(secured: &mut Secured, load: &Load) {
    for number in 0..3 {
        let node = &mut secured.nodes.nodes[number];
        node.signal("TERM");
        node.end().await;
        node.start();
        secured.nodes.until_replicated(GROUPS, 3, LAG).await;
        load.all_go_on().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_new_files_leave_the_old_in_use_and_are_told_of() {
    let secured = Secured::formed(1, 1, "Strict", &[]).await;
    let node = &secured.nodes.nodes[0];
    let problem = async || node.info().await.tls.expect("told").problem;
    assert_eq!(problem().await, "");
    let own = secured.place_of(0);
    let good = std::fs::read(&own.certificate).expect("there");
    std::fs::write(&own.certificate, "no certificate").expect("writable");
    until("the node tells of the bad file", async || {
        problem().await.contains("tls.crt: holds no certificate in PEM")
    })
    .await;
    assert!(node.log().contains("new certificates cannot be used: the old ones stay"));
    secured.connect(Some(secured.tls("reader/me"))).await.expect("served as before");
    std::fs::write(&own.certificate, good).expect("writable");
    until("the node is content", async || problem().await.is_empty()).await;
}

/// A client is let in for as long as its certificate says.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_ends_soon_after_its_certificate() {
    let secured = Secured::formed(1, 1, "Strict", &[]).await;
    let place = secured.place("writer/brief");
    let (mut life, mut cluster) = (Duration::from_secs(2), None);
    // On a busy machine it may end before it was used.
    while cluster.is_none() {
        life *= 2;
        let begins = crate::authority::Begins::Ago(DAY);
        let brief = Wish { begins, life: DAY + life, ..Wish::of("orders/writer/brief") };
        place.write(&secured.authority.issue(&brief), &secured.authority.pem());
        let connected = secured.connect(Some(crate::support::tls(&place))).await.ok();
        if let Some(connected) = connected
            && connected.counter("visits").increment(1).await.is_ok()
        {
            cluster = Some(connected);
        }
    }
    let cluster = cluster.expect("the loop ended");
    let visits = cluster.counter("visits").timeout(Duration::from_secs(2));
    until("the connection ends, and there is no other", async || {
        visits.increment(1).await.is_err()
    })
    .await;
    // With a new certificate it goes on, as the same client.
    place.write(
        &secured.authority.issue(&Wish::of("orders/writer/brief")),
        &secured.authority.pem(),
    );
    until("the client is back", async || visits.increment(1).await.is_ok()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_was_away_is_sent_a_snapshot_under_tls() {
    let flags = ["--snapshot-log-bytes", "16384"];
    let mut secured = Secured::formed(3, 1, "Strict", &flags).await;
    let cluster = secured.connect(Some(secured.tls("writer/bulk"))).await.expect("connected");
    let away = (secured.nodes.leader(1).await + 1) % 3;
    secured.nodes.nodes[away].kill();
    secured.nodes.nodes[away].wait();
    let bulk = cluster.map("bulk");
    for n in 0..200u32 {
        bulk.put(&format!("{}", n % 20), vec![0; 2048]).await.expect("written");
    }
    secured.nodes.nodes[away].start();
    secured.nodes.until_replicated(1, 3, 0).await;
    assert!(
        secured.nodes.nodes[away].log().contains("snapshot received"),
        "it came by the log alone"
    );
    let tls = secured.nodes.nodes[away].info().await.tls.expect("told");
    assert_eq!(tls.plain_peers, 0);
}
