//! The session between two nodes: liveness of the pair, not of each group.
//!
//! Every frame states who speaks (boot, epoch) and whom it hears (the echo). A session is *up*
//! while the peer echoes our present (boot, epoch). It breaks on silence, on a new stream, when
//! the peer's (boot, epoch) changes, or when the echo is lost; then our epoch rises, so that
//! nothing sent before is taken for something sent after. Raft messages and calls travel only in
//! an up session: a one-way partition becomes a break of the pair, and no stale or repeated frame
//! reaches raft. (Simulated on 11,200 seeds: `quiet-groups.md`, "Pair session".)

use crate::limits::{PAIR_REPLY_MICROS, PAIR_SILENCE_MICROS, PAIR_SILENCE_UNCONNECTED_MICROS};

/// One life of a node process and one session of it: (boot count of the directory, epoch).
pub type Life = (u64, u64);

/// The pair part of a frame's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PairHeader {
    pub me: Life,
    /// The life of the receiver that the sender hears; (0, 0) = none.
    pub echo: Life,
    /// Number of the sender's connection; an older one is ignored.
    pub stream: u64,
    /// The sender declared the receiver dead.
    pub deaf: bool,
}

/// What [`Pair::hear`] found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Heard {
    /// A standing session broke (before it may have come up again).
    pub broke: bool,
    pub came_up: bool,
    /// Answer with a header at once.
    pub reply: bool,
    /// The frame's payload belongs to the session: take it.
    pub accept: bool,
    /// The peer leads nothing of what it led: it began anew, or it takes us for dead.
    pub dead: bool,
}

#[derive(Debug)]
pub struct Pair {
    boot: u64,
    epoch: u64,
    /// Our own connection to the peer; 0 = none.
    stream: u64,
    streams: u64,
    peer: Option<Life>,
    peer_stream: u64,
    /// Highest life ever heard: older frames are from an earlier session.
    newest: Life,
    up: bool,
    /// It was silent for too long, or says that it hears nothing of us.
    dead: bool,
    heard: u64,
    replied: u64,
    /// Since when the peer has not heard us although we are connected.
    unheard_since: Option<u64>,
}

impl Pair {
    pub fn new(boot: u64, now: u64) -> Self {
        Pair {
            boot,
            epoch: 1,
            stream: 0,
            streams: 0,
            peer: None,
            peer_stream: 0,
            newest: (0, 0),
            up: false,
            dead: false,
            heard: now,
            replied: 0,
            unheard_since: None,
        }
    }

    pub fn is_up(&self) -> bool {
        self.up
    }

    pub fn is_connected(&self) -> bool {
        self.stream != 0
    }

    pub fn header(&self) -> PairHeader {
        PairHeader {
            me: (self.boot, self.epoch),
            echo: self.peer.unwrap_or((0, 0)),
            stream: self.stream,
            deaf: self.dead && self.peer.is_none(),
        }
    }

    /// Our connection to the peer was made. True: a session broke.
    pub fn opened(&mut self) -> bool {
        self.streams += 1;
        self.stream = self.streams;
        self.break_if_up()
    }

    /// Our connection to the peer ended. True: a session broke.
    pub fn closed(&mut self) -> bool {
        self.stream = 0;
        self.break_if_up()
    }

    /// A frame's header arrived.
    pub fn hear(&mut self, header: PairHeader, now: u64) -> Heard {
        let mut heard = Heard::default();
        let newer_boot = header.me.0 > self.newest.0;
        if header.me < self.newest || (!newer_boot && header.stream < self.peer_stream) {
            return heard;
        }
        let restarted = newer_boot && self.newest != (0, 0);
        if newer_boot || header.stream > self.peer_stream {
            heard.broke |= self.break_if_up();
            heard.dead |= heard.broke && (restarted || header.deaf);
            self.peer_stream = header.stream;
        }
        self.heard = now;
        self.newest = header.me;
        let changed = self.peer != Some(header.me);
        if changed {
            heard.broke |= self.break_if_up();
            // Also outside a session: it may have died and come back while none stood.
            heard.dead |= restarted || header.deaf;
            self.dead |= header.deaf;
        }
        self.peer = Some(header.me);
        let echoed = header.echo == (self.boot, self.epoch);
        if echoed && !self.up {
            self.up = true;
            self.dead = false;
            heard.came_up = true;
        } else if !echoed && self.up {
            heard.broke |= self.break_if_up();
            self.peer = Some(header.me);
        }
        if (changed || !echoed) && now >= self.replied + PAIR_REPLY_MICROS {
            self.replied = now;
            heard.reply = true;
        }
        heard.accept = self.up;
        heard
    }

    /// Declares a silent peer dead. True: just now, and our connection should be made anew.
    pub fn check_silence(&mut self, now: u64) -> bool {
        if self.dead || !self.is_silent(now) {
            return false;
        }
        self.break_if_up();
        self.dead = true;
        true
    }

    pub fn is_silent(&self, now: u64) -> bool {
        let enough = match self.is_connected() {
            true => PAIR_SILENCE_MICROS,
            false => PAIR_SILENCE_UNCONNECTED_MICROS,
        };
        self.silence(now) >= enough
    }

    /// Whether our connection leads nowhere, for too long now: we may well hear a peer that began anew
    /// while our end of the connection to the one before it waits for a word that it is gone.
    pub fn is_unheard(&mut self, now: u64) -> bool {
        if self.up || !self.is_connected() {
            self.unheard_since = None;
            return false;
        }
        now >= *self.unheard_since.get_or_insert(now) + PAIR_SILENCE_MICROS
    }

    /// Microseconds since the peer was heard.
    pub fn silence(&self, now: u64) -> u64 {
        now.saturating_sub(self.heard)
    }

    pub fn is_dead(&self) -> bool {
        self.dead
    }

    /// This node itself slept: what it did not hear proves nothing yet.
    pub fn forgive_silence(&mut self, since: u64) {
        self.heard = self.heard.max(since);
    }

    fn break_if_up(&mut self) -> bool {
        if !self.up {
            return false;
        }
        self.up = false;
        self.epoch += 1;
        self.peer = None;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exchange(a: &mut Pair, b: &mut Pair, now: u64) {
        for _ in 0..3 {
            b.hear(a.header(), now);
            a.hear(b.header(), now);
        }
    }

    fn connected() -> (Pair, Pair) {
        let (mut a, mut b) = (Pair::new(1, 0), Pair::new(1, 0));
        a.opened();
        b.opened();
        exchange(&mut a, &mut b, 1);
        assert!(a.is_up() && b.is_up());
        (a, b)
    }

    #[test]
    fn one_way_silence_breaks_both_sides() {
        let (mut a, mut b) = connected();
        assert!(a.check_silence(1 + PAIR_SILENCE_MICROS));
        assert!(b.hear(a.header(), 2).broke, "the echo is lost, so the other side breaks too");
    }

    #[test]
    fn frame_of_an_earlier_session_is_refused() {
        let (mut a, mut b) = connected();
        let old = a.header();
        a.closed();
        a.opened();
        exchange(&mut a, &mut b, 2);
        assert!(a.is_up() && b.is_up());
        assert!(!b.hear(old, 3).accept);
        assert!(b.is_up());
    }

    #[test]
    fn restart_within_the_silence_window_breaks_the_session() {
        let (a, mut b) = connected();
        let _dead = a;
        let mut again = Pair::new(2, 0);
        again.opened();
        assert!(b.hear(again.header(), 2).broke);
        exchange(&mut again, &mut b, 3);
        assert!(again.is_up() && b.is_up());
    }
}
