//! The definitions as YAML-ready values.

use crate::{MultiRaftCluster, RaftPartitionSlice};
use kube::CustomResourceExt;
use serde_json::{Value, json};

/// Every definition: (file name, resource).
pub fn definitions() -> Vec<(&'static str, Value)> {
    let mut cluster = to_value(MultiRaftCluster::crd());
    // kstatus (Flux, Helm 4) must see "not observed yet" before the operator's first pass.
    let schema = cluster.pointer_mut("/spec/versions/0/schema/openAPIV3Schema/properties/status");
    if let Some(status) = schema {
        status["default"] = json!({"observedGeneration": -1});
    }
    let slice = to_value(RaftPartitionSlice::crd());
    vec![
        ("multiraft.atomix.io_multiraftclusters.yaml", cluster),
        ("multiraft.atomix.io_raftpartitionslices.yaml", slice),
    ]
}

fn to_value(crd: impl serde::Serialize) -> Value {
    let mut value = serde_json::to_value(crd).unwrap_or_default();
    drop_empty_arrays(&mut value);
    value
}

/// Empty arrays are a permanent difference for GitOps tools.
fn drop_empty_arrays(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.retain(|_, v| !v.as_array().is_some_and(Vec::is_empty));
            map.values_mut().for_each(drop_empty_arrays);
        }
        Value::Array(items) => items.iter_mut().for_each(drop_empty_arrays),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}
