//! A network between nodes that fails on demand.
//!
//! A node tells all peers the same address, so one proxy stands before each node and tells the
//! connections apart by the sender that every frame names. A connection carries frames one way
//! only (see the crate `link`), so a fault between two nodes has a direction.
//!
//! This is what a network does, as far as a process can: bytes that were held arrive late, after
//! those of newer connections too, unless the connection has ended on both sides.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// A connection's preface, the length and checksum of its first frame, and of that version, flags,
/// sender and receiver.
const HEAD_BYTES: usize = 8 + 8 + 2 + 8 + 8;
const SENDER_AT: usize = 18;
/// A snapshot's connection says sooner who is who.
const SNAPSHOT_PREFACE: &[u8] = b"MRSNAP";
const SNAPSHOT_SENDER_AT: usize = 12;
/// What a receiver says that does not want a snapshot.
const SNAPSHOT_REFUSED: u64 = u64::MAX;

/// Bytes taken at a time.
const CHUNK_BYTES: usize = 64 << 10;

/// What happens to the bytes from one node to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing arrives, and nobody is told; what was sent meanwhile comes when the fault is gone.
    Silence,
    /// Connections end, and new ones too.
    Reset,
    /// Everything comes later.
    Delay(Duration),
    /// One bit of what comes next is wrong; then the fault is gone.
    FlipBit,
    /// Every connection that carries a snapshot ends after so many bytes of it.
    CutSnapshots(usize),
}

/// The faults, by sender and receiver: node ids.
type Faults = BTreeMap<(u64, u64), Fault>;

/// A network. Its proxies end with it.
pub struct Network {
    faults: Arc<watch::Sender<Faults>>,
    hit: Arc<AtomicU64>,
    resumed: Arc<AtomicU64>,
    proxies: Vec<JoinHandle<()>>,
}

impl Default for Network {
    fn default() -> Self {
        Self {
            faults: Arc::new(watch::Sender::default()),
            hit: Arc::default(),
            resumed: Arc::default(),
            proxies: Vec::new(),
        }
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        self.proxies.iter().for_each(JoinHandle::abort);
    }
}

impl Network {
    /// Puts a proxy before a node: takes connections at one address (host:port), makes them to
    /// another.
    ///
    /// # Errors
    /// An address is none, or cannot be listened on.
    pub async fn stand_between(&mut self, listen: &str, target: &str) -> io::Result<()> {
        let listener = TcpListener::bind(listen).await?;
        let target: SocketAddr = target.parse().map_err(io::Error::other)?;
        let way = Way {
            faults: self.faults.clone(),
            hit: self.hit.clone(),
            resumed: self.resumed.clone(),
            ends: (0, 0),
            snapshot: None,
        };
        self.proxies.push(tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let way = way.clone();
                // A connection that ends is what a network does; the nodes notice by themselves.
                tokio::spawn(async move { drop(way.carry(stream, target).await) });
            }
        }));
        Ok(())
    }

    /// From now on this happens to what one node sends to another.
    pub fn fail(&self, from: u64, to: u64, fault: Fault) {
        self.faults.send_modify(|faults| {
            faults.insert((from, to), fault);
        });
    }

    /// No more faults.
    pub fn heal(&self) {
        self.faults.send_modify(BTreeMap::clear);
    }

    /// Snapshots that went on where an earlier connection had ended.
    pub fn resumed(&self) -> u64 {
        self.resumed.load(Ordering::Relaxed)
    }

    /// How often a fault has hit something that a node sent: 0 = no fault was noticed by anybody.
    pub fn hits(&self) -> u64 {
        self.hit.load(Ordering::Relaxed)
    }
}

/// The way of one connection.
#[derive(Clone)]
struct Way {
    faults: Arc<watch::Sender<Faults>>,
    hit: Arc<AtomicU64>,
    resumed: Arc<AtomicU64>,
    /// Sender and receiver.
    ends: (u64, u64),
    /// Bytes of the snapshot that it carries, so far.
    snapshot: Option<usize>,
}

impl Way {
    /// The receiver of a snapshot says first how much of it it has.
    fn answered(&self, first: bool, answer: &[u8]) {
        let Ok(offset) = <[u8; 8]>::try_from(answer) else { return };
        let offset = u64::from_be_bytes(offset);
        if first && self.snapshot.is_some() && offset != 0 && offset != SNAPSHOT_REFUSED {
            self.resumed.fetch_add(1, Ordering::Relaxed);
        }
    }

