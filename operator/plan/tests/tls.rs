//! TLS is switched on and off, pod by pod, and no two nodes ever run that cannot speak to each other.

mod model;

use model::{Life, World};
use multiraft_api::{
    CertManager, CertificateCondition, CertificateStatus, ConfigMapKey, IssuerRef, Tls, TlsMode,
};
use multiraft_plan::{Object, OperatorPods, mode_of};
use serde_json::{Value, json};
use std::collections::BTreeSet;

const MODES: [TlsMode; 3] = [TlsMode::Disabled, TlsMode::Permissive, TlsMode::Strict];

fn of_secret(mode: TlsMode) -> Option<Tls> {
    Some(Tls { mode, secret_name: Some("orders-tls".to_owned()), ..Tls::default() })
}

fn of_cert_manager(mode: TlsMode) -> Option<Tls> {
    let (name, kind, group) = ("ca".to_owned(), "Issuer".to_owned(), "cert-manager.io".to_owned());
    let issuer_ref = IssuerRef { name, kind, group };
    let asked = CertManager { issuer_ref, duration: None, renew_before: None };
    Some(Tls { mode, cert_manager: Some(asked), ..Tls::default() })
}

/// Modes of the pods that are there. That no two exclude each other is asserted by the model.
fn modes(world: &World) -> BTreeSet<String> {
    world.kube.pods.values().map(|pod| format!("{:?}", mode_of(pod))).collect()
}

fn pass(world: &mut World, life: &mut Life) -> Option<()> {
    let plan = world.plan(1);
    let applied = world.apply(plan, life);
    world.tick();
    applied
}

fn pass_on(world: &mut World, count: usize) {
    for _ in 0..count {
        let _ = pass(world, &mut Life::endless());
    }
}

fn settle(world: &mut World) {
    world.settle(1);
    world.assert_well();
}

fn only(mode: TlsMode) -> BTreeSet<String> {
    BTreeSet::from([format!("{mode:?}")])
}

fn formed(tls: Option<Tls>) -> World {
    let mut world = World::of(3, 4);
    world.cluster.spec.tls = tls;
    world.settle(1);
    world.assert_well();
    world
}

fn told(world: &World, kind: &str) -> (String, String) {
    let (value, reason, _) = world.condition(kind).unwrap_or_else(|| panic!("{kind} is told"));
    (value, reason)
}

/// cert-manager says how far it is.
fn issue(world: &mut World, status: &str) {
    let certificate = world.kube.certificate.as_mut().expect("asked for");
    let (kind, message) = ("Ready".to_owned(), "so it is".to_owned());
    let condition = CertificateCondition { kind, status: status.to_owned(), message };
    certificate.status = Some(CertificateStatus { conditions: vec![condition] });
}

fn container(world: &World) -> Value {
    let pod = world.kube.pods.values().next().expect("there are pods");
    serde_json::to_value(&pod.spec.as_ref().expect("given").containers[0]).expect("JSON")
}

#[test]
fn every_change_of_mode_ends_there_and_mixes_no_modes_that_exclude_each_other() {
    for from in MODES {
        for to in MODES {
            let mut world = formed(of_secret(from));
            assert_eq!(modes(&world), only(from));
            world.edit(|spec| spec.tls = of_secret(to));
            settle(&mut world);
            assert_eq!(modes(&world), only(to), "{from:?} to {to:?}");
        }
    }
}

#[test]
fn other_certificates_come_while_plain_text_is_taken_too() {
    for (from, to) in
        [(TlsMode::Permissive, TlsMode::Strict), (TlsMode::Strict, TlsMode::Permissive)]
    {
        let mut world = formed(of_secret(from));
        world.edit(|spec| {
            let secret_name = Some("other-tls".to_owned());
            spec.tls = Some(Tls { mode: to, secret_name, ..Tls::default() });
        });
        for _ in 0..200 {
            pass_on(&mut world, 1);
            let pods = world.kube.pods.values();
            let strict = pods.filter(|pod| mode_of(pod) == TlsMode::Strict);
            let new = strict.filter(|pod| {
                let volumes = serde_json::to_string(&pod.spec).expect("JSON");
                volumes.contains("other-tls")
            });
            let all_know =
                world.kube.pods.values().all(|pod| {
                    serde_json::to_string(&pod.spec).expect("JSON").contains("other-tls")
                });
            assert!(
                new.count() == 0 || all_know,
                "a strict node among others that it may not trust"
            );
        }
        world.assert_well();
    }
}

