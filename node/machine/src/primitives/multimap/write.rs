//! Changes of a multimap: what a command wants is compared with what is there, checked, and only then
//! made.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use multiraft_proto::atomix::multiraft::multimap::v1 as wire;
use wire::event::{Added, Event, Removed};

use super::MultiMap;
use crate::limits::{COMMAND_VALUES_MAX, KEY_VALUES_MAX};
use crate::primitives::checks::check_key;
use crate::primitives::measured::MeasuredSet;
use crate::primitives::{At, Context, Failure, Status, encode};

/// Key → the values that a command names, sorted and without duplicates.
type Named = BTreeMap<Arc<str>, BTreeSet<Arc<str>>>;

/// What becomes of one key.
struct Change {
    key: Arc<str>,
    /// All of them are there.
    removed: Vec<Arc<str>>,
    /// None of them is there.
    added: Vec<Arc<str>>,
}

impl MultiMap {
    pub fn put(
        &mut self,
        wire::PutInput { key, value }: wire::PutInput,
        context: &mut Context<'_>,
    ) -> Result<Bytes, Failure> {
        if !self.add(named([(key, vec![value])])?, context)? {
            return Err(Failure::new(Status::AlreadyExists, "value: the key has it"));
        }
        Ok(encode(&wire::PutOutput {}))
    }

    pub fn put_all(
        &mut self,
        wire::PutAllInput { key, values }: wire::PutAllInput,
        context: &mut Context<'_>,
    ) -> Result<Bytes, Failure> {
        let updated = self.add(named([(key, values)])?, context)?;
        Ok(encode(&wire::PutAllOutput { updated }))
    }

    pub fn put_entries(
        &mut self,
        input: wire::PutEntriesInput,
        context: &mut Context<'_>,
    ) -> Result<Bytes, Failure> {
        let updated = self.add(named_entries(input.entries)?, context)?;
        Ok(encode(&wire::PutEntriesOutput { updated }))
    }

    pub fn replace(
        &mut self,
        wire::ReplaceInput { key, values }: wire::ReplaceInput,
        context: &mut Context<'_>,
    ) -> Result<Bytes, Failure> {
        let prev_values = self.values(&key);
        let present = |key: &str| self.entries.get(key).into_iter().flatten();
        let changes = named([(key, values)])?.into_iter().map(|(key, values)| {
            let removed = present(&key).filter(|value| !values.contains(*value)).cloned().collect();
            let added = self.missing(&key, &values);
            Change { key, removed, added }
        });
        let changes: Vec<_> = changes.collect();
        self.make(changes, context)?;
        Ok(encode(&wire::ReplaceOutput { prev_values }))
    }

    pub fn remove(
        &mut self,
        wire::RemoveInput { key, value }: wire::RemoveInput,
        context: &mut Context<'_>,
    ) -> Result<Bytes, Failure> {
        if !self.cut(named([(key, vec![value])])?, context)? {
            return Err(Failure::new(Status::NotFound, "value: the key does not have it"));
        }
        Ok(encode(&wire::RemoveOutput { values: Vec::new() }))
    }

    pub fn remove_all(
        &mut self,
        wire::RemoveAllInput { key, values }: wire::RemoveAllInput,
        context: &mut Context<'_>,
    ) -> Result<Bytes, Failure> {
        let is_missing = !self.entries.contains_key(&*key);
        let named = named([(key, values)])?;
        if is_missing {
            return Err(Failure::new(Status::NotFound, "key: has no values"));
        }
        let updated = self.cut(named, context)?;
        Ok(encode(&wire::RemoveAllOutput { updated }))
    }

    pub fn remove_entries(
        &mut self,
        input: wire::RemoveEntriesInput,
        context: &mut Context<'_>,
    ) -> Result<Bytes, Failure> {
        let updated = self.cut(named_entries(input.entries)?, context)?;
        Ok(encode(&wire::RemoveEntriesOutput { updated }))
    }

