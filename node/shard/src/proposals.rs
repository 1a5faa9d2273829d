//! Commands of a round become few entries: items are written behind each other, and a new batch
//! starts when one is full.

use crate::item;
use crate::limits::{ENTRY_BYTES_MAX, ENTRY_ITEMS_MAX, PROPOSAL_BYTES_MAX};
use bytes::BytesMut;

#[derive(Debug, Default)]
struct Batch {
    items: BytesMut,
    count: usize,
}

/// Items that wait to be proposed by this leader.
#[derive(Debug, Default)]
pub(crate) struct Proposals {
    batches: Vec<Batch>,
    bytes: usize,
}

/// The queue is full: nothing was taken.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Full;

impl Proposals {
    pub fn is_empty(&self) -> bool {
        self.batches.is_empty()
    }

    pub fn push_command(&mut self, origin: u64, number: u64, input: &[u8]) -> Result<(), Full> {
        self.push(input.len(), |out| item::put_command(out, origin, number, input))
    }

    /// Items that another node encoded.
    pub fn push_encoded(&mut self, items: &[u8]) -> Result<(), Full> {
        self.push(items.len(), |out| out.extend_from_slice(items))
    }

    pub fn push_tick(&mut self) {
        // A tick is dropped when the queue is full: the commands there move log time as well.
        let _ = self.push(2, item::put_tick);
    }

    fn push(&mut self, bytes: usize, put: impl FnOnce(&mut BytesMut)) -> Result<(), Full> {
        if self.bytes + bytes > PROPOSAL_BYTES_MAX {
            return Err(Full);
        }
        let fits = |b: &Batch| b.count < ENTRY_ITEMS_MAX && b.items.len() + bytes < ENTRY_BYTES_MAX;
        if !self.batches.last().is_some_and(fits) {
            self.batches.push(Batch::default());
        }
        if let Some(batch) = self.batches.last_mut() {
            let before = batch.items.len();
            put(&mut batch.items);
            batch.count += 1;
            self.bytes += batch.items.len() - before;
        }
        Ok(())
    }

    /// Takes the batches, each the items of one entry.
    pub fn take(&mut self) -> impl Iterator<Item = BytesMut> + use<> {
        self.bytes = 0;
        std::mem::take(&mut self.batches).into_iter().map(|b| b.items)
    }

    /// Puts back batches that raft has no room for yet.
    pub fn put_back(&mut self, batches: Vec<BytesMut>) {
        self.bytes += batches.iter().map(BytesMut::len).sum::<usize>();
        let full = batches.into_iter().map(|items| Batch { items, count: ENTRY_ITEMS_MAX });
        self.batches.splice(0..0, full);
    }
}
