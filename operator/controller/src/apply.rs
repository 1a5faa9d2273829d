//! The fourth step of a pass: carries a plan out, in its order, and stops at the first failure.

use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::{Api, Client, ResourceExt};
use multiraft_api::{Certificate, MultiRaftCluster};
use multiraft_plan::{Act, Delete, Disruption, NodeCall, Object, Plan, tls_secret};
use multiraft_proto::v1::node_client::NodeClient;
use serde::Serialize;
use serde_json::Value;
use thiserror::Error;
use tonic::Code;
use tonic::transport::Channel;

use crate::calls::{CallError, Gate};
use crate::errors::chain;
use crate::fetch::Stores;
use crate::limits::{API_REQUEST_TIMEOUT, NODE_CALL_TIMEOUT};
use crate::nodes::Nodes;
use crate::store::{Key, Namespaced, Store};
use crate::{checks, node_calls};

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

/// What of a plan was not taken, though nothing failed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Held {
    /// A node did not take a call now; the next pass knows better.
    pub refused: bool,
    /// Why the disruption did not happen.
    pub disruption: Option<String>,
    /// Why a volume did not grow.
    pub growth: Option<String>,
    /// Why the Certificate was not taken.
    pub certificate: Option<String>,
}

impl Applier {
    pub async fn apply(&self, cluster: &Key, plan: &Plan) -> Result<Held, ApplyError> {
        let namespace = &cluster.namespace;
        let mut held = Held::default();
        for object in &plan.objects {
            match object {
                Object::Certificate(wish) => {
                    held.certificate = self.certificate(namespace, wish).await?;
                }
                object => self.object(namespace, object).await?,
            }
        }
        for delete in &plan.deletes {
            self.delete(namespace, delete).await?;
        }
        for call in &plan.calls {
            held.refused |= !self.tried(namespace, call).await?;
        }
        if let Some(volume) = &plan.growth {
            held.growth = self.grow(namespace, volume).await?;
        }
        if let Some(disruption) = &plan.disruption {
            held.disruption = match held.refused {
                true => Some("a node did not take an earlier call".to_owned()),
                false => self.disrupt(namespace, disruption).await?,
            };
        }
        Ok(held)
    }

