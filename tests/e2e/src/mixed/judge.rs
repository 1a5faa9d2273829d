//! Whether what clients saw of one kind of primitive fits: one judge for all kinds.
//!
//! Every answer names its partition and the partition's index. Carried out in that order, a plain
//! value of the kind must give every answer and every event that streams told.

use std::collections::BTreeMap;
use std::fmt::Debug;

use multiraft_client::Status;

/// A kind of primitive as a plain value: what it is to do.
pub trait Kind: Default + Debug {
    /// Of the kind, and part of the primitive's.
    const NAME: &'static str;
    /// What is asked.
    type Call: Clone + Debug + Send + 'static;
    /// What is answered.
    type Output: PartialEq + Debug + Send + 'static;
    /// What a stream tells of a change.
    type Event: Clone + PartialEq + Debug + Send + 'static;

    /// Whether the call reads and changes nothing.
    fn is_read(call: &Self::Call) -> bool;

    /// Carries out a call, as the command of this index.
    fn act(&mut self, call: &Self::Call, index: u64, told: &mut Vec<Self::Event>) -> Outcome<Self>;
}

/// An answer, or why the call was rejected.
pub type Outcome<K> = Result<<K as Kind>::Output, Status>;

/// A call and its answer. Times are in nanoseconds since the load began.
#[derive(Debug)]
pub struct Seen<K: Kind> {
    pub started: u64,
    pub ended: u64,
    pub partition: u32,
    pub index: u64,
    pub call: K::Call,
    pub answer: Outcome<K>,
}

/// What a stream told.
#[derive(Debug)]
pub struct Told<E> {
    /// When it was open: changes that were asked for later are in it.
    pub opened: u64,
    /// True: of several changes it may tell the newest only, and that more than once.
    pub skips: bool,
    /// (partition, index, event), as they came; the end of all that there was.
    pub events: Vec<(u32, u64, E)>,
}

/// Judges all that was seen of one kind.
///
/// # Panics
/// Something does not fit; the message says what.
pub fn judge<K: Kind>(seen: &[Seen<K>], told: &[Told<K::Event>]) {
    let mut by_partition: BTreeMap<u32, Vec<&Seen<K>>> = BTreeMap::new();
    for one in seen {
        by_partition.entry(one.partition).or_default().push(one);
    }
    for (partition, mut seen) in by_partition {
        in_real_time(&seen);
        // Reads saw the command of their index.
        seen.sort_by_key(|one| (one.index, K::is_read(&one.call)));
        let due = replay(&seen);
        for told in told {
            check_told::<K>(partition, told, &due);
        }
    }
}

/// Who asks after an answer sees no older state, and a command of its own makes a newer one.
fn in_real_time<K: Kind>(seen: &[&Seen<K>]) {
    let mut begun = seen.to_vec();
    begun.sort_by_key(|one| one.started);
    let mut ended = seen.to_vec();
    ended.sort_by_key(|one| one.ended);
    let (mut ended, mut floor) = (ended.into_iter().peekable(), 0);
    for one in begun {
        while let Some(before) = ended.next_if(|before| before.ended < one.started) {
            floor = floor.max(before.index);
        }
        let least = floor + u64::from(!K::is_read(&one.call));
        assert!(one.index >= least, "{}: {one:?}, when {floor} was answered before", K::NAME);
    }
}

/// (start of the call, index, event) of all changes, in order.
fn replay<K: Kind>(seen: &[&Seen<K>]) -> Vec<(u64, u64, K::Event)> {
    let (mut kind, mut due, mut last) = (K::default(), Vec::new(), 0);
    for one in seen {
        if !K::is_read(&one.call) {
            assert!(one.index > last, "{}: two commands at {last}, one is {one:?}", K::NAME);
            last = one.index;
        }
        let mut changes = Vec::new();
        let answer = kind.act(&one.call, one.index, &mut changes);
        assert_eq!(one.answer, answer, "{}: {one:?}", K::NAME);
        due.extend(changes.into_iter().map(|event| (one.started, one.index, event)));
    }
    due
}

