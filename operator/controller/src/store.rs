//! What the watches know: one map per kind, by namespace and name.
//!
//! Own writes are put in at once, so that a pass sees what the pass before it wrote; a watch
//! event older than what is there is ignored.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::{Arc, PoisonError, RwLock};

use k8s_openapi::NamespaceResourceScope;
use kube::{Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// A kind of objects that is watched and kept here.
pub trait Watched:
    Resource<DynamicType = ()> + Clone + Debug + Serialize + DeserializeOwned + Send + Sync + 'static
{
}

impl<K> Watched for K where
    K: Resource<DynamicType = ()>
        + Clone
        + Debug
        + Serialize
        + DeserializeOwned
        + Send
        + Sync
        + 'static
{
}

/// One whose objects live in namespaces, and are written here.
pub trait Namespaced: Watched + Resource<Scope = NamespaceResourceScope> {}

impl<K> Namespaced for K where K: Watched + Resource<Scope = NamespaceResourceScope> {}

/// Namespace and name of an object.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    pub namespace: String,
    pub name: String,
}

impl Key {
    pub fn of<K: ResourceExt>(object: &K) -> Self {
        Self { namespace: object.namespace().unwrap_or_default(), name: object.name_any() }
    }
}

impl std::fmt::Display for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// All known objects of a kind; clones share it.
#[derive(Debug)]
pub struct Store<K> {
    objects: Arc<RwLock<BTreeMap<Key, Arc<K>>>>,
}

impl<K> Clone for Store<K> {
    fn clone(&self) -> Self {
        Self { objects: self.objects.clone() }
    }
}

impl<K> Default for Store<K> {
    fn default() -> Self {
        Self { objects: Arc::default() }
    }
}

impl<K: Resource + ResourceExt> Store<K> {
    pub fn get(&self, key: &Key) -> Option<Arc<K>> {
        self.read().get(key).cloned()
    }

    /// Objects of a namespace that satisfy the predicate, by name.
    pub fn select(&self, namespace: &str, matches: impl Fn(&K) -> bool) -> Vec<Arc<K>> {
        let first = Key { namespace: namespace.to_owned(), name: String::new() };
        self.read()
            .range(first..)
            .take_while(|(key, _)| key.namespace == namespace)
            .filter(|(_, object)| matches(object))
            .map(|(_, object)| object.clone())
            .collect()
    }

    pub fn all(&self) -> Vec<Arc<K>> {
        self.read().values().cloned().collect()
    }

    /// Takes in an object of a watch or of an own write, unless a newer one is known.
    /// Returns whether anything changed.
    pub fn put(&self, mut object: K) -> bool {
        prune(&mut object);
        let mut objects = self.write();
        let key = Key::of(&object);
        if let Some(known) = objects.get(&key)
            && known.uid() == object.uid()
            && version(known.as_ref()) >= version(&object)
        {
            return false;
        }
        objects.insert(key, Arc::new(object));
        true
    }

    /// Forgets a deleted object, unless its name was already taken again by a newer one.
    pub fn remove(&self, object: &K) {
        let mut objects = self.write();
        let key = Key::of(object);
        if objects.get(&key).is_some_and(|known| version(known.as_ref()) <= version(object)) {
            objects.remove(&key);
        }
    }

    /// Replaces everything of `namespace` (empty: of all) by a complete list.
    /// Returns what is gone or changed, for whoever must look again.
    pub fn replace(&self, namespace: Option<&str>, list: Vec<K>) -> Vec<Arc<K>> {
        let mut fresh: BTreeMap<Key, Arc<K>> = BTreeMap::new();
        for mut object in list {
            prune(&mut object);
            fresh.insert(Key::of(&object), Arc::new(object));
        }
        let mut objects = self.write();
        let in_scope = |key: &Key| namespace.is_none_or(|n| key.namespace == n);
        let mut touched: Vec<Arc<K>> = objects
            .iter()
            .filter(|(key, _)| in_scope(key) && !fresh.contains_key(key))
            .map(|(_, object)| object.clone())
            .collect();
        objects.retain(|key, _| !in_scope(key) || fresh.contains_key(key));
        for (key, object) in fresh {
            let newer = objects.get(&key).is_some_and(|known| {
                known.uid() == object.uid() && version(known.as_ref()) >= version(object.as_ref())
            });
            if !newer {
                touched.push(object.clone());
                objects.insert(key, object);
            }
        }
        touched
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, BTreeMap<Key, Arc<K>>> {
        self.objects.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> std::sync::RwLockWriteGuard<'_, BTreeMap<Key, Arc<K>>> {
        self.objects.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Resource versions are increasing numbers (guaranteed to clients since Kubernetes 1.35 and true
/// of every server before); one that is not a number counts as newest, so nothing is held back.
fn version<K: ResourceExt>(object: &K) -> u64 {
    object.resource_version().and_then(|v| v.parse().ok()).unwrap_or(u64::MAX)
}

/// managedFields are half of an object's memory and nobody reads them here.
fn prune<K: ResourceExt>(object: &mut K) {
    object.managed_fields_mut().clear();
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::ConfigMap;

    use super::*;

    fn object(name: &str, version: u64) -> ConfigMap {
        let mut map = ConfigMap::default();
        map.metadata.namespace = Some("n".into());
        map.metadata.name = Some(name.into());
        map.metadata.uid = Some("u".into());
        map.metadata.resource_version = Some(version.to_string());
        map
    }

    fn known(store: &Store<ConfigMap>) -> Vec<(String, u64)> {
        store.all().iter().map(|o| (o.name_any(), version(o.as_ref()))).collect()
    }

    #[test]
    fn an_older_event_does_not_undo_an_own_write() {
        let store = Store::default();
        assert!(store.put(object("a", 7)));
        assert!(!store.put(object("a", 5)));
        store.remove(&object("a", 6));
        assert_eq!(known(&store), [("a".to_owned(), 7)]);
        store.remove(&object("a", 8));
        assert_eq!(known(&store), []);
    }

    #[test]
    fn a_list_replaces_its_scope_and_names_what_changed() {
        let store = Store::default();
        store.put(object("gone", 1));
        store.put(object("same", 2));
        store.put(object("newer", 9));
        let touched =
            store.replace(Some("n"), vec![object("same", 2), object("newer", 4), object("new", 5)]);
        let names: Vec<String> = touched.iter().map(|o| o.name_any()).collect();
        assert_eq!(names, ["gone", "new"]);
        assert_eq!(
            known(&store),
            [("new".to_owned(), 5), ("newer".to_owned(), 9), ("same".to_owned(), 2)]
        );
    }
}
