//! Conversations with the machine, each with a primitive: `tests/scripts` says what is asked and,
//! behind `---`, what is answered. `UPDATE_GOLDENFILES=1` writes the answers down, to be read.
//!
//! ```text
//! <who>: open [timeout]                    a session
//! <who>: create <primitive>                makes or finds it, as does: close <primitive>
//! <who>: <primitive>.<Operation> [field=value ..]
//! <who>: keep [numbers that are open]      releases the other commands
//! <who>: cancel <number>                   the caller of a command went away
//! <who>: end                               closes the session
//! after <time>                             time passes
//! ```
//!
//! An answer reads `<who> <number>.<output> <Operation> @<index>: …`: to which command, and at which index of the
//! machine. A query has no number. Behind every command, a second machine is made from a snapshot of
//! the first: it has to be the same and go on the same. What is refused must have changed nothing.
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

conversations!(counter, election, lock, map_events, map_locks, set, value);
