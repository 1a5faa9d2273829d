//! A hash of everything that happened: equal for two runs that did the same.

/// FNV-1a over words and bytes.
#[derive(Clone, Copy, Debug)]
pub struct Trace(u64);

impl Trace {
    pub fn new() -> Self {
        Trace(0xcbf2_9ce4_8422_2325)
    }

    pub fn word(&mut self, word: u64) {
        self.bytes(&word.to_be_bytes());
    }

    pub fn bytes(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }

    pub fn hash(self) -> u64 {
        self.0
    }
}
