//! Values with versions, and the terms of writing them.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use multiraft_proto::{map, value};

/// The version of a value: the partition's index of the command that wrote it. Versions of one key
/// only grow. Never 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version(pub u64);

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A value and its version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Versioned {
    /// At most 512 KiB.
    pub value: Bytes,
    pub version: Version,
}

/// What a write did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// Version of the value now.
    pub version: Version,
    /// What was there before, when it was replaced.
    pub previous: Option<Versioned>,
}

/// Conditions and terms of a write.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Write {
    /// The value removes itself after this time; `None` = never. Counted in milliseconds of the
    /// cluster's log time, which follows its leader's clock.
    pub ttl: Option<Duration>,
    /// The version that the present value must have; rejected as a conflict otherwise.
    pub if_version: Option<Version>,
}

impl Write {
    /// A write of a value that removes itself.
    pub fn with_ttl(ttl: Duration) -> Self {
        Self { ttl: Some(ttl), if_version: None }
    }

    /// A write that replaces this version only.
    pub fn over(version: Version) -> Self {
        Self { ttl: None, if_version: Some(version) }
    }

    pub(crate) fn wire_ttl(self) -> Option<prost_types::Duration> {
        self.ttl.map(duration)
    }

    pub(crate) fn wire_index(self) -> u64 {
        wire_index(self.if_version)
    }
}

/// On the wire 0 stands for any version.
pub fn wire_index(version: Option<Version>) -> u64 {
    version.map_or(0, |version| version.0)
}

/// A duration on the wire; longer than it can hold counts as its longest.
pub fn duration(duration: Duration) -> prost_types::Duration {
    prost_types::Duration::try_from(duration)
        .unwrap_or(prost_types::Duration { seconds: i64::MAX, nanos: 0 })
}

impl From<map::IndexedValue> for Versioned {
    fn from(wire: map::IndexedValue) -> Self {
        Self { value: wire.value, version: Version(wire.index) }
    }
}

impl From<value::IndexedValue> for Versioned {
    fn from(wire: value::IndexedValue) -> Self {
        Self { value: wire.value, version: Version(wire.index) }
    }
}
