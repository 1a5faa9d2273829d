//! Containers that know about how much memory their contents take, at any time and without a look at
//! them: each change adds or takes away what it changes.
//!
//! What is counted follows from the contents alone, so a restored container counts the same. It is
//! not the memory of the process: allocators, tree nodes and shared parts are covered by a constant
//! for each entry.

use std::borrow::Borrow;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use bytes::Bytes;
use imbl::{OrdMap, OrdSet};

use crate::limits::ENTRY_OVERHEAD_BYTES;

/// How much a primitive holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Size {
    pub entries: u64,
    /// Approximate memory.
    pub bytes: u64,
}

impl Size {
    pub fn new(entries: usize, bytes: u64) -> Self {
        Self { entries: entries as u64, bytes }
    }
}

/// What a key or a value takes beside the constant of its entry. Must follow from the content alone.
pub trait Footprint {
    fn footprint(&self) -> u64;
}

impl Footprint for Arc<str> {
    fn footprint(&self) -> u64 {
        self.len() as u64
    }
}

impl Footprint for Bytes {
    fn footprint(&self) -> u64 {
        self.len() as u64
    }
}

/// For what is as large in every entry.
macro_rules! within_the_overhead {
    ($($kind:ty),* $(,)?) => {
        $(impl Footprint for $kind {
            fn footprint(&self) -> u64 {
                0
            }
        })*
    };
}

within_the_overhead!(i64, u64, Option<crate::timers::Timer>, super::CommandKey);

/// A map that knows its size. Reads as the map does.
#[derive(Clone, Debug)]
pub struct Measured<K: Ord, V> {
    entries: OrdMap<K, V>,
    bytes: u64,
}

impl<K: Ord, V> Default for Measured<K, V> {
    fn default() -> Self {
        Self { entries: OrdMap::default(), bytes: 0 }
    }
}

impl<K: Ord, V> Deref for Measured<K, V> {
    type Target = OrdMap<K, V>;

    fn deref(&self) -> &OrdMap<K, V> {
        &self.entries
    }
}

impl<K: Ord, V> Measured<K, V> {
    pub fn bytes(&self) -> u64 {
        self.bytes
    }
}

impl<K: Ord + Clone + Footprint, V: Clone + Footprint> Measured<K, V> {
    pub fn insert(&mut self, key: K, value: V) -> Option<V> {
        let key_bytes = key.footprint();
        self.bytes += entry_bytes(key_bytes, &value);
        let before = self.entries.insert(key, value);
        if let Some(before) = &before {
            self.bytes -= entry_bytes(key_bytes, before);
        }
        before
    }

    pub fn remove<Q>(&mut self, key: &Q) -> Option<V>
    where
        Q: Ord + ?Sized,
        K: Borrow<Q>,
    {
        let (key, value) = self.entries.remove_with_key(key)?;
        self.bytes -= entry_bytes(key.footprint(), &value);
        Some(value)
    }

    /// The value, to be changed: it is measured again when it is given back.
    pub fn get_mut<Q>(&mut self, key: &Q) -> Option<Changing<'_, V>>
    where
        Q: Ord + ?Sized,
        K: Borrow<Q>,
    {
        let value = self.entries.get_mut(key)?;
        self.bytes -= value.footprint();
        Some(Changing { value, bytes: &mut self.bytes })
    }
}

fn entry_bytes(key: u64, value: &impl Footprint) -> u64 {
    ENTRY_OVERHEAD_BYTES + key + value.footprint()
}

/// A value of a measured map that may change.
pub struct Changing<'a, V: Footprint> {
    value: &'a mut V,
    bytes: &'a mut u64,
}

impl<V: Footprint> Deref for Changing<'_, V> {
    type Target = V;

    fn deref(&self) -> &V {
        self.value
    }
}

impl<V: Footprint> DerefMut for Changing<'_, V> {
    fn deref_mut(&mut self) -> &mut V {
        self.value
    }
}

impl<V: Footprint> Drop for Changing<'_, V> {
    fn drop(&mut self) {
        *self.bytes += self.value.footprint();
    }
}

