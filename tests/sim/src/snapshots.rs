//! Snapshots as the host handles them: written beside the loop, sent on their own way, which may be
//! cut, damaged, or taken twice.

use multiraft_machine::{Machine, Restore};
use multiraft_shard::{Input, SendSnapshot, StoredSnapshot, TakeSnapshot};

use crate::node::place_of;
use crate::planted::Defect;
use crate::world::{Event, World};

/// A transfer under way.
#[derive(Debug)]
pub struct Transfer {
    from: usize,
    boot: u64,
    to: u64,
    send: SendSnapshot,
    snapshot: StoredSnapshot,
}

impl World {
    /// A view of a machine is to become a file.
    pub(crate) fn write_snapshot(&mut self, node: usize, boot: u64, take: TakeSnapshot) {
        let (group, member, index) = (take.group, take.life, take.index);
        let delay = match self.rng.u32(..20) {
            0 => self.rng.u64(..3_000_000),
            _ => self.rng.u64(500..50_000),
        };
        if let Some(life) = &mut self.nodes[node].life {
            life.writing.insert((group, index, take.life), take);
        }
        self.at(delay, Event::SnapshotWritten { node, boot, group, member, index });
    }

    pub(crate) fn snapshot_written(&mut self, node: usize, group: u32, member: u64, index: u64) {
        let Some(life) = &mut self.nodes[node].life else { return };
        let Some(take) = life.writing.remove(&(group, index, member)) else { return };
        // Now and then there is no space.
        if self.rng.u32(..50) == 0 {
            return self.input(node, Input::SnapshotTaken { group, life: take.life, bytes: None });
        }
        let TakeSnapshot { life, term, configuration, machine, .. } = take;
        let (bytes, machine) = through_file(&machine, self.options.planted);
        let snapshot = StoredSnapshot { index, term, configuration, bytes, machine };
        self.nodes[node].disk.keep(group, snapshot);
        self.report.snapshots += 1;
        self.input(node, Input::SnapshotTaken { group, life, bytes: Some(bytes) });
    }

    pub(crate) fn send_snapshot(&mut self, from: usize, boot: u64, send: SendSnapshot) {
        let to = send.node;
        let Some(snapshot) = self.nodes[from].disk.snapshot(send.group, send.index) else {
            return self.snapshot_sent(from, boot, &send, false);
        };
        let delay = self.rng.u64(1_000..200_000);
        let transfer = self.transfers.len() as u64;
        self.transfers.push(Some(Transfer { from, boot, to, send, snapshot }));
        self.at(delay, Event::SnapshotArrives { transfer });
    }

    pub(crate) fn snapshot_arrives(&mut self, transfer: u64) {
        let Some(Transfer { from, boot, to, send, snapshot }) =
            self.transfers[transfer as usize].take()
        else {
            return;
        };
        let place = place_of(to);
        let there = self.nodes[place].id() == to && self.nodes[place].life.is_some();
        // What is damaged on the way is refused by its checksums, as if it never came.
        let damaged = self.rng.u32(..10) == 0;
        if self.network.is_cut(from, place) || !there || damaged {
            self.report.transfers_hurt += 1;
            return self.snapshot_sent(from, boot, &send, false);
        }
        self.nodes[place].disk.keep(send.group, snapshot.clone());
        self.report.transfers += 1;
        let sender = self.nodes[from].id();
        self.input(
            place,
            Input::SnapshotReceived {
                from: sender,
                group: send.group,
                index: send.index,
                bytes: snapshot.bytes,
                message: send.message.clone(),
                machine: Box::new(snapshot.machine.clone()),
            },
        );
        let told = !self.network.is_cut(place, from);
        self.snapshot_sent(from, boot, &send, told);
        // The sender may have missed the answer and try again, much later.
        let repeated = self.rng.u32(..10) == 0;
        self.report.transfers_hurt += u64::from(!told || repeated);
        if repeated {
            let again = self.transfers.len() as u64;
            self.transfers.push(Some(Transfer { from, boot, to, send, snapshot }));
            let delay = self.rng.u64(1_000..5_000_000);
            self.at(delay, Event::SnapshotArrives { transfer: again });
        }
    }

    fn snapshot_sent(&mut self, from: usize, boot: u64, send: &SendSnapshot, arrived: bool) {
        if self.nodes[from].boot != boot {
            return;
        }
        let (group, member_id, index) = (send.group, send.member_id, send.index);
        self.input(from, Input::SnapshotSent { group, member_id, index, arrived });
    }
}

/// What a machine is after it was written to a file and read back; with the file's size.
fn through_file(machine: &Machine, planted: Option<Defect>) -> (u64, Machine) {
    let (mut restore, mut bytes) = (Restore::new(), 0);
    for chunk in machine.snapshot() {
        bytes += chunk.len() as u64;
        restore.push(chunk).expect("a chunk that was just made is read back");
    }
    let mut machine = restore.finish().expect("what was just written is whole");
    if let Some(defect) = planted {
        defect.spoil(&mut machine);
    }
    (bytes, machine)
}
