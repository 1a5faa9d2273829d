//! The table of all operations of all primitives, generated from the options in the .proto files.
//!
//! Operation numbers are stored in the log: they are never changed and never used again.

/// How an operation is carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Goes through the log and takes effect once.
    Command,
    /// Reads and changes nothing.
    Query,
}

/// One operation of one primitive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rpc {
    /// gRPC path, such as `/atomix.multiraft.counter.v1.Counter/Set`.
    pub path: &'static str,
    /// Type of the primitive, as in `PrimitiveSpec.service`.
    pub primitive: &'static str,
    /// Name of the method.
    pub method: &'static str,
    /// Number of the operation, unique across all primitives.
    pub operation: u32,
    /// Command or query.
    pub kind: Kind,
    /// The answer is a stream of outputs.
    pub streaming: bool,
}

include!(concat!(env!("OUT_DIR"), "/rpc.rs"));
