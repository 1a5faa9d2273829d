//! Whom a certificate names: `multiraft://<cluster>/<role>/<name>` among its alternative names.
//!
//! A URI, as CockroachDB and SPIFFE have them, rather than the common name that etcd and Redpanda
//! map: it says the role and the cluster itself, so that a certificate of another cluster under the
//! same CA means nothing, and there is no table of names to keep.

use crate::limits::NAME_LETTERS_MAX;
use rustls::pki_types::CertificateDer;
use std::fmt;
use webpki::EndEntityCert;

/// What the URI begins with.
pub const SCHEME: &str = "multiraft://";

/// What the bearer of a certificate may do; the node's own table says which calls these are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Reads and listens.
    Reader,
    /// Reads and changes primitives.
    Writer,
    /// Everything that clients and operator may.
    Admin,
    /// Watches and changes nodes and groups; reads no data.
    Operator,
    /// A node of the cluster, to its peers; nothing to clients' ports.
    Node,
}

impl Role {
    pub const ALL: [Role; 5] =
        [Role::Reader, Role::Writer, Role::Admin, Role::Operator, Role::Node];

    /// As it stands in certificates.
    pub fn name(self) -> &'static str {
        match self {
            Role::Reader => "reader",
            Role::Writer => "writer",
            Role::Admin => "admin",
            Role::Operator => "operator",
            Role::Node => "node",
        }
    }
}

/// Who a certificate says that its bearer is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    pub cluster: String,
    pub role: Role,
    pub name: String,
}

impl Identity {
    /// Reads a URI; `None` for one that is not exactly of this form.
    pub fn parse(uri: &str) -> Option<Identity> {
        let mut parts = uri.strip_prefix(SCHEME)?.split('/');
        let (cluster, role, name) = (parts.next()?, parts.next()?, parts.next()?);
        let role = Role::ALL.into_iter().find(|known| known.name() == role)?;
        let whole = parts.next().is_none() && is_name(cluster) && is_name(name);
        whole.then(|| Identity { cluster: cluster.into(), role, name: name.into() })
    }

    /// What a certificate says for one cluster. `None`: nothing, or more than one thing.
    pub fn of(certificate: &CertificateDer<'_>, cluster: &str) -> Option<Identity> {
        let certificate = EndEntityCert::try_from(certificate).ok()?;
        let mut named = certificate
            .valid_uri_names()
            .filter_map(Identity::parse)
            .filter(|identity| identity.cluster == cluster);
        let first = named.next()?;
        named.next().is_none().then_some(first)
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{SCHEME}{}/{}/{}", self.cluster, self.role.name(), self.name)
    }
}

/// Whether a word can stand in such a URI as it is: letters, digits, `.`, `_` and `-`.
pub fn is_name(word: &str) -> bool {
    let letters = word.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
    letters && !word.is_empty() && word.len() <= NAME_LETTERS_MAX
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_whole_form_names_somebody() {
        let named = Identity::parse("multiraft://orders/writer/shop-1").unwrap();
        assert_eq!((named.cluster.as_str(), named.role), ("orders", Role::Writer));
        assert_eq!(named.to_string(), "multiraft://orders/writer/shop-1");
        for uri in [
            "multiraft://orders/writer/",
            "multiraft://orders/writer",
            "multiraft://orders/writer/a/b",
            "multiraft:///writer/a",
            "multiraft://orders/Writer/a",
            "multiraft://orders/root/a",
            "multiraft://orders/writer/a?b",
            "multiraft://orders/writer/a%2f",
            "MULTIRAFT://orders/writer/a",
            "spiffe://orders/writer/a",
            "",
        ] {
            assert_eq!(Identity::parse(uri), None, "{uri}");
        }
        let long = "a".repeat(NAME_LETTERS_MAX);
        assert!(Identity::parse(&format!("multiraft://{long}/node/{long}")).is_some());
        assert!(Identity::parse(&format!("multiraft://{long}a/node/b")).is_none());
    }
}
