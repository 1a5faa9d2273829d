//! Connections between nodes: ordered, delayed, cut, broken. Nodes are named by their ids, cuts by
//! places: a node that takes a lost one's place is cut off like it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use fastrand::Rng;

use crate::node::place_of;

/// A connection that one node made to another; frames go in its direction only.
#[derive(Debug)]
struct Connection {
    from: u64,
    to: u64,
    /// Frames under way with the times of their arrival.
    frames: VecDeque<(u64, Bytes)>,
    /// The sender still has it; else what is under way may arrive late.
    open: bool,
    /// What goes in never comes out, and the sender is not told.
    stalled: bool,
}

#[derive(Debug, Default)]
pub struct Network {
    connections: BTreeMap<u64, Connection>,
    /// The open connection of a pair.
    current: BTreeMap<(u64, u64), u64>,
    /// Directions in which nothing passes.
    cuts: BTreeSet<(usize, usize)>,
    /// When directions were last joined.
    joined: BTreeMap<(usize, usize), u64>,
    made: u64,
}

impl Network {
    pub fn is_cut(&self, from: usize, to: usize) -> bool {
        self.cuts.contains(&(from, to))
    }

    /// For how long frames have passed; 0 = they do not.
    pub fn joined_since(&self, from: usize, to: usize, now: u64) -> u64 {
        let since = self.joined.get(&(from, to)).copied().unwrap_or(0);
        if self.is_cut(from, to) || self.is_stalled(from, to) { 0 } else { now - since }
    }

    fn is_stalled(&self, from: usize, to: usize) -> bool {
        let between = |c: &&Connection| (place_of(c.from), place_of(c.to)) == (from, to);
        self.connections.values().filter(between).any(|c| c.open && c.stalled)
    }

    pub fn cut(&mut self, from: usize, to: usize) {
        self.cuts.insert((from, to));
    }

    /// Joins a direction again; returns the connections whose frames may arrive now.
    pub fn join(&mut self, from: usize, to: usize, now: u64) -> Vec<u64> {
        if self.cuts.remove(&(from, to)) {
            self.joined.insert((from, to), now);
        }
        let between = |c: &Connection| (place_of(c.from), place_of(c.to)) == (from, to);
        self.connections.iter().filter(|(_, c)| between(c)).map(|(id, _)| *id).collect()
    }

    pub fn is_open(&self, from: u64, to: u64) -> bool {
        self.current.contains_key(&(from, to))
    }

    pub fn open(&mut self, from: u64, to: u64) {
        self.made += 1;
        let connection =
            Connection { from, to, frames: VecDeque::new(), open: true, stalled: false };
        self.connections.insert(self.made, connection);
        self.current.insert((from, to), self.made);
    }

    /// Whoever the present connection leads to is gone without a word. One that is made anew is sound.
    /// Whether there is one.
    pub fn stall(&mut self, from: u64, to: u64) -> bool {
        let current = self.current.get(&(from, to));
        let Some(connection) = current.and_then(|id| self.connections.get_mut(id)) else {
            return false;
        };
        connection.stalled = true;
        true
    }

    /// The sender drops its connection. What is under way arrives later, or never.
    pub fn close(&mut self, from: u64, to: u64, rng: &mut Rng) -> bool {
        let Some(id) = self.current.remove(&(from, to)) else { return false };
        let connection = self.connections.get_mut(&id).expect("the current one exists");
        connection.open = false;
        if connection.frames.is_empty() || rng.bool() {
            self.connections.remove(&id);
        }
        true
    }

    /// A node died: its own connections go, and what was under way to it.
    pub fn die(&mut self, node: u64, rng: &mut Rng) {
        let own: Vec<_> = self.current.keys().filter(|(from, _)| *from == node).copied().collect();
        for (from, to) in own {
            self.close(from, to, rng);
        }
        for connection in self.connections.values_mut().filter(|c| c.to == node) {
            connection.frames.clear();
        }
    }

    /// Nodes with an open connection to this one.
    pub fn callers(&self, node: u64) -> Vec<u64> {
        self.current.keys().filter(|(_, to)| *to == node).map(|(from, _)| *from).collect()
    }

    /// Sends a frame; returns (connection, time of arrival), or nothing without a connection.
    pub fn send(
        &mut self,
        from: u64,
        to: u64,
        frame: Bytes,
        now: u64,
        rng: &mut Rng,
    ) -> Option<(u64, u64)> {
        let id = *self.current.get(&(from, to))?;
        let connection = self.connections.get_mut(&id).filter(|c| !c.stalled)?;
        let delay = if rng.u32(..100) == 0 { rng.u64(..300_000) } else { rng.u64(50..2_000) };
        let before = connection.frames.back().map_or(0, |(at, _)| *at);
        let at = (now + delay).max(before);
        connection.frames.push_back((at, frame));
        Some((id, at))
    }

    /// Frames under way on a connection.
    pub fn waiting(&self, id: u64) -> usize {
        self.connections.get(&id).map_or(0, |c| c.frames.len())
    }

    /// Takes a frame that has arrived, unless its way is cut; with the id of its receiver.
    pub fn arrived(&mut self, id: u64, now: u64) -> Option<(u64, Bytes)> {
        let connection = self.connections.get(&id)?;
        let (from, to) = (connection.from, connection.to);
        if self.is_cut(place_of(from), place_of(to)) {
            return None;
        }
        let connection = self.connections.get_mut(&id)?;
        let (_, frame) = connection.frames.pop_front_if(|(at, _)| *at <= now)?;
        if connection.frames.is_empty() && !connection.open {
            self.connections.remove(&id);
        }
        Some((to, frame))
    }
}
