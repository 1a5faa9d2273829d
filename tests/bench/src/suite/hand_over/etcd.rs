//! etcd's locks, each contender with a lease of its own.

use etcd_client::{Client, LockClient, LockOptions};

use super::{Contender, OPENED_AT_ONCE, SESSION_TIMEOUT, SESSIONS_PER_LOCK};

/// A call that waits takes one of a connection's hundred streams, and giving up needs one as well.
const CONTENDERS_PER_CONNECTION: usize = 32;

pub struct Etcd {
    client: LockClient,
    lock: String,
    lease: i64,
    /// What holds the lock, while it is held.
    key: Vec<u8>,
}

/// Leases, the members in turn.
pub async fn open(members: &[String], count: usize) -> anyhow::Result<Vec<Etcd>> {
    let mut clients = Vec::new();
    for member in members.iter().cycle().take(count.div_ceil(CONTENDERS_PER_CONNECTION)) {
        clients.push(Client::connect([member], None).await?);
    }
    let mut all = Vec::with_capacity(count);
    let numbers: Vec<usize> = (0..count).collect();
    for some in numbers.chunks(OPENED_AT_ONCE) {
        let open = |number: &usize| {
            let client = clients[number % clients.len()].clone();
            tokio::task::spawn_local(Etcd::open(client, number / SESSIONS_PER_LOCK))
        };
        for opened in some.iter().map(open).collect::<Vec<_>>() {
            all.push(opened.await??);
        }
    }
    Ok(all)
}

impl Etcd {
    async fn open(client: Client, lock: usize) -> anyhow::Result<Self> {
        let seconds = SESSION_TIMEOUT.as_secs() as i64;
        let lease = client.lease_client().grant(seconds, None).await?.id();
        let (client, lock) = (client.lock_client(), format!("lock-{lock}"));
        Ok(Self { client, lock, lease, key: Vec::new() })
    }
}

impl Contender for Etcd {
    async fn take(&mut self) -> anyhow::Result<()> {
        let options = LockOptions::new().with_lease(self.lease);
        let granted = self.client.lock(self.lock.as_str(), Some(options)).await?;
        self.key = granted.key().to_vec();
        Ok(())
    }

    async fn give(&mut self) -> anyhow::Result<()> {
        self.client.unlock(std::mem::take(&mut self.key)).await?;
        Ok(())
    }
}