/// In order, no gap, no repeat, up to the end.
fn check_told<K: Kind>(partition: u32, told: &Told<K::Event>, due: &[(u64, u64, K::Event)]) {
    let name = K::NAME;
    let told_here = told.events.iter().filter(|(from, ..)| *from == partition);
    let mut events: Vec<_> = told_here.map(|(_, index, event)| (*index, event)).collect();
    if told.skips {
        assert!(events.is_sorted_by_key(|(index, _)| *index), "{name}: {events:?}");
        // A state that was listed has the index of the list, which may be that of another command.
        events.dedup_by(|second, first| first.1 == second.1);
        let mut later = due.iter().map(|(.., event)| event);
        for (index, event) in &events {
            let found = later.any(|known| known == *event);
            assert!(found, "{name}: {event:?} at {index} was not so, or not then");
        }
        let (last, is) = (events.last().map(|(_, event)| *event), due.last().map(|(.., e)| e));
        return assert_eq!(last, is, "{name}: the last change");
    }
    let missed = due
        .iter()
        .take_while(|(_, index, _)| events.first().is_none_or(|(first, _)| index < first));
    let missed = missed.count();
    let late = due[..missed].iter().find(|(started, ..)| *started > told.opened);
    assert!(late.is_none(), "{name}: a stream did not tell {late:?} of partition {partition}");
    let due: Vec<_> = due[missed..].iter().map(|(_, index, event)| (*index, event)).collect();
    assert_eq!(events, due, "{name}: what a stream told of partition {partition}, and what was");
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A number that is set; the answer is the one before.
    #[derive(Debug, Default)]
    struct Number(u64);

    impl Kind for Number {
        const NAME: &'static str = "number";
        type Call = Option<u64>;
        type Output = u64;
        type Event = u64;

        fn is_read(call: &Option<u64>) -> bool {
            call.is_none()
        }

        fn act(&mut self, call: &Option<u64>, _: u64, told: &mut Vec<u64>) -> Outcome<Self> {
            told.extend(*call);
            Ok(call.map_or(self.0, |new| std::mem::replace(&mut self.0, new)))
        }
    }

    fn seen(times: [u64; 2], index: u64, call: Option<u64>, answer: u64) -> Seen<Number> {
        let answer = Ok(answer);
        Seen { started: times[0], ended: times[1], partition: 1, index, call, answer }
    }

    fn history() -> Vec<Seen<Number>> {
        vec![
            seen([1, 2], 1, Some(7), 0),
            seen([3, 6], 4, Some(8), 7),
            seen([4, 5], 2, None, 7),
            seen([7, 8], 5, Some(9), 8),
        ]
    }

    fn is_refused(seen: &[Seen<Number>], skips: bool, events: &[(u64, u64)]) -> bool {
        let events = events.iter().map(|(index, event)| (1, *index, *event)).collect();
        let told = [Told { opened: 2, skips, events }];
        std::panic::catch_unwind(|| judge(seen, &told)).is_err()
    }

    #[test]
    fn what_fits_passes() {
        assert!(!is_refused(&history(), false, &[(4, 8), (5, 9)]));
        assert!(!is_refused(&history(), false, &[(1, 7), (4, 8), (5, 9)]));
        assert!(!is_refused(&history(), true, &[(3, 7), (5, 9), (6, 9)]));
    }

    #[test]
    fn an_answer_that_does_not_follow_is_refused() {
        let mut wrong = history();
        wrong[3].answer = Ok(7);
        assert!(is_refused(&wrong, true, &[(5, 9)]));
        let mut old = history();
        old.push(seen([9, 10], 4, None, 8));
        assert!(is_refused(&old, true, &[(5, 9)]));
        let mut twice = history();
        twice.push(seen([9, 10], 5, Some(9), 9));
        assert!(is_refused(&twice, true, &[(5, 9)]));
    }

    #[test]
    fn a_stream_with_a_gap_or_a_repeat_is_refused() {
        assert!(is_refused(&history(), false, &[(5, 9)]));
        assert!(is_refused(&history(), false, &[(4, 8)]));
        assert!(is_refused(&history(), false, &[(4, 8), (4, 8), (5, 9)]));
        assert!(is_refused(&history(), false, &[(5, 9), (4, 8)]));
        assert!(is_refused(&history(), true, &[(4, 8)]));
        assert!(is_refused(&history(), true, &[(4, 9), (5, 8), (5, 9)]));
    }
}
