//! Conversations with the machine, each with a primitive: `tests/scripts` says what is asked and,
//! behind `---`, what is answered. `UPDATE_GOLDENFILES=1` writes the answers down, to be read.
//!
//! ```text
//! <who>: open [timeout]                    a session
//! <who>: create <primitive> [namespace]    makes or finds it, as does: close <primitive>
//! <who>: <primitive>.<Operation> [field=value ..]
//! <who>: keep [numbers that are open]      releases the other commands
//! <who>: cancel <number>                   the caller of a command went away
//! <who>: end                               closes the session
//! after <time>                             time passes
//! admin: destroy <primitive>               also: expire <who>
//! admin: quota [field=value ..]            sets a quota
//! admin: list sessions [field=value ..]    also: primitives, quotas
//! ```
//!
//! An answer reads `<who> <number>.<output> <Operation> @<index>: …`: to which command, and at which index of the
//! machine. A query has no number. Behind every command, a second machine is made from a snapshot of
//! the first: it has to be the same and go on the same. What is refused must have changed nothing.
//!
//! Random conversations are in `conversation/talk.rs`.
#![allow(clippy::unwrap_used)]

mod conversation;

use conversation::Conversation;

macro_rules! conversations {
    ($($name:ident),* $(,)?) => {
        $(#[test]
        fn $name() {
            let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/scripts/", stringify!($name));
            goldenscript::run(&mut Conversation::new(), path).unwrap();
        })*
    };
}

conversations!(
    administration,
    counter,
    countermap,
    countermap_locks,
    election,
    entries_by_range,
    events_by_prefix,
    indexedmap,
    indexedmap_events,
    lock,
    map_events,
    map_locks,
    map_transactions,
    multimap,
    quotas,
    set,
    value,
);

/// What the original gets wrong.
mod defects {
    use super::*;

    conversations!(
        a_change_tells_the_new_number_and_not_the_delta,
        a_conflicting_update_or_delete_leaves_the_value_alone,
        a_demoted_leader_leads_no_more,
        a_former_holder_that_ends_does_not_take_the_lock_from_its_holder,
        a_former_holder_that_ends_takes_no_key_from_its_holder,
        a_key_of_another_entry_is_a_conflict_and_no_fault,
        a_key_without_values_does_not_exist,
        a_leader_that_enters_again_does_not_queue_behind_itself,
        a_lock_on_keys_is_served,
        a_number_that_would_overflow_stays_as_it_is,
        a_prepared_key_that_expires_before_its_commit_is_committed,
        a_put_with_a_version_on_a_missing_key_is_a_conflict,
        a_refused_update_leaves_the_number_alone,
        a_removal_by_index_disarms_the_time_to_live,
        a_try_for_a_held_lock_fails_at_once,
        a_wait_for_a_lock_ends_without_traffic,
        a_withdrawal_takes_out_the_named_candidate,
        an_indexed_map_survives_a_snapshot,
        an_update_tells_the_value_before,
        clearing_tells_of_all_keys_in_their_order,
        entries_with_watch_go_on_and_are_not_cut_short,
        the_anointed_leads_and_not_the_last_of_the_queue,
        the_last_leader_that_ends_leaves_a_vacancy,
    );
}