    async fn carry(mut self, mut from: TcpStream, target: SocketAddr) -> io::Result<()> {
        from.set_nodelay(true)?;
        let mut head = [0; HEAD_BYTES];
        from.read_exact(&mut head).await?;
        let is_snapshot = head.starts_with(SNAPSHOT_PREFACE);
        self.snapshot = is_snapshot.then_some(0);
        let at = if is_snapshot { SNAPSHOT_SENDER_AT } else { SENDER_AT };
        self.ends = (number(&head, at), number(&head, at + 8));
        self.pass(&mut head).await?;
        let mut to = TcpStream::connect(target).await?;
        to.set_nodelay(true)?;
        to.write_all(&head).await?;
        let mut faults = self.faults.subscribe();
        let (mut chunk, mut answer) = (vec![0; CHUNK_BYTES], [0; 16]);
        let mut is_first = true;
        // What the receiver of a snapshot answers is a few bytes: they pass whatever is cut.
        loop {
            let (count, answered) = tokio::select! {
                count = from.read(&mut chunk) => (count?, 0),
                count = to.read(&mut answer) => match count? {
                    // The receiver has closed the connection.
                    0 => return Ok(()),
                    count => (0, count),
                },
                _ = faults.wait_for(|faults| faults.get(&self.ends) == Some(&Fault::Reset)) => {
                    self.count();
                    return Ok(());
                }
            };
            if answered > 0 {
                self.answered(std::mem::take(&mut is_first), &answer[..answered]);
                from.write_all(&answer[..answered]).await?;
                continue;
            }
            // The end of a connection is a message, too: it may be held.
            self.pass(&mut chunk[..count]).await?;
            if count == 0 {
                return Ok(());
            }
            to.write_all(&chunk[..count]).await?;
            self.snapshot = self.snapshot.map(|bytes| bytes + count);
            if self.is_cut() {
                self.count();
                return Ok(());
            }
        }
    }

    fn is_cut(&self) -> bool {
        let fault = self.faults.borrow().get(&self.ends).copied();
        match (fault, self.snapshot) {
            (Some(Fault::CutSnapshots(after)), Some(bytes)) => bytes >= after,
            _ => false,
        }
    }

    /// Returns when the bytes may go on.
    async fn pass(&self, bytes: &mut [u8]) -> io::Result<()> {
        let mut faults = self.faults.subscribe();
        let fault = faults.borrow_and_update().get(&self.ends).copied();
        let fault = fault.filter(|fault| !matches!(fault, Fault::CutSnapshots(_)));
        if fault.is_some() {
            self.count();
        }
        match fault {
            None | Some(Fault::CutSnapshots(_)) => {}
            Some(Fault::Reset) => return Err(io::ErrorKind::ConnectionReset.into()),
            Some(Fault::Delay(time)) => tokio::time::sleep(time).await,
            Some(Fault::Silence) => {
                let silent = Some(&Fault::Silence);
                // The network ends before its faults do: nobody waits for these bytes any more.
                let _ = faults.wait_for(|faults| faults.get(&self.ends) != silent).await;
            }
            Some(Fault::FlipBit) => {
                let middle = bytes.len() / 2;
                if let Some(byte) = bytes.get_mut(middle) {
                    *byte ^= 0x10;
                    self.faults.send_modify(|faults| {
                        faults.remove(&self.ends);
                    });
                }
            }
        }
        Ok(())
    }

    fn count(&self) {
        self.hit.fetch_add(1, Ordering::Relaxed);
    }
}

fn number(head: &[u8], at: usize) -> u64 {
    let bytes: [u8; 8] = head[at..at + 8].try_into().expect("eight bytes");
    u64::from_be_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A network with one node behind it, and a connection of node 1 to node 2.
    async fn connected() -> (Network, TcpStream, TcpStream) {
        let node = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let free = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (target, public) = (node.local_addr().unwrap(), free.local_addr().unwrap());
        drop(free);
        let mut network = Network::default();
        network.stand_between(&public.to_string(), &target.to_string()).await.unwrap();
        let mut sender = TcpStream::connect(public).await.unwrap();
        let mut head = [0; HEAD_BYTES];
        (head[SENDER_AT + 7], head[SENDER_AT + 15]) = (1, 2);
        sender.write_all(&head).await.unwrap();
        let (mut receiver, _) = node.accept().await.unwrap();
        receiver.read_exact(&mut head).await.unwrap();
        (network, sender, receiver)
    }

    #[tokio::test]
    async fn silence_holds_bytes_until_it_is_over() {
        let (network, mut sender, mut receiver) = connected().await;
        network.fail(1, 2, Fault::Silence);
        sender.write_all(b"held").await.unwrap();
        while network.hits() == 0 {
            tokio::task::yield_now().await;
        }
        let mut bytes = [0; 4];
        let nothing = receiver.try_read(&mut bytes).unwrap_err();
        assert_eq!(nothing.kind(), io::ErrorKind::WouldBlock);
        network.heal();
        receiver.read_exact(&mut bytes).await.unwrap();
        assert_eq!(&bytes, b"held");
    }

    #[tokio::test]
    async fn a_reset_ends_the_connection() {
        let (network, mut sender, mut receiver) = connected().await;
        network.fail(1, 2, Fault::Reset);
        let mut bytes = [0; 4];
        assert_eq!(receiver.read(&mut bytes).await.unwrap_or(0), 0);
        assert_eq!(sender.read(&mut bytes).await.unwrap_or(0), 0);
    }

    #[tokio::test]
    async fn one_bit_is_wrong_once_and_the_other_way_is_left_alone() {
        let (network, mut sender, mut receiver) = connected().await;
        network.fail(2, 1, Fault::Reset);
        network.fail(1, 2, Fault::FlipBit);
        let mut bytes = [0; 2];
        for expected in [b"aq", b"aa"] {
            sender.write_all(b"aa").await.unwrap();
            receiver.read_exact(&mut bytes).await.unwrap();
            assert_eq!(&bytes, expected);
        }
        assert_eq!(network.hits(), 1);
    }
}
