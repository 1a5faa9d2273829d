//! Ports under TLS: who comes in, who does not, and what they are told.
#![allow(clippy::unwrap_used)]

mod authority;

use authority::{Authority, Issued, Place, Wish};
use multiraft_tls::{
    Caller, Connector, Credentials, Files, Mode, Pair, PortFiles, Role, Settings, Stream, Tls,
};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

const PATIENCE: Duration = Duration::from_secs(10);

fn files(place: &Place) -> PortFiles {
    let Place { certificate, key, ca } = place.clone();
    PortFiles { certificate, key, ca }
}

fn load(mode: Mode, cluster: &str, place: &Place) -> Arc<Tls> {
    let files = files(place);
    let (clients, peers) = (files.clone(), files);
    let (cluster, operators) = (cluster.into(), Some("operators".into()));
    Tls::load(Settings { mode, cluster, operators, clients, peers }).unwrap()
}

/// A node of `orders`, and its authority.
fn node(folder: &Path, mode: Mode) -> (Authority, Arc<Tls>) {
    let authority = Authority::new("ours");
    let place = authority.place(&folder.join("node"), &Wish::of("orders/node/a"));
    (authority, load(mode, "orders", &place))
}

fn connector(ca: &Authority, shown: Option<(&Authority, &Wish)>, folder: &Path) -> Connector {
    let place = Place::of(folder);
    std::fs::write(&place.ca, ca.pem()).unwrap();
    let pair = shown.map(|(by, wish)| {
        let issued = by.issue(wish);
        place.write(&issued, &ca.pem());
        Pair { certificate: place.certificate.clone(), key: place.key.clone() }
    });
    let credentials = Credentials::load(Files { ca: place.ca, pair, must_name: None }).unwrap();
    Connector::new(credentials, b"h2")
}

/// Lets each client in, says who it is, and closes.
async fn serve(tls: Arc<Tls>) -> (String, tokio::sync::mpsc::UnboundedReceiver<Option<Caller>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (sender, callers) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            let (tls, sender) = (tls.clone(), sender.clone());
            tokio::spawn(async move {
                let admitted = tls.admit_client(tcp, PATIENCE).await;
                let caller = admitted.map(|mut admitted| {
                    tokio::spawn(async move { admitted.stream.write_all(b"welcome").await });
                    admitted.caller
                });
                let _ = sender.send(caller);
            });
        }
    });
    (address, callers)
}

/// What a client gets to read, or why it gets nothing.
async fn visit(connector: &Connector, address: &str) -> Result<String, String> {
    let tcp = TcpStream::connect(address).await.unwrap();
    let mut stream = connector.connect(tcp, "127.0.0.1").await.map_err(|e| e.to_string())?;
    let mut said = vec![0; 7];
    stream.read_exact(&mut said).await.map_err(|e| e.to_string())?;
    Ok(String::from_utf8(said).unwrap())
}

#[tokio::test]
async fn a_certificate_says_who_comes() {
    let folder = tempfile::tempdir().unwrap();
    let (ours, tls) = node(folder.path(), Mode::Strict);
    let (address, mut callers) = serve(tls).await;
    for role in Role::ALL {
        let wish = Wish::of(&format!("orders/{}/shop", role.name()));
        let connector = connector(&ours, Some((&ours, &wish)), &folder.path().join(role.name()));
        assert_eq!(visit(&connector, &address).await.unwrap(), "welcome");
        let Some(Some(Caller::Named(named))) = callers.recv().await else { panic!("{role:?}") };
        assert_eq!((named.role, named.name.as_str()), (role, "shop"));
    }
    // An operator of several clusters; nobody else is let in for all of them.
    let operator = connector(
        &ours,
        Some((&ours, &Wish::of("operators/operator/a"))),
        &folder.path().join("operator"),
    );
    visit(&operator, &address).await.unwrap();
    let Some(Some(Caller::Named(named))) = callers.recv().await else { panic!("operator") };
    assert_eq!(named.to_string(), "multiraft://operators/operator/a");
    let two = Wish {
        uris: ["admin", "reader"].map(|role| format!("multiraft://orders/{role}/shop")).into(),
        ..Wish::of("")
    };
    for (name, wish) in [
        ("two", two),
        ("other", Wish::of("invoices/admin/shop")),
        ("all", Wish::of("operators/admin/a")),
    ] {
        let connector = connector(&ours, Some((&ours, &wish)), &folder.path().join(name));
        visit(&connector, &address).await.unwrap();
        assert_eq!(callers.recv().await, Some(Some(Caller::Stranger)), "{name}");
    }
}

