//! Clients of every kind at nodes of every mode, and certificates that are wrong in every way.

use std::process::Command;

use multiraft_client::{Options, Tls};
use multiraft_e2e::members::until;
use multiraft_e2e::nodes;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::authority::{Authority, Place, Wish};
use crate::support::{Secured, arguments, tls};

/// What a client of each kind gets: nothing to say, or words of its error.
const MATRIX: [(&str, [Option<&str>; 3]); 3] = [
    // In plain text, trusting alone, with a certificate.
    ("Disabled", [None, Some("plain text only"), Some("plain text only")]),
    ("Permissive", [None, None, None]),
    ("Strict", [Some("takes TLS only"), Some("give certificate and key"), None]),
];

#[tokio::test]
async fn every_client_gets_in_at_every_mode_or_is_told_why_not() {
    for (mode, expected) in MATRIX {
        let secured = Secured::formed(1, 1, mode, &[]).await;
        let clients = [None, Some(Tls::new(secured.ca())), Some(secured.tls("writer/shop"))];
        for (kind, (client, words)) in clients.into_iter().zip(expected).enumerate() {
            let Some(words) = words else {
                let cluster =
                    secured.connect(client).await.unwrap_or_else(|e| panic!("{mode} {kind}: {e}"));
                cluster.counter("visits").increment(1).await.expect("counted");
                cluster.close().await;
                continue;
            };
            secured.refused(client, words).await;
        }
    }
}

#[tokio::test]
async fn a_client_that_is_wrong_in_any_way_is_told_which() {
    let secured = Secured::formed(1, 1, "Strict", &[]).await;
    let theirs = Authority::new("theirs");
    let me = Wish::of("orders/admin/me");
    let place = |name: &str| secured.folder().join(name);

    // A certificate of another CA; the node is trusted all the same.
    let foreign = theirs.place(&place("foreign"), &me);
    std::fs::write(&foreign.ca, secured.authority.pem()).expect("writable");
    // Whoever trusts another CA.
    let other_ca = theirs.place(&place("other-ca"), &me);
    let cases = [
        (tls(&foreign), "our certificate is of no CA that it trusts"),
        (tls(&other_ca), "its certificate is of no CA in"),
        (Tls::new(secured.ca()), "it wants a certificate of ours"),
        (
            secured.tls("admin/me").server_name("elsewhere.example"),
            "does not name elsewhere.example",
        ),
        (
            tls(&secured.place_of_wish("other", &Wish::of("invoices/admin/me"))),
            "names nobody in this cluster",
        ),
        (tls(&secured.place_of_wish("expired", &me.clone().expired())), "renew it"),
        (tls(&secured.place_of_wish("early", &me.clone().not_yet_valid())), "this machine's clock"),
    ];
    for (client, words) in cases {
        secured.refused(Some(client), words).await;
    }
    secured.refused(None, "takes TLS only").await;
    // Nobody was kept out by them.
    let cluster = secured.connect(Some(secured.tls("admin/me"))).await.expect("still served");
    cluster.counter("visits").increment(1).await.expect("counted");
    let metrics = metrics(&secured.nodes.nodes[0].http_address()).await;
    let value = |line: &str| {
        let found = metrics.lines().find_map(|l| l.strip_prefix(line));
        let value = found.unwrap_or_else(|| panic!("no {line} in {metrics}"));
        value.trim().parse::<u64>().expect("a number")
    };
    let connections = "multiraft_node_connections_total";
    assert!(value(&format!("{connections}{{port=\"client\",outcome=\"refused_plain\"}}")) >= 1);
    assert!(value(&format!("{connections}{{port=\"client\",outcome=\"failed_handshake\"}}")) >= 4);
    assert_eq!(value(&format!("{connections}{{port=\"client\",outcome=\"plain\"}}")), 0);
}

