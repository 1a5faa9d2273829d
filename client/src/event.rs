//! What streams of events tell.

use futures::StreamExt;

use crate::{Answer, Stream};

/// A change of one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event<V> {
    pub key: String,
    pub change: Change<V>,
}

/// What became of a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change<V> {
    /// It is new.
    Inserted(V),
    Updated {
        value: V,
        previous: V,
    },
    Removed {
        /// The last value.
        value: V,
        /// True: its time to live ran out.
        expired: bool,
    },
}

impl<V> Change<V> {
    /// "inserted", "updated", "removed" or "expired".
    pub fn name(&self) -> &'static str {
        match self {
            Change::Inserted(_) => "inserted",
            Change::Updated { .. } => "updated",
            Change::Removed { expired: false, .. } => "removed",
            Change::Removed { expired: true, .. } => "expired",
        }
    }

    /// The value after the change, or the last one.
    pub fn value(&self) -> &V {
        match self {
            Change::Inserted(value) | Change::Updated { value, .. } => value,
            Change::Removed { value, .. } => value,
        }
    }
}

/// Outputs as what they mean; those without a meaning, such as the first of a subscription that was
/// opened again, are left out.
pub fn meant<O: 'static, T: Send + 'static>(
    outputs: Stream<O>,
    meaning: impl Fn(O) -> Option<T> + Send + 'static,
) -> Stream<T> {
    let meant = outputs.filter_map(move |answer| {
        let meant = match answer {
            Err(error) => Some(Err(error)),
            Ok(Answer { value, partition, index }) => {
                meaning(value).map(|value| Ok(Answer { value, partition, index }))
            }
        };
        std::future::ready(meant)
    });
    meant.boxed()
}
