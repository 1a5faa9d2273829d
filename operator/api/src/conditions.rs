//! Conditions and their reasons: a closed set, because alerts and runbooks name them.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ConditionType {
    /// The spec of `observedGeneration` is fully applied and every group is available.
    Ready,
    /// Every group has a leader and a quorum.
    Available,
    /// The latch: never False again once True.
    Bootstrapped,
    /// Every group has all its voters, caught up.
    FullyReplicated,
    /// Members and leaders are spread evenly.
    Balanced,
    /// `spec.version` may change now.
    Upgradeable,
    /// The operator changes nothing; present only while True.
    Paused,
    /// Every node's stream is live.
    NodesConnected,
    /// Certificates are there, in use, and good for a while; absent while TLS is disabled.
    CertificatesReady,
    /// An operation runs; present only while True.
    Reconciling,
    /// A human is needed; present only while True.
    Stalled,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    Reconciled,
    Bootstrapping,
    Degraded,
    QuorumLost,
    Paused,
    AllGroupsAvailable,
    GroupsLeaderless,
    AllConnected,
    StreamDown,
    PlanRecorded,
    InvalidSpec,
    ForeignVolumes,
    DataLost,
    AllDataLost,
    RollingUpdate,
    Scaling,
    Replacing,
    Recovering,
    Balanced,
    Uneven,
    MachineShared,
    AllReplicated,
    UnderReplicated,
    StepTimeout,
    VolumeNotResizable,
    UpgradeAllowed,
    OperationInProgress,
    VersionSkew,
    CertificatesValid,
    CertificatesUnknown,
    CertificateNotIssued,
    CertificateExpiring,
    CertificateRefused,
    OperatorCertificateMissing,
}

/// Sets a condition; the transition time moves only with the status.
pub fn set_condition(conditions: &mut Vec<Condition>, new: Condition, now: &Time) {
    let time = match conditions.iter().find(|c| c.type_ == new.type_) {
        Some(old) if old.status == new.status => old.last_transition_time.clone(),
        _ => now.clone(),
    };
    let new = Condition { last_transition_time: time, ..new };
    match conditions.iter_mut().find(|c| c.type_ == new.type_) {
        Some(old) => *old = new,
        None => conditions.push(new),
    }
    conditions.sort_by(|a, b| a.type_.cmp(&b.type_));
}
