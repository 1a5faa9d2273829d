//! Maps: of values, of numbers, of sets of strings, and in the order of insertion.

use std::collections::{BTreeMap, BTreeSet};

use fastrand::Rng;
use multiraft_client::{
    Answer, Change, Cluster, CounterMap, Error, Event, IndexedEntry, IndexedMap, Map, MultiMap,
    Status, Stream, Version, Versioned, Write, Written,
};

use super::judge::{Kind, Outcome};
use super::{Draw, Used, change, compare, key, keys, text, versioned};

#[derive(Debug, Default)]
pub struct Entries(BTreeMap<String, Versioned>);

/// A key, and what becomes of it.
#[derive(Clone, Debug)]
pub enum MapCall {
    Put(String, u64),
    Insert(String, u64),
    Update(String, u64, Option<Version>),
    Remove(String, Option<Version>),
    Get(String),
}

/// The version that was written, if any, and what was there: before, or that was read.
type Wrote = (Option<Version>, Option<Versioned>);

impl Kind for Entries {
    const NAME: &'static str = "map";
    type Call = MapCall;
    type Output = Wrote;
    type Event = Event<Versioned>;

    fn is_read(call: &MapCall) -> bool {
        matches!(call, MapCall::Get(_))
    }

    fn act(
        &mut self,
        call: &MapCall,
        index: u64,
        told: &mut Vec<Event<Versioned>>,
    ) -> Outcome<Self> {
        let (key, value) = match call {
            MapCall::Get(key) => return Ok((None, self.0.get(key).cloned())),
            MapCall::Insert(key, _) if self.0.contains_key(key) => {
                return Err(Status::AlreadyExists);
            }
            MapCall::Put(key, value) | MapCall::Insert(key, value) => (key, Some(*value)),
            MapCall::Update(key, value, wanted) => {
                compare(self.0.get(key), *wanted)?;
                (key, Some(*value))
            }
            MapCall::Remove(key, wanted) => {
                compare(self.0.get(key), *wanted)?;
                (key, None)
            }
        };
        let now = value.map(|value| versioned(value, index));
        let before = match now.clone() {
            Some(now) => self.0.insert(key.clone(), now),
            None => self.0.remove(key),
        };
        let change = change(before.clone(), now);
        told.extend(change.map(|change| Event { key: key.clone(), change }));
        Ok((value.map(|_| Version(index)), before))
    }
}

impl Used for Entries {
    const SKIPS: bool = false;
    type Handle = Map;

    fn handle(cluster: &Cluster, name: &str) -> Map {
        cluster.map(name)
    }

    fn draw(rng: &mut Rng, Draw { value, version }: Draw) -> MapCall {
        let key = key(rng);
        match rng.u32(..6) {
            0 => MapCall::Insert(key, value),
            1 => MapCall::Update(key, value, version),
            2 => MapCall::Remove(key, version),
            3 => MapCall::Get(key),
            _ => MapCall::Put(key, value),
        }
    }

    fn last(value: u64) -> Vec<MapCall> {
        keys().map(|key| MapCall::Put(key, value)).collect()
    }

    async fn ask(map: &Map, call: &MapCall) -> Result<Answer<Wrote>, Error> {
        let wrote = |answer: Answer<Written>| {
            answer.map(|written| (Some(written.version), written.previous))
        };
        Ok(match call {
            MapCall::Put(key, value) => wrote(map.put(key, text(*value)).await?),
            MapCall::Insert(key, value) => wrote(map.insert(key, text(*value)).await?),
            MapCall::Update(key, value, version) => {
                let write = Write { if_version: *version, ..Write::default() };
                wrote(map.update_with(key, text(*value), write).await?)
            }
            MapCall::Remove(key, version) => {
                map.remove_if(key, *version).await?.map(|was| (None, was))
            }
            MapCall::Get(key) => map.get(key).await?.map(|is| (None, is)),
        })
    }

    async fn stream(map: &Map) -> Result<Stream<Event<Versioned>>, Error> {
        map.events(None).await
    }
}

#[derive(Debug, Default)]
pub struct Numbers(BTreeMap<String, i64>);

#[derive(Clone, Debug)]
pub enum NumberCall {
    Increment(String, i64),
    Set(String, i64),
    /// From the first number to the second.
    Update(String, i64, i64),
    Remove(String, i64),
    Get(String),
}

impl Kind for Numbers {
    const NAME: &'static str = "counter-map";
    type Call = NumberCall;
    /// The number before, or that was read.
    type Output = Option<i64>;
    type Event = Event<i64>;

    fn is_read(call: &NumberCall) -> bool {
        matches!(call, NumberCall::Get(_))
    }

