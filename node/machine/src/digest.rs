//! A fixed hash of the state. `std`'s hashers promise nothing across releases and platforms.

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