#[test]
fn an_operator_that_dies_at_any_call_of_a_switch_comes_to_its_end() {
    for (from, to) in [(TlsMode::Disabled, TlsMode::Strict), (TlsMode::Strict, TlsMode::Disabled)] {
        let mut world = formed(of_secret(from));
        world.edit(|spec| spec.tls = of_secret(to));
        let calls = world.settle(1);
        for kill in 0..calls {
            let mut world = formed(of_secret(from));
            world.edit(|spec| spec.tls = of_secret(to));
            let mut life = Life { calls: kill };
            while pass(&mut world, &mut life).is_some() || life.calls > 0 {}
            settle(&mut world);
            assert_eq!(modes(&world), only(to), "killed at {kill}");
        }
        println!("{from:?} to {to:?}: {calls} calls, killed before each");
    }
}

#[test]
fn a_changed_mind_in_the_middle_of_a_switch_is_followed() {
    for passes in (0..120).step_by(4) {
        let mut world = formed(of_secret(TlsMode::Disabled));
        world.edit(|spec| spec.tls = of_secret(TlsMode::Strict));
        pass_on(&mut world, passes);
        world.edit(|spec| spec.tls = None);
        settle(&mut world);
        assert_eq!(modes(&world), only(TlsMode::Disabled), "after {passes} passes");
        assert_eq!(world.condition("CertificatesReady"), None);
        assert_eq!(world.cluster.status.as_ref().expect("told").tls, None);
    }
}

#[test]
fn a_node_that_dies_in_the_middle_of_a_switch_comes_back_fit_for_the_others() {
    for passes in (0..120).step_by(6) {
        let mut world = formed(of_secret(TlsMode::Disabled));
        world.edit(|spec| spec.tls = of_secret(TlsMode::Strict));
        pass_on(&mut world, passes);
        let names: Vec<String> = world.kube.pods.keys().cloned().collect();
        world.kube.pods.remove(&names[passes % names.len()]);
        settle(&mut world);
        assert_eq!(modes(&world), only(TlsMode::Strict), "after {passes} passes");
    }
}

#[test]
fn a_cluster_that_never_had_tls_keeps_its_pods_and_one_that_begins_strict_has_no_other() {
    let world = formed(None);
    assert!(!container(&world).to_string().contains("tls"), "{}", container(&world));
    let world = formed(of_secret(TlsMode::Strict));
    let container = container(&world);
    let arguments = container["args"].to_string();
    for words in ["\"--tls-mode\",\"Strict\"", "\"--tls-cluster\",\"orders.n\"", "/tls.crt"] {
        assert!(arguments.contains(words), "{words}: {arguments}");
    }
    let mounts = container["volumeMounts"].as_array().expect("mounts");
    let tls = mounts.iter().find(|mount| mount["name"] == "tls").expect("mounted");
    assert_eq!(tls, &json!({"name": "tls", "mountPath": "/etc/multiraft-tls", "readOnly": true}));
    let pod = world.kube.pods["orders-0"].spec.as_ref().expect("given");
    let volumes = serde_json::to_value(&pod.volumes).expect("JSON");
    let secret = json!({"secretName": "orders-tls", "defaultMode": 0o440});
    assert_eq!(volumes[2], json!({"name": "tls", "secret": secret}));
}

/// Pods that an operator sees late are there all the same.
#[test]
fn in_a_formed_cluster_without_pods_the_new_ones_can_speak_to_those_of_the_mode_before() {
    let modes_of_new_pods = |before: Option<Tls>, tls: Option<Tls>| {
        let mut world = formed(before);
        world.edit(|spec| spec.tls = tls.clone());
        let mut seen = world.observe();
        seen.pods.clear();
        let made = world.plan_of(1, &seen).objects.into_iter().filter_map(|object| match object {
            Object::Pod(pod) => Some(format!("{:?}", mode_of(&pod))),
            _ => None,
        });
        made.collect::<BTreeSet<_>>()
    };
    let strict = of_secret(TlsMode::Strict);
    assert_eq!(modes_of_new_pods(None, strict.clone()), only(TlsMode::Permissive));
    assert_eq!(modes_of_new_pods(strict.clone(), None), only(TlsMode::Permissive));
    assert_eq!(modes_of_new_pods(strict.clone(), strict), only(TlsMode::Strict));
    assert_eq!(modes_of_new_pods(None, None), only(TlsMode::Disabled));
}