#[tokio::test]
async fn strangers_are_told_why_they_do_not_come_in_and_others_still_do() {
    let folder = tempfile::tempdir().unwrap();
    let (ours, tls) = node(folder.path(), Mode::Strict);
    let theirs = Authority::new("theirs");
    let (address, _callers) = serve(tls.clone()).await;
    let good = Wish::of("orders/admin/me");
    let cases = [
        ("none", &ours, None, "certificate and key"),
        ("foreign", &ours, Some((&theirs, good.clone())), "of no CA that it trusts"),
        ("expired", &ours, Some((&ours, good.clone().expired())), "expired"),
        ("early", &ours, Some((&ours, good.clone().not_yet_valid())), "not valid yet"),
        ("wrong ca", &theirs, Some((&ours, good.clone())), "of no CA in"),
    ];
    for (name, ca, shown, words) in cases {
        let place = folder.path().join(name);
        let shown = shown.as_ref().map(|(by, wish)| (*by, wish));
        let error = match shown {
            // Our own client would not begin with these.
            Some((by, wish)) if name == "expired" || name == "early" => {
                careless_visit(ca, &by.issue(wish), &address).await
            }
            shown => visit(&connector(ca, shown, &place), &address).await,
        };
        let error = error.unwrap_err();
        assert!(error.contains(words), "{name}: {error}");
    }
    // The server that is not whom the client asked for.
    let elsewhere = connector(&ours, Some((&ours, &good)), &folder.path().join("name"))
        .server_name("elsewhere.example".into());
    let error = visit(&elsewhere.unwrap(), &address).await.unwrap_err();
    assert!(error.contains("does not name elsewhere.example"), "{error}");
    let right = connector(&ours, Some((&ours, &good)), &folder.path().join("right"));
    assert_eq!(visit(&right, &address).await.unwrap(), "welcome");
    // The node knows of the last refusal, which was the client's, a moment later.
    let counted = async {
        while tls.state().clients.failed < 6 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, counted).await.unwrap_or_else(|_| panic!("{:?}", tls.state()));
    assert_eq!(tls.state().clients.tls, 1);
}

/// A client that does not look at its own certificate's time.
async fn careless_visit(ca: &Authority, issued: &Issued, address: &str) -> Result<String, String> {
    use rustls::pki_types::pem::PemObject as _;
    let pem = |text: &str| rustls::pki_types::CertificateDer::from_pem_slice(text.as_bytes());
    let mut roots = rustls::RootCertStore::empty();
    roots.add(pem(&ca.pem()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let key = rustls::pki_types::PrivateKeyDer::from_pem_slice(issued.key.as_bytes()).unwrap();
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots)
        .with_client_auth_cert(vec![pem(&issued.certificate).unwrap()], key)
        .unwrap();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let tcp = TcpStream::connect(address).await.unwrap();
    let name = rustls::pki_types::ServerName::try_from("127.0.0.1").unwrap();
    let tls = connector.connect(name, tcp).await.map_err(|e| e.to_string())?;
    let mut stream = Stream::Tls(Box::new(tls.into()));
    let mut said = vec![0; 7];
    stream.read_exact(&mut said).await.map_err(|e| e.to_string())?;
    Ok(String::from_utf8(said).unwrap())
}

#[tokio::test]
async fn plain_text_is_told_that_it_is_refused_and_counted() {
    let folder = tempfile::tempdir().unwrap();
    let (_, tls) = node(folder.path(), Mode::Strict);
    let (address, mut callers) = serve(tls.clone()).await;
    let mut plain = TcpStream::connect(&address).await.unwrap();
    plain.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
    let mut said = Vec::new();
    plain.read_to_end(&mut said).await.unwrap();
    // SETTINGS without settings, then GOAWAY with a code and words as long as its length says.
    assert_eq!(&said[..9], b"\0\0\0\x04\0\0\0\0\0");
    let (length, words) = (said[11] as usize, &said[26..]);
    assert_eq!((said[12], length), (7, 8 + words.len()));
    assert_eq!(said[25], 0xc, "INADEQUATE_SECURITY");
    assert!(String::from_utf8_lossy(words).contains("TLS only"));
    assert_eq!(callers.recv().await, Some(None));
    assert_eq!(tls.state().clients.refused_plain, 1);
}

#[tokio::test]
async fn both_come_in_where_both_may() {
    let folder = tempfile::tempdir().unwrap();
    let (ours, tls) = node(folder.path(), Mode::Permissive);
    let (address, mut callers) = serve(tls).await;
    let mut plain = TcpStream::connect(&address).await.unwrap();
    plain.write_all(b"P").await.unwrap();
    assert_eq!(callers.recv().await, Some(Some(Caller::Anonymous)));
    let bare = connector(&ours, None, &folder.path().join("bare"));
    assert_eq!(visit(&bare, &address).await.unwrap(), "welcome");
    assert_eq!(callers.recv().await, Some(Some(Caller::Anonymous)));
}

/// RUSTSEC-2024-0376: an accept error ended the server.
#[tokio::test]
async fn broken_handshakes_end_nothing_but_themselves() {
    let folder = tempfile::tempdir().unwrap();
    let (ours, tls) = node(folder.path(), Mode::Strict);
    let (address, _callers) = serve(tls).await;
    let mut held = Vec::new();
    for n in 0..300u32 {
        let mut bad = TcpStream::connect(&address).await.unwrap();
        // Of every length: cut off, garbage behind a good beginning, and silence behind it.
        let _ = bad.write_all(&[0x16, 3, 1, 0, 200, 1, 0, 0, n as u8][..1 + n as usize % 9]).await;
        match n % 3 {
            0 => drop(bad),
            1 => {
                let _ = bad.write_all(&[0xff; 400]).await;
                held.push(bad);
            }
            _ => held.push(bad),
        }
    }
    let wish = Wish::of("orders/reader/me");
    let right = connector(&ours, Some((&ours, &wish)), &folder.path().join("right"));
    assert_eq!(visit(&right, &address).await.unwrap(), "welcome");
}

/// A port for peers that reads one byte of each connection and says it back.
async fn peers(tls: Arc<Tls>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            let tls = tls.clone();
            tokio::spawn(async move {
                let mut stream = tls.admit_peer(tcp, PATIENCE).await?;
                let byte = stream.read_u8().await?;
                // As a node: what is not the beginning of a link ends it.
                match byte {
                    b'M' => stream.write_all(&[byte, u8::from(stream.is_tls())]).await,
                    _ => Ok(()),
                }
            });
        }
    });
    address
}

