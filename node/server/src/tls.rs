//! TLS in the configuration.

use anyhow::bail;
use multiraft_tls::{Mode, PortFiles, Settings, is_name};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// How the ports of clients and peers use TLS.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Tls {
    pub mode: TlsMode,
    /// Name of the cluster in certificates: `multiraft://<cluster>/<role>/<name>`.
    pub cluster: String,
    /// Name that operators of several clusters have in certificates in place of the cluster's; empty:
    /// there are none.
    pub operators: String,
    /// PEM: the node's certificate, then those between it and the CA.
    pub certificate: PathBuf,
    pub key: PathBuf,
    /// PEM: whose certificates are trusted; several while one CA takes over from another.
    pub ca: PathBuf,
    /// What is different for the port of peers, and towards peers.
    pub peers: Peers,
}

/// Files for peers; what is absent is as for clients.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Peers {
    pub certificate: PathBuf,
    pub key: PathBuf,
    pub ca: PathBuf,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
pub enum TlsMode {
    /// Plain text only
    #[default]
    #[value(name = "Disabled")]
    Disabled,
    /// Plain text and TLS: to switch it on or off without an outage
    #[value(name = "Permissive")]
    Permissive,
    /// TLS only, with certificates on both sides
    #[value(name = "Strict")]
    Strict,
}

#[derive(Debug, Default, clap::Args)]
#[command(next_help_heading = "TLS")]
pub struct TlsFlags {
    /// How clients and peers may come [default: Disabled].
    #[arg(long = "tls-mode", value_enum, ignore_case = true)]
    pub mode: Option<TlsMode>,
    /// Name of the cluster in certificates: multiraft://CLUSTER/node/... for nodes.
    #[arg(long = "tls-cluster", value_name = "NAME")]
    pub cluster: Option<String>,
    /// Name of operators of several clusters: multiraft://NAME/operator/... may operate here, too.
    #[arg(long = "tls-operators", value_name = "NAME")]
    pub operators: Option<String>,
    /// This node's certificate in PEM, with those between it and the CA; read again when it changes.
    #[arg(long = "tls-certificate", value_name = "FILE")]
    pub certificate: Option<PathBuf>,
    /// Its private key in PEM.
    #[arg(long = "tls-key", value_name = "FILE")]
    pub key: Option<PathBuf>,
    /// The CAs in PEM of those who may come.
    #[arg(long = "tls-ca", value_name = "FILE")]
    pub ca: Option<PathBuf>,
    /// The certificate towards other nodes, if it is another one.
    #[arg(long = "tls-peer-certificate", value_name = "FILE")]
    pub peer_certificate: Option<PathBuf>,
    /// Its key.
    #[arg(long = "tls-peer-key", value_name = "FILE")]
    pub peer_key: Option<PathBuf>,
    /// The CAs of other nodes, if they are others.
    #[arg(long = "tls-peer-ca", value_name = "FILE")]
    pub peer_ca: Option<PathBuf>,
}

impl Tls {
    pub(crate) fn override_by(&mut self, flags: &TlsFlags) {
        if let Some(mode) = flags.mode {
            self.mode = mode;
        }
        if let Some(cluster) = &flags.cluster {
            self.cluster.clone_from(cluster);
        }
        if let Some(operators) = &flags.operators {
            self.operators.clone_from(operators);
        }
        for (field, flag) in [
            (&mut self.certificate, &flags.certificate),
            (&mut self.key, &flags.key),
            (&mut self.ca, &flags.ca),
            (&mut self.peers.certificate, &flags.peer_certificate),
            (&mut self.peers.key, &flags.peer_key),
            (&mut self.peers.ca, &flags.peer_ca),
        ] {
            if let Some(path) = flag {
                field.clone_from(path);
            }
        }
    }

    pub(crate) fn check(&self) -> anyhow::Result<()> {
        if self.mode == TlsMode::Disabled {
            return Ok(());
        }
        let mode = self.mode;
        if self.cluster.is_empty() {
            bail!(
                "tls.cluster: must be set where tls.mode is {mode:?}: the name that certificates \
                 have in multiraft://<cluster>/<role>/<name>"
            );
        }
        if !is_name(&self.cluster) {
            bail!("tls.cluster: {} is no name: letters, digits, '.', '_' and '-'", self.cluster);
        }
        if !self.operators.is_empty() && !is_name(&self.operators) {
            let name = &self.operators;
            bail!("tls.operators: {name} is no name: letters, digits, '.', '_' and '-'");
        }
        for (key, path) in
            [("certificate", &self.certificate), ("key", &self.key), ("ca", &self.ca)]
        {
            if path.as_os_str().is_empty() {
                bail!("tls.{key}: must be set where tls.mode is {mode:?}: the path of a PEM file");
            }
        }
        let (certificate, key) = (&self.peers.certificate, &self.peers.key);
        match (certificate.as_os_str().is_empty(), key.as_os_str().is_empty()) {
            (true, false) => bail!("tls.peers.certificate: must be set where tls.peers.key is"),
            (false, true) => bail!("tls.peers.key: must be set where tls.peers.certificate is"),
            _ => Ok(()),
        }
    }

    /// What the node is started with. The configuration was checked.
    pub fn settings(&self) -> Settings {
        let or = |path: &PathBuf, otherwise: &PathBuf| match path.as_os_str().is_empty() {
            true => otherwise.clone(),
            false => path.clone(),
        };
        let Tls { certificate, key, ca, peers, .. } = self;
        Settings {
            mode: match self.mode {
                TlsMode::Disabled => Mode::Disabled,
                TlsMode::Permissive => Mode::Permissive,
                TlsMode::Strict => Mode::Strict,
            },
            cluster: self.cluster.clone(),
            operators: Some(self.operators.clone()).filter(|name| !name.is_empty()),
            clients: PortFiles {
                certificate: certificate.clone(),
                key: key.clone(),
                ca: ca.clone(),
            },
            peers: PortFiles {
                certificate: or(&peers.certificate, certificate),
                key: or(&peers.key, key),
                ca: or(&peers.ca, ca),
            },
        }
    }
}
