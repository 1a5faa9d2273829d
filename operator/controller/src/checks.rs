//! What has to be true at the very moment before a node is taken out of service.

use k8s_openapi::api::core::v1::Pod;
use kube::api::PostParams;
use kube::{Api, ResourceExt};
use multiraft_plan::Check;
use multiraft_proto::v1::{CheckDisruptionRequest, GetInfoRequest};

use crate::apply::{Applier, ApplyError};
use crate::calls::CallError;
use crate::limits::{API_REQUEST_TIMEOUT, NODE_CALL_TIMEOUT};
use crate::nodes::{deadline, words};

/// None when the check is passed; else why not, in words. A node that does not answer passes none.
pub async fn check(
    applier: &Applier,
    namespace: &str,
    check: &Check,
) -> Result<Option<String>, ApplyError> {
    match check {
        Check::Admissible(pod) => admissible(applier, namespace, pod).await,
        Check::NoDanger { node, stops, besides } => {
            let Some((_, mut client)) = applier.node(namespace, node) else {
                return Ok(Some(format!("{node} is not there to be asked")));
            };
            let request = CheckDisruptionRequest { node_id: *stops, lag_entries_max: 0 };
            let asked = deadline(NODE_CALL_TIMEOUT, client.check_disruption(request)).await;
            let groups = match asked {
                Ok(answer) => answer.into_inner().groups,
                Err(status) => return Ok(Some(format!("{node}: {}", words(&status)))),
            };
            let mut danger = groups.iter().filter(|g| !besides.contains(&g.group_id));
            Ok(danger
                .next()
                .map(|g| format!("{node} fears for group {}: {:?}", g.group_id, g.reason())))
        }
        Check::Empty { node } => {
            let Some((_, mut client)) = applier.node(namespace, node) else {
                return Ok(Some(format!("{node} is not there to be asked")));
            };
            let asked = deadline(NODE_CALL_TIMEOUT, client.get_info(GetInfoRequest {})).await;
            Ok(match asked.map(|answer| answer.into_inner().groups.len()) {
                Ok(0) => None,
                Ok(count) => Some(format!("{node} holds members of {count} groups")),
                Err(status) => Some(format!("{node}: {}", words(&status))),
            })
        }
    }
}

/// A dry run: admission is asked, nothing is created. That the name is taken is no objection.
async fn admissible(
    applier: &Applier,
    namespace: &str,
    pod: &Pod,
) -> Result<Option<String>, ApplyError> {
    let (what, name) = ("try Pod", pod.name_any());
    let api: Api<Pod> = Api::namespaced(applier.client.clone(), namespace);
    let params = PostParams { dry_run: true, ..PostParams::default() };
    let call = api.create(&params, pod);
    match applier.gate.call(what, &name, API_REQUEST_TIMEOUT, call).await {
        Ok(_) => Ok(None),
        Err(CallError::Failed(kube::Error::Api(status))) if status.code == 409 => Ok(None),
        Err(CallError::Failed(kube::Error::Api(status))) if (400..500).contains(&status.code) => {
            Ok(Some(format!("the API server refuses the new pod: {}", status.message)))
        }
        Err(source) => Err(ApplyError::Api { what, name, source }),
    }
}
