//! etcd, by its own client.

use anyhow::Context as _;
use etcd_client::KvClient;

use crate::load::Plan;

pub struct Client {
    kv: KvClient,
}

impl Client {
    pub async fn put(&mut self, key: String, value: &[u8]) -> anyhow::Result<()> {
        self.kv.put(key, value, None).await?;
        Ok(())
    }

    /// Linearizable, as is the default.
    pub async fn get(&mut self, key: String) -> anyhow::Result<usize> {
        let answer = self.kv.get(key, None).await?;
        Ok(answer.kvs().first().map_or(0, |pair| pair.value().len()))
    }
}

/// Clients on the leading member, as ours are on the leading node.
pub async fn connect(endpoints: &[String], plan: &Plan) -> anyhow::Result<Vec<Client>> {
    let leader = leader(endpoints).await.context("no member leads")?;
    let client = etcd_client::Client::connect([leader], None).await?;
    Ok((0..plan.clients).map(|_| Client { kv: client.kv_client() }).collect())
}

pub async fn leader(endpoints: &[String]) -> Option<&String> {
    for endpoint in endpoints {
        let Ok(mut client) = etcd_client::Client::connect([endpoint], None).await else { continue };
        let Ok(status) = client.status().await else { continue };
        if status.header().is_some_and(|header| header.member_id() == status.leader()) {
            return Some(endpoint);
        }
    }
    None
}

/// Whether there is a leader, and every member answers.
pub async fn is_well(endpoints: &[String]) -> bool {
    for endpoint in endpoints {
        if on(endpoint).await.is_err() {
            return false;
        }
    }
    leader(endpoints).await.is_some()
}

/// A client of one member.
pub async fn on(endpoint: &str) -> anyhow::Result<Client> {
    let mut client = etcd_client::Client::connect([endpoint], None).await?;
    client.status().await?;
    Ok(Client { kv: client.kv_client() })
}
