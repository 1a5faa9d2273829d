//! Which TLS pods are made with now, on the way to what the spec asks for.
//!
//! Nodes of `Disabled` and of `Strict` cannot speak to each other, so a cluster goes from one to the
//! other by way of `Permissive`, each time with all pods. How far it is shows in the pods: each is made
//! with one mode, in its arguments, and says so in an annotation.

use crate::names::tls_secret;
use crate::observed::{Observed, Surroundings};
use crate::seats::is_serving;
use crate::validate::Validated;
use k8s_openapi::api::core::v1::{Pod, Volume};
use kube::ResourceExt;
use multiraft_api::{CertManager, ConfigMapKey, Reason, TLS_MODE_ANNOTATION, TlsMode};

/// Name of the volume with the certificates.
pub const VOLUME: &str = "tls";

/// Where a pod's certificates come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    pub secret: String,
    /// Holds the CAs, instead of the Secret.
    pub ca: Option<ConfigMapKey>,
}

/// TLS of pods that are made now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tls {
    pub mode: TlsMode,
    /// None where it is disabled.
    pub source: Option<Source>,
    /// Why it does not get nearer to what the spec asks for.
    pub held: Option<(Reason, String)>,
}

/// What the spec asks for.
pub fn wanted(cluster: &Validated) -> TlsMode {
    cluster.spec.tls.as_ref().map_or(TlsMode::Disabled, |tls| tls.mode)
}

pub fn cert_manager(cluster: &Validated) -> Option<&CertManager> {
    cluster.spec.tls.as_ref()?.cert_manager.as_ref()
}

/// The mode that a pod was made with.
pub fn mode_of(pod: &Pod) -> TlsMode {
    match pod.annotations().get(TLS_MODE_ANNOTATION).map(String::as_str) {
        Some("Strict") => TlsMode::Strict,
        Some("Permissive") => TlsMode::Permissive,
        _ => TlsMode::Disabled,
    }
}

/// The cluster, with the TLS that its pods are to have now.
pub fn settled(cluster: &Validated, observed: &Observed, env: &Surroundings) -> Validated {
    Validated { tls: now(cluster, observed, env), ..cluster.clone() }
}

fn now(cluster: &Validated, observed: &Observed, env: &Surroundings) -> Tls {
    let present = observed.pods.iter().find_map(source_of);
    let asked = source(cluster).or_else(|| present.clone());
    if let Some(why) = unissued(cluster, observed)
        && observed.pods.iter().any(|pod| source_of(pod) != asked)
    {
        // A pod would wait for certificates in vain, and one node be missing all the while.
        let mode = observed.pods.iter().map(mode_of).find(|mode| *mode != TlsMode::Disabled);
        let mode = present.as_ref().and(mode).unwrap_or_default();
        return Tls { mode, source: present, held: Some((Reason::CertificateNotIssued, why)) };
    }
    let (mode, held) = match is_unsure(cluster, observed) {
        true => (TlsMode::Permissive, None),
        false => step(wanted(cluster), &asked, observed, env),
    };
    // Other certificates come while plain text is taken, too, unless the mode stays as it is.
    let strict = observed.pods.iter().find(|pod| mode_of(pod) == TlsMode::Strict);
    let source = match (mode, strict) {
        (TlsMode::Disabled, _) => None,
        (TlsMode::Permissive, Some(pod)) => source_of(pod),
        (TlsMode::Permissive | TlsMode::Strict, _) => asked,
    };
    Tls { mode, source, held }
}

/// No pod is seen of a cluster that has had some, and on the way to another mode: where they are only not
/// seen yet, everybody can speak to one that is `Permissive`.
fn is_unsure(cluster: &Validated, observed: &Observed) -> bool {
    let status = &cluster.status;
    let formed = status.bootstrap.as_ref().is_some_and(|b| b.completed_at.is_some());
    let last = status.tls.as_ref().map_or(TlsMode::Disabled, |tls| tls.mode);
    formed && observed.pods.is_empty() && last != wanted(cluster)
}

