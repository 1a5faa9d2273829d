//! Who acts: a Lease names one holder, and its count of transitions is the operator's epoch.
//!
//! Every change of the Lease is a compare-and-set on its resource version. A holder acts only
//! until two thirds of the lease's duration after it *sent* its last successful renewal; another
//! takes over only after watching an unchanged Lease for the whole duration by its own clock, so
//! clocks of different machines are never compared. Beyond that, nodes refuse an epoch lower than
//! one they have seen, which stops even a holder that was frozen in the middle of a call.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;
use kube::api::PostParams;
use kube::{Api, ResourceExt};
use tokio::sync::{oneshot, watch};
use tokio::time::Instant;

use crate::backoff::jittered;

/// Whether this process may act.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    Standby,
    Leading { epoch: u64, until: Instant },
}

impl Standing {
    /// The epoch, if this process may act now.
    pub fn epoch(self, now: Instant) -> Option<u64> {
        match self {
            Self::Leading { epoch, until } if now < until => Some(epoch),
            Self::Leading { .. } | Self::Standby => None,
        }
    }
}

pub struct Election {
    pub leases: Api<Lease>,
    pub name: String,
    pub identity: String,
    pub duration: Duration,
    /// Take the lease at once at the start, whoever holds it.
    pub take_over: bool,
}

/// What is remembered between attempts.
struct Candidate {
    election: Election,
    /// The Lease as last seen, and when it was first seen so.
    seen: Option<(Lease, Instant)>,
    /// The epoch that this very process acquired.
    epoch: Option<u64>,
}

/// What to write, if anything.
#[derive(Debug, PartialEq, Eq)]
enum Move {
    Wait,
    Renew { epoch: u64 },
    Acquire { epoch: u64 },
}

impl Election {
    /// Runs for the lease until `stop`, then gives it back. `floor` is the highest epoch that any
    /// node reports: a new one is always above it, also after somebody deleted the Lease.
    pub async fn run(
        self,
        standing: watch::Sender<Standing>,
        mut floor: watch::Receiver<u64>,
        mut stop: oneshot::Receiver<()>,
    ) {
        let period = self.duration.mul_f64(2.0 / 15.0);
        let mut candidate = Candidate { election: self, seen: None, epoch: None };
        loop {
            let highest = *floor.borrow_and_update();
            candidate.attempt(&standing, highest).await;
            tokio::select! {
                () = tokio::time::sleep(jittered(period, 0.2)) => {}
                _ = floor.changed() => {}
                _ = &mut stop => break,
            }
        }
        candidate.release(&standing).await;
    }
}

impl Candidate {
    async fn attempt(&mut self, standing: &watch::Sender<Standing>, floor: u64) {
        let sent_at = Instant::now();
        let until = sent_at + self.election.duration.mul_f64(2.0 / 3.0);
        match self.try_once(floor).await {
            Ok(Some(epoch)) => {
                let before = standing.send_replace(Standing::Leading { epoch, until });
                if before.epoch(sent_at) != Some(epoch) {
                    tracing::info!(epoch, identity = self.election.identity, "leading");
                }
            }
            Ok(None) => {
                self.epoch = None;
                if standing.send_replace(Standing::Standby) != Standing::Standby {
                    tracing::warn!("the lease was taken by another process");
                }
            }
            // Unknown, not lost: the standing ends by itself when its time is over.
            Err(error) => tracing::warn!(error = crate::errors::chain(&error), "lease not renewed"),
        }
    }

    async fn try_once(&mut self, floor: u64) -> Result<Option<u64>, kube::Error> {
        let Some(lease) = self.election.leases.get_opt(&self.election.name).await? else {
            let epoch = floor + 1;
            let lease = self
                .election
                .leases
                .create(&PostParams::default(), &self.lease(None, epoch))
                .await?;
            self.saw(lease);
            self.epoch = Some(epoch);
            return Ok(self.epoch);
        };
        let since = self.saw(lease.clone());
        match self.decide(&lease, since.elapsed(), floor) {
            Move::Wait => Ok(None),
            Move::Renew { epoch } | Move::Acquire { epoch } => {
                let wanted = self.lease(Some(&lease), epoch);
                let written = self
                    .election
                    .leases
                    .replace(&self.election.name, &PostParams::default(), &wanted)
                    .await?;
                self.saw(written);
                self.epoch = Some(epoch);
                self.election.take_over = false;
                Ok(self.epoch)
            }
        }
    }