#[test]
fn a_config_map_stands_for_the_secrets_ca_and_changes_the_template() {
    let mut world = formed(of_secret(TlsMode::Strict));
    let trust = ConfigMapKey { name: "trust".to_owned(), key: "bundle.pem".to_owned() };
    world.edit(|spec| spec.tls.as_mut().expect("given").ca_config_map = Some(trust));
    settle(&mut world);
    let pod = world.kube.pods["orders-0"].spec.as_ref().expect("given");
    let volumes = serde_json::to_value(&pod.volumes).expect("JSON");
    let sources = &volumes[2]["projected"]["sources"];
    let map = json!({"name": "trust", "items": [{"key": "bundle.pem", "path": "ca.crt"}]});
    assert_eq!(sources[1]["configMap"], map);
    assert_eq!(sources[0]["secret"]["name"], "orders-tls");
}

#[test]
fn cert_manager_is_asked_and_nothing_waits_for_it_that_could_go_on() {
    let mut world = formed(None);
    world.edit(|spec| spec.tls = of_cert_manager(TlsMode::Strict));
    pass_on(&mut world, 60);
    assert_eq!(modes(&world), only(TlsMode::Disabled), "no pod waits for a Secret");
    let not_issued = ("False".to_owned(), "CertificateNotIssued".to_owned());
    assert_eq!(told(&world, "CertificatesReady"), not_issued);
    assert_eq!(told(&world, "Ready"), not_issued);
    assert!(world.plan(1).wake_up.is_some(), "nobody tells when it is issued");
    let asked = world.kube.certificate.clone().expect("asked for");
    assert_eq!(asked.metadata.name.as_deref(), Some("orders-nodes"));
    assert_eq!(asked.spec.uris, ["multiraft://orders.n/node/orders"]);
    assert!(asked.spec.dns_names.contains(&"*.orders-peers.n.svc".to_owned()));
    issue(&mut world, "True");
    settle(&mut world);
    assert_eq!(modes(&world), only(TlsMode::Strict));
    // Switched off: what was asked for goes when no pod uses it any more.
    world.edit(|spec| spec.tls = None);
    settle(&mut world);
    assert_eq!((modes(&world), world.kube.certificate), (only(TlsMode::Disabled), None));
}

#[test]
fn a_new_cluster_waits_with_its_pods_for_the_certificate_and_never_speaks_plain_text() {
    let mut world = World::of(3, 4);
    world.cluster.spec.tls = of_cert_manager(TlsMode::Strict);
    pass_on(&mut world, 1);
    assert_eq!(modes(&world), only(TlsMode::Strict));
    let (_, reason) = told(&world, "Ready");
    assert_eq!(reason, "CertificateNotIssued");
}

#[test]
fn what_the_api_server_says_of_the_certificate_is_told() {
    let mut world = formed(None);
    world.edit(|spec| spec.tls = of_cert_manager(TlsMode::Permissive));
    let mut observed = world.observe();
    observed.certificate_refused = Some("cert-manager is not installed".to_owned());
    let plan = world.plan_of(1, &observed);
    let ready = plan.status.conditions.iter().find(|c| c.type_ == "CertificatesReady");
    let message = &ready.expect("told").message;
    assert!(message.contains("cert-manager is not installed"), "{message}");
}

#[test]
fn an_operator_without_a_certificate_does_not_lock_itself_out() {
    let mut world = formed(of_secret(TlsMode::Permissive));
    world.certificate = Err("there is none: give it one".to_owned());
    world.edit(|spec| spec.tls = of_secret(TlsMode::Strict));
    pass_on(&mut world, 60);
    assert_eq!(modes(&world), only(TlsMode::Permissive));
    let missing = "OperatorCertificateMissing".to_owned();
    assert_eq!(told(&world, "Stalled"), ("True".to_owned(), missing.clone()));
    assert_eq!(told(&world, "Ready"), ("False".to_owned(), missing.clone()));
    assert_eq!(told(&world, "CertificatesReady"), ("False".to_owned(), missing.clone()));
    world.certificate = Ok(());
    settle(&mut world);
    assert_eq!(modes(&world), only(TlsMode::Strict));
    // It may lose it later.
    world.certificate = Err("there is none: give it one".to_owned());
    pass_on(&mut world, 1);
    assert_eq!(told(&world, "Stalled"), ("True".to_owned(), missing));
}

