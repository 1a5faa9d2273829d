//! The nodes that a client knows, and which one a call asks next.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Instant;

use multiraft_proto::v1::stream_call::Call;
use multiraft_tls::Connector;
use tokio::time::timeout;
use tonic::Status;
use tonic::transport::{Channel, Endpoint};

use crate::answers::Answers;
use crate::leaders::Leaders;
use crate::limits::{
    BLAME_TIME, CONNECT_TIMEOUT, LISTENING_MAX, NODES_MAX, OPENING_TIMEOUT, PING_PERIOD,
    PING_TIMEOUT, STREAM_WINDOW_BYTES, STREAMS_WINDOW_BYTES,
};
use crate::session_stream::{Place, SessionStream, Urgency};
use crate::tls::connect_lazy;
use crate::tries::Failed;
use crate::{Error, Routing};

/// One node. The channel connects by itself, and again when the connection was lost.
#[derive(Debug)]
pub struct Node {
    pub address: String,
    pub channel: Channel,
    /// A connection of its own for calls with a stream of their own: those that nobody reads must not
    /// hold up others.
    streams: Channel,
    /// The stream of all other calls. Opened by the first that comes, and again when it is over.
    stream: Mutex<Option<Arc<SessionStream>>>,
    leaders: Arc<Leaders>,
    /// Given by the user, or has answered. An address that only a node of the cluster named may mean
    /// nothing here: behind a forwarded port nobody else's does.
    confirmed: AtomicBool,
    unreachable_until: Mutex<Option<Instant>>,
}

impl Node {
    fn new(
        address: &str,
        source: Source,
        leaders: Arc<Leaders>,
        tls: Option<&Connector>,
    ) -> Result<Self, Error> {
        let invalid = || Error::Invalid {
            message: format!("endpoint {address:?}: write host:port, such as 127.0.0.1:5678"),
        };
        let port = address.rsplit_once(':').and_then(|(host, port)| {
            (!host.is_empty() && !host.contains('/')).then(|| port.parse::<u16>().ok())?
        });
        if port.is_none_or(|port| port == 0) {
            return Err(invalid());
        }
        let endpoint = Endpoint::from_shared(format!("http://{address}"))
            .map_err(|_| invalid())?
            .connect_timeout(CONNECT_TIMEOUT)
            .tcp_nodelay(true)
            .http2_keep_alive_interval(PING_PERIOD)
            .keep_alive_timeout(PING_TIMEOUT);
        let streams = endpoint
            .clone()
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(STREAMS_WINDOW_BYTES);
        Ok(Self {
            address: address.into(),
            channel: connect_lazy(&endpoint, tls),
            streams: connect_lazy(&streams, tls),
            stream: Mutex::default(),
            leaders,
            confirmed: (source == Source::Given).into(),
            unreachable_until: Mutex::new(None),
        })
    }

    /// Waits for a place on the session stream.
    pub async fn place(&self, urgency: Urgency) -> Result<Place, Failed> {
        loop {
            let stream = self.stream();
            let place = stream.place(urgency);
            let place = match stream.is_open() {
                true => place.await?,
                false => match timeout(OPENING_TIMEOUT, place).await {
                    Ok(place) => place?,
                    Err(_) if stream.is_open() => None,
                    Err(_) => return Err(Failed::of_stream(still_opening())),
                },
            };
            if let Some(place) = place {
                return Ok(place);
            }
        }
    }

    /// Sends a call that may have any number of answers, or wait as long as it takes. Numbered outputs
    /// below `from` may be left out.
    pub async fn listen(&self, partition: u32, call: Call, from: u64) -> Result<Answers, Failed> {
        // Those that are answered soon must find places, whatever waits: it may wait for them.
        if self.stream().listening() >= LISTENING_MAX {
            return self.listen_alone(partition, call).await;
        }
        Answers::shared(self.place(Urgency::Usual).await?, partition, call, from)
    }

    /// The same over a stream of its own, which is read no faster than its answers are taken.
    pub async fn listen_alone(&self, partition: u32, call: Call) -> Result<Answers, Failed> {
        Answers::own(self.streams.clone(), partition, call).await
    }

    fn stream(&self) -> Arc<SessionStream> {
        let mut stream = self.stream.lock().unwrap_or_else(PoisonError::into_inner);
        match &*stream {
            Some(stream) if !stream.is_over() => stream.clone(),
            _ => {
                let (channel, leaders) = (self.channel.clone(), self.leaders.clone());
                let open = Arc::new(SessionStream::open(&self.address, channel, leaders));
                stream.insert(open).clone()
            }
        }
    }

    /// The node has answered: calls may go to it.
    pub fn confirm(&self) {
        self.confirmed.store(true, Ordering::Relaxed);
    }

    fn is_confirmed(&self) -> bool {
        self.confirmed.load(Ordering::Relaxed)
    }

    /// The node could not be reached: others are asked first for a while.
    pub fn blame(&self) {
        *self.unreachable_until.lock().unwrap_or_else(PoisonError::into_inner) =
            Some(Instant::now() + BLAME_TIME);
    }

    fn is_blamed(&self, now: Instant) -> bool {
        let mut until = self.unreachable_until.lock().unwrap_or_else(PoisonError::into_inner);
        *until = until.filter(|until| now < *until);
        until.is_some()
    }
}

