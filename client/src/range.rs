//! A part of the keys of a map, or of the elements of a set.

/// Keys that meet all of its conditions; without any, all keys. In the order of their UTF-8 bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyRange {
    /// They begin with it; empty = any.
    pub prefix: String,
    /// They come at or behind it; empty = from the first.
    pub start: String,
    /// They come before it; empty = to the last.
    pub end: String,
}

impl KeyRange {
    /// All keys that begin with this.
    pub fn prefix(prefix: impl Into<String>) -> Self {
        Self { prefix: prefix.into(), ..Self::default() }
    }

    /// The same from this key on.
    pub fn from(self, start: impl Into<String>) -> Self {
        Self { start: start.into(), ..self }
    }

    /// The same up to this key, without it.
    pub fn until(self, end: impl Into<String>) -> Self {
        Self { end: end.into(), ..self }
    }
}
