//! The second check of a spec, after the API server's: the rules in the schema may be older than
//! this operator, or switched off.

use crate::skew::Skew;
use crate::tls::Tls;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::{Resource, ResourceExt};
use multiraft_api::{MultiRaftCluster, MultiRaftClusterSpec, PAUSED_ANNOTATION, TlsMode};
use std::time::Duration;

/// A cluster whose spec makes sense. Nothing after validation reads the raw object's spec.
#[derive(Clone, Debug)]
pub struct Validated {
    pub name: String,
    pub namespace: String,
    pub uid: String,
    pub generation: i64,
    pub owner: OwnerReference,
    pub spec: MultiRaftClusterSpec,
    pub status: multiraft_api::MultiRaftClusterStatus,
    /// By the spec or by annotation.
    pub paused: bool,
    pub times: Times,
    /// Of pods that are made now; known only when everything is seen.
    pub tls: Tls,
    /// Why `spec.version` is not the one that its owner wrote.
    pub skew: Option<Skew>,
}

/// The spec's durations.
#[derive(Clone, Copy, Debug)]
pub struct Times {
    pub leader_drain: Duration,
    pub step: Duration,
    pub node_lost_after: Duration,
}

/// What is wrong with a spec, field by field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invalid {
    pub problems: Vec<String>,
}

pub fn validate(cluster: &MultiRaftCluster) -> Result<Validated, Invalid> {
    let spec = &cluster.spec;
    let mut problems = Vec::new();
    let name = cluster.name_any();
    if name.len() > 40 {
        problems.push("metadata.name: at most 40 characters".to_owned());
    }
    if !(1..=99).contains(&spec.replicas) {
        problems.push("spec.replicas: must be between 1 and 99".to_owned());
    }
    if !(1..=1024).contains(&spec.groups) {
        problems.push("spec.groups: must be between 1 and 1024".to_owned());
    }
    let voters = spec.voters();
    if voters.is_multiple_of(2) {
        problems.push(format!("spec.replicationFactor: {voters} must be odd"));
    }
    if i64::from(voters) > i64::from(spec.replicas) {
        problems.push(format!(
            "spec.replicationFactor: {voters} is above spec.replicas, {}",
            spec.replicas
        ));
    }
    match (millis(&spec.raft.election_timeout), millis(&spec.raft.heartbeat)) {
        (Some(election), Some(heartbeat)) if election / 5 >= heartbeat && heartbeat >= 10 => {}
        _ => problems.push(
            "spec.raft: electionTimeout must be at least 5 times heartbeat, heartbeat at least \
             10ms, written as 1s or 100ms"
                .to_owned(),
        ),
    }
    if let Some(tls) = &spec.tls
        && (tls.secret_name.is_some() && tls.cert_manager.is_some()
            || tls.mode != TlsMode::Disabled
                && tls.secret_name.is_none()
                && tls.cert_manager.is_none())
    {
        problems.push("spec.tls: give secretName or certManager, and not both".to_owned());
    }
    let times = times(spec, &mut problems);
    let (Some(uid), Some(namespace), Some(owner)) =
        (cluster.uid(), cluster.namespace(), cluster.controller_owner_ref(&()))
    else {
        problems.push("metadata: has no uid yet".to_owned());
        return Err(Invalid { problems });
    };
    if !problems.is_empty() {
        return Err(Invalid { problems });
    }
    Ok(Validated {
        name,
        namespace,
        uid,
        generation: cluster.metadata.generation.unwrap_or(0),
        owner,
        spec: spec.clone(),
        status: cluster.status.clone().unwrap_or_default(),
        paused: spec.paused
            || cluster.annotations().get(PAUSED_ANNOTATION).is_some_and(|v| v == "true"),
        times,
        tls: Tls::default(),
        skew: None,
    })
}

/// Longer means never, and arithmetic on it ends somewhere.
const WEEK_MILLIS: u64 = 7 * 24 * 3_600_000;

fn times(spec: &MultiRaftClusterSpec, problems: &mut Vec<String>) -> Times {
    let mut time = |field: &str, text: &str| match millis(text) {
        Some(millis) if millis <= WEEK_MILLIS => Duration::from_millis(millis),
        _ => {
            problems.push(format!(
                "spec.{field}: `{text}` must be a time such as 30s or 10m, of a week at most"
            ));
            Duration::ZERO
        }
    };
    let update = &spec.update_strategy;
    Times {
        leader_drain: time("updateStrategy.leaderDrainTimeout", &update.leader_drain_timeout),
        step: time("updateStrategy.stepTimeout", &update.step_timeout),
        node_lost_after: time("replacement.nodeLostAfter", &spec.replacement.node_lost_after),
    }
}

fn millis(text: &str) -> Option<u64> {
    let split = text.find(|c: char| !c.is_ascii_digit())?;
    let number: u64 = text[..split].parse().ok()?;
    match &text[split..] {
        "ms" => Some(number),
        "s" => number.checked_mul(1000),
        "m" => number.checked_mul(60_000),
        "h" => number.checked_mul(3_600_000),
        _ => None,
    }
}
