//! A fixed hash of the state. `std`'s hashers promise nothing across releases and platforms.
//!
//! Every field of the state goes in, also what follows from others: a digest that leaves a field
//! out hides the replica that lost it. Digests are part of snapshots, which outlive releases: a
//! field that a later release adds goes in only while it differs from its default, so that a state
//! without it keeps its digest.

use crate::timers::Timer;

/// FNV-1a over 64-bit words with a final mix. Not for input chosen by an enemy.
#[derive(Debug)]
pub struct Digest(u64);

impl Digest {
    pub fn new() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }

    pub fn word(&mut self, value: u64) {
        self.0 = (self.0 ^ value).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(23);
    }

    pub fn number(&mut self, value: usize) {
        self.word(value as u64);
    }

    /// The length goes in first, so that ("ab", "c") and ("a", "bc") differ.
    pub fn bytes(&mut self, value: &[u8]) {
        self.number(value.len());
        for chunk in value.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.word(u64::from_le_bytes(word));
        }
    }

    pub fn timer(&mut self, Timer { due, id }: Timer) {
        self.word(due);
        self.word(id);
    }

    /// That a value is absent goes in, too, so that none and every value differ.
    pub fn option<T>(&mut self, value: Option<T>, digest: impl FnOnce(&mut Self, T)) {
        self.word(u64::from(value.is_some()));
        if let Some(value) = value {
            digest(self, value);
        }
    }

    pub fn finish(&self) -> u64 {
        let mixed = (self.0 ^ (self.0 >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
        mixed ^ (mixed >> 33)
    }
}

impl Default for Digest {
    fn default() -> Self {
        Self::new()
    }
}

/// Changes each field of a value alone and demands that the digest changes. A field that is not
/// listed does not compile; behind `but` stand those that are no part of the state.
#[cfg(test)]
macro_rules! each_field_changes_the_digest {
    ($value:expr, $digest:expr, $kind:ident { $($field:ident => $change:expr),* $(,)? } $(but $other:ident)?) => {{
        let value: $kind = $value;
        let $kind { $($field: _,)* $($other: _)? } = &value;
        let digest = |value: &$kind| {
            let mut digest = $crate::digest::Digest::new();
            $digest(value, &mut digest);
            digest.finish()
        };
        let before = digest(&value);
        $({
            let mut changed = value.clone();
            let $field = &mut changed.$field;
            let _ = $change;
            let name = concat!(stringify!($kind), ".", stringify!($field));
            assert_ne!(digest(&changed), before, "{name} is not in the digest");
        })*
    }};
}

#[cfg(test)]
pub(crate) use each_field_changes_the_digest;
