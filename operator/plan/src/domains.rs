//! What fails together: nodes on one machine, machines in one zone.

use crate::observed::{Machine, Observed};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use kube::ResourceExt;
use std::iter::Sum;

/// On volumes, by Kubernetes: the machine that a volume was made for.
const SELECTED_NODE: &str = "volume.kubernetes.io/selected-node";

/// Where a node is, as far as that is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Domain<'a> {
    pub machine: Option<&'a str>,
    pub zone: Option<&'a str>,
}

/// Pairs of members that fail together. A zone weighs more than a machine: with zones, two members
/// on one machine share both.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Overlap {
    zone: usize,
    machine: usize,
}

impl Overlap {
    pub fn is_none(self) -> bool {
        self == Overlap::default()
    }
}

impl Sum for Overlap {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), |sum, next| Self {
            zone: sum.zone + next.zone,
            machine: sum.machine + next.machine,
        })
    }
}

impl<'a> Domain<'a> {
    /// Where the pod runs, else where its volume was made. `zone_key`: label of the machines that
    /// names their zone.
    pub fn of(
        observed: &'a Observed,
        zone_key: &str,
        pod: Option<&'a Pod>,
        volume: Option<&'a PersistentVolumeClaim>,
    ) -> Self {
        let machine = bound(pod).or_else(|| made(volume));
        let known = machine.and_then(|name| observed.machines.as_ref()?.get(name));
        Domain {
            machine,
            zone: known.and_then(|m: &Machine| m.labels.get(zone_key)).map(String::as_str),
        }
    }

    /// Pairs of this one and each of the others.
    pub fn overlap<'b>(self, others: impl IntoIterator<Item = Domain<'b>>) -> Overlap {
        let same = |a: Option<&str>, b: Option<&str>| usize::from(a.is_some() && a == b);
        let pair = |other: Domain| Overlap {
            zone: same(self.zone, other.zone),
            machine: same(self.machine, other.machine),
        };
        others.into_iter().map(pair).sum()
    }
}

/// All pairs of these.
pub fn overlap(domains: &[Domain]) -> Overlap {
    let later = |i: usize| domains.iter().skip(i + 1).copied();
    domains.iter().enumerate().map(|(i, domain)| domain.overlap(later(i))).sum()
}

/// The machine that a pod was bound to.
pub fn bound(pod: Option<&Pod>) -> Option<&str> {
    pod?.spec.as_ref()?.node_name.as_deref()
}

/// The machine that a volume was made for.
pub fn made(volume: Option<&PersistentVolumeClaim>) -> Option<&str> {
    volume?.annotations().get(SELECTED_NODE).map(String::as_str)
}
