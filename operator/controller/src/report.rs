//! The last step of a pass: status and events. Transitions of conditions are written at once, all
//! else at most every [`STATUS_PERIOD`], and nothing when nothing changed.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use kube::api::{Patch, PatchParams};
use kube::runtime::events::{Event, EventType, Recorder};
use kube::{Api, Resource, ResourceExt};
use multiraft_api::{
    MultiRaftCluster, MultiRaftClusterStatus, OperationType, RaftPartitionSliceStatus,
};
use multiraft_plan::{KubeEvent, Plan, Severity};
use serde::Serialize;
use serde_json::json;
use tokio::time::Instant;

use crate::apply::{Applier, ApplyError, FIELD_MANAGER};
use crate::calls::CallError;
use crate::limits::{
    API_REQUEST_TIMEOUT, DEBOUNCE, EVENT_NOTE_BYTES_MAX, SLICE_PERIOD, STATUS_PERIOD,
};
use crate::metrics::Metrics;
use crate::store::{Key, Namespaced, Store};

#[derive(Clone)]
pub struct Reporter {
    pub applier: Applier,
    pub recorder: Recorder,
    pub metrics: Arc<Metrics>,
    pub written: Arc<Mutex<BTreeMap<Key, Instant>>>,
}

impl Reporter {
    /// Writes what changed. `Some(delay)`: something was held back that long.
    pub async fn report(
        &self,
        cluster: &MultiRaftCluster,
        plan: &Plan,
    ) -> Result<Option<Duration>, ApplyError> {
        let key = Key::of(cluster);
        let mut again = None;
        for (name, status) in &plan.slice_statuses {
            let slice = Key { namespace: key.namespace.clone(), name: name.clone() };
            again = sooner(again, self.slice(&slice, status).await?);
        }
        again = sooner(again, self.cluster(cluster, &key, &plan.status).await?);
        for event in &plan.events {
            self.tell(cluster, event).await;
        }
        Ok(again)
    }

    async fn cluster(
        &self,
        cluster: &MultiRaftCluster,
        key: &Key,
        status: &MultiRaftClusterStatus,
    ) -> Result<Option<Duration>, ApplyError> {
        let before = cluster.status.clone().unwrap_or_default();
        if before == *status {
            return Ok(None);
        }
        let urgent = urgent(&before) != urgent(status);
        if let Some(delay) = self.wait(key, STATUS_PERIOD).filter(|_| !urgent) {
            return Ok(Some(delay));
        }
        let what = "apply status of MultiRaftCluster";
        let seen = cluster.resource_version();
        let written = self.write(what, key, seen, status, &self.applier.stores.clusters).await;
        match written {
            // Somebody changed the cluster since it was seen: the next pass judges by that.
            Err(ApplyError::Api {
                source: CallError::Failed(kube::Error::Api(refusal)), ..
            }) if refusal.code == 409 => Ok(Some(DEBOUNCE)),
            written => written.map(|()| None),
        }
    }

    async fn slice(
        &self,
        key: &Key,
        status: &RaftPartitionSliceStatus,
    ) -> Result<Option<Duration>, ApplyError> {
        let Some(known) = self.applier.stores.slices.get(key) else { return Ok(None) };
        if known.status.clone().unwrap_or_default() == *status {
            return Ok(None);
        }
        if let Some(delay) = self.wait(key, SLICE_PERIOD) {
            return Ok(Some(delay));
        }
        let what = "apply status of RaftPartitionSlice";
        self.write(what, key, None, status, &self.applier.stores.slices).await?;
        Ok(None)
    }

    async fn write<K: Namespaced>(
        &self,
        what: &'static str,
        key: &Key,
        seen: Option<String>,
        status: &impl Serialize,
        store: &Store<K>,
    ) -> Result<(), ApplyError> {
        let api: Api<K> = Api::namespaced(self.applier.client.clone(), &key.namespace);
        let mut metadata = json!({"name": key.name});
        // A version of null is one, and no object has it.
        if let Some(seen) = seen {
            metadata["resourceVersion"] = json!(seen);
        }
        let patch = Patch::Apply(json!({
            "apiVersion": K::api_version(&()),
            "kind": K::kind(&()),
            "metadata": metadata,
            "status": status,
        }));
        let params = PatchParams::apply(FIELD_MANAGER).force();
        let call = api.patch_status(&key.name, &params, &patch);
        let written = self.applier.gate.call(what, &key.name, API_REQUEST_TIMEOUT, call).await;
        let object =
            written.map_err(|source| ApplyError::Api { what, name: key.name.clone(), source })?;
        store.put(object);
        self.metrics.status_writes.inc();
        self.written
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(key.clone(), Instant::now());
        Ok(())
    }

    /// How long the next write of an object has to wait.
    fn wait(&self, key: &Key, period: Duration) -> Option<Duration> {
        let written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        period.checked_sub(written.get(key)?.elapsed()).filter(|left| !left.is_zero())
    }

    /// Events are for people: one that cannot be written is not worth a pass.
    async fn tell(&self, cluster: &MultiRaftCluster, event: &KubeEvent) {
        let mut note = event.note.clone();
        if note.len() > EVENT_NOTE_BYTES_MAX {
            let end = (0..=EVENT_NOTE_BYTES_MAX).rev().find(|at| note.is_char_boundary(*at));
            note.truncate(end.unwrap_or(0));
        }
        let event = Event {
            type_: match event.severity {
                Severity::Normal => EventType::Normal,
                Severity::Warning => EventType::Warning,
            },
            reason: event.reason.clone(),
            note: Some(note),
            action: "Reconcile".to_owned(),
            secondary: None,
        };
        let reference = cluster.object_ref(&());
        let publish = self.recorder.publish(&event, &reference);
        match tokio::time::timeout(API_REQUEST_TIMEOUT, publish).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::warn!(
                    cluster = cluster.name_any(),
                    error = crate::errors::chain(&error),
                    "event not written"
                );
            }
            Err(_) => tracing::warn!(cluster = cluster.name_any(), "event not written in time"),
        }
    }
}

/// The part of a status that is written at once.
#[derive(PartialEq)]
struct Urgent {
    latched: bool,
    /// Type, status and reason.
    conditions: Vec<(String, String, String)>,
    /// Type, subject and step: how long a step may take counts from here.
    operation: Option<(OperationType, String, String)>,
    recovered: bool,
}

fn urgent(status: &MultiRaftClusterStatus) -> Urgent {
    let conditions = status.conditions.iter();
    let operation = status.operation.as_ref();
    Urgent {
        latched: status.bootstrap.as_ref().is_some_and(|b| b.completed_at.is_some()),
        conditions: conditions
            .map(|c| (c.type_.clone(), c.status.clone(), c.reason.clone()))
            .collect(),
        operation: operation.map(|o| (o.kind, o.subject.clone(), o.step.clone())),
        recovered: status.recovery.as_ref().is_some_and(|r| r.completed_at.is_some()),
    }
}

fn sooner(a: Option<Duration>, b: Option<Duration>) -> Option<Duration> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}
