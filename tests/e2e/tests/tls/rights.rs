//! What each role may do at a real node: a call of each kind, over the stream and by itself. Every call
//! of both wires stands in the table that the node's own tests walk.

use std::time::Duration;

use multiraft_client::{Administration, Error, Tls, v1};

use crate::support::Secured;

const TIMEOUT: Duration = Duration::from_secs(20);
const DRAIN: &str = "/atomix.multiraft.v1.Node/Drain";
const LIST: &str = "/atomix.multiraft.v1.Node/ListPrimitives";

/// Reads, writes, sees nodes, changes nodes, sees what others have.
const RIGHTS: [(&str, [bool; 5]); 5] = [
    ("reader", [true, false, true, false, false]),
    ("writer", [true, true, true, false, false]),
    ("admin", [true, true, true, true, true]),
    ("operator", [false, false, true, true, false]),
    ("node", [false, false, false, false, false]),
];

#[tokio::test]
async fn each_role_may_do_what_its_certificate_says_and_no_more() {
    let secured = Secured::formed(1, 1, "Strict", &[]).await;
    let writer = secured.connect(Some(secured.tls("writer/first"))).await.expect("connected");
    writer.map("users").put("ada", "1815").await.expect("written");
    for (role, [reads, writes, sees, operates, manages]) in RIGHTS {
        let name = format!("{role}/me");
        let tls = secured.tls(&name);
        let uri = format!("multiraft://orders/{name}");
        let check = |what: &str, allowed: bool, outcome: Result<(), Error>| match outcome {
            Ok(()) => assert!(allowed, "{role}: {what}"),
            Err(error) => {
                assert!(!allowed, "{role}: {what}: {error}");
                let error = error.to_string();
                assert!(
                    error.contains("PermissionDenied") || error.contains("is for role"),
                    "{error}"
                );
                assert!(error.contains(&uri), "{role}: {what}: {error}");
            }
        };
        let endpoint = secured.nodes.nodes[0].address();
        let node = Administration::new(Some(tls.clone()));
        check("see nodes", sees, node.info(&endpoint, TIMEOUT).await.map(drop));
        let request = v1::DrainRequest { drain: false, ..Default::default() };
        let drained = node.call::<_, v1::DrainResponse>(&endpoint, DRAIN, &request, TIMEOUT);
        check("change nodes", operates, drained.await.map(drop));
        let request = v1::ListPrimitivesRequest { group_id: 1, ..Default::default() };
        let listed = node.call::<_, v1::ListPrimitivesResponse>(&endpoint, LIST, &request, TIMEOUT);
        check("see what others have", manages, listed.await.map(drop));
        if !sees {
            continue;
        }
        let cluster = secured.connect(Some(tls)).await.expect("it finds its way");
        let users = cluster.map("users");
        check("read", reads, users.get("ada").await.map(drop));
        check("write", writes, users.put("ada", "1852").await.map(drop));
        cluster.close().await;
    }
}

#[tokio::test]
async fn where_plain_text_is_allowed_a_certificate_still_says_what_its_bearer_may() {
    let secured = Secured::formed(1, 1, "Permissive", &[]).await;
    let anybody = secured.connect(None).await.expect("connected");
    anybody.map("users").put("ada", "1815").await.expect("written");
    let trusting = secured.connect(Some(Tls::new(secured.ca()))).await.expect("connected");
    trusting.map("users").put("ada", "1815").await.expect("written");
    let reader = secured.connect(Some(secured.tls("reader/me"))).await.expect("connected");
    let users = reader.map("users");
    assert!(users.get("ada").await.expect("read").value.is_some());
    let refusal = users.put("ada", "1852").await.expect_err("a reader").to_string();
    assert!(
        refusal.contains("atomix.multiraft.map.v1.Map/Put is for role writer or admin"),
        "{refusal}"
    );
}
