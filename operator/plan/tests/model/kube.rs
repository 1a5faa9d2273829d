//! The API server's objects, and what kubelets and the garbage collector do with pods and volumes.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use k8s_openapi::jiff::Timestamp;
use multiraft_api::RaftPartitionSlice;
use multiraft_plan::{Delete, Machine, Object, Observed};
use serde_json::{Value, json};

use super::Nodes;

/// Images with this patch version never start.
pub const BROKEN: &str = ".999";
/// Seconds between the making of a pod and its first readiness.
const STARTS: u8 = 3;
const ZONE: &str = "topology.kubernetes.io/zone";
/// Machines come from them in turn.
const ZONES: usize = 3;
/// Volumes are made on one machine each and never leave it.
const SELECTED: &str = "volume.kubernetes.io/selected-node";

#[derive(Default)]
pub struct Kube {
    pub pods: BTreeMap<String, Pod>,
    pub volumes: BTreeMap<String, PersistentVolumeClaim>,
    pub slices: BTreeMap<String, RaftPartitionSlice>,
    /// Services and the like: by kind and name.
    pub others: BTreeMap<String, Value>,
    pub budgets: BTreeMap<String, k8s_openapi::api::policy::v1::PodDisruptionBudget>,
    /// The one that cert-manager is asked for.
    pub certificate: Option<multiraft_api::Certificate>,
    pub machines: BTreeMap<String, Machine>,
    /// Writes that changed an object.
    pub writes: usize,
    version: u64,
    uids: u64,
    places: usize,
    /// Seconds that pods wait for their process still, by uid.
    starting: BTreeMap<String, u8>,
    /// Pods whose process does not start, until they are made anew.
    broken: BTreeSet<String>,
}

impl Kube {
    pub fn observe(&self) -> Observed {
        Observed {
            pods: self.pods.values().cloned().collect(),
            volumes: self.volumes.values().cloned().collect(),
            slices: self.slices.values().cloned().collect(),
            budgets: self.budgets.values().cloned().collect(),
            certificate: self.certificate.clone(),
            machines: Some(self.machines.clone()),
            ..Observed::default()
        }
    }

    /// Whether applying would change nothing.
    pub fn says(&self, object: &Object) -> bool {
        match object {
            Object::Pod(_) => false,
            Object::Volume(o) => self.volumes.get(name(&o.metadata)).is_some_and(|known| {
                let mut annotations = known.metadata.annotations.clone().unwrap_or_default();
                annotations.remove(SELECTED);
                let wanted = o.metadata.annotations.clone().unwrap_or_default();
                annotations == wanted && known.spec == o.spec
            }),
            Object::Certificate(o) => {
                self.certificate.as_ref().is_some_and(|known| known.spec == o.spec)
            }
            Object::Slice(o) => {
                self.slices.get(name(&o.metadata)).is_some_and(|known| known.spec == o.spec)
            }
            Object::Budget(o) => {
                self.budgets.get(name(&o.metadata)).is_some_and(|known| known.spec == o.spec)
            }
            other => {
                let (key, value) = plain(other);
                self.others.get(&key) == Some(&value)
            }
        }
    }

    /// False: the object was changed since the caller saw it.
    pub fn apply(&mut self, object: Object, _: &Nodes) -> bool {
        self.version += 1;
        let version = Some(self.version.to_string());
        match object {
            Object::Pod(pod) => {
                if self.pods.contains_key(name(&pod.metadata)) {
                    return true;
                }
                let uid = self.uid();
                let mut pod = *pod;
                self.starting.insert(uid.clone(), STARTS);
                pod.metadata.uid = Some(uid);
                pod.metadata.resource_version = version;
                self.pods.insert(name(&pod.metadata).to_owned(), pod);
            }
            Object::Volume(mut volume) => {
                let known = self.volumes.get(name(&volume.metadata)).map(|v| v.metadata.clone());
                let uid = known.as_ref().and_then(|m| m.uid.clone()).unwrap_or_else(|| self.uid());
                volume.metadata.uid = Some(uid);
                let known = known.unwrap_or_default();
                volume.metadata.deletion_timestamp = known.deletion_timestamp;
                let place = known.annotations.and_then(|a| a.get(SELECTED).cloned());
                let annotations = volume.metadata.annotations.get_or_insert_default();
                annotations.extend(place.map(|place| (SELECTED.to_owned(), place)));
                volume.metadata.resource_version = version;
                self.volumes.insert(name(&volume.metadata).to_owned(), volume);
            }
            Object::Slice(mut slice) => {
                let known = self.slices.get(name(&slice.metadata));
                let now = known.and_then(|s| s.metadata.resource_version.clone());
                if now != slice.metadata.resource_version {
                    return false;
                }
                if let Some(known) = known {
                    check_ids(known, &slice);
                }
                slice.metadata.resource_version = version;
                self.slices.insert(name(&slice.metadata).to_owned(), slice);
            }
            Object::Certificate(mut certificate) => {
                certificate.metadata.uid = Some("certificate".to_owned());
                certificate.status = self.certificate.take().and_then(|known| known.status);
                self.certificate = Some(certificate);
            }
            Object::Budget(budget) => {
                self.budgets.insert(name(&budget.metadata).to_owned(), budget);
            }
            other => {
                let (key, value) = plain(&other);
                self.others.insert(key, value);
            }
        }
        self.writes += 1;
        true
    }

