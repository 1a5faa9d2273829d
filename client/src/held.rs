//! What a session holds until it gives it back: locks, and places in elections.
//!
//! The cluster gives such things to the session, not to the call that asked for them. So what was
//! given to a call that nobody waits for any more has to be given back, and where the fate of such a
//! call is unknown it has to be learned first. A task of its own does that.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tracing::{debug, warn};

use crate::calls::Deadline;
use crate::cluster::Operation;
use crate::limits::SETTLE_TIMEOUT;
use crate::session::Session;
use crate::{Answer, Error};

/// How to get something, and how to give it back. Both are commands.
#[derive(Clone)]
pub struct Wish {
    pub get: Operation,
    /// Getting it may take as long as it likes.
    pub waits: bool,
    pub give_back: Operation,
}

/// Something that a session holds. Given back in the background when it is dropped.
pub struct Held {
    session: Arc<Session>,
    give_back: Option<Operation>,
    runtime: Handle,
}

/// Waits until the cluster grants a wish, for as long as it takes, while any node works. Dropping the
/// future takes the wish back.
pub async fn hold(session: Arc<Session>, wish: Wish) -> Result<(Held, Answer<Bytes>), Error> {
    let (give, taken) = oneshot::channel();
    tokio::spawn(obtain(session, wish, give));
    taken.await.unwrap_or(Err(Error::Closed))
}

type Granted = Result<(Held, Answer<Bytes>), Error>;

async fn obtain(session: Arc<Session>, wish: Wish, mut give: oneshot::Sender<Granted>) {
    let Operation { spec, timeout, .. } = &wish.get;
    let primitive = match session.primitive(spec, Deadline::after(*timeout)).await {
        Ok(primitive) => primitive,
        Err(error) => return drop(give.send(Err(error))),
    };
    loop {
        let ticket = session.ticket();
        let deadline =
            if wish.waits { Deadline::of_wait(*timeout) } else { Deadline::after(*timeout) };
        let result = tokio::select! {
            result = ask(&session, primitive, ticket.number, &wish, deadline) => result,
            () = give.closed() => return settle(&session, primitive, ticket.number, &wish).await,
        };
        match result {
            // A node lost sight of this client and took the wish back. Nothing was given; the place in
            // the queue is lost.
            Err(error) if is_canceled(&error) => debug!("a wish was taken back; asking again"),
            Ok(answer) => {
                let held = Held::new(session.clone(), wish.give_back.clone());
                // When nobody waits any more it is dropped here, and given back.
                return drop(give.send(Ok((held, answer))));
            }
            Err(error) => {
                let is_unknown = matches!(error, Error::Unavailable { .. });
                let _ = give.send(Err(error));
                if is_unknown {
                    settle(&session, primitive, ticket.number, &wish).await;
                }
                return;
            }
        }
    }
}

async fn ask(
    session: &Session,
    primitive: u64,
    number: u64,
    wish: &Wish,
    deadline: Deadline,
) -> Result<Answer<Bytes>, Error> {
    session.send(number, wish.get.command(primitive), deadline).await
}

/// Learns what became of a wish that nobody has any more, and gives back what it got. Asked again
/// under its number it is answered if it was granted; if not, ending the call takes it back.
async fn settle(session: &Arc<Session>, primitive: u64, number: u64, wish: &Wish) {
    loop {
        let deadline = Deadline::after(SETTLE_TIMEOUT);
        match ask(session, primitive, number, wish, deadline).await {
            Ok(_) => return drop(Held::new(session.clone(), wish.give_back.clone())),
            Err(Error::Unavailable { .. }) => {}
            // Taken back, refused, or gone with the session.
            Err(_) => return,
        }
    }
}

fn is_canceled(error: &Error) -> bool {
    matches!(error, Error::Refused { code: tonic::Code::Cancelled, .. })
}

impl Held {
    fn new(session: Arc<Session>, give_back: Operation) -> Self {
        Self { session, give_back: Some(give_back), runtime: Handle::current() }
    }

    /// Gives it back.
    pub async fn give_back(mut self) -> Result<Answer<Bytes>, Error> {
        let operation = self.give_back.take().expect("only this and drop take it, and both once");
        // A task: dropping the future of this must not stop it half-way.
        let given = self.runtime.spawn(give_back(self.session.clone(), operation));
        given.await.unwrap_or(Err(Error::Closed))
    }

    /// Waits until the cluster may have given it to somebody else, because the session is over or
    /// could not be kept alive in time.
    pub async fn lost(&self) {
        self.session.lost().await;
    }

    pub fn session(&self) -> &Arc<Session> {
        &self.session
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let Some(operation) = self.give_back.take() else { return };
        let session = self.session.clone();
        self.runtime.spawn(async move {
            if let Err(error) = give_back(session, operation).await {
                warn!(%error, "what was held is given back when the session ends");
            }
        });
    }
}

async fn give_back(session: Arc<Session>, operation: Operation) -> Result<Answer<Bytes>, Error> {
    // Afterwards the session is over, and with it everything that it held.
    let deadline = Deadline::after(operation.timeout.max(session.timeout()));
    session.operate(operation, deadline).await
}

/// The longest wait in the cluster's log time that a wish may name.
pub fn wait(wait: Option<Duration>) -> Option<prost_types::Duration> {
    wait.map(crate::version::duration)
}
