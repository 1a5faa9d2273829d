//! How much of the group each namespace may take.
//!
//! What is used is counted for namespaces with a quota only, from the moment that they have one:
//! groups without quotas keep no such state and do no such work. It follows from the primitives and
//! the sessions, so snapshots leave it out, and the digest has it in.

use std::sync::Arc;

use imbl::OrdMap;
use multiraft_proto::v1;

use crate::digest::Digest;
use crate::primitives::{Failure, Slot};
use crate::timers::Timers;

/// Namespace → its quota.
#[derive(Clone, Debug, Default)]
pub struct Quotas {
    quotas: OrdMap<Arc<str>, Quota>,
}

#[derive(Clone, Debug, Default)]
struct Quota {
    limits: Limits,
    primitives: u64,
    /// Approximate memory of the states of the primitives.
    bytes: u64,
    /// Attached session → how many of the primitives it is attached to.
    sessions: OrdMap<u64, u64>,
}

/// What a namespace may take; none = any number. At least one is set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    pub primitives: Option<u64>,
    pub bytes: Option<u64>,
    pub sessions: Option<u64>,
}

impl Limits {
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl Quotas {
    pub fn len(&self) -> usize {
        self.quotas.len()
    }

    pub fn contains(&self, namespace: &str) -> bool {
        self.quotas.contains_key(namespace)
    }

    /// The primitives and sessions that are there already are to be added behind it.
    pub fn insert(&mut self, namespace: Arc<str>, limits: Limits) {
        self.quotas.insert(namespace, Quota { limits, ..Quota::default() });
    }

    pub fn remove(&mut self, namespace: &str) {
        self.quotas.remove(namespace);
    }

    pub fn iter(&self) -> impl Iterator<Item = (&Arc<str>, Limits)> + Send {
        self.quotas.iter().map(|(namespace, quota)| (namespace, quota.limits))
    }

    /// Those behind a namespace, in their order, with what is used of them.
    pub fn infos(&self, after: Option<&str>) -> impl Iterator<Item = v1::QuotaInfo> {
        use std::ops::Bound::{Excluded, Unbounded};
        let first = after.map_or(Unbounded, Excluded);
        self.quotas.range::<_, str>((first, Unbounded)).map(|(namespace, quota)| v1::QuotaInfo {
            quota: Some(quota.limits.to_wire(namespace)),
            used: Some(v1::QuotaUsage {
                primitives: quota.primitives,
                bytes: quota.bytes,
                sessions: quota.sessions.len() as u64,
            }),
        })
    }

    /// Whether a session may attach to a primitive of the namespace, which is a new one or not.
    pub fn check(&self, namespace: &str, session_id: u64, is_new: bool) -> Result<(), Failure> {
        let Some(quota) = self.quotas.get(namespace) else { return Ok(()) };
        let Limits { primitives, bytes: _, sessions } = quota.limits;
        if is_new {
            let remedy = "destroy primitives that are not needed";
            hold_one(namespace, "primitives", primitives, quota.primitives + 1, remedy)?;
        }
        if !quota.sessions.contains_key(&session_id) {
            let wanted = quota.sessions.len() as u64 + 1;
            let remedy = "close sessions, or their primitives";
            hold_one(namespace, "sessions", sessions, wanted, remedy)?;
        }
        Ok(())
    }

    pub fn add_primitive(&mut self, slot: &Slot) {
        if let Some(quota) = self.quotas.get_mut(&*slot.namespace) {
            quota.primitives += 1;
            quota.bytes += slot.bytes();
        }
    }

    pub fn remove_primitive(&mut self, slot: &Slot) {
        if let Some(quota) = self.quotas.get_mut(&*slot.namespace) {
            quota.primitives -= 1;
            quota.bytes -= slot.bytes();
        }
    }

    /// A session was attached to another primitive of the namespace.
    pub fn attach(&mut self, namespace: &str, session_id: u64) {
        if let Some(quota) = self.quotas.get_mut(namespace) {
            *quota.sessions.entry(session_id).or_default() += 1;
        }
    }

    pub fn detach(&mut self, namespace: &str, session_id: u64) {
        let Some(quota) = self.quotas.get_mut(namespace) else { return };
        let Some(count) = quota.sessions.get_mut(&session_id) else { return };
        *count -= 1;
        if *count == 0 {
            quota.sessions.remove(&session_id);
        }
    }

    /// Counts what a change brings that is not asked for: time that passes, a session that ends.
    pub fn count<T>(&mut self, slot: &mut Slot, change: impl FnOnce(&mut Slot) -> T) -> T {
        let Some(quota) = self.quotas.get_mut(&*slot.namespace) else { return change(slot) };
        let before = slot.bytes();
        let result = change(slot);
        quota.bytes = quota.bytes - before + slot.bytes();
        result
    }

    /// Undoes a change that leaves more bytes than before and more than the limit: only afterwards
    /// is it known what a command brings. Returns what it brought, or why it did not happen.
    pub fn hold<T>(
        &mut self,
        slot: &mut Slot,
        timers: &mut Timers,
        change: impl FnOnce(&mut Slot, &mut Timers) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let quota = self.quotas.get_mut(&*slot.namespace);
        let Some(quota) = quota.filter(|quota| quota.limits.bytes.is_some()) else {
            return self.count(slot, |slot| change(slot, timers));
        };
        let (before, undo) = (slot.bytes(), (slot.clone(), timers.clone()));
        let result = change(slot, timers);
        let after = slot.bytes();
        let wanted = quota.bytes - before + after;
        if after > before {
            let remedy = "remove data that is not needed";
            let held = hold_one(&slot.namespace, "bytes", quota.limits.bytes, wanted, remedy);
            if let Err(failure) = held {
                (*slot, *timers) = undo;
                return Err(failure);
            }
        }
        quota.bytes = wanted;
        result
    }

    /// Younger than the first snapshots: see the rule of the digest.
    pub fn digest(&self, digest: &mut Digest) {
        let Self { quotas } = self;
        if quotas.is_empty() {
            return;
        }
        digest.number(quotas.len());
        for (namespace, quota) in quotas {
            digest.bytes(namespace.as_bytes());
            quota.digest(digest);
        }
    }
}

impl Quota {
    fn digest(&self, digest: &mut Digest) {
        let Self { limits, primitives, bytes, sessions } = self;
        limits.digest(digest);
        digest.word(*primitives);
        digest.word(*bytes);
        digest.number(sessions.len());
        for (session_id, count) in sessions {
            digest.word(*session_id);
            digest.word(*count);
        }
    }
}

impl Limits {
    fn digest(&self, digest: &mut Digest) {
        let Self { primitives, bytes, sessions } = self;
        digest.option(*primitives, Digest::word);
        digest.option(*bytes, Digest::word);
        digest.option(*sessions, Digest::word);
    }

