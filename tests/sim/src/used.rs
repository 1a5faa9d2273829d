//! What clients saw of the primitives with models. All commands are answered in the end, each with
//! its index: carried out in that order, a model gives every output, every query's answer and
//! everything that who watches is told.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::models::{self, Model, Outcome};
use crate::report::Report;
use crate::uses::{Primitive, Use};

/// Of one group.
#[derive(Debug, Default)]
pub struct Used {
    commands: BTreeMap<u64, (Use, Outcome)>,
    queries: Vec<(u64, Use, Outcome)>,
    /// By call: each asked one node, and was told by it as long as it told.
    watches: BTreeMap<u64, Watch>,
}

#[derive(Debug)]
struct Watch {
    primitive: Primitive,
    /// Index that was known before it was asked for.
    floor: u64,
    /// Index of the state that was listed, where the world knows it.
    view: Option<u64>,
    /// (index, output), as they came.
    told: Vec<(u64, Bytes)>,
}

impl Used {
    /// Index of the newest command that was answered.
    pub fn newest(&self) -> u64 {
        self.commands.last_key_value().map_or(0, |(index, _)| *index)
    }

    pub fn done(&mut self, one: Use, index: u64, outcome: Outcome) {
        if one.is_query() {
            return self.queries.push((index, one, outcome));
        }
        let twin = self.commands.insert(index, (one, outcome));
        assert_eq!(twin, None, "[model] two commands have index {index}");
    }

    /// A client asks to watch.
    pub fn watches(&mut self, call: u64, primitive: Primitive) {
        let watch = Watch { primitive, floor: self.newest(), view: None, told: Vec::new() };
        self.watches.insert(call, watch);
    }

    /// The state at this index is what it is told first.
    pub fn listed(&mut self, call: u64, index: u64) {
        if let Some(watch) = self.watches.get_mut(&call) {
            watch.view = Some(index);
        }
    }

    pub fn told(&mut self, call: u64, index: u64, output: Bytes) {
        if let Some(watch) = self.watches.get_mut(&call) {
            watch.told.push((index, output));
        }
    }

    pub fn judge(&self, group: u32, report: &mut Report) {
        for primitive in Primitive::ALL {
            self.judge_one(group, primitive, report);
        }
    }

    fn judge_one(&self, group: u32, primitive: Primitive, report: &mut Report) {
        let mut of_index: BTreeMap<u64, At> = BTreeMap::new();
        for (index, (one, outcome)) in &self.commands {
            if one.primitive == primitive {
                of_index.entry(*index).or_default().command = Some((one, outcome));
            }
        }
        for (index, one, outcome) in &self.queries {
            if one.primitive == primitive {
                of_index.entry(*index).or_default().queries.push((one, outcome));
            }
        }
        let watches = self.watches.values().filter(|watch| watch.primitive == primitive);
        for watch in watches.clone() {
            if let Some(began) = watch.began() {
                of_index.entry(began).or_default().is_listed = true;
            }
        }
        let mut model = models::new(primitive);
        let mut told = Told::default();
        for (index, at) in &of_index {
            at.check(group, *index, &mut *model, &mut told, report);
        }
        for watch in watches {
            watch.check(group, &told, report);
        }
    }
}

/// What happened at one index to one primitive.
#[derive(Default)]
struct At<'a> {
    command: Option<(&'a Use, &'a Outcome)>,
    /// They saw the command.
    queries: Vec<(&'a Use, &'a Outcome)>,
    /// Somebody began to watch behind the command.
    is_listed: bool,
}

/// What there was to be told of one primitive.
#[derive(Default)]
struct Told {
    changes: Vec<(u64, Bytes)>,
    lists: BTreeMap<u64, Vec<Bytes>>,
}

impl At<'_> {
    fn check(
        &self,
        group: u32,
        index: u64,
        model: &mut dyn Model,
        told: &mut Told,
        report: &mut Report,
    ) {
        if let Some((one, seen)) = self.command {
            let mut changes = Vec::new();
            let due = model.command(one, index, &mut changes);
            assert_eq!(*seen, due, "[model] group {group}: {one:?} at {index}");
            told.changes.extend(changes.into_iter().map(|output| (index, output)));
            report.used(one.primitive, seen.is_ok());
        }
        for (one, seen) in &self.queries {
            let due = model.query(one);
            assert_eq!(**seen, due, "[model] group {group}: {one:?} at {index}");
            report.uses_read += 1;
        }
        if self.is_listed {
            told.lists.insert(index, model.list());
        }
    }
}

impl Watch {
    /// Index of the state that was listed. Where nothing was and the world does not know it, the
    /// first change is the same as a list of what it made.
    fn began(&self) -> Option<u64> {
        self.view.or(self.told.first().map(|(index, _)| *index))
    }

    /// It was told what there was, then each change at its index: no gap, no repeat, however it
    /// ended.
    fn check(&self, group: u32, all: &Told, report: &mut Report) {
        let (Some(began), primitive) = (self.began(), self.primitive) else { return };
        let floor = self.floor;
        assert!(
            began >= floor,
            "[watch] group {group}: {primitive:?} as of {began}, when {floor} was answered before"
        );
        let listed = all.lists[&began].iter().map(|output| (began, output));
        let later = all.changes.partition_point(|(index, _)| *index <= began);
        let changes = all.changes[later..].iter().map(|(index, output)| (*index, output));
        let due: Vec<_> = listed.chain(changes).take(self.told.len()).collect();
        let told: Vec<_> = self.told.iter().map(|(index, output)| (*index, output)).collect();
        assert_eq!(told, due, "[watch] group {group}: {primitive:?} from index {began} on");
        report.watches += 1;
        report.watch_changes += told.iter().filter(|(index, _)| *index > began).count() as u64;
    }
}
