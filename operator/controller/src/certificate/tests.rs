#[path = "../../../../tls/tests/authority/mod.rs"]
mod authority;

use std::path::Path;
use std::time::Duration;

use authority::{Authority, Place, Wish};
use multiraft_tls::{Caller, Mode, PortFiles, Settings, Tls};
use tokio::net::TcpListener;

use super::*;

const ME: &str = "multiraft-operator/operator/test";
const PATIENCE: Duration = Duration::from_secs(10);

/// The port of a node of cluster `orders`; tells of each who came in.
async fn node(mode: Mode, place: &Place) -> (u16, tokio::sync::mpsc::UnboundedReceiver<Caller>) {
    let Place { certificate, key, ca } = place.clone();
    let clients = PortFiles { certificate, key, ca };
    let (cluster, operators) = ("orders".to_owned(), Some(OPERATORS.to_owned()));
    let tls = match mode {
        Mode::Disabled => Tls::disabled(),
        mode => {
            let peers = clients.clone();
            Tls::load(Settings { mode, cluster, operators, clients, peers }).unwrap()
        }
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (sender, callers) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            let Some(admitted) = tls.admit_client(tcp, PATIENCE).await else { continue };
            let _ = sender.send(admitted.caller.clone());
        }
    });
    (port, callers)
}

/// Whether it got in under TLS; a word is said, as ports wait for the first byte.
async fn dial(
    certificate: &Certificate,
    port: u16,
    name: &str,
    speech: Speech,
) -> Result<bool, String> {
    use tokio::io::AsyncWriteExt as _;
    let address = ("127.0.0.1".parse().unwrap(), port);
    let dialled = certificate.dial(address, name, speech).await;
    let mut stream = dialled.map_err(|error| error.to_string())?;
    stream.write_all(b"PRI").await.map_err(|error| error.to_string())?;
    Ok(stream.is_tls())
}

fn operator(ours: &Authority, folder: &Path) -> Certificate {
    ours.place(folder, &Wish::of(ME));
    Certificate::new(Some(folder.to_owned()))
}

#[test]
fn files_may_come_later_and_must_name_an_operator() {
    let folder = tempfile::tempdir().unwrap();
    let none = Certificate::new(None).state().unwrap_err();
    assert!(none.contains("has no certificate") && none.contains("tls.secretName"), "{none}");
    let certificate = Certificate::new(Some(folder.path().to_owned()));
    let absent = certificate.state().unwrap_err();
    assert!(absent.contains("cannot be read"), "{absent}");
    let ours = Authority::new("ours");
    ours.place(folder.path(), &Wish::of("orders/operator/test"));
    assert!(!certificate.refresh());
    let wrong = certificate.state().unwrap_err();
    assert!(wrong.contains("multiraft://multiraft-operator/operator/NAME"), "{wrong}");
    let place = ours.place(folder.path(), &Wish::of(ME));
    assert!(certificate.refresh());
    assert_eq!(certificate.state(), Ok(()));
    // What is bad later leaves the good one in use.
    std::fs::write(place.certificate, "none").unwrap();
    assert!(!certificate.refresh() && !certificate.refresh());
    assert_eq!(certificate.state(), Ok(()));
}

#[tokio::test]
async fn a_node_is_asked_by_its_name_whatever_its_address() {
    let folder = tempfile::tempdir().unwrap();
    let ours = Authority::new("ours");
    let host = "orders-0.orders-peers.shop.svc";
    let hosts = vec!["*.orders-peers.shop.svc".to_owned()];
    let wish = Wish { hosts, here: false, ..Wish::of("orders/node/orders") };
    let place = ours.place(&folder.path().join("node"), &wish);
    let (port, mut callers) = node(Mode::Strict, &place).await;
    let me = operator(&ours, &folder.path().join("operator"));
    assert_eq!(dial(&me, port, host, Speech::Tls).await, Ok(true));
    let Some(Caller::Named(named)) = callers.recv().await else { panic!("nobody came") };
    assert_eq!(named.to_string(), format!("multiraft://{ME}"));
    let other = dial(&me, port, "invoices-0.invoices-peers.shop.svc", Speech::Tls).await;
    assert!(other.unwrap_err().contains("does not name invoices-0"));
    let none = Certificate::new(None);
    let refused = dial(&none, port, host, Speech::Tls).await.unwrap_err();
    assert!(refused.contains("tls.secretName"), "{refused}");
}

#[tokio::test]
async fn where_both_are_taken_a_node_is_never_lost_by_tls() {
    let folder = tempfile::tempdir().unwrap();
    let ours = Authority::new("ours");
    let theirs = Authority::new("theirs");
    let place = ours.place(&folder.path().join("node"), &Wish::of("orders/node/orders"));
    let me = operator(&ours, &folder.path().join("operator"));
    let stranger = operator(&theirs, &folder.path().join("stranger"));
    for (mode, certificate, under_tls) in [
        (Mode::Permissive, &me, true),
        (Mode::Permissive, &stranger, false),
        (Mode::Permissive, &Certificate::new(None), false),
        (Mode::Disabled, &me, false),
    ] {
        let (port, _callers) = node(mode, &place).await;
        let got = dial(certificate, port, "localhost", Speech::Either).await;
        assert_eq!(got, Ok(under_tls), "{mode:?}");
    }
}