    pub fn to_wire(self, namespace: &str) -> v1::Quota {
        let Self { primitives, bytes, sessions } = self;
        v1::Quota { namespace: namespace.to_owned(), primitives, bytes, sessions }
    }
}

/// INVALID: a CONFLICT would look like a lost race or a held lock, and be tried again at once.
fn hold_one(
    namespace: &str,
    which: &str,
    limit: Option<u64>,
    wanted: u64,
    remedy: &str,
) -> Result<(), Failure> {
    match limit {
        Some(limit) if wanted > limit => Err(Failure::invalid(format!(
            "quota of namespace {namespace:?}: {which}: limit {limit}, would be {wanted}; {remedy}, \
             or raise the quota with SetQuota"
        ))),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::each_field_changes_the_digest;

    #[test]
    fn each_field_of_the_quotas_is_in_the_digest() {
        let limits = Limits { primitives: Some(1), ..Limits::default() };
        each_field_changes_the_digest!(Quotas::default(), Quotas::digest, Quotas {
            quotas => quotas.insert("a".into(), Quota::default()),
        });
        let mut quota = Quota { limits, ..Quota::default() };
        quota.sessions.insert(1, 1);
        each_field_changes_the_digest!(quota.clone(), Quota::digest, Quota {
            limits => limits.bytes = Some(1),
            primitives => *primitives = 1,
            bytes => *bytes = 1,
            sessions => sessions.insert(1, 2),
        });
        each_field_changes_the_digest!(quota, Quota::digest, Quota {
            limits => limits.primitives = Some(2),
            primitives => *primitives = 2,
            bytes => *bytes = 2,
            sessions => sessions.insert(2, 1),
        });
        each_field_changes_the_digest!(limits, Limits::digest, Limits {
            primitives => *primitives = None,
            bytes => *bytes = Some(0),
            sessions => *sessions = Some(0),
        });
    }
}