    pub fn clear(&mut self, _: wire::ClearInput, context: &mut Context<'_>) -> Bytes {
        for (key, values) in std::mem::take(&mut self.entries) {
            for value in values {
                self.changed(&key, || removed(&value), context);
            }
            context.changed(At::Key(&key), || self.entries_output(&key));
        }
        encode(&wire::ClearOutput {})
    }

    fn add(&mut self, named: Named, context: &mut Context<'_>) -> Result<bool, Failure> {
        let changes = named.into_iter().map(|(key, values)| {
            let added = self.missing(&key, &values);
            Change { key, removed: Vec::new(), added }
        });
        let changes: Vec<_> = changes.collect();
        self.make(changes, context)
    }

    fn cut(&mut self, named: Named, context: &mut Context<'_>) -> Result<bool, Failure> {
        let changes = named.into_iter().filter_map(|(key, values)| {
            let present = self.entries.get(&*key)?;
            let removed = values.into_iter().filter(|value| present.contains(value)).collect();
            Some(Change { key, removed, added: Vec::new() })
        });
        let changes: Vec<_> = changes.collect();
        self.make(changes, context)
    }

    fn missing(&self, key: &str, values: &BTreeSet<Arc<str>>) -> Vec<Arc<str>> {
        let present = self.entries.get(key);
        let is_missing = |value: &&Arc<str>| !present.is_some_and(|there| there.contains(*value));
        values.iter().filter(is_missing).cloned().collect()
    }

    /// Makes all changes, or none if one of them would break a limit. Returns whether there was any.
    fn make(&mut self, changes: Vec<Change>, context: &mut Context<'_>) -> Result<bool, Failure> {
        for Change { key, removed, added } in &changes {
            let count = self.entries.get(key).map_or(0, |values| values.len());
            if count - removed.len() + added.len() > KEY_VALUES_MAX {
                let message = format!("values: a key has at most {KEY_VALUES_MAX}");
                return Err(Failure::invalid(message));
            }
        }
        let mut has_changed = false;
        for Change { key, removed: gone, added: new } in changes {
            has_changed |= !gone.is_empty() || !new.is_empty();
            self.write(&key, &gone, &new);
            for value in &gone {
                self.changed(&key, || removed(value), context);
            }
            for value in &new {
                let added = || Event::Added(Added { value: value.to_string() });
                self.changed(&key, added, context);
            }
            if !gone.is_empty() || !new.is_empty() {
                context.changed(At::Key(&key), || self.entries_output(&key));
            }
        }
        Ok(has_changed)
    }

    fn write(&mut self, key: &Arc<str>, removed: &[Arc<str>], added: &[Arc<str>]) {
        if !added.is_empty() && !self.entries.contains_key(key) {
            self.entries.insert(Arc::clone(key), MeasuredSet::default());
        }
        let Some(mut values) = self.entries.get_mut(key) else { return };
        for value in removed {
            values.remove(value);
        }
        for value in added {
            values.insert(Arc::clone(value));
        }
        let is_empty = values.is_empty();
        drop(values);
        if is_empty {
            self.entries.remove(key);
        }
    }
}

fn removed(value: &str) -> Event {
    Event::Removed(Removed { value: value.to_owned() })
}

fn named_entries(entries: Vec<wire::Entry>) -> Result<Named, Failure> {
    named(entries.into_iter().map(|wire::Entry { key, values }| (key, values)))
}

/// What is named, once each and within the limits.
fn named(entries: impl IntoIterator<Item = (String, Vec<String>)>) -> Result<Named, Failure> {
    let mut named = Named::new();
    let mut count = 0;
    for (key, values) in entries {
        check_key("key", &key)?;
        count += values.len().max(1);
        if count > COMMAND_VALUES_MAX {
            let message = format!("values: more than {COMMAND_VALUES_MAX} in one command");
            return Err(Failure::invalid(message));
        }
        let of_key = named.entry(key.into()).or_default();
        for value in values {
            check_key("value", &value)?;
            of_key.insert(value.into());
        }
    }
    Ok(named)
}
