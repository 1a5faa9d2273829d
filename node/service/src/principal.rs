//! Who calls.

use multiraft_tls::{Caller, Identity, Mode};
use std::sync::Arc;

/// The caller of a request. What it may do stands in [`crate::rights`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Principal {
    /// Nobody asked who it is: everybody may do everything.
    Anonymous,
    /// A certificate says who it is.
    Named(Arc<Identity>),
    /// It was asked, and is nobody in this cluster.
    Stranger,
}

impl Principal {
    /// Who is at the other end of a connection.
    pub fn new(caller: Caller, mode: Mode) -> Principal {
        match caller {
            Caller::Named(identity) => Principal::Named(Arc::new(identity)),
            Caller::Anonymous if mode != Mode::Strict => Principal::Anonymous,
            Caller::Anonymous | Caller::Stranger => Principal::Stranger,
        }
    }
}