    /// Makes a call; false when the node does not take it now, as in the midst of an election. One
    /// node that hangs must not keep the others from their calls.
    async fn tried(&self, namespace: &str, call: &NodeCall) -> Result<bool, ApplyError> {
        match self.node_call(namespace, call).await {
            Ok(()) => Ok(true),
            Err(ApplyError::Node { what, pod, source }) if is_passing(&source) => {
                tracing::info!(what, pod, why = chain(&source), "not taken now");
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    /// Takes a node out of service, when every check is passed; else says why not.
    async fn disrupt(
        &self,
        namespace: &str,
        disruption: &Disruption,
    ) -> Result<Option<String>, ApplyError> {
        for check in &disruption.checks {
            let danger = checks::check(self, namespace, check).await?;
            if danger.is_some() {
                return Ok(danger);
            }
        }
        match &disruption.act {
            Act::Call(call) => match self.tried(namespace, call).await? {
                true => Ok(None),
                false => Ok(Some(format!("{} does not take the call", call.node))),
            },
            Act::Delete(delete) => self.delete(namespace, delete).await.map(|()| None),
        }
    }

    /// Lets a volume grow; says why not when its class does not.
    async fn grow(
        &self,
        namespace: &str,
        volume: &PersistentVolumeClaim,
    ) -> Result<Option<String>, ApplyError> {
        match self.one("grow PersistentVolumeClaim", namespace, volume, &self.stores.volumes).await
        {
            Ok(()) => Ok(None),
            Err(ApplyError::Api {
                source: CallError::Failed(kube::Error::Api(status)), ..
            }) if matches!(status.code, 403 | 422) => Ok(Some(status.message.clone())),
            Err(error) => Err(error),
        }
    }

    /// Asks cert-manager for a certificate; says why not when the API server does not take it: its
    /// definitions may not be there, its issuers may be of others, its webhook may refuse.
    async fn certificate(
        &self,
        namespace: &str,
        wish: &Certificate,
    ) -> Result<Option<String>, ApplyError> {
        match self.one("apply Certificate", namespace, wish, &Store::default()).await {
            Ok(()) => Ok(None),
            Err(ApplyError::Api {
                source: CallError::Failed(kube::Error::Api(status)), ..
            }) if status.code == 404 => Ok(Some("cert-manager is not installed".to_owned())),
            Err(ApplyError::Api {
                source: CallError::Failed(kube::Error::Api(status)), ..
            }) => Ok(Some(status.message.clone())),
            Err(error) => Err(error),
        }
    }

    /// The Certificate of a cluster, if it has or is to have one.
    pub async fn find_certificate(
        &self,
        cluster: &MultiRaftCluster,
    ) -> Result<Option<Certificate>, ApplyError> {
        let asked = cluster.spec.tls.as_ref().is_some_and(|tls| tls.cert_manager.is_some());
        let status = cluster.status.as_ref().and_then(|status| status.tls.as_ref());
        let made = status.is_some_and(|tls| tls.certificate.is_some());
        if !asked && !made {
            return Ok(None);
        }
        let (what, name) = ("get Certificate", tls_secret(&cluster.name_any()));
        let namespace = cluster.namespace().unwrap_or_default();
        let api: Api<Certificate> = Api::namespaced(self.client.clone(), &namespace);
        let found = tokio::time::timeout(API_REQUEST_TIMEOUT, api.get_opt(&name)).await;
        let source = match found {
            Ok(Ok(found)) => return Ok(found),
            // Without definitions there is not even a reason in it.
            Ok(Err(kube::Error::Api(status))) if status.code == 404 => return Ok(None),
            Ok(Err(error)) => CallError::Failed(error),
            Err(_) => CallError::Timeout(API_REQUEST_TIMEOUT),
        };
        Err(ApplyError::Api { what, name, source })
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
            // Without a version none was seen: one that is there is not to be overwritten.
            Object::Slice(o) if o.resource_version().is_none() => {
                self.create("create RaftPartitionSlice", namespace, o, &s.slices).await
            }
            Object::Slice(o) => self.one("apply RaftPartitionSlice", namespace, o, &s.slices).await,
            Object::Budget(o) => {
                self.one("apply PodDisruptionBudget", namespace, o, &s.budgets).await
            }
            Object::NetworkPolicy(o) => {
                self.one("apply NetworkPolicy", namespace, o, &s.network_policies).await
            }
            Object::Certificate(o) => self.certificate(namespace, o).await.map(drop),
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
            Delete::Pod { name, uid, version, force } => {
                let (uid, version) = (Some(uid.clone()), version.clone());
                let preconditions = Some(Preconditions { uid, resource_version: version });
                let grace_period_seconds = force.then_some(0);
                let params =
                    DeleteParams { preconditions, grace_period_seconds, ..DeleteParams::default() };
                self.delete_one::<Pod>("delete Pod", namespace, name, params).await
            }
            Delete::Volume { name, uid } => {
                let what = "delete PersistentVolumeClaim";
                self.delete_one::<PersistentVolumeClaim>(what, namespace, name, of_uid(uid)).await
            }
            Delete::Budget { name, uid } => {
                let what = "delete PodDisruptionBudget";
                self.delete_one::<PodDisruptionBudget>(what, namespace, name, of_uid(uid)).await
            }
            Delete::NetworkPolicy { name, uid } => {
                let what = "delete NetworkPolicy";
                self.delete_one::<NetworkPolicy>(what, namespace, name, of_uid(uid)).await
            }
            Delete::Certificate { name, uid } => {
                let what = "delete Certificate";
                self.delete_one::<Certificate>(what, namespace, name, of_uid(uid)).await
            }
        }
    }

    async fn delete_one<K: Namespaced>(
        &self,
        what: &'static str,
        namespace: &str,
        name: &str,
        params: DeleteParams,
    ) -> Result<(), ApplyError> {
        let api: Api<K> = Api::namespaced(self.client.clone(), namespace);
        let call = api.delete(name, &params);
        match self.gate.call(what, name, API_REQUEST_TIMEOUT, call).await {
            Ok(_) => Ok(()),
            // Gone, another object of the same name, or changed: what was meant is not there any more.
            Err(CallError::Failed(kube::Error::Api(status)))
                if matches!(status.code, 404 | 409) =>
            {
                Ok(())
            }
            Err(source) => Err(ApplyError::Api { what, name: name.to_owned(), source }),
        }
    }

    async fn node_call(&self, namespace: &str, call: &NodeCall) -> Result<(), ApplyError> {
        let pod = &call.node;
        // The pod went away since the plan was made: the next plan will know.
        let Some((uid, mut client)) = self.node(namespace, pod) else { return Ok(()) };
        let what = call.call.name();
        let asked = node_calls::make(&mut client, &call.call);
        let answered = self.gate.call(what, pod, NODE_CALL_TIMEOUT, asked).await;
        // What changed there is not told by every stream at once.
        self.nodes.refresh(&uid);
        answered.map_err(|source| ApplyError::Node { what, pod: pod.clone(), source })
    }

    /// Uid of a pod and a client for its node.
    pub fn node(&self, namespace: &str, pod: &str) -> Option<(String, NodeClient<Channel>)> {
        let key = Key { namespace: namespace.to_owned(), name: pod.to_owned() };
        let uid = self.stores.pods.get(&key).and_then(|p| p.uid())?;
        let client = self.nodes.client(&uid)?;
        Some((uid, client))
    }
}

fn of_uid(uid: &str) -> DeleteParams {
    let preconditions = Preconditions { uid: Some(uid.to_owned()), ..Preconditions::default() };
    DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() }
}

/// Refusals that say how things are at the moment, not that the caller is wrong.
fn is_passing(error: &CallError<tonic::Status>) -> bool {
    match error {
        CallError::Failed(status) => matches!(
            status.code(),
            Code::FailedPrecondition | Code::Unavailable | Code::NotFound | Code::AlreadyExists
        ),
        CallError::Timeout(_) => true,
        CallError::NotLeading => false,
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