    fn uid(&mut self) -> String {
        self.uids += 1;
        format!("uid-{}", self.uids)
    }

    pub fn delete(&mut self, delete: &Delete) {
        let now = Time(Timestamp::UNIX_EPOCH);
        match delete {
            Delete::Pod { name, uid, version, force } => {
                let Some(pod) = self.pods.get_mut(name) else { return };
                let same = pod.metadata.uid.as_ref() == Some(uid)
                    && pod.metadata.resource_version == *version;
                if same && *force {
                    self.pods.remove(name);
                } else if same {
                    pod.metadata.deletion_timestamp = Some(now);
                }
            }
            Delete::Volume { name, uid } => {
                let volume = self.volumes.get_mut(name);
                if let Some(volume) = volume.filter(|v| v.metadata.uid.as_ref() == Some(uid)) {
                    volume.metadata.deletion_timestamp = Some(now);
                }
            }
            Delete::Budget { name, .. } => drop(self.budgets.remove(name)),
            Delete::NetworkPolicy { name, .. } => {
                self.others.remove(&format!("NetworkPolicy/\"{name}\""));
            }
            Delete::Certificate { .. } => self.certificate = None,
        }
        self.writes += 1;
    }

    /// A pod's process ends and does not come back by itself.
    pub fn break_pod(&mut self, pod: &str) {
        self.broken.insert(pod.to_owned());
    }

    pub fn has_machine(&self, pod: &str) -> bool {
        self.pods.get(pod).and_then(machine).is_some_and(|name| self.answers(name))
    }

    /// The machine of a pod loses its power, and that long ago.
    pub fn silence(&mut self, pod: &str) {
        let name = self.pods.get(pod).and_then(machine).expect("it runs");
        self.machines.get_mut(name).expect("it has a machine").ready = false;
    }

    fn answers(&self, machine: &str) -> bool {
        self.machines.get(machine).is_some_and(|m| m.ready)
    }

    /// Whether a pod's process runs. On a silent machine it does not, whatever the status says.
    pub fn runs(&self, pod: &str) -> bool {
        let pod = self.pods.get(pod).filter(|p| p.metadata.deletion_timestamp.is_none());
        let pod = pod.filter(|p| machine(p).is_none_or(|m| self.answers(m)));
        let status = pod.and_then(|p| p.status.as_ref());
        let containers = status.and_then(|s| s.container_statuses.as_ref());
        containers.is_some_and(|all| all.iter().all(|c| c.ready))
    }

    /// The version in a pod's image.
    pub fn tag(&self, pod: &str) -> Option<&str> {
        let image = self.pods.get(pod)?.spec.as_ref()?.containers[0].image.as_deref()?;
        image.rsplit_once(':').map(|(_, tag)| tag)
    }

    /// Minor versions of the nodes that run, by their disks.
    pub fn minors(&self) -> BTreeMap<String, i32> {
        let minors = self.pods.keys().filter(|name| self.runs(name)).map(|name| {
            let minor = self.tag(name)?.split('.').nth(1)?.parse().ok()?;
            Some((self.disk_of(name)?, minor))
        });
        minors.flatten().collect()
    }

    /// Uid of the volume of a pod that runs.
    pub fn disk_of(&self, pod: &str) -> Option<String> {
        self.volumes.get(&format!("data-{pod}"))?.metadata.uid.clone()
    }

