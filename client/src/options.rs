//! How a client behaves.

use std::time::Duration;

use crate::{Cluster, Error, Tls};

/// How a client behaves; the defaults suit most.
///
/// ```no_run
/// # async fn example() -> Result<(), multiraft_client::Error> {
/// use std::time::Duration;
/// let cluster = multiraft_client::Options::default()
///     .timeout(Duration::from_secs(5))
///     .connect(["127.0.0.1:5678", "127.0.0.1:5688"])
///     .await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Options {
    pub(crate) timeout: Duration,
    pub(crate) session_timeout: Duration,
    pub(crate) namespace: String,
    pub(crate) routing: Routing,
    pub(crate) discover: bool,
    pub(crate) groups: Option<usize>,
    pub(crate) tls: Option<Tls>,
}

/// Which node is asked first. Any node carries out any call; this is about speed and load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Routing {
    /// The leader of the partition when it is known, then the others in turn: one hop less.
    Leader,
    /// The first endpoint that works, in the order in which they were given.
    InOrder,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(30),
            session_timeout: Duration::from_secs(60),
            namespace: "default".into(),
            routing: Routing::Leader,
            discover: true,
            groups: None,
            tls: None,
        }
    }
}

impl Options {
    /// Time for one call with all its tries; 30 s. Handles can have their own.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// For so long the cluster keeps a session of which it hears nothing; 60 s. The cluster allows
    /// 1 s to 1 h.
    pub fn session_timeout(mut self, timeout: Duration) -> Self {
        self.session_timeout = timeout;
        self
    }

    /// Namespace of the primitives; "default".
    pub fn namespace(mut self, namespace: impl Into<String>) -> Self {
        self.namespace = namespace.into();
        self
    }

    /// Which node is asked first; [`Routing::Leader`].
    pub fn routing(mut self, routing: Routing) -> Self {
        self.routing = routing;
        self
    }

    /// Talks to the given endpoints only, not to nodes that they name.
    pub fn only_endpoints(mut self) -> Self {
        self.discover = false;
        self
    }

    /// The number of groups, for a client that cannot reach enough nodes to learn it.
    pub fn groups(mut self, groups: usize) -> Self {
        self.groups = Some(groups);
        self
    }

    /// Connects under TLS; without this in plain text.
    pub fn tls(mut self, tls: Tls) -> Self {
        self.tls = Some(tls);
        self
    }

    /// Opens the cluster: at least one endpoint (`host:port`) must answer, and all groups be known.
    pub async fn connect<E: Into<String>>(
        self,
        endpoints: impl IntoIterator<Item = E>,
    ) -> Result<Cluster, Error> {
        Cluster::open(endpoints.into_iter().map(Into::into).collect(), self).await
    }
}
