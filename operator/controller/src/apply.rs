//! The fourth step of a pass: carries a plan out, in its order, and stops at the first failure.

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::{Api, Client, ResourceExt};
use multiraft_plan::{Delete, NodeCall, Object, Plan};
use serde::Serialize;
use serde_json::Value;
use thiserror::Error;

use crate::calls::{CallError, Gate};
use crate::fetch::Stores;
use crate::limits::{API_REQUEST_TIMEOUT, NODE_CALL_TIMEOUT};
use crate::nodes::Nodes;
use crate::store::{Key, Namespaced, Store};

/// Owner of the fields that this operator applies.
pub const FIELD_MANAGER: &str = "multiraft-operator";

#[derive(Debug, Error)]
pub enum ApplyError {
    #[error("{what} {name}")]
    Api { what: &'static str, name: String, source: CallError<kube::Error> },
    #[error("{what} on the node of pod {pod}")]
    Node { what: &'static str, pod: String, source: CallError<tonic::Status> },
}

impl ApplyError {
    /// Another process leads now: nothing failed.
    pub fn is_not_leading(&self) -> bool {
        matches!(
            self,
            Self::Api { source: CallError::NotLeading, .. }
                | Self::Node { source: CallError::NotLeading, .. }
        )
    }
}

/// What carrying out needs.
#[derive(Clone)]
pub struct Applier {
    pub client: Client,
    pub gate: Gate,
    pub stores: Stores,
    pub nodes: Nodes,
}

impl Applier {
    pub async fn apply(&self, cluster: &Key, plan: &Plan) -> Result<(), ApplyError> {
        for object in &plan.objects {
            self.object(&cluster.namespace, object).await?;
        }
        for delete in &plan.deletes {
            self.delete(&cluster.namespace, delete).await?;
        }
        for call in &plan.calls {
            self.node_call(&cluster.namespace, call).await?;
        }
        Ok(())
    }

    async fn object(&self, namespace: &str, object: &Object) -> Result<(), ApplyError> {
        let s = &self.stores;
        match object {
            Object::ServiceAccount(o) => {
                self.one("apply ServiceAccount", namespace, o, &s.service_accounts).await
            }
            Object::Service(o) => self.one("apply Service", namespace, o, &s.services).await,
            Object::ConfigMap(o) => self.one("apply ConfigMap", namespace, o, &s.config_maps).await,
            Object::Volume(o) => {
                self.one("apply PersistentVolumeClaim", namespace, o, &s.volumes).await
            }
            Object::Slice(o) => self.one("apply RaftPartitionSlice", namespace, o, &s.slices).await,
            Object::Budget(o) => {
                self.one("apply PodDisruptionBudget", namespace, o, &s.budgets).await
            }
            Object::Pod(o) => self.create("create Pod", namespace, o.as_ref(), &s.pods).await,
        }
    }

    /// Applies the intent unless what is there says all of it already.
    async fn one<K: Namespaced>(
        &self,
        what: &'static str,
        namespace: &str,
        intent: &K,
        store: &Store<K>,
    ) -> Result<(), ApplyError> {
        let name = intent.name_any();
        let key = Key { namespace: namespace.to_owned(), name: name.clone() };
        if store.get(&key).is_some_and(|known| says(&json(known.as_ref()), &json(intent))) {
            return Ok(());
        }
        let api: Api<K> = Api::namespaced(self.client.clone(), namespace);
        let params = PatchParams::apply(FIELD_MANAGER).force();
        let patch = Patch::Apply(intent);
        let call = api.patch(&name, &params, &patch);
        let written = self.gate.call(what, &name, API_REQUEST_TIMEOUT, call).await;
        let object = written.map_err(|source| ApplyError::Api { what, name, source })?;
        store.put(object);
        Ok(())
    }

    /// Creates an object that is never changed. One that is there already was created by a pass
    /// whose answer got lost; the watch will show it.
    async fn create<K: Namespaced>(
        &self,
        what: &'static str,
        namespace: &str,
        intent: &K,
        store: &Store<K>,
    ) -> Result<(), ApplyError> {
        let name = intent.name_any();
        let api: Api<K> = Api::namespaced(self.client.clone(), namespace);
        let params =
            PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() };
        let call = api.create(&params, intent);
        match self.gate.call(what, &name, API_REQUEST_TIMEOUT, call).await {
            Ok(object) => {
                store.put(object);
                Ok(())
            }
            Err(CallError::Failed(kube::Error::Api(status))) if status.code == 409 => Ok(()),
            Err(source) => Err(ApplyError::Api { what, name, source }),
        }
    }

    async fn delete(&self, namespace: &str, delete: &Delete) -> Result<(), ApplyError> {
        match delete {
            Delete::Pod { name, uid } => {
                self.delete_one::<Pod>("delete Pod", namespace, name, uid).await
            }
            Delete::Budget { name, uid } => {
                let what = "delete PodDisruptionBudget";
                self.delete_one::<PodDisruptionBudget>(what, namespace, name, uid).await
            }
        }
    }

    async fn delete_one<K: Namespaced>(
        &self,
        what: &'static str,
        namespace: &str,
        name: &str,
        uid: &str,
    ) -> Result<(), ApplyError> {
        let api: Api<K> = Api::namespaced(self.client.clone(), namespace);
        let preconditions = Preconditions { uid: Some(uid.to_owned()), ..Preconditions::default() };
        let params = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
        let call = api.delete(name, &params);
        match self.gate.call(what, name, API_REQUEST_TIMEOUT, call).await {
            Ok(_) => Ok(()),
            // Gone, or another object of the same name: what was meant is not there any more.
            Err(CallError::Failed(kube::Error::Api(status)))
                if matches!(status.code, 404 | 409) =>
            {
                Ok(())
            }
            Err(source) => Err(ApplyError::Api { what, name: name.to_owned(), source }),
        }
    }

    async fn node_call(&self, namespace: &str, call: &NodeCall) -> Result<(), ApplyError> {
        let (what, pod) = match call {
            NodeCall::Bootstrap { node, .. } => ("Bootstrap", node),
            NodeCall::Activate { node, .. } => ("Activate", node),
        };
        let key = Key { namespace: namespace.to_owned(), name: pod.clone() };
        let uid = self.stores.pods.get(&key).and_then(|p| p.uid());
        // The pod went away since the plan was made: the next plan will know.
        let Some(mut client) = uid.and_then(|uid| self.nodes.client(&uid)) else { return Ok(()) };
        let asked = async {
            match call {
                NodeCall::Bootstrap { request, .. } => {
                    client.bootstrap(request.clone()).await.map(|_| ())
                }
                NodeCall::Activate { request, .. } => {
                    client.activate(request.clone()).await.map(|_| ())
                }
            }
        };
        let answered = self.gate.call(what, pod, NODE_CALL_TIMEOUT, asked).await;
        answered.map_err(|source| ApplyError::Node { what, pod: pod.clone(), source })
    }
}

fn json(object: &impl Serialize) -> Value {
    serde_json::to_value(object).unwrap_or_default()
}

/// Whether `known` says everything that `intent` says; the server adds defaults of its own.
fn says(known: &Value, intent: &Value) -> bool {
    match (known, intent) {
        (_, Value::Null) => true,
        (Value::Object(known), Value::Object(intent)) => {
            intent.iter().all(|(key, wanted)| match known.get(key) {
                Some(value) => says(value, wanted),
                None => is_empty(wanted),
            })
        }
        (Value::Array(known), Value::Array(intent)) => {
            known.len() == intent.len() && known.iter().zip(intent).all(|(k, i)| says(k, i))
        }
        (known, intent) => known == intent,
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Object(map) => map.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_the_server_adds_is_no_difference() {
        let known = json!({"a": 1, "list": [{"x": 1, "default": true}], "more": 2});
        assert!(says(&known, &json!({"a": 1, "list": [{"x": 1}], "none": null, "empty": {}})));
        assert!(!says(&known, &json!({"a": 2})));
        assert!(!says(&known, &json!({"list": []})));
        assert!(!says(&known, &json!({"b": 1})));
    }
}
