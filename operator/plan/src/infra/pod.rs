//! The pods of the nodes: restricted, probed over HTTP, on a volume of their own.

use super::config_map::VOLUME_PATH;
use super::owned;
use crate::names::{self, hash, member_host, node_selector, peers_service, volume_name};
use crate::observed::Surroundings;
use crate::tls::{self, Source};
use crate::validate::Validated;
use k8s_openapi::api::core::v1::{
    Affinity, Capabilities, ConfigMapProjection, ConfigMapVolumeSource, Container, ContainerPort,
    EnvVar, EnvVarSource, HTTPGetAction, KeyToPath, ObjectFieldSelector,
    PersistentVolumeClaimVolumeSource, Pod, PodAffinityTerm, PodAntiAffinity, PodSecurityContext,
    PodSpec, Probe, ProjectedVolumeSource, SeccompProfile, SecretProjection, SecretVolumeSource,
    SecurityContext, TopologySpreadConstraint, Volume, VolumeMount, VolumeProjection,
    WeightedPodAffinityTerm,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use multiraft_api::{
    CLIENT_PORT, HTTP_PORT, OPERATORS, PEER_PORT, PodOptions, REVISION_ANNOTATION, SLOT_LABEL,
    TLS_MODE_ANNOTATION, TlsMode,
};

/// Where the certificates are mounted.
const TLS_PATH: &str = "/etc/multiraft-tls";

/// The image's user.
const USER: i64 = 65532;

pub fn pod(cluster: &Validated, env: &Surroundings, slot: i32) -> Pod {
    let name = names::pod_name(&cluster.name, slot);
    let options = options(cluster);
    let mut metadata = owned(cluster, name.clone());
    if let Some(labels) = &mut metadata.labels {
        // What selects pods is ours; a user's labels may only add.
        let ours = std::mem::take(labels);
        labels.extend(options.labels.clone());
        labels.extend(ours);
        labels.extend(node_selector(&cluster.name));
        labels.insert(SLOT_LABEL.to_owned(), slot.to_string());
        labels.insert("apps.kubernetes.io/pod-index".to_owned(), slot.to_string());
    }
    let mut annotations = options.annotations.clone();
    annotations.insert(REVISION_ANNOTATION.to_owned(), revision(cluster));
    if cluster.tls.mode != TlsMode::Disabled {
        annotations.insert(TLS_MODE_ANNOTATION.to_owned(), format!("{:?}", cluster.tls.mode));
    }
    metadata.annotations = Some(annotations);
    Pod { metadata, spec: Some(spec(cluster, env, &name, Some(slot))), status: None }
}

/// Hash of what the spec says of all pods, configuration included. Neither what this operator makes
/// of it nor its defaults are a part: another version of it must not restart a single pod.
pub fn revision(cluster: &Validated) -> String {
    let spec = &cluster.spec;
    let content = (&spec.version, &spec.image, &spec.raft, options(cluster));
    let tls = &cluster.tls;
    let bytes = match tls.mode {
        // As it was before there was TLS: pods of that time have the same.
        TlsMode::Disabled => serde_json::to_vec(&content),
        TlsMode::Permissive | TlsMode::Strict => {
            let source = tls.source.as_ref().map(|source| (&source.secret, &source.ca));
            serde_json::to_vec(&(content, tls.mode, source))
        }
    };
    hash(&bytes.unwrap_or_default())
}

fn options(cluster: &Validated) -> PodOptions {
    let grace = PodOptions { termination_grace_period_seconds: 60, ..Default::default() };
    cluster.spec.pod.clone().unwrap_or(grace)
}

fn spec(cluster: &Validated, env: &Surroundings, name: &str, slot: Option<i32>) -> PodSpec {
    let options = options(cluster);
    let pull_secrets = cluster.spec.image.as_ref().map(|i| i.pull_secrets.clone());
    let claim = slot.map_or_else(String::new, |slot| volume_name(&cluster.name, slot));
    PodSpec {
        hostname: Some(name.to_owned()),
        subdomain: Some(peers_service(&cluster.name)),
        service_account_name: Some(cluster.name.clone()),
        automount_service_account_token: Some(false),
        enable_service_links: Some(false),
        termination_grace_period_seconds: Some(options.termination_grace_period_seconds),
        security_context: Some(PodSecurityContext {
            run_as_non_root: Some(true),
            run_as_user: Some(USER),
            run_as_group: Some(USER),
            fs_group: Some(USER),
            fs_group_change_policy: Some("OnRootMismatch".to_owned()),
            seccomp_profile: Some(SeccompProfile {
                type_: "RuntimeDefault".to_owned(),
                ..Default::default()
            }),
            ..Default::default()
        }),
        image_pull_secrets: pull_secrets.filter(|s| !s.is_empty()),
        affinity: Some(options.affinity.clone().unwrap_or_else(|| spread(cluster))),
        topology_spread_constraints: Some(zones(cluster, &options)),
        tolerations: Some(options.tolerations.clone()).filter(|t| !t.is_empty()),
        node_selector: Some(options.node_selector.clone()).filter(|s| !s.is_empty()),
        priority_class_name: options.priority_class_name.clone(),
        containers: vec![container(cluster, env, &options, name)],
        volumes: Some(volumes(cluster, claim)),
        ..Default::default()
    }
}

fn volumes(cluster: &Validated, claim: String) -> Vec<Volume> {
    let mut volumes = vec![
        Volume {
            name: "data".to_owned(),
            persistent_volume_claim: Some(PersistentVolumeClaimVolumeSource {
                claim_name: claim,
                read_only: None,
            }),
            ..Default::default()
        },
        Volume {
            name: "config".to_owned(),
            config_map: Some(ConfigMapVolumeSource {
                name: cluster.name.clone(),
                ..Default::default()
            }),
            ..Default::default()
        },
    ];
    volumes.extend(cluster.tls.source.as_ref().map(certificates));
    volumes
}

/// For the node's user alone, by its group. A whole volume: single files of one are never renewed.
const CERTIFICATES_MODE: i32 = 0o440;

fn certificates(source: &Source) -> Volume {
    let volume = Volume { name: tls::VOLUME.to_owned(), ..Default::default() };
    let Some(ca) = &source.ca else {
        let secret = SecretVolumeSource {
            secret_name: Some(source.secret.clone()),
            default_mode: Some(CERTIFICATES_MODE),
            ..Default::default()
        };
        return Volume { secret: Some(secret), ..volume };
    };
    let item = |key: &str, path: &str| KeyToPath {
        key: key.to_owned(),
        path: path.to_owned(),
        ..Default::default()
    };
    let own = SecretProjection {
        name: source.secret.clone(),
        items: Some(["tls.crt", "tls.key"].map(|file| item(file, file)).into()),
        ..Default::default()
    };
    let trusted = ConfigMapProjection {
        name: ca.name.clone(),
        items: Some(vec![item(&ca.key, "ca.crt")]),
        ..Default::default()
    };
    let sources = vec![
        VolumeProjection { secret: Some(own), ..Default::default() },
        VolumeProjection { config_map: Some(trusted), ..Default::default() },
    ];
    let projected =
        ProjectedVolumeSource { default_mode: Some(CERTIFICATES_MODE), sources: Some(sources) };
    Volume { projected: Some(projected), ..volume }
}

fn container(
    cluster: &Validated,
    env: &Surroundings,
    options: &PodOptions,
    name: &str,
) -> Container {
    let host = member_host(&cluster.name, &cluster.namespace, name);
    let args = ["--config", "/etc/multiraft/config.yaml", "--advertise-host", &host];
    let args = args.map(str::to_owned).into_iter().chain(tls_arguments(cluster)).collect();
    let mount = |name: &str, path: &str, read_only: bool| VolumeMount {
        name: name.to_owned(),
        mount_path: path.to_owned(),
        read_only: read_only.then_some(true),
        ..Default::default()
    };
    let mut mounts =
        vec![mount("data", VOLUME_PATH, false), mount("config", "/etc/multiraft", true)];
    mounts.extend(cluster.tls.source.as_ref().map(|_| mount(tls::VOLUME, TLS_PATH, true)));
    let mut variables = vec![EnvVar {
        name: "POD_NAME".to_owned(),
        value_from: Some(EnvVarSource {
            field_ref: Some(ObjectFieldSelector {
                api_version: Some("v1".to_owned()),
                field_path: "metadata.name".to_owned(),
            }),
            ..Default::default()
        }),
        ..Default::default()
    }];
    variables.extend(options.env.clone());
    Container {
        name: "node".to_owned(),
        image: Some(image(cluster, env)),
        image_pull_policy: pull_policy(cluster, env),
        command: Some(vec!["multiraft-node".to_owned()]),
        args: Some(args),
        env: Some(variables),
        ports: Some(vec![
            port("client", CLIENT_PORT),
            port("peer", PEER_PORT),
            port("http", HTTP_PORT),
        ]),
        resources: options.resources.clone(),
        volume_mounts: Some(mounts),
        // Reading a long log back takes a while; liveness counts only after it.
        startup_probe: Some(probe("/startupz", 1, 600)),
        readiness_probe: Some(probe("/readyz", 1, 2)),
        liveness_probe: Some(probe("/livez", 10, 6)),
        security_context: Some(SecurityContext {
            allow_privilege_escalation: Some(false),
            read_only_root_filesystem: Some(true),
            capabilities: Some(Capabilities {
                drop: Some(vec!["ALL".to_owned()]),
                ..Default::default()
            }),
            ..Default::default()
        }),
        ..Default::default()
    }
}

/// Not in the ConfigMap: that changes under the pods that are still to be replaced, and one of them
/// that starts again must be what it was.
fn tls_arguments(cluster: &Validated) -> Vec<String> {
    if cluster.tls.mode == TlsMode::Disabled {
        return Vec::new();
    }
    let file = |name: &str| format!("{TLS_PATH}/{name}");
    [
        ("--tls-mode", format!("{:?}", cluster.tls.mode)),
        ("--tls-cluster", names::tls_cluster(&cluster.name, &cluster.namespace)),
        ("--tls-operators", OPERATORS.to_owned()),
        ("--tls-certificate", file("tls.crt")),
        ("--tls-key", file("tls.key")),
        ("--tls-ca", file("ca.crt")),
    ]
    .into_iter()
    .flat_map(|(flag, value)| [flag.to_owned(), value])
    .collect()
}

fn image(cluster: &Validated, env: &Surroundings) -> String {
    let image = cluster.spec.image.clone().unwrap_or_default();
    let repository = image.repository.unwrap_or_else(|| env.node_image.clone());
    match (image.digest, image.tag) {
        (Some(digest), _) => format!("{repository}@{digest}"),
        (None, Some(tag)) => format!("{repository}:{tag}"),
        (None, None) => format!("{repository}:{}", cluster.spec.version),
    }
}

fn pull_policy(cluster: &Validated, env: &Surroundings) -> Option<String> {
    let asked = cluster.spec.image.as_ref().and_then(|i| i.pull_policy);
    asked.map(|p| format!("{p:?}")).or_else(|| env.node_pull_policy.clone())
}

fn port(name: &str, number: u16) -> ContainerPort {
    ContainerPort {
        name: Some(name.to_owned()),
        container_port: i32::from(number),
        protocol: Some("TCP".to_owned()),
        ..Default::default()
    }
}

fn probe(path: &str, period_seconds: i32, failure_threshold: i32) -> Probe {
    Probe {
        http_get: Some(HTTPGetAction {
            path: Some(path.to_owned()),
            port: IntOrString::String("http".to_owned()),
            ..Default::default()
        }),
        period_seconds: Some(period_seconds),
        timeout_seconds: Some(if period_seconds > 5 { 6 } else { 2 }),
        failure_threshold: Some(failure_threshold),
        ..Default::default()
    }
}

fn selector(cluster: &Validated) -> LabelSelector {
    LabelSelector { match_labels: Some(node_selector(&cluster.name)), ..Default::default() }
}

/// Nodes of a cluster prefer different machines.
fn spread(cluster: &Validated) -> Affinity {
    let term = PodAffinityTerm {
        label_selector: Some(selector(cluster)),
        topology_key: "kubernetes.io/hostname".to_owned(),
        ..Default::default()
    };
    Affinity {
        pod_anti_affinity: Some(PodAntiAffinity {
            preferred_during_scheduling_ignored_during_execution: Some(vec![
                WeightedPodAffinityTerm { pod_affinity_term: term, weight: 100 },
            ]),
            ..Default::default()
        }),
        ..Default::default()
    }
}

fn zones(cluster: &Validated, options: &PodOptions) -> Vec<TopologySpreadConstraint> {
    if !options.topology_spread_constraints.is_empty() {
        return options.topology_spread_constraints.clone();
    }
    vec![TopologySpreadConstraint {
        max_skew: 1,
        topology_key: cluster.spec.placement.zone_key.clone(),
        when_unsatisfiable: "ScheduleAnyway".to_owned(),
        label_selector: Some(selector(cluster)),
        ..Default::default()
    }]
}
