//! Nodes with certificates, and clients that have some.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use multiraft_client::{Cluster, Error, Options, Tls};
use multiraft_e2e::nodes::Nodes;

use crate::authority::{Authority, Place, Wish};

/// Name of the cluster in certificates.
pub const CLUSTER: &str = "orders";

/// A refusal is repeated for so long before a client says it.
const REFUSED_AFTER: Duration = Duration::from_secs(2);
const PATIENCE: Duration = Duration::from_secs(60);

/// Nodes, and whose certificates they take.
pub struct Secured {
    pub nodes: Nodes,
    pub authority: Authority,
}

impl Secured {
    /// Nodes of a mode with `groups` on all of them, asked by an admin unless in plain text.
    pub async fn formed(count: usize, groups: u32, mode: &str, flags: &[&str]) -> Secured {
        let authority = Authority::new("ours");
        let mut secured = Secured { nodes: Nodes::prepared(count), authority };
        for number in 0..count {
            let place = secured.place_of(number);
            let issued = secured.authority.issue(&Wish::of(&node_name(number)));
            place.write(&issued, &secured.authority.pem());
            secured.set_mode(number, mode);
            let node = &mut secured.nodes.nodes[number];
            node.arguments.extend(flags.iter().map(|&flag| flag.to_owned()));
        }
        let admin = (mode != "Disabled").then(|| secured.tls("admin/test"));
        for node in &mut secured.nodes.nodes {
            node.tls.clone_from(&admin);
            node.start();
        }
        secured.nodes.form(groups, count).await;
        secured
    }

    /// How a node is started from now on.
    pub fn set_mode(&mut self, number: usize, mode: &str) {
        let place = self.place_of(number);
        self.nodes.nodes[number].arguments = arguments(mode, &place);
    }

    /// Where the certificate of a node is.
    pub fn place_of(&self, number: usize) -> Place {
        Place::of(&self.folder().join(format!("tls-{number}")))
    }

    pub fn folder(&self) -> &Path {
        self.nodes.folder.path()
    }

    /// Files of a client, such as `writer/shop` of this cluster, that this authority signed.
    pub fn place(&self, name: &str) -> Place {
        self.place_of_wish(name, &Wish::of(&format!("{CLUSTER}/{name}")))
    }

    pub fn place_of_wish(&self, name: &str, wish: &Wish) -> Place {
        self.authority.place(&self.folder().join(name.replace('/', "-")), wish)
    }

    /// The same, for a client to use.
    pub fn tls(&self, name: &str) -> Tls {
        tls(&self.place(name))
    }

    /// A file with the CA alone.
    pub fn ca(&self) -> PathBuf {
        let place = Place::of(&self.folder().join("ca"));
        std::fs::write(&place.ca, self.authority.pem()).expect("the folder is writable");
        place.ca
    }

    pub async fn connect(&self, tls: Option<Tls>) -> Result<Cluster, Error> {
        let mut options = Options::default();
        if let Some(tls) = tls {
            options = options.tls(tls);
        }
        options.connect(self.nodes.endpoints()).await
    }

    /// A client does not get in, and is told why in these words. On a busy machine it may hear
    /// nothing at first.
    pub async fn refused(&self, tls: Option<Tls>, words: &str) {
        let began = Instant::now();
        loop {
            let mut options = Options::default().timeout(REFUSED_AFTER);
            if let Some(tls) = &tls {
                options = options.tls(tls.clone());
            }
            let error = match options.connect(self.nodes.endpoints()).await {
                Ok(_) => panic!("it got in, without {words:?}"),
                Err(error) => error.to_string(),
            };
            if error.contains(words) {
                return;
            }
            assert!(began.elapsed() < PATIENCE, "not {words:?}: {error}");
        }
    }
}

pub fn node_name(number: usize) -> String {
    format!("{CLUSTER}/node/{number}")
}

pub fn tls(place: &Place) -> Tls {
    Tls::new(&place.ca).certificate(&place.certificate, &place.key)
}

pub fn arguments(mode: &str, place: &Place) -> Vec<String> {
    let file = |path: &Path| path.to_str().expect("a path of a test is text").to_owned();
    let flags = [
        ("--tls-mode", mode.to_owned()),
        ("--tls-cluster", CLUSTER.to_owned()),
        ("--tls-certificate", file(&place.certificate)),
        ("--tls-key", file(&place.key)),
        ("--tls-ca", file(&place.ca)),
    ];
    flags.into_iter().flat_map(|(flag, value)| [flag.to_owned(), value]).collect()
}