    fn act(&mut self, call: &NumberCall, _: u64, told: &mut Vec<Event<i64>>) -> Outcome<Self> {
        use NumberCall::*;
        let (Increment(key, _) | Set(key, _) | Update(key, ..) | Remove(key, _) | Get(key)) = call;
        let before = self.0.get(key).copied();
        let now = match call {
            Get(_) => return Ok(before),
            Update(_, wanted, _) | Remove(_, wanted) if before != Some(*wanted) => {
                return Err(before.map_or(Status::NotFound, |_| Status::Conflict));
            }
            Increment(_, delta) => Some(before.unwrap_or(0) + delta),
            Set(_, value) | Update(_, _, value) => Some(*value),
            Remove(..) => None,
        };
        match now {
            Some(now) => self.0.insert(key.clone(), now),
            None => self.0.remove(key),
        };
        let change = change(before, now);
        told.extend(change.map(|change| Event { key: key.clone(), change }));
        let tells = matches!(call, Increment(..) | Set(..));
        Ok(tells.then_some(before.unwrap_or(0)))
    }
}

impl Used for Numbers {
    const SKIPS: bool = false;
    type Handle = CounterMap;

    fn handle(cluster: &Cluster, name: &str) -> CounterMap {
        cluster.counter_map(name)
    }

    fn draw(rng: &mut Rng, _: Draw) -> NumberCall {
        let (key, number) = (key(rng), rng.i64(1..4));
        match rng.u32(..6) {
            0 => NumberCall::Set(key, number),
            1 => NumberCall::Update(key, number, rng.i64(1..4)),
            2 => NumberCall::Remove(key, number),
            3 => NumberCall::Get(key),
            _ => NumberCall::Increment(key, number),
        }
    }

    fn last(_: u64) -> Vec<NumberCall> {
        keys().map(|key| NumberCall::Increment(key, 1)).collect()
    }

    async fn ask(map: &CounterMap, call: &NumberCall) -> Result<Answer<Option<i64>>, Error> {
        Ok(match call {
            NumberCall::Increment(key, delta) => map.increment(key, *delta).await?.map(Some),
            NumberCall::Set(key, value) => map.set(key, *value).await?.map(Some),
            NumberCall::Update(key, wanted, value) => {
                map.update(key, *wanted, *value).await?.map(|()| None)
            }
            NumberCall::Remove(key, wanted) => map.remove(key, *wanted).await?.map(|()| None),
            NumberCall::Get(key) => map.get(key).await?,
        })
    }

    async fn stream(map: &CounterMap) -> Result<Stream<Event<i64>>, Error> {
        map.events(None).await
    }
}

#[derive(Debug, Default)]
pub struct Multi(BTreeMap<String, BTreeSet<String>>);

#[derive(Clone, Debug)]
pub enum MultiCall {
    Put(String, String),
    Remove(String, String),
    Get(String),
}

impl Kind for Multi {
    const NAME: &'static str = "multi-map";
    type Call = MultiCall;
    /// What was read.
    type Output = Option<Vec<String>>;
    type Event = Event<String>;

    fn is_read(call: &MultiCall) -> bool {
        matches!(call, MultiCall::Get(_))
    }

    fn act(&mut self, call: &MultiCall, _: u64, told: &mut Vec<Event<String>>) -> Outcome<Self> {
        let (key, change) = match call {
            MultiCall::Get(key) => {
                return Ok(Some(self.0.get(key).into_iter().flatten().cloned().collect()));
            }
            MultiCall::Put(key, value) => {
                if !self.0.entry(key.clone()).or_default().insert(value.clone()) {
                    return Err(Status::AlreadyExists);
                }
                (key, Change::Inserted(value.clone()))
            }
            MultiCall::Remove(key, value) => {
                if !self.0.entry(key.clone()).or_default().remove(value) {
                    return Err(Status::NotFound);
                }
                (key, Change::Removed { value: value.clone(), expired: false })
            }
        };
        told.push(Event { key: key.clone(), change });
        Ok(None)
    }
}

impl Used for Multi {
    const SKIPS: bool = false;
    type Handle = MultiMap;

    fn handle(cluster: &Cluster, name: &str) -> MultiMap {
        cluster.multi_map(name)
    }

    fn draw(rng: &mut Rng, _: Draw) -> MultiCall {
        let (key, value) = (key(rng), rng.u32(..3).to_string());
        match rng.u32(..4) {
            0 => MultiCall::Get(key),
            1 => MultiCall::Remove(key, value),
            _ => MultiCall::Put(key, value),
        }
    }