    pub fn tick(&mut self, nodes: &mut Nodes) {
        let ended = |p: &Pod| p.metadata.deletion_timestamp.is_some();
        let machines = &self.machines;
        // A pod ends within a second; one on a machine that is silent never does by itself, and one
        // on a machine that is gone is collected.
        let reachable =
            |p: &Pod| machine(p).is_none_or(|m| machines.get(m).is_none_or(|m| m.ready));
        let gone = |p: &Pod| machine(p).is_some_and(|m| !machines.contains_key(m));
        self.pods.retain(|_, p| !(gone(p) || ended(p) && reachable(p)));
        self.broken.retain(|name| self.pods.contains_key(name));
        let pods = &self.pods;
        self.volumes.retain(|name, v| {
            let pod = name.trim_start_matches("data-");
            v.metadata.deletion_timestamp.is_none() || pods.contains_key(pod)
        });
        let names: Vec<String> = self.pods.keys().cloned().collect();
        for name in names {
            self.start(&name, nodes);
        }
        let uids: Vec<String> =
            self.volumes.values().filter_map(|v| v.metadata.uid.clone()).collect();
        nodes.keep_disks(&uids);
    }

    /// The scheduler and the kubelet, for one pod.
    fn start(&mut self, name: &str, nodes: &mut Nodes) {
        let Some(claim) = self.volumes.get_mut(&format!("data-{name}")) else { return };
        let pod = self.pods.get_mut(name).expect("just listed");
        if pod.metadata.deletion_timestamp.is_some() {
            return;
        }
        let annotations = claim.metadata.annotations.get_or_insert_default();
        let place = annotations.entry(SELECTED.to_owned()).or_insert_with(|| {
            let place = format!("machine-{}", self.places);
            let since = Time(Timestamp::UNIX_EPOCH);
            let machine = Machine {
                ready: true,
                since,
                out_of_service: false,
                open: true,
                labels: [(ZONE.to_owned(), format!("z{}", self.places % ZONES))].into(),
            };
            self.machines.insert(place.clone(), machine);
            self.places += 1;
            place
        });
        let there = self.machines.get(place).is_some_and(|m| m.ready && !m.out_of_service);
        let bound = machine(pod).is_some();
        // The containers' status stays as the kubelet wrote it last.
        if bound && !there {
            return;
        }
        let image = pod.spec.as_ref().and_then(|s| s.containers[0].image.clone());
        let left = self.starting.entry(pod.metadata.uid.clone().unwrap_or_default()).or_default();
        *left = left.saturating_sub(1);
        let broken = self.broken.contains(name) || *left > 0;
        let ready = there && !broken && !image.is_some_and(|i| i.ends_with(BROKEN));
        let status = json!({
            "phase": if there || bound { "Running" } else { "Pending" },
            "conditions": [{
                "type": "PodScheduled",
                "status": if there || bound { "True" } else { "False" },
                "reason": "Unschedulable",
            }],
            "containerStatuses": [
                {"name": "node", "ready": ready, "restartCount": 0, "image": "", "imageID": ""},
            ],
        });
        let status = Some(serde_json::from_value(status).expect("a pod's status"));
        if pod.status == status {
            return;
        }
        pod.status = status;
        self.version += 1;
        pod.metadata.resource_version = Some(self.version.to_string());
        if let Some(spec) = pod.spec.as_mut().filter(|_| there) {
            spec.node_name = Some(place.clone());
        }
        if ready {
            nodes.start(claim.metadata.uid.as_deref().unwrap_or_default());
        }
    }
}

fn machine(pod: &Pod) -> Option<&str> {
    pod.spec.as_ref()?.node_name.as_deref()
}

fn name(metadata: &ObjectMeta) -> &str {
    metadata.name.as_deref().expect("objects are named")
}

fn plain(object: &Object) -> (String, Value) {
    let (kind, value) = match object {
        Object::ServiceAccount(o) => ("ServiceAccount", serde_json::to_value(o)),
        Object::Service(o) => ("Service", serde_json::to_value(o)),
        Object::ConfigMap(o) => ("ConfigMap", serde_json::to_value(o)),
        Object::NetworkPolicy(o) => ("NetworkPolicy", serde_json::to_value(o)),
        _ => unreachable!("kept by type"),
    };
    let value = value.expect("objects are JSON");
    (format!("{kind}/{}", value["metadata"]["name"]), value)
}

/// Ids are given once: the next one never goes back.
fn check_ids(known: &RaftPartitionSlice, new: &RaftPartitionSlice) {
    for (old, new) in known.spec.groups.iter().zip(&new.spec.groups) {
        assert_eq!(old.id, new.id);
        assert!(new.next_member_id >= old.next_member_id, "group {}: ids go back", old.id);
        assert!(new.members.iter().all(|m| m.id < new.next_member_id), "{new:?}");
    }
}