/// Whether the connection is under TLS, as the other end says; or why there is none.
async fn dial(tls: &Tls, address: &str) -> Result<bool, String> {
    let talk = async {
        let mut stream = tls.dial_peer(address).await?;
        stream.write_all(b"M").await?;
        let mut said = [0; 2];
        stream.read_exact(&mut said).await?;
        std::io::Result::Ok(said[1] == 1)
    };
    tokio::time::timeout(PATIENCE, talk).await.expect("an end").map_err(|e| e.to_string())
}

#[tokio::test]
async fn nodes_of_neighbouring_modes_always_reach_each_other() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new("ours");
    let place = authority.place(folder.path(), &Wish::of("orders/node/a"));
    let modes = [Mode::Disabled, Mode::Permissive, Mode::Strict];
    let node = |mode| load(mode, "orders", &place);
    for (n, from) in modes.into_iter().enumerate() {
        for (m, to) in modes.into_iter().enumerate() {
            let (from_node, to_node) = (node(from), node(to));
            let address = peers(to_node.clone()).await;
            let reached = dial(&from_node, &address).await;
            if n.abs_diff(m) == 2 {
                assert!(reached.is_err(), "{from:?} to {to:?}");
                continue;
            }
            let wants_tls = n >= 1 && m >= 1;
            assert_eq!(reached, Ok(wants_tls), "{from:?} to {to:?}");
            let fell_back = u64::from(from == Mode::Permissive && to == Mode::Disabled);
            assert_eq!(from_node.state().fallbacks, fell_back);
        }
    }
}

#[tokio::test]
async fn only_a_node_of_this_cluster_is_a_peer() {
    let folder = tempfile::tempdir().unwrap();
    let ours = Authority::new("ours");
    let theirs = Authority::new("theirs");
    let good = ours.place(&folder.path().join("good"), &Wish::of("orders/node/a"));
    let strict = load(Mode::Strict, "orders", &good);
    let address = peers(strict.clone()).await;
    let foreign = theirs.place(&folder.path().join("foreign"), &Wish::of("orders/node/b"));
    std::fs::write(&foreign.ca, ours.pem()).unwrap();
    let other = ours.place(&folder.path().join("other"), &Wish::of("invoices/node/b"));
    for (name, tls, words) in [
        ("other CA", load(Mode::Strict, "orders", &foreign), "of no CA that it trusts"),
        (
            "other cluster",
            load(Mode::Strict, "invoices", &other),
            "names no node of cluster invoices",
        ),
    ] {
        let error = dial(&tls, &address).await.unwrap_err();
        assert!(error.contains(words), "{name}: {error}");
    }
    // A client of the cluster, whatever it may do, is no node.
    let admin = ours.place(&folder.path().join("admin"), &Wish::of("orders/admin/me"));
    let Place { certificate, key, ca } = admin.clone();
    let credentials =
        Credentials::load(Files { ca, pair: Some(Pair { certificate, key }), must_name: None });
    let link = Connector::new(credentials.unwrap(), b"multiraft-link");
    let tcp = TcpStream::connect(&address).await.unwrap();
    let mut stream = link.connect(tcp, "127.0.0.1").await.unwrap();
    assert_eq!(stream.read_u8().await.unwrap(), 0, "not welcome");
    // Nor does a node start with such a certificate.
    let files = files(&admin);
    let (clients, peers) = (files.clone(), files);
    let cluster = "orders".into();
    let settings = Settings { mode: Mode::Strict, cluster, operators: None, clients, peers };
    let error = Tls::load(settings).unwrap_err().to_string();
    assert!(error.contains("multiraft://orders/node/NAME"), "{error}");
    assert_eq!(dial(&strict, &address).await, Ok(true));
    // A port takes only its own protocol.
    let wrong = Connector::new(link.credentials().clone(), b"h2");
    let error = visit(&wrong, &address).await.unwrap_err();
    assert!(error.contains("right port"), "{error}");
}

