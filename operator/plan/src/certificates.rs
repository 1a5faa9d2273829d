//! How the certificates of a cluster are, and what is to be done where they are not well.

use crate::names::tls_secret;
use crate::observed::{Node, Observed, Surroundings};
use crate::tls;
use crate::validate::Validated;
use k8s_openapi::jiff::Timestamp;
use multiraft_api::{Reason, TlsMode};
use multiraft_proto::v1::TlsInfo;

/// A node whose certificate has less than this part of its life left should have another already.
const LIFE_LEFT_MIN: u64 = 4;

/// None while nothing has TLS, or is to have it.
pub fn judge(
    cluster: &Validated,
    observed: &Observed,
    env: &Surroundings,
) -> Option<(Reason, String)> {
    let has_tls = |pod: &_| tls::mode_of(pod) != TlsMode::Disabled;
    let wanted = tls::wanted(cluster) != TlsMode::Disabled;
    if !wanted && cluster.tls.mode == TlsMode::Disabled && !observed.pods.iter().any(has_tls) {
        return None;
    }
    let held = cluster.tls.held.clone();
    let unissued = || Some((Reason::CertificateNotIssued, tls::unissued(cluster, observed)?));
    let missing =
        || Some((Reason::OperatorCertificateMissing, locked_out(cluster, observed, env)?));
    let judged = held.or_else(unissued).or_else(missing);
    judged.or_else(|| Some(of_nodes(observed, env)))
}

/// Why the operator cannot reach nodes that take TLS only.
pub fn locked_out(cluster: &Validated, observed: &Observed, env: &Surroundings) -> Option<String> {
    let strict = |pod: &_| tls::mode_of(pod) == TlsMode::Strict;
    let any = cluster.tls.mode == TlsMode::Strict || observed.pods.iter().any(strict);
    env.certificate.clone().err().filter(|_| any)
}

/// By what the nodes themselves say.
fn of_nodes(observed: &Observed, env: &Surroundings) -> (Reason, String) {
    let now = env.now.0.as_second();
    let of = |node: &Node| node.identity.as_ref().filter(|_| node.connected)?.tls.clone();
    let told: Vec<(&str, TlsInfo)> = observed
        .nodes
        .iter()
        .filter_map(|(name, node)| Some((name.as_str(), of(node).filter(|t| t.not_after > 0)?)))
        .collect();
    let ends = |tls: &TlsInfo| tls.not_after.min(tls.peer_not_after);
    let Some((first, soonest)) = told.iter().min_by_key(|(_, tls)| ends(tls)) else {
        let words = "no node has told of its certificate yet";
        return (Reason::CertificatesUnknown, words.to_owned());
    };
    if let Some((name, tls)) = told.iter().find(|(_, tls)| !tls.problem.is_empty()) {
        return (
            Reason::CertificateRefused,
            format!("{name} cannot use its files: {}", tls.problem),
        );
    }
    let (begin, end) = (soonest.not_before, ends(soonest));
    let left = end.saturating_sub(u64::try_from(now).unwrap_or_default());
    let day = time(end);
    if left.saturating_mul(LIFE_LEFT_MIN) < end.saturating_sub(begin) {
        let words = format!(
            "the certificate of {first} ends at {day}, and less than a quarter of its life is \
             left: renew it"
        );
        return (Reason::CertificateExpiring, words);
    }
    let words = format!("the certificates of {} nodes are good until {day}", told.len());
    (Reason::CertificatesValid, words)
}

fn time(seconds: u64) -> String {
    let seconds = i64::try_from(seconds).unwrap_or(i64::MAX);
    Timestamp::from_second(seconds).map_or_else(|_| seconds.to_string(), |time| time.to_string())
}

/// Why the cluster cannot become what the spec asks for until its certificates are there.
pub fn blocking(
    cluster: &Validated,
    observed: &Observed,
    are_all_connected: bool,
) -> Option<(Reason, String)> {
    let waits = || {
        let why = tls::unissued(cluster, observed).filter(|_| !are_all_connected)?;
        Some((Reason::CertificateNotIssued, why))
    };
    cluster.tls.held.clone().or_else(waits)
}

/// What to look at when nodes with these certificates are not heard of.
pub fn hint(cluster: &Validated) -> Option<String> {
    let source = cluster.tls.source.as_ref()?;
    let secret = &source.secret;
    let ours = tls::cert_manager(cluster).is_some() && *secret == tls_secret(&cluster.name);
    let what = if ours { "Certificate" } else { "Secret" };
    Some(format!("; their pods wait for {what} {secret} if it is not there"))
}