    fn decide(&self, lease: &Lease, unchanged_for: Duration, floor: u64) -> Move {
        let spec = lease.spec.clone().unwrap_or_default();
        let transitions = spec.lease_transitions.and_then(|n| u64::try_from(n).ok()).unwrap_or(0);
        let holder = spec.holder_identity.filter(|h| !h.is_empty());
        let ours = holder.as_deref() == Some(self.election.identity.as_str());
        let above = transitions.max(floor) + 1;
        // A holder that left its duration unsaid gets ours.
        let granted = spec
            .lease_duration_seconds
            .and_then(|s| u64::try_from(s).ok())
            .map_or(self.election.duration, Duration::from_secs);
        match self.epoch {
            // The floor is this very epoch once a node was called.
            Some(epoch) if ours && epoch == transitions && epoch >= floor => Move::Renew { epoch },
            // A node has seen a higher epoch, or the same name without our memory is a process
            // before this one: both mean a new epoch.
            _ if ours => Move::Acquire { epoch: above },
            None if holder.is_none() || unchanged_for >= granted || self.election.take_over => {
                Move::Acquire { epoch: above }
            }
            _ => Move::Wait,
        }
    }

    /// Remembers the lease; returns since when it is as it is.
    fn saw(&mut self, lease: Lease) -> Instant {
        let unchanged = self
            .seen
            .as_ref()
            .is_some_and(|(known, _)| known.spec == lease.spec && known.uid() == lease.uid());
        let since = match (&self.seen, unchanged) {
            (Some((_, since)), true) => *since,
            _ => Instant::now(),
        };
        self.seen = Some((lease, since));
        since
    }

    fn lease(&self, before: Option<&Lease>, epoch: u64) -> Lease {
        let now = MicroTime(Timestamp::now());
        let mut lease = before.cloned().unwrap_or_default();
        lease.metadata.name = Some(self.election.name.clone());
        let old = lease.spec.take().unwrap_or_default();
        let same = old.lease_transitions == i32::try_from(epoch).ok()
            && old.holder_identity.as_deref() == Some(&self.election.identity);
        lease.spec = Some(LeaseSpec {
            holder_identity: Some(self.election.identity.clone()),
            lease_duration_seconds: Some(whole_seconds(self.election.duration)),
            lease_transitions: Some(i32::try_from(epoch).unwrap_or(i32::MAX)),
            acquire_time: if same { old.acquire_time } else { Some(now.clone()) },
            renew_time: Some(now),
            ..LeaseSpec::default()
        });
        lease
    }

    /// Gives the lease back so that the next one need not wait.
    async fn release(&mut self, standing: &watch::Sender<Standing>) {
        standing.send_replace(Standing::Standby);
        let (Some(epoch), Some((lease, _))) = (self.epoch.take(), self.seen.take()) else { return };
        let mut released = self.lease(Some(&lease), epoch);
        if let Some(spec) = &mut released.spec {
            spec.holder_identity = None;
        }
        match self
            .election
            .leases
            .replace(&self.election.name, &PostParams::default(), &released)
            .await
        {
            Ok(_) => tracing::info!("lease released"),
            Err(error) => {
                tracing::warn!(error = crate::errors::chain(&error), "lease not released")
            }
        }
    }
}

/// The Lease counts whole seconds; others must never wait less than we act.
fn whole_seconds(duration: Duration) -> i32 {
    i32::try_from(duration.as_millis().div_ceil(1000)).unwrap_or(i32::MAX).max(1)
}

#[cfg(test)]
mod tests;