impl<K: Ord + Clone, V: Clone> IntoIterator for Measured<K, V> {
    type Item = (K, V);
    type IntoIter = <OrdMap<K, V> as IntoIterator>::IntoIter;

    fn into_iter(self) -> Self::IntoIter {
        self.entries.into_iter()
    }
}

impl<'a, K: Ord, V> IntoIterator for &'a Measured<K, V> {
    type Item = (&'a K, &'a V);
    type IntoIter = <&'a OrdMap<K, V> as IntoIterator>::IntoIter;

    fn into_iter(self) -> Self::IntoIter {
        (&self.entries).into_iter()
    }
}

/// A set that knows its size. Reads as the set does.
#[derive(Clone, Debug)]
pub struct MeasuredSet<T: Ord> {
    items: OrdSet<T>,
    bytes: u64,
}

impl<T: Ord> Default for MeasuredSet<T> {
    fn default() -> Self {
        Self { items: OrdSet::default(), bytes: 0 }
    }
}

impl<T: Ord> Deref for MeasuredSet<T> {
    type Target = OrdSet<T>;

    fn deref(&self) -> &OrdSet<T> {
        &self.items
    }
}

impl<T: Ord> Footprint for MeasuredSet<T> {
    fn footprint(&self) -> u64 {
        self.bytes
    }
}

impl<T: Ord + Clone + Footprint> MeasuredSet<T> {
    /// Whether it was there before.
    pub fn insert(&mut self, item: T) -> bool {
        let bytes = ENTRY_OVERHEAD_BYTES + item.footprint();
        let was_there = self.items.insert(item).is_some();
        if !was_there {
            self.bytes += bytes;
        }
        was_there
    }

    pub fn remove<Q>(&mut self, item: &Q)
    where
        Q: Ord + ?Sized,
        T: Borrow<Q>,
    {
        if let Some(item) = self.items.remove(item) {
            self.bytes -= ENTRY_OVERHEAD_BYTES + item.footprint();
        }
    }
}

impl<T: Ord + Clone> IntoIterator for MeasuredSet<T> {
    type Item = T;
    type IntoIter = <OrdSet<T> as IntoIterator>::IntoIter;

    fn into_iter(self) -> Self::IntoIter {
        self.items.into_iter()
    }
}

impl<'a, T: Ord> IntoIterator for &'a MeasuredSet<T> {
    type Item = &'a T;
    type IntoIter = <&'a OrdSet<T> as IntoIterator>::IntoIter;

    fn into_iter(self) -> Self::IntoIter {
        (&self.items).into_iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a look at all the contents gives.
    fn counted(map: &Measured<Arc<str>, MeasuredSet<Arc<str>>>) -> u64 {
        let one = |text: &Arc<str>| ENTRY_OVERHEAD_BYTES + text.len() as u64;
        map.iter().map(|(key, set)| one(key) + set.iter().map(one).sum::<u64>()).sum()
    }

    #[test]
    fn whatever_is_done_the_size_is_that_of_the_contents() {
        let mut rng = fastrand::Rng::with_seed(7);
        let mut map: Measured<Arc<str>, MeasuredSet<Arc<str>>> = Measured::default();
        let (mut most, mut emptied) = (0, 0);
        for _ in 0..20_000 {
            let mut word = || Arc::<str>::from("x".repeat(rng.usize(..6)));
            let (key, item) = (word(), word());
            match rng.u32(..8) {
                0 => drop(map.remove(&key)),
                1 => drop(map.insert(key, MeasuredSet::default())),
                2..4 => {
                    if let Some(mut set) = map.get_mut(&key) {
                        set.remove(&item);
                    }
                }
                _ => {
                    if let Some(mut set) = map.get_mut(&key) {
                        set.insert(item);
                    }
                }
            }
            assert_eq!(map.bytes(), counted(&map));
            most = most.max(map.bytes());
            emptied += u32::from(map.bytes() == 0);
        }
        assert!(most > 10 * ENTRY_OVERHEAD_BYTES && emptied > 0, "{most} {emptied}");
        drop(std::mem::take(&mut map));
        assert_eq!((map.len(), map.bytes()), (0, 0));
    }
}
