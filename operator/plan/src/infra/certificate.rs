//! What cert-manager is asked for: one certificate that names every node of the cluster.

use super::owned;
use crate::names::{peers_service, tls_cluster, tls_secret};
use crate::observed::Observed;
use crate::planning::{Delete, Object, Plan};
use crate::tls;
use crate::validate::Validated;
use kube::ResourceExt;
use multiraft_api::{CertManager, Certificate, CertificateSpec, PrivateKey};

pub fn plan(cluster: &Validated, observed: &Observed, plan: &mut Plan) {
    let present = observed.certificate.as_ref();
    if tls::is_certificate_wanted(cluster, observed) {
        // Of one that pods still use, and nobody asks for any more, nothing is changed.
        let Some(asked) = tls::cert_manager(cluster) else { return };
        let spec = spec(cluster, asked);
        if present.is_none_or(|known| known.spec != spec) {
            let metadata = owned(cluster, tls_secret(&cluster.name));
            plan.objects.push(Object::Certificate(Certificate { metadata, spec, status: None }));
        }
    } else if let Some(uid) = present.and_then(|known| known.uid()) {
        plan.deletes.push(Delete::Certificate { name: tls_secret(&cluster.name), uid });
    }
}

fn spec(cluster: &Validated, asked: &CertManager) -> CertificateSpec {
    let (name, namespace) = (&cluster.name, &cluster.namespace);
    let own = tls_cluster(name, namespace);
    let text = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
    CertificateSpec {
        secret_name: tls_secret(name),
        issuer_ref: asked.issuer_ref.clone(),
        duration: asked.duration.clone(),
        renew_before: asked.renew_before.clone(),
        // By the service, and each by the name that it tells others.
        dns_names: vec![
            name.clone(),
            format!("{name}.{namespace}"),
            format!("{name}.{namespace}.svc"),
            format!("{name}.{namespace}.svc.cluster.local"),
            format!("*.{}.{namespace}.svc", peers_service(name)),
            format!("*.{}.{namespace}.svc.cluster.local", peers_service(name)),
        ],
        uris: vec![format!("multiraft://{own}/node/{name}")],
        usages: text(&["digital signature", "server auth", "client auth"]),
        private_key: Some(PrivateKey {
            algorithm: Some("ECDSA".to_owned()),
            rotation_policy: Some("Always".to_owned()),
        }),
    }
}