    fn last(value: u64) -> Vec<MultiCall> {
        keys().map(|key| MultiCall::Put(key, format!("last-{value}"))).collect()
    }

    async fn ask(map: &MultiMap, call: &MultiCall) -> Result<Answer<Option<Vec<String>>>, Error> {
        Ok(match call {
            MultiCall::Put(key, value) => map.put(key, value).await?.map(|()| None),
            MultiCall::Remove(key, value) => map.remove(key, value).await?.map(|()| None),
            MultiCall::Get(key) => map.get(key).await?.map(Some),
        })
    }

    async fn stream(map: &MultiMap) -> Result<Stream<Event<String>>, Error> {
        map.events(None).await
    }
}

/// A list: entries in the order of insertion.
#[derive(Debug, Default)]
pub struct Indexed {
    entries: Vec<IndexedEntry>,
    last: u64,
}

#[derive(Clone, Debug)]
pub enum IndexedCall {
    Append(String, u64),
    Update(String, u64, Option<Version>),
    Remove(String, Option<Version>),
    Get(String),
    Last,
}

impl Indexed {
    fn place(&self, key: &str, wanted: Option<Version>) -> Result<usize, Status> {
        let place = self.entries.iter().position(|entry| entry.key == key);
        compare(place.map(|n| &self.entries[n].value), wanted)?;
        place.ok_or(Status::NotFound)
    }
}

impl Kind for Indexed {
    const NAME: &'static str = "indexed-map";
    type Call = IndexedCall;
    type Output = Option<IndexedEntry>;
    type Event = Change<IndexedEntry>;

    fn is_read(call: &IndexedCall) -> bool {
        matches!(call, IndexedCall::Get(_) | IndexedCall::Last)
    }

    fn act(
        &mut self,
        call: &IndexedCall,
        index: u64,
        told: &mut Vec<Change<IndexedEntry>>,
    ) -> Outcome<Self> {
        Ok(Some(match call {
            IndexedCall::Get(key) => {
                return Ok(self.place(key, None).ok().map(|n| self.entries[n].clone()));
            }
            IndexedCall::Last => return Ok(self.entries.last().cloned()),
            IndexedCall::Append(key, value) => {
                if self.place(key, None).is_ok() {
                    return Err(Status::AlreadyExists);
                }
                self.last += 1;
                let value = versioned(*value, index);
                let entry = IndexedEntry { key: key.clone(), index: self.last, value };
                self.entries.push(entry.clone());
                told.push(Change::Inserted(entry.clone()));
                entry
            }
            IndexedCall::Update(key, value, wanted) => {
                let entry = self.place(key, *wanted).map(|n| &mut self.entries[n])?;
                let previous = entry.clone();
                entry.value = versioned(*value, index);
                told.push(Change::Updated { value: entry.clone(), previous });
                entry.clone()
            }
            IndexedCall::Remove(key, wanted) => {
                let entry = self.entries.remove(self.place(key, *wanted)?);
                told.push(Change::Removed { value: entry.clone(), expired: false });
                entry
            }
        }))
    }
}

impl Used for Indexed {
    const SKIPS: bool = false;
    type Handle = IndexedMap;

    fn handle(cluster: &Cluster, name: &str) -> IndexedMap {
        cluster.indexed_map(name)
    }

    fn draw(rng: &mut Rng, Draw { value, version }: Draw) -> IndexedCall {
        let key = key(rng);
        match rng.u32(..6) {
            0 => IndexedCall::Remove(key, version),
            1 => IndexedCall::Get(key),
            2 => IndexedCall::Last,
            3 => IndexedCall::Update(key, value, version),
            _ => IndexedCall::Append(key, value),
        }
    }

    fn last(value: u64) -> Vec<IndexedCall> {
        vec![IndexedCall::Append(format!("last-{value}"), value)]
    }

    async fn ask(
        map: &IndexedMap,
        call: &IndexedCall,
    ) -> Result<Answer<Option<IndexedEntry>>, Error> {
        Ok(match call {
            IndexedCall::Append(key, value) => map.append(key, text(*value), None).await?.map(Some),
            IndexedCall::Update(key, value, version) => {
                let write = Write { if_version: *version, ..Write::default() };
                map.update(key.as_str(), text(*value), write).await?.map(Some)
            }
            IndexedCall::Remove(key, version) => {
                map.remove(key.as_str(), *version).await?.map(Some)
            }
            IndexedCall::Get(key) => map.get(key.as_str()).await?,
            IndexedCall::Last => map.last().await?,
        })
    }

    async fn stream(map: &IndexedMap) -> Result<Stream<Change<IndexedEntry>>, Error> {
        map.events(None).await
    }
}
