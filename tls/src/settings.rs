//! How a node is to use TLS.

use crate::credentials::{Files, Pair};
use crate::identity::Role;
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
    /// Name that operators of several clusters have in certificates in place of the cluster's.
    pub operators: Option<String>,
    pub clients: PortFiles,
    pub peers: PortFiles,
}

impl PortFiles {
    pub(crate) fn files(self, must_name: Option<(String, Role)>) -> Files {
        let PortFiles { certificate, key, ca } = self;
        Files { ca, pair: Some(Pair { certificate, key }), must_name }
    }
}
