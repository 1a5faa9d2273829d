//! Who changes the hot key: the only one, with a number in each value.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use multiraft_proto::v1::StreamAnswer;
use multiraft_proto::v1::operation_response_headers::Status;
use multiraft_proto::v1::stream_call::Call;
use multiraft_proto::{map, rpc};
use tokio::time::{Instant, sleep, sleep_until};

use super::listener::{KEY, Shared};
use crate::lane::Lanes;
use crate::session::{Session, describe};
use crate::streamed::operation;

pub const MAP: &str = "atomix.runtime.map.v1.Map";
const SESSION_TIMEOUT: Duration = Duration::from_secs(60);
const KEEP_ALIVE_PERIOD: Duration = Duration::from_secs(2);
/// Changes that are under way.
const OPEN_MAX: u64 = 1024;
const POLL_PERIOD: Duration = Duration::from_millis(1);

#[derive(Clone)]
pub struct Writer {
    session: Rc<Session>,
    primitive: u64,
    shared: Rc<Shared>,
    open: Rc<Cell<u64>>,
    /// It lives as long as this.
    _lanes: Rc<Lanes>,
}

impl Writer {
    pub async fn open(nodes: &[String], group: u32, shared: Rc<Shared>) -> anyhow::Result<Self> {
        let lanes = Rc::new(Lanes::open(&nodes[..1], 1));
        let (lane, timeout) = (lanes.all[0].clone(), SESSION_TIMEOUT);
        let session = Session::open(lane, group, timeout, KEEP_ALIVE_PERIOD).await?;
        let primitive = session.attach(MAP, "hot").await?;
        let writer = Self { session, primitive, shared, open: Rc::default(), _lanes: lanes };
        writer.put().await?;
        Ok(writer)
    }

    /// Changes the key at a rate, each change begun when it is due, or one after the other; returns
    /// how often.
    pub async fn write(&self, rate: Option<f64>, time: Duration) -> anyhow::Result<u64> {
        let (began, before) = (Instant::now(), self.shared.last());
        match rate {
            None => {
                while began.elapsed() < time {
                    self.put().await?;
                }
            }
            Some(rate) => {
                let count = (rate * time.as_secs_f64()) as u64;
                for number in 0..count {
                    sleep_until(began + Duration::from_secs_f64(number as f64 / rate)).await;
                    self.begin().await?;
                }
                while self.open.get() > 0 {
                    sleep(POLL_PERIOD).await;
                }
            }
        }
        Ok(self.shared.last() - before)
    }

    fn next(&self) -> map::PutInput {
        map::PutInput { key: KEY.into(), value: self.shared.next().into(), ..Default::default() }
    }

    async fn put(&self) -> anyhow::Result<()> {
        let answer = self.session.operate(self.primitive, rpc::map::PUT, &self.next()).await;
        check(&answer)
    }

    /// Changes of one stream to one leader are carried out in order.
    async fn begin(&self) -> anyhow::Result<()> {
        while self.open.get() >= OPEN_MAX {
            sleep(POLL_PERIOD).await;
        }
        let stream = self.session.lane.stream().await;
        let number = self.session.number();
        let of = (self.session.life.session, self.primitive);
        let input = operation(of, (number, rpc::map::PUT), &self.next());
        let asked = stream.ask(self.session.group, Call::Command(input));
        let (_, answer) = asked.context("the writer's stream ended")?;
        let (session, shared, open) =
            (self.session.clone(), self.shared.clone(), self.open.clone());
        open.set(open.get() + 1);
        tokio::task::spawn_local(async move {
            let checked = match answer.await {
                Ok(answer) => check(&answer),
                Err(_) => Err(anyhow::anyhow!("the writer's stream ended")),
            };
            if let Err(error) = checked {
                shared.violation.found(format!("{error:#}"));
            }
            session.done(number);
            open.set(open.get() - 1);
        });
        Ok(())
    }
}

fn check(answer: &StreamAnswer) -> anyhow::Result<()> {
    let ok = answer.code == 0 && answer.status() == Status::Ok;
    ensure!(ok, "a change of the hot key: {}", describe(answer));
    Ok(())
}
