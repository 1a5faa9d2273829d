//! How the nodes use TLS, and who may reach them.

use k8s_openapi::api::networking::v1::NetworkPolicyPeer;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// TLS of the nodes. Their certificate names them all, `multiraft://NAME.NAMESPACE/node/NAME`, and
/// comes from one of two sources.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[x_kube(cel)]
#[x_kube(validation = Rule::new("has(self.secretName) != has(self.certManager) || (self.mode == 'Disabled' && !has(self.secretName))").message("spec.tls: give secretName or certManager, and not both; neither is needed where mode is Disabled"))]
#[x_kube(validation = Rule::new("!has(self.caConfigMap) || has(self.secretName) || has(self.certManager)").message("spec.tls.caConfigMap: stands for the ca.crt of secretName or certManager: give one of them"))]
#[serde(rename_all = "camelCase")]
pub struct Tls {
    /// How clients and nodes may come. From Disabled to Strict, and back, the operator goes by way of
    /// Permissive.
    #[serde(default)]
    pub mode: TlsMode,
    /// A Secret of yours with tls.crt, tls.key and ca.crt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub secret_name: Option<String>,
    /// A Certificate that the operator asks cert-manager for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cert_manager: Option<CertManager>,
    /// Whom the nodes trust, instead of the Secret's ca.crt: to change a CA with both trusted for a
    /// while, or where the issuer gives none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_config_map: Option<ConfigMapKey>,
}

#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TlsMode {
    /// Plain text only.
    #[default]
    Disabled,
    /// Plain text and TLS: to switch it on or off without an outage.
    Permissive,
    /// TLS only, with certificates on both sides.
    Strict,
}

/// What the Certificate of the nodes asks for.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[x_kube(cel)]
#[x_kube(validation = Rule::new("!has(self.duration) || !has(self.renewBefore) || duration(self.renewBefore) < duration(self.duration)").message("spec.tls.certManager.renewBefore: must be below spec.tls.certManager.duration"))]
#[serde(rename_all = "camelCase")]
pub struct CertManager {
    pub issuer_ref: IssuerRef,
    /// Life of a certificate; absent = cert-manager's default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16), regex(pattern = "^[0-9]+(s|m|h)$"))]
    pub duration: Option<String>,
    /// What is left of it when the next one is issued; absent = cert-manager's default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16), regex(pattern = "^[0-9]+(s|m|h)$"))]
    pub renew_before: Option<String>,
}

#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct IssuerRef {
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    #[serde(default = "default_issuer_kind")]
    #[schemars(length(min = 1, max = 63))]
    pub kind: String,
    #[serde(default = "default_issuer_group")]
    #[schemars(length(min = 1, max = 253))]
    pub group: String,
}

fn default_issuer_kind() -> String {
    "Issuer".into()
}

fn default_issuer_group() -> String {
    "cert-manager.io".into()
}

/// A key of a ConfigMap.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct ConfigMapKey {
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    #[serde(default = "default_ca_key")]
    #[schemars(length(min = 1, max = 253))]
    pub key: String,
}

fn default_ca_key() -> String {
    "ca.crt".into()
}

/// Who may reach the nodes: each other and the operator always.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct NetworkPolicy {
    /// A NetworkPolicy for the nodes' pods.
    #[serde(default = "enabled")]
    pub enabled: bool,
    /// Who may come to the clients' port; none = everybody.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub clients: Vec<NetworkPolicyPeer>,
}

impl Default for NetworkPolicy {
    fn default() -> Self {
        NetworkPolicy { enabled: true, clients: Vec::new() }
    }
}

fn enabled() -> bool {
    true
}

/// TLS as it is now; absent while it is disabled.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct TlsStatus {
    /// What pods are made with now: on the way from Disabled to Strict it is Permissive.
    pub mode: TlsMode,
    /// The cluster's name in certificates: `multiraft://<cluster>/<role>/<name>`.
    pub cluster: String,
    /// The Certificate that the operator made and has not deleted yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<String>,
}
