//! Which snapshot belongs to a log.

use super::{NoneFits, SnapshotId, SnapshotInfo};
use crate::catalog::term_at;
use crate::round::RecoveredGroup;

/// The newest snapshot from which the log can be continued; `found` are the group's own.
///
/// It ends at an entry that is committed in the log, or just before the log's first, with the
/// term that the log has there. One that does not was left by an installation that never became
/// durable, and its file is to be removed. Nothing is chosen for a log that was never trimmed
/// and has no snapshot; a trimmed one without any that fits cannot be continued.
pub fn choose_snapshot(
    group: &RecoveredGroup,
    found: &[SnapshotInfo],
) -> Result<Option<SnapshotId>, NoneFits> {
    let fitting = found.iter().map(|info| info.id).filter(|id| fits(group, *id));
    match fitting.max_by_key(|id| id.index) {
        None if group.first.0 > 1 => Err(NoneFits {
            first: group.first.0,
            term: group.first.1,
            found: found.iter().map(|info| info.id).collect(),
        }),
        chosen => Ok(chosen),
    }
}

fn fits(group: &RecoveredGroup, id: SnapshotId) -> bool {
    let before_first = id.index + 1 == group.first.0;
    let committed = id.index <= group.state.commit;
    id.index > 0 && (before_first || committed) && term_at(group, id.index) == Some(id.term)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::round::HardState;

    /// Entries 10 to 20, committed to 15; terms 3 before, 4 from 12 on.
    fn group() -> RecoveredGroup {
        RecoveredGroup {
            state: HardState { term: 5, vote: 0, commit: 15 },
            first: (10, 3),
            last_index: 20,
            terms: vec![(10, 3), (12, 4)],
            config: None,
        }
    }

    fn choose(
        group: &RecoveredGroup,
        found: &[(u64, u64)],
    ) -> Result<Option<(u64, u64)>, NoneFits> {
        let info = |(index, term): &(u64, u64)| SnapshotInfo {
            id: SnapshotId { group: 1, index: *index, term: *term },
            bytes: 1,
        };
        let found: Vec<SnapshotInfo> = found.iter().map(info).collect();
        Ok(choose_snapshot(group, &found)?.map(|id| (id.index, id.term)))
    }

    #[test]
    fn the_newest_that_agrees_with_the_log_is_chosen() {
        assert_eq!(choose(&group(), &[(9, 3)]), Ok(Some((9, 3))));
        assert_eq!(choose(&group(), &[(11, 3), (9, 3), (13, 4)]), Ok(Some((13, 4))));
        assert_eq!(choose(&group(), &[(15, 4), (16, 4), (30, 5)]), Ok(Some((15, 4))));
    }

    #[test]
    fn a_trimmed_log_without_its_snapshot_is_refused() {
        for found in [&[][..], &[(8, 3)], &[(9, 2)], &[(13, 3)], &[(16, 4)], &[(30, 5)]] {
            let error = choose(&group(), found).expect_err("none fits");
            assert_eq!((error.first, error.found.len()), (10, found.len()));
        }
    }

    #[test]
    fn an_untrimmed_log_needs_none() {
        let fresh = RecoveredGroup { first: (1, 0), ..RecoveredGroup::default() };
        assert_eq!(choose(&fresh, &[]), Ok(None));
        assert_eq!(choose(&fresh, &[(0, 0), (40, 2)]), Ok(None));
        let whole = RecoveredGroup { first: (1, 0), terms: vec![(1, 3), (12, 4)], ..group() };
        assert_eq!(choose(&whole, &[]), Ok(None));
        assert_eq!(choose(&whole, &[(5, 3)]), Ok(Some((5, 3))));
    }

    #[test]
    fn an_emptied_log_has_the_snapshot_that_emptied_it() {
        let emptied =
            RecoveredGroup { first: (31, 6), last_index: 30, ..RecoveredGroup::default() };
        assert_eq!(choose(&emptied, &[(30, 6)]), Ok(Some((30, 6))));
        assert!(choose(&emptied, &[(30, 5)]).is_err());
    }
}