#[tokio::test]
async fn a_permissive_node_with_a_bad_certificate_is_still_a_peer_and_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let ours = Authority::new("ours");
    let theirs = Authority::new("theirs");
    let good = ours.place(&folder.path().join("good"), &Wish::of("orders/node/a"));
    let bad = theirs.place(&folder.path().join("bad"), &Wish::of("orders/node/b").elsewhere());
    let (good, bad) =
        (load(Mode::Permissive, "orders", &good), load(Mode::Permissive, "orders", &bad));
    let address = peers(good.clone()).await;
    assert_eq!(dial(&bad, &address).await, Ok(false));
    assert_eq!(bad.state().fallbacks, 1);
    let address = peers(bad).await;
    assert_eq!(dial(&good, &address).await, Ok(false));
    assert_eq!(good.state().fallbacks, 1);
}

#[tokio::test]
async fn one_ca_takes_over_from_another_while_both_are_trusted() {
    let folder = tempfile::tempdir().unwrap();
    let (old, new) = (Authority::new("old"), Authority::new("new"));
    let both = format!("{}{}", old.pem(), new.pem());
    let (a, b) = (folder.path().join("a"), folder.path().join("b"));
    let (a, b) =
        (old.place(&a, &Wish::of("orders/node/a")), old.place(&b, &Wish::of("orders/node/b")));
    let (tls_a, tls_b) = (load(Mode::Strict, "orders", &a), load(Mode::Strict, "orders", &b));
    let (address_a, address_b) = (peers(tls_a.clone()).await, peers(tls_b.clone()).await);
    let check = |step: &'static str| {
        let (tls_a, tls_b, address_a, address_b) = (&tls_a, &tls_b, &address_a, &address_b);
        async move {
            tls_a.refresh();
            tls_b.refresh();
            assert_eq!(dial(tls_a, address_b).await, Ok(true), "{step}");
            assert_eq!(dial(tls_b, address_a).await, Ok(true), "{step}");
        }
    };
    check("before").await;
    std::fs::write(&a.ca, &both).unwrap();
    check("one trusts both").await;
    std::fs::write(&b.ca, &both).unwrap();
    check("both trust both").await;
    a.write(&new.issue(&Wish::of("orders/node/a")), &both);
    check("one has a new certificate").await;
    b.write(&new.issue(&Wish::of("orders/node/b")), &both);
    check("both have").await;
    std::fs::write(&a.ca, new.pem()).unwrap();
    std::fs::write(&b.ca, new.pem()).unwrap();
    check("the old one is gone").await;
    assert_eq!(tls_a.state().reloads, 3);
    let late = old.place(&folder.path().join("late"), &Wish::of("orders/node/c"));
    let late = load(Mode::Strict, "orders", &late);
    assert!(dial(&late, &address_a).await.is_err(), "what the old one issued means nothing now");
}

/// Whatever bytes stand in a certificate: it names somebody, or nobody.
#[test]
fn damaged_certificates_name_nobody_else_and_end_nothing() {
    use rustls::pki_types::pem::PemObject as _;
    let issued = Authority::new("ours").issue(&Wish::of("orders/reader/a"));
    let good =
        rustls::pki_types::CertificateDer::from_pem_slice(issued.certificate.as_bytes()).unwrap();
    let whole = multiraft_tls::Identity::of(&good, "orders").unwrap();
    let mut named = 0;
    for place in 0..good.len() {
        for flip in [0x01, 0x10, 0x80, 0xff] {
            let mut bytes = good.to_vec();
            bytes[place] ^= flip;
            let damaged = rustls::pki_types::CertificateDer::from(bytes);
            let _ = multiraft_tls::Validity::of(&damaged);
            let identity = multiraft_tls::Identity::of(&damaged, "orders");
            named += usize::from(identity.as_ref() == Some(&whole));
        }
        let cut = rustls::pki_types::CertificateDer::from(good[..place].to_vec());
        assert_eq!(multiraft_tls::Identity::of(&cut, "orders"), None, "cut at {place}");
    }
    assert!(named > 0, "flips in other places leave the name");
}