async fn metrics(address: &str) -> String {
    let mut stream = tokio::net::TcpStream::connect(address).await.expect("served");
    let request = format!("GET /metrics HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("sent");
    let mut text = String::new();
    stream.read_to_string(&mut text).await.expect("answered");
    text
}

#[tokio::test]
async fn a_node_that_is_not_of_the_cluster_does_not_take_part() {
    let mut secured = Secured::formed(3, 1, "Strict", &[]).await;
    let theirs = Authority::new("theirs");
    let own = secured.place_of(2);
    let good = ["tls.crt", "tls.key"]
        .map(|f| std::fs::read_to_string(own.ca.with_file_name(f)).expect("there"));
    let stranger = theirs.issue(&Wish::of("orders/node/2"));
    let elsewhere = secured.authority.issue(&Wish::of("orders/node/2").elsewhere());
    for (bad, words) in [
        (stranger, "is of no CA that it trusts"),
        // It may come to others, as a node; but nobody finds it where it says to be.
        (elsewhere, "does not name 127.0.0.1"),
    ] {
        let node = &mut secured.nodes.nodes[2];
        node.kill();
        node.wait();
        own.write(&bad, &secured.authority.pem());
        secured.nodes.nodes[2].start();
        let said = |secured: &Secured| secured.nodes.nodes.iter().any(|n| n.log().contains(words));
        until(words, async || said(&secured)).await;
        let second = secured.nodes.nodes[1].info().await.node_id;
        until("the others hear each other alone", async || {
            let others = secured.nodes.nodes[0].info().await.peers;
            let up = others.iter().filter(|peer| peer.connected).map(|peer| peer.node_id);
            up.eq([second])
        })
        .await;
    }
    let node = &mut secured.nodes.nodes[2];
    node.kill();
    node.wait();
    let [certificate, key] = good;
    own.write(&crate::authority::Issued { certificate, key }, &secured.authority.pem());
    secured.nodes.nodes[2].start();
    secured.nodes.until_replicated(1, 3, 0).await;
}

#[test]
fn a_node_does_not_start_with_files_that_nobody_would_trust() {
    let folder = tempfile::tempdir().expect("a folder");
    let authority = Authority::new("ours");
    let check = |place: &Place| {
        let output = Command::new(nodes::program("multiraft-node"))
            .arg("--check")
            .args(arguments("Strict", place))
            .output()
            .expect("the program starts");
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let me = Wish::of("orders/node/a");
    let good = authority.place(&folder.path().join("good"), &me);
    assert_eq!(check(&good), (Some(0), String::new()));
    for (name, wish, words) in [
        ("expired", me.clone().expired(), "expired"),
        ("early", me.clone().not_yet_valid(), "clock"),
        ("other", Wish::of("invoices/node/a"), "multiraft://orders/node/NAME"),
        ("client", Wish::of("orders/admin/a"), "multiraft://orders/node/NAME"),
    ] {
        let place = authority.place(&folder.path().join(name), &wish);
        let (code, error) = check(&place);
        assert_eq!(code, Some(2), "{name}: {error}");
        assert!(error.contains(words) && error.contains("tls.crt"), "{name}: {error}");
    }
}

#[tokio::test]
async fn the_command_line_speaks_tls() {
    let secured = Secured::formed(1, 1, "Strict", &[]).await;
    let place = secured.place("writer/shop");
    let run = |words: &str, options: &[(&str, &str)]| {
        let mut command = Command::new(nodes::program("multiraft"));
        command
            .args(words.split(' '))
            .env("MULTIRAFT_ENDPOINTS", secured.nodes.endpoints().join(","));
        command.args(["--timeout", "30s"]).envs(options.iter().copied());
        let output = command.output().expect("the program starts");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    };
    let file = |path: &std::path::Path| path.to_str().expect("text").to_owned();
    let (ca, certificate, key) = (file(&place.ca), file(&place.certificate), file(&place.key));
    let all = [
        ("MULTIRAFT_TLS_CA", ca.as_str()),
        ("MULTIRAFT_TLS_CERT", certificate.as_str()),
        ("MULTIRAFT_TLS_KEY", key.as_str()),
    ];
    let (code, output, error) = run("counter increment visits", &all);
    assert_eq!((code, output.trim()), (Some(0), "1"), "{error}");
    let (code, output, _) = run("node list", &all);
    assert_eq!(code, Some(0), "{output}");
    let flags =
        format!("counter get visits --tls-ca {ca} --tls-cert {certificate} --tls-key {key}");
    assert_eq!(run(&flags, &[]).0, Some(0));
    let (code, _, error) = run("node drain 1", &all);
    assert!(code != Some(0) && !error.is_empty());
    let (code, _, error) = run("counter get visits", &[]);
    assert_eq!(code, Some(3));
    assert!(error.contains("takes TLS only"), "{error}");
    let (code, _, error) = run("counter get visits", &all[..1]);
    assert_eq!(code, Some(3));
    assert!(error.contains("wants a certificate of ours"), "{error}");
    let (code, _, error) = run("counter get visits", &all[1..]);
    assert_eq!(code, Some(2));
    assert!(error.contains("--tls-ca: must be given"), "{error}");
    let (code, _, error) = run("counter get visits", &[("MULTIRAFT_TLS_CA", "/nowhere/ca.crt")]);
    assert_eq!(code, Some(2));
    assert!(error.contains("/nowhere/ca.crt: cannot be read"), "{error}");
}

#[tokio::test]
async fn a_client_takes_new_certificates_when_it_connects_again() {
    let mut secured = Secured::formed(1, 1, "Strict", &[]).await;
    let place = secured.place("writer/shop");
    let cluster = Options::default().tls(tls(&place)).connect(secured.nodes.endpoints());
    let cluster = cluster.await.expect("connected");
    cluster.counter("visits").increment(1).await.expect("counted");
    // Another CA altogether, on both sides, while the node is away.
    let new = Authority::new("new");
    let node = &mut secured.nodes.nodes[0];
    node.kill();
    node.wait();
    let own = secured.place_of(0);
    own.write(&new.issue(&Wish::of("orders/node/0")), &new.pem());
    place.write(&new.issue(&Wish::of("orders/writer/shop")), &new.pem());
    secured.nodes.nodes[0].start();
    let visits =
        cluster.counter("visits").increment(1).await.expect("counted over a new connection");
    assert_eq!(visits.value, 2);
}
