//! Our locks, over session streams.

use std::rc::Rc;

use anyhow::ensure;
use multiraft_proto::v1::operation_response_headers::Status;
use multiraft_proto::{lock, rpc};

use super::{Contender, GROUPS, OPENED_AT_ONCE, SESSION_TIMEOUT, SESSIONS_PER_LOCK};
use crate::lane::{Lane, Lanes};
use crate::session::{Session, describe};

const SERVICE: &str = "atomix.runtime.lock.v1.Lock";
const LANES_PER_NODE: usize = 1;
/// What clients are told to do: a keep-alive each quarter of the timeout.
const KEEP_ALIVES: u32 = 4;
/// Answers are released after so many commands at the latest, as our client does.
const RELEASED_COMMANDS: u64 = 64;

pub struct Ours {
    session: Rc<Session>,
    primitive: u64,
    commands: u64,
}

/// Sessions, the nodes in turn; they live as long as the lanes.
pub async fn open(nodes: &[String], count: usize) -> anyhow::Result<(Vec<Ours>, Lanes)> {
    let lanes = Lanes::open(nodes, LANES_PER_NODE);
    let mut all = Vec::with_capacity(count);
    let numbers: Vec<usize> = (0..count).collect();
    for some in numbers.chunks(OPENED_AT_ONCE) {
        let open = |number: &usize| {
            let lane = lanes.all[number % lanes.all.len()].clone();
            tokio::task::spawn_local(Ours::open(lane, number / SESSIONS_PER_LOCK))
        };
        for opened in some.iter().map(open).collect::<Vec<_>>() {
            all.push(opened.await??);
        }
    }
    Ok((all, lanes))
}

impl Ours {
    async fn open(lane: Rc<Lane>, lock: usize) -> anyhow::Result<Self> {
        let group = 1 + lock as u32 % GROUPS;
        let (timeout, period) = (SESSION_TIMEOUT, SESSION_TIMEOUT / KEEP_ALIVES);
        let session = Session::open(lane, group, timeout, period).await?;
        let primitive = session.attach(SERVICE, &format!("lock-{lock}")).await?;
        Ok(Self { session, primitive, commands: 0 })
    }

    async fn operate(&mut self, what: u32, input: &impl prost::Message) -> anyhow::Result<()> {
        self.commands += 1;
        if self.commands.is_multiple_of(RELEASED_COMMANDS) {
            self.session.keep().await;
        }
        let answer = self.session.operate(self.primitive, what, input).await;
        let ok = answer.code == 0 && answer.status() == Status::Ok;
        ensure!(ok, "operation {what}: {}", describe(&answer));
        Ok(())
    }
}

impl Contender for Ours {
    async fn take(&mut self) -> anyhow::Result<()> {
        self.operate(rpc::lock::ACQUIRE, &lock::AcquireInput::default()).await
    }

    async fn give(&mut self) -> anyhow::Result<()> {
        self.operate(rpc::lock::RELEASE, &lock::ReleaseInput::default()).await
    }
}
