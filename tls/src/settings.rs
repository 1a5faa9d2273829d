//! How a node is to use TLS.

use crate::credentials::{Files, Pair};
use std::path::PathBuf;

/// How a node uses TLS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// Plain text only.
    #[default]
    Disabled,
    /// Both; peers are asked for TLS first. To switch TLS on, or off, node by node.
    Permissive,
    /// TLS only, with certificates on both sides.
    Strict,
}

/// Files of one port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortFiles {
    pub certificate: PathBuf,
    pub key: PathBuf,
    pub ca: PathBuf,
}

/// TLS of a node, unless it is disabled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    pub mode: Mode,
    /// Name of the cluster in certificates.
    pub cluster: String,
    pub clients: PortFiles,
    pub peers: PortFiles,
}

impl PortFiles {
    /// `node_of`: the cluster that the certificate must name a node of.
    pub(crate) fn files(self, node_of: Option<String>) -> Files {
        let PortFiles { certificate, key, ca } = self;
        Files { ca, pair: Some(Pair { certificate, key }), node_of }
    }
}
