//! What a node measures of itself: per class of work, never per group (a series for each group would
//! cost more than the group). Everything is counted where a lock is held anyway, or by its owner.

use crate::streams::Part;
use multiraft_machine::{Answer, Output, Rejection, Status};
use multiraft_proto::v1;
use multiraft_shard::{AdminError, AdminErrorKind, CallError, Counters};
use std::collections::BTreeMap;
use std::time::Duration;

/// Upper bounds of a histogram's buckets in microseconds: from a sync of fast storage to the end of
/// every client's patience.
pub const BOUNDS_MICROS: [u64; 16] = [
    50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000,
    1_000_000, 5_000_000, 15_000_000,
];

/// How long something took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Histogram {
    /// By the first bound that is not below; the last for what is above all.
    pub counts: [u64; BOUNDS_MICROS.len() + 1],
    pub sum: Duration,
}

impl Histogram {
    pub fn record(&mut self, time: Duration) {
        let micros = time.as_micros() as u64;
        let bucket = BOUNDS_MICROS.partition_point(|bound| *bound < micros);
        self.counts[bucket] += 1;
        self.sum += time;
    }

    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }
}

/// What a client asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum CallKind {
    Command,
    Query,
    Administration,
}

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    Ok,
    /// The machine, or the rules of administration, said no.
    Rejected,
    /// The node could not carry it out now.
    Refused,
    /// The caller went away.
    Abandoned,
}

/// The calls of this node's clients.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CallMeasures {
    pub times: BTreeMap<(CallKind, Outcome), Histogram>,
    /// Calls that were rejected or refused as a whole, by reason.
    pub refusals: BTreeMap<&'static str, u64>,
}

impl CallMeasures {
    pub fn record(&mut self, kind: CallKind, verdict: Verdict, time: Duration) {
        self.times.entry((kind, verdict.outcome)).or_default().record(time);
        if let Some(reason) = verdict.reason {
            *self.refusals.entry(reason).or_default() += 1;
        }
    }

    /// Calls of a kind that were answered.
    pub fn answered(&self, kind: CallKind) -> u64 {
        let of_kind =
            self.times.iter().filter(|((k, o), _)| *k == kind && *o != Outcome::Abandoned);
        of_kind.map(|(_, times)| times.count()).sum()
    }
}

/// An outcome and, when the call got no output at all, why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    pub outcome: Outcome,
    pub reason: Option<&'static str>,
}

impl Verdict {
    pub const ABANDONED: Verdict = Verdict { outcome: Outcome::Abandoned, reason: None };
    const OK: Verdict = Verdict { outcome: Outcome::Ok, reason: None };

    fn rejected(reason: &'static str) -> Verdict {
        Verdict { outcome: Outcome::Rejected, reason: Some(reason) }
    }

    fn refused(reason: &'static str) -> Verdict {
        Verdict { outcome: Outcome::Refused, reason: Some(reason) }
    }

    /// Of the first part of a stream.
    pub fn of_part(part: &Part) -> Verdict {
        match part {
            Part::List(_) => Verdict::OK,
            Part::Answer(answer) => Self::of_answer(answer),
            Part::Broken(error) => Self::of_error(error),
        }
    }

    pub fn of_call(result: &Result<Answer, CallError>) -> Verdict {
        result.as_ref().map_or_else(Self::of_error, Self::of_answer)
    }

    fn of_answer(answer: &Answer) -> Verdict {
        match &answer.result {
            Ok(Output::Operation { status, .. }) if *status != Status::Ok => {
                Verdict { outcome: Outcome::Rejected, reason: None }
            }
            Ok(_) => Verdict::OK,
            Err(rejection) => Verdict::rejected(match rejection {
                Rejection::UnknownSession { .. } => "unknown_session",
                Rejection::Released { .. } => "released",
                Rejection::Canceled => "canceled",
                Rejection::Invalid { .. } => "invalid",
                Rejection::TooManySessions => "too_many_sessions",
                Rejection::TooManyCommands => "too_many_commands",
            }),
        }
    }

    fn of_error(error: &CallError) -> Verdict {
        Verdict::refused(match error {
            CallError::UnknownGroup(_) => "unknown_group",
            CallError::NotActivated => "not_activated",
            CallError::Unavailable(_) => "unavailable",
            CallError::Overloaded(_) => "overloaded",
        })
    }

    pub fn of_admin<T>(result: &Result<T, AdminError>) -> Verdict {
        let Err(error) = result else { return Verdict::OK };
        match error.kind {
            AdminErrorKind::InvalidArgument => Verdict::rejected("invalid"),
            AdminErrorKind::NotFound => Verdict::rejected("not_found"),
            AdminErrorKind::AlreadyExists => Verdict::rejected("already_exists"),
            AdminErrorKind::FailedPrecondition => Verdict::rejected("failed_precondition"),
            AdminErrorKind::PermissionDenied => Verdict::rejected("permission_denied"),
            AdminErrorKind::Unavailable => Verdict::refused("unavailable"),
        }
    }
}

/// Snapshots that were taken, sent or received.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Transfers {
    pub times: Histogram,
    pub bytes: u64,
    pub failed: u64,
}

impl Transfers {
    /// `bytes`: of a snapshot; `None` = it came to nothing.
    pub fn record(&mut self, bytes: Option<u64>, time: Duration) {
        match bytes {
            Some(bytes) => {
                self.times.record(time);
                self.bytes += bytes;
            }
            None => self.failed += 1,
        }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SnapshotMeasures {
    pub taken: Transfers,
    pub sent: Transfers,
    pub received: Transfers,
}

/// What waits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Depths {
    /// Calls of clients without an answer.
    pub calls: usize,
    /// Messages to the loop.
    pub inbox: usize,
    /// Records that are not durable.
    pub records: usize,
}

/// Everything at one time.
#[derive(Clone, Debug)]
pub struct Measures {
    pub info: v1::GetInfoResponse,
    pub calls: CallMeasures,
    pub syncs: Histogram,
    pub snapshots: SnapshotMeasures,
    pub counters: Counters,
    pub depths: Depths,
    pub tls: multiraft_tls::State,
}

/// Bytes of memory that this process holds; 0 where the system does not tell.
pub fn memory_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kibibytes = line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
    kibibytes.unwrap_or(0) * 1024
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_falls_into_the_bucket_that_ends_with_it() {
        let mut histogram = Histogram::default();
        for micros in [0, 50, 51, 100, 20_000_000] {
            histogram.record(Duration::from_micros(micros));
        }
        assert_eq!(histogram.counts[..2], [2, 2]);
        assert_eq!(histogram.counts[BOUNDS_MICROS.len()], 1);
        assert_eq!(histogram.count(), 5);
        assert_eq!(histogram.sum, Duration::from_micros(20_000_201));
    }

    #[test]
    fn refusals_have_a_reason_and_outcomes_of_operations_do_not() {
        let mut calls = CallMeasures::default();
        let unknown = Err(CallError::UnknownGroup(7));
        calls.record(CallKind::Query, Verdict::of_call(&unknown), Duration::ZERO);
        calls.record(CallKind::Query, Verdict::ABANDONED, Duration::ZERO);
        assert_eq!(calls.refusals, BTreeMap::from([("unknown_group", 1)]));
        assert_eq!(calls.answered(CallKind::Query), 1);
        assert_eq!(calls.answered(CallKind::Command), 0);
    }
}