fn still_opening() -> Status {
    let time = OPENING_TIMEOUT.as_millis();
    Status::deadline_exceeded(format!("no session stream was opened within {time} ms"))
}

/// Where an address comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    Given,
    Learned,
}

/// The nodes of a cluster, with the leaders as far as they are known.
#[derive(Debug)]
pub struct Nodes {
    list: RwLock<Vec<Arc<Node>>>,
    pub leaders: Arc<Leaders>,
    routing: Routing,
    tls: Option<Connector>,
    turn: AtomicUsize,
}

impl Nodes {
    pub fn new(
        endpoints: &[String],
        routing: Routing,
        tls: Option<Connector>,
    ) -> Result<Self, Error> {
        if endpoints.is_empty() {
            return Err(Error::Invalid {
                message: "no endpoints: give host:port of at least one node".into(),
            });
        }
        let (list, leaders) = Default::default();
        let nodes = Self { list, leaders, routing, tls, turn: 0.into() };
        for endpoint in endpoints {
            nodes.add(endpoint, Source::Given)?;
        }
        Ok(nodes)
    }

    /// Adds a node unless it is there.
    pub fn add(&self, address: &str, source: Source) -> Result<(), Error> {
        if self.list().iter().any(|node| node.address == address) {
            return Ok(());
        }
        let node = Node::new(address, source, self.leaders.clone(), self.tls.as_ref())?;
        let node = Arc::new(node);
        let mut list = self.list.write().unwrap_or_else(PoisonError::into_inner);
        if list.len() < NODES_MAX && !list.iter().any(|known| known.address == address) {
            list.push(node);
        }
        Ok(())
    }

    pub fn list(&self) -> Vec<Arc<Node>> {
        self.list.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether calls go to no node that was not tried.
    pub fn all_tried(&self, tried: &[String]) -> bool {
        self.list().iter().all(|node| !node.is_confirmed() || tried.contains(&node.address))
    }

    /// The node to ask next: one that was not tried yet and can be reached, as far as there is one.
    /// When all were tried it starts over, and `tried` is emptied.
    pub fn next(&self, partition: u32, tried: &mut Vec<String>) -> Arc<Node> {
        let list = self.list.read().unwrap_or_else(PoisonError::into_inner);
        let list: Vec<_> = list.iter().filter(|node| node.is_confirmed()).collect();
        if list.iter().all(|node| tried.contains(&node.address)) {
            tried.clear();
        }
        let now = Instant::now();
        let start = match self.routing {
            Routing::Leader => self.turn.fetch_add(1, Ordering::Relaxed) % list.len(),
            Routing::InOrder => 0,
        };
        let leader = self.leaders.of(partition).filter(|_| self.routing == Routing::Leader);
        (0..list.len())
            .map(|i| list[(start + i) % list.len()])
            .filter(|node| !tried.contains(&node.address))
            .min_by_key(|node| (node.is_blamed(now), leader.as_ref() != Some(&node.address)))
            .expect("a cluster has at least one endpoint, and not all were tried")
            .clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use multiraft_proto::v1;

    fn nodes(routing: Routing) -> Nodes {
        Nodes::new(&["a:1".into(), "b:1".into(), "c:1".into()], routing, None)
            .expect("valid endpoints")
    }

    fn take(nodes: &Nodes, count: usize) -> String {
        let mut tried = Vec::new();
        let mut taken = Vec::new();
        for _ in 0..count {
            let node = nodes.next(1, &mut tried);
            tried.push(node.address.clone());
            taken.push(node.address[..1].to_owned());
        }
        taken.concat()
    }

    #[tokio::test]
    async fn in_order_asks_the_first_that_can_be_reached() {
        let nodes = nodes(Routing::InOrder);
        assert_eq!(take(&nodes, 4), "abca");
        nodes.list()[0].blame();
        assert_eq!(take(&nodes, 4), "bcab");
    }

    #[tokio::test]
    async fn the_leader_is_asked_first_until_it_is_forgotten() {
        let nodes = nodes(Routing::Leader);
        let group = v1::GroupState { group_id: 1, term: 1, leader: 3, ..Default::default() };
        let said = v1::GetInfoResponse { node_id: 3, groups: vec![group], ..Default::default() };
        nodes.leaders.learn("c:1", &said);
        for _ in 0..5 {
            assert_eq!(&take(&nodes, 3)[..1], "c");
        }
        nodes.leaders.forget(1);
        let first: Vec<_> = (0..3).map(|_| take(&nodes, 1)).collect();
        assert_eq!(first.iter().collect::<std::collections::BTreeSet<_>>().len(), 3, "{first:?}");
    }

    #[tokio::test]
    async fn an_address_that_was_only_learned_is_asked_after_it_answered() {
        let nodes = nodes(Routing::InOrder);
        nodes.add("d:1", Source::Learned).expect("valid");
        assert_eq!(take(&nodes, 4), "abca");
        nodes.list()[3].confirm();
        assert_eq!(take(&nodes, 4), "abcd");
    }

    #[tokio::test]
    async fn an_endpoint_without_a_port_is_refused_with_the_remedy() {
        for endpoint in ["localhost", "localhost:", ":5678", "localhost:0", "http://a:1"] {
            let error = Nodes::new(&[endpoint.into()], Routing::Leader, None).expect_err("invalid");
            assert!(error.to_string().contains("host:port"), "{error}");
        }
    }
}
