//! Locks on keys of maps.

use std::collections::BTreeSet;
use std::time::Duration;

use futures::future::{join_all, select_all};
use multiraft_proto::map::{LockInput, UnlockInput};

use crate::Error;
use crate::held::{Held, Wish, hold, wait};
use crate::primitive::Primitive;

/// The operations of one type of map. Their messages are the same in all.
pub struct KeyLocks {
    pub lock: u32,
    pub unlock: u32,
}

/// Locks on keys. Dropping them unlocks the keys in the background.
#[must_use = "dropping the locks unlocks the keys"]
pub struct LockedKeys {
    /// One for each partition.
    held: Vec<Held>,
}

impl KeyLocks {
    /// Partition by partition, in their order: so clients never wait for each other in a circle.
    pub async fn hold(
        &self,
        primitive: &Primitive,
        keys: BTreeSet<String>,
        longest: Option<Duration>,
    ) -> Result<LockedKeys, Error> {
        let mut locked = LockedKeys { held: Vec::new() };
        for (position, keys) in primitive.spread(keys, |key| key) {
            let unlock = UnlockInput { keys: keys.clone() };
            let lock = LockInput { keys, timeout: wait(longest) };
            let wish = Wish {
                get: primitive.operation(self.lock, &lock),
                waits: true,
                give_back: primitive.operation(self.unlock, &unlock),
            };
            let session = primitive.cluster.session(position, primitive.timeout).await?;
            let (held, _) = hold(session, wish).await?;
            locked.held.push(held);
        }
        Ok(locked)
    }
}

impl LockedKeys {
    /// Unlocks the keys, and waits until that is done.
    pub async fn unlock(self) -> Result<(), Error> {
        let done = join_all(self.held.into_iter().map(Held::give_back)).await;
        done.into_iter().try_for_each(|answer| answer.map(drop))
    }

    /// Waits until somebody else may have locked one of the keys, because a session expired or could
    /// not be kept alive in time.
    pub async fn lost(&self) {
        if self.held.is_empty() {
            return std::future::pending().await;
        }
        select_all(self.held.iter().map(|held| Box::pin(held.lost()))).await;
    }
}

#[cfg(test)]
mod tests {
    use multiraft_proto::{countermap, map};
    use prost::Message;

    /// What [`super::KeyLocks`] relies on.
    #[test]
    fn the_messages_of_all_maps_are_the_same() {
        let keys = vec!["a".to_owned(), "b".to_owned()];
        let timeout = Some(prost_types::Duration { seconds: 1, nanos: 5 });
        let lock = map::LockInput { keys: keys.clone(), timeout };
        let other = countermap::LockInput { keys: keys.clone(), timeout };
        assert_eq!(lock.encode_to_vec(), other.encode_to_vec());
        let unlock = map::UnlockInput { keys: keys.clone() };
        assert_eq!(unlock.encode_to_vec(), countermap::UnlockInput { keys }.encode_to_vec());
    }
}
