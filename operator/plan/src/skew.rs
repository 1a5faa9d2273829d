//! Versions of nodes that run beside each other.
//!
//! A node understands the minor version before and after its own, so a cluster goes through every minor
//! version with all of its nodes. The API server refuses a spec that skips one, but not a second edit
//! before the first has reached every node: until it has, pods are made with what is between.

use crate::observed::Observed;
use crate::validate::Validated;
use k8s_openapi::api::core::v1::Pod;
use multiraft_api::MultiRaftClusterSpec;
use std::cmp::Reverse;

/// The spec asks for a version that not every node understands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skew {
    /// By the spec.
    pub wanted: String,
    /// A node that is too far from it, and the version that it runs.
    pub pod: String,
    pub runs: String,
}

/// Major, minor, patch; what follows a hyphen changes no format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Version(u64, u64, u64);

impl Version {
    fn parse(text: &str) -> Option<Self> {
        let release = text.split('-').next().unwrap_or(text);
        let mut parts = release.split('.').map(|part| part.parse().ok());
        let version = Self(parts.next()??, parts.next()??, parts.next()??);
        parts.next().is_none().then_some(version)
    }

    /// A major version follows the last minor one of that before; which one that is, its nodes know.
    fn is_beside(self, other: Self) -> bool {
        let (old, new) = (self.min(other), self.max(other));
        match new.0 - old.0 {
            0 => new.1 - old.1 <= 1,
            1 => new.1 == 0,
            _ => false,
        }
    }

    fn distance(self, other: Self) -> (u64, u64) {
        (self.0.abs_diff(other.0), self.1.abs_diff(other.1))
    }
}

/// The cluster, with the version that its pods are to have now.
pub fn settled(cluster: Validated, observed: &Observed) -> Validated {
    let Some((version, skew)) = between(&cluster, observed) else { return cluster };
    let spec = MultiRaftClusterSpec { version, ..cluster.spec };
    Validated { spec, skew: Some(skew), ..cluster }
}

/// Of the images that pods are or were last made with, the one nearest to what the spec asks for that understands what
/// every node ran last. None: the spec's own does, or its owner names images himself.
fn between(cluster: &Validated, observed: &Observed) -> Option<(String, Skew)> {
    let image = cluster.spec.image.as_ref();
    if image.is_some_and(|image| image.tag.is_some() || image.digest.is_some()) {
        return None;
    }
    let wanted = Version::parse(&cluster.spec.version)?;
    let names = cluster.status.nodes.iter().map(|node| &node.name);
    let words = names.filter_map(|name| Some((name, version_of(cluster, observed, name)?)));
    let ran: Vec<(&String, &str, Version)> =
        words.filter_map(|(name, text)| Some((name, text, Version::parse(text)?))).collect();
    let (pod, runs, _) = ran.iter().find(|(_, _, version)| !version.is_beside(wanted))?;
    // Of a cluster whose pods are all away, the status knows.
    let tags =
        observed.pods.iter().filter_map(tag_of).chain(cluster.status.target_version.as_deref());
    let images = tags.filter_map(|tag| Some((tag, Version::parse(tag)?)));
    let fits = |version: Version| ran.iter().all(|(_, _, other)| version.is_beside(*other));
    let (nearest, _) = images
        .filter(|(_, version)| fits(*version))
        .min_by_key(|(_, version)| (version.distance(wanted), Reverse(*version)))?;
    let (wanted, pod, runs) = (cluster.spec.version.clone(), (*pod).clone(), (*runs).to_owned());
    Some((nearest.to_owned(), Skew { wanted, pod, runs }))
}

/// What a node says that it runs, or said when it was last heard of.
pub fn version_of<'a>(
    cluster: &'a Validated,
    observed: &'a Observed,
    pod: &str,
) -> Option<&'a str> {
    let said = observed.nodes.get(pod).and_then(|node| node.identity.as_ref());
    let known = || cluster.status.nodes.iter().find(|node| node.name == pod);
    match said {
        Some(said) => Some(&said.version),
        None => known()?.version.as_deref(),
    }
}

fn tag_of(pod: &Pod) -> Option<&str> {
    let image = pod.spec.as_ref()?.containers.first()?.image.as_deref()?;
    if image.contains('@') {
        return None;
    }
    // A colon before the last slash is that of the registry's port.
    image.rsplit('/').next()?.split_once(':').map(|(_, tag)| tag)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(text: &str) -> Version {
        Version::parse(text).expect(text)
    }

    #[test]
    fn versions_beside_each_other() {
        for (a, b) in [("0.2.0", "0.3.7"), ("0.2.0", "0.2.9-rc.1"), ("0.9.1", "1.0.0")] {
            assert!(version(a).is_beside(version(b)), "{a} {b}");
            assert!(version(b).is_beside(version(a)), "{b} {a}");
        }
        for (a, b) in [("0.2.0", "0.4.0"), ("0.9.0", "1.1.0"), ("1.0.0", "3.0.0")] {
            assert!(!version(a).is_beside(version(b)), "{a} {b}");
        }
        assert_eq!(Version::parse("latest"), None);
        assert_eq!(Version::parse("1.2"), None);
    }

    #[test]
    fn a_tag_is_not_the_port_of_a_registry() {
        let tag = |image: &str| {
            let pod = serde_json::json!({
                "metadata": {"name": "a"},
                "spec": {"containers": [{"name": "node", "image": image}]},
            });
            let pod: Pod = serde_json::from_value(pod).expect("a pod");
            tag_of(&pod).map(str::to_owned)
        };
        assert_eq!(tag("example.com:5000/node:0.2.0").as_deref(), Some("0.2.0"));
        assert_eq!(tag("example.com:5000/node"), None);
        assert_eq!(tag("node@sha256:00"), None);
    }
}
