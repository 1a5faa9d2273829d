//! TLS of Multiraft's nodes, clients and operator: TLS 1.3 with certificates on both sides.
//!
//! Certificates come from files ([`Credentials`]) and are read again when these change; what is
//! there already stays when the new is bad. A node's two ports are opened and reached through
//! [`Tls`], a client connects through [`Connector`]. Whom a certificate names is an [`Identity`].
//!
//! Every new connection takes the certificates that are there when it begins, and begins with whole
//! handshakes: nothing is resumed, so that no trust outlives the files that gave it.

mod connect;
mod credentials;
mod door;
mod error;
mod explain;
mod identity;
pub mod limits;
mod settings;
mod state;
mod stream;
mod tls;
mod validity;

pub use connect::Connector;
pub use credentials::{Credentials, Files, Pair, Refreshed};
pub use door::{Admitted, Caller};
pub use error::TlsError;
pub use identity::{Identity, Role, SCHEME, is_name};
pub use settings::{Mode, PortFiles, Settings};
pub use state::{Counts, State};
pub use stream::Stream;
pub use tls::Tls;
pub use validity::Validity;