/// The next mode on the way.
fn step(
    wanted: TlsMode,
    asked: &Option<Source>,
    observed: &Observed,
    env: &Surroundings,
) -> (TlsMode, Option<(Reason, String)>) {
    let any = |mode: TlsMode| observed.pods.iter().any(|pod| mode_of(pod) == mode);
    let fits = |pod: &Pod| wanted == TlsMode::Disabled || source_of(pod) == *asked;
    let all_serve = observed.pods.iter().all(|pod| is_serving(pod) && fits(pod));
    let (from, to) = match wanted {
        TlsMode::Permissive => return (TlsMode::Permissive, None),
        TlsMode::Strict => (TlsMode::Disabled, TlsMode::Strict),
        TlsMode::Disabled => (TlsMode::Strict, TlsMode::Disabled),
    };
    // The last step begins when all have made the one before it, and is not taken back when a pod is
    // away in the middle of it.
    if any(from) || !(any(to) || all_serve) {
        return (TlsMode::Permissive, None);
    }
    match &env.certificate {
        // Without one the operator would lock itself out.
        Err(why) if to == TlsMode::Strict && !any(to) && !observed.pods.is_empty() => {
            (TlsMode::Permissive, Some((Reason::OperatorCertificateMissing, why.clone())))
        }
        _ => (to, None),
    }
}

/// What the spec says of certificates.
fn source(cluster: &Validated) -> Option<Source> {
    let tls = cluster.spec.tls.as_ref()?;
    let ours = || tls.cert_manager.as_ref().map(|_| tls_secret(&cluster.name));
    let secret = tls.secret_name.clone().or_else(ours)?;
    Some(Source { secret, ca: tls.ca_config_map.clone() })
}

/// Where the certificates of a pod come from.
pub fn source_of(pod: &Pod) -> Option<Source> {
    let volumes = pod.spec.as_ref()?.volumes.as_ref()?;
    let volume: &Volume = volumes.iter().find(|volume| volume.name == VOLUME)?;
    if let Some(secret) = &volume.secret {
        return Some(Source { secret: secret.secret_name.clone()?, ca: None });
    }
    let parts = volume.projected.as_ref()?.sources.as_ref()?;
    let secret = parts.iter().find_map(|part| Some(part.secret.as_ref()?.name.clone()))?;
    let ca = parts.iter().find_map(|part| {
        let map = part.config_map.as_ref()?;
        let key = map.items.as_ref()?.first()?.key.clone();
        Some(ConfigMapKey { name: map.name.clone(), key })
    });
    Some(Source { secret, ca })
}

/// Whether the nodes use, or are to use, a Certificate that the operator asks for.
pub fn is_certificate_wanted(cluster: &Validated, observed: &Observed) -> bool {
    cert_manager(cluster).is_some() && wanted(cluster) != TlsMode::Disabled
        || is_certificate_used(cluster, observed)
}

pub fn is_certificate_used(cluster: &Validated, observed: &Observed) -> bool {
    let ours = tls_secret(&cluster.name);
    observed.pods.iter().filter_map(source_of).any(|source| source.secret == ours)
}

/// Why there is no certificate yet that was asked for.
pub fn unissued(cluster: &Validated, observed: &Observed) -> Option<String> {
    cert_manager(cluster).filter(|_| wanted(cluster) != TlsMode::Disabled)?;
    if let Some(why) = &observed.certificate_refused {
        return Some(format!("the API server does not take the Certificate: {why}"));
    }
    let name = tls_secret(&cluster.name);
    let Some(certificate) = &observed.certificate else {
        return Some(format!("cert-manager was not asked for Certificate {name} yet"));
    };
    let mut conditions = certificate.status.iter().flat_map(|status| &status.conditions);
    let ready = conditions.find(|c| c.kind == "Ready");
    match ready {
        Some(ready) if ready.status == "True" => None,
        Some(ready) => Some(format!("cert-manager says of Certificate {name}: {}", ready.message)),
        None => Some(format!("cert-manager says nothing of Certificate {name} yet")),
    }
}