/// Certificates that name another host: nobody can speak to the first node that is Strict.
#[test]
fn a_node_that_its_certificates_cut_off_is_given_back_its_old_mode() {
    let mut world = formed(of_secret(TlsMode::Permissive));
    world.edit(|spec| spec.tls = of_secret(TlsMode::Strict));
    let strict = |world: &World| {
        let pods = world.kube.pods.iter();
        let mut strict = pods.filter(|(_, pod)| mode_of(pod) == TlsMode::Strict);
        strict.next().map(|(name, _)| name.clone())
    };
    while strict(&world).is_none() {
        pass_on(&mut world, 1);
    }
    let deaf = strict(&world).expect("just seen");
    let pass_deaf = |world: &mut World, count: usize| {
        for _ in 0..count {
            let mut observed = world.observe();
            if strict(world).as_ref() == Some(&deaf) {
                observed.nodes.remove(&deaf);
            }
            let plan = world.plan_of(1, &observed);
            let _ = world.apply(plan, &mut Life::endless());
            world.tick();
        }
    };
    pass_deaf(&mut world, 60);
    assert_eq!(modes(&world).len(), 2, "the roll stops at it");
    let uid = world.kube.pods[&deaf].metadata.uid.clone();
    world.edit(|spec| spec.tls = of_secret(TlsMode::Permissive));
    pass_deaf(&mut world, 20);
    assert_eq!(world.kube.pods[&deaf].metadata.uid, uid, "it may be heard of yet");
    pass_deaf(&mut world, 30);
    settle(&mut world);
    assert_eq!(modes(&world), only(TlsMode::Permissive));
    assert_ne!(world.kube.pods[&deaf].metadata.uid, uid);
}

#[test]
fn certificates_that_end_soon_or_cannot_be_used_are_told_of() {
    let world = formed(of_secret(TlsMode::Strict));
    let now = world.time().0.as_second() as u64;
    let day = 86_400;
    let judge = |begin: u64, end: u64, problem: &str| {
        let mut observed = world.observe();
        for (name, node) in &mut observed.nodes {
            let info = node.identity.as_mut().expect("heard of");
            let problem = if name == "orders-1" { problem.to_owned() } else { String::new() };
            info.tls = Some(multiraft_proto::v1::TlsInfo {
                not_before: begin,
                not_after: end,
                peer_not_after: end,
                problem,
                ..Default::default()
            });
        }
        let status = world.plan_of(1, &observed).status;
        let find = |kind| status.conditions.iter().find(|c| c.type_ == kind).cloned();
        let told = find("CertificatesReady").expect("told");
        assert_eq!(find("Ready").expect("told").status, "True", "the cluster serves all the same");
        (told.reason, told.message)
    };
    let (reason, words) = judge(now - day, now + day, "");
    assert_eq!(reason, "CertificatesValid", "{words}");
    let (reason, words) = judge(now - 7 * day, now + 2 * day, "");
    assert_eq!(reason, "CertificateExpiring", "{words}");
    let (reason, words) = judge(now - day, now - 1, "");
    assert_eq!(reason, "CertificateExpiring", "{words}");
    let (reason, words) = judge(now - day, now + day, "tls.crt: expired");
    assert!(reason == "CertificateRefused" && words.contains("orders-1"), "{reason} {words}");
}

#[test]
fn a_network_policy_lets_in_who_has_to_come() {
    let mut world = formed(None);
    let policy = |world: &World| world.kube.others.get("NetworkPolicy/\"orders\"").cloned();
    let rules = policy(&world).expect("by default")["spec"]["ingress"].clone();
    assert_eq!(rules[0]["ports"][0]["port"], 5679);
    let own = &rules[0]["from"][0]["podSelector"]["matchLabels"];
    assert_eq!(own["multiraft.atomix.io/cluster"], "orders");
    assert_eq!((&rules[1]["ports"][0]["port"], &rules[1]["from"]), (&json!(5678), &Value::Null));
    let shop = json!({"podSelector": {"matchLabels": {"app": "shop"}}});
    let shop = serde_json::from_value(shop).expect("a peer");
    world.edit(|spec| spec.network_policy.clients = vec![shop]);
    let labels = [("app".to_owned(), "operator".to_owned())].into();
    world.operator_pods = Some(OperatorPods { namespace: "system".to_owned(), labels });
    settle(&mut world);
    let rules = policy(&world).expect("there")["spec"]["ingress"].clone();
    let from = rules[1]["from"].as_array().expect("limited").clone();
    assert_eq!(from.len(), 3, "{from:?}");
    let namespace = &from[1]["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"];
    assert_eq!(namespace, "system");
    assert_eq!(from[2]["podSelector"]["matchLabels"]["app"], "shop");
    // Not watched in the model: the plan is asked.
    world.edit(|spec| spec.network_policy.enabled = false);
    let mut observed = world.observe();
    let known = serde_json::from_value(json!({
        "metadata": {"name": "orders", "namespace": "n", "uid": "p"},
    }));
    observed.network_policies = vec![known.expect("a policy")];
    let plan = world.plan_of(1, &observed);
    let name = "orders".to_owned();
    let delete = multiraft_plan::Delete::NetworkPolicy { name, uid: "p".to_owned() };
    assert_eq!(plan.deletes, [delete]);
}
