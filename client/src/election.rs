//! Elections: candidates queue for leadership.

use std::fmt;
use std::time::Duration;

use futures::StreamExt;
use multiraft_proto::election as wire;
use multiraft_proto::rpc::election as operation;

use crate::calls::Deadline;
use crate::event::meant;
use crate::feed::{Feed, Kind};
use crate::held::{Held, Wish, hold};
use crate::primitive::Primitive;
use crate::session::decode;
use crate::{Answer, Cluster, Error, FencingToken, Stream};

/// An election among candidates, which are names of at most 1 KiB. One leads, the others queue behind
/// it. A candidate leaves when the session that entered it ends. No operation is ever rejected for
/// what the candidates are; all answer with the term after them.
#[derive(Clone)]
pub struct Election(Primitive);

/// Who leads, and who comes next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Term {
    /// Grows with every new leader; 0 when there never was one. It stays when the leader leaves
    /// without a successor, and when only the queue changes.
    pub token: FencingToken,
    /// `None` when nobody leads.
    pub leader: Option<String>,
    /// The others, next first.
    pub queue: Vec<String>,
}

impl Election {
    pub(crate) fn new(cluster: Cluster, name: String) -> Self {
        Self(Primitive::new(cluster, operation::TYPE, name))
    }

    /// A handle whose reads may be stale: never older than what this client has seen.
    pub fn local(self) -> Self {
        Self(self.0.local())
    }

    /// A handle whose calls end after this time without any node that works. Waiting for leadership
    /// does not count.
    pub fn timeout(self, timeout: Duration) -> Self {
        Self(self.0.timeout(timeout))
    }

    /// The present term.
    pub async fn term(&self) -> Result<Answer<Term>, Error> {
        let answer = self.0.here(operation::GET_TERM, &wire::GetTermInput {}).await?;
        Ok(answer.map(|output: wire::GetTermOutput| output.term.into()))
    }

    /// Enters a candidate: it leads if nobody does, else joins the end of the queue. Entering again
    /// changes nothing. It stays until it is withdrawn or evicted, or the client's session ends.
    pub async fn enter(&self, candidate: &str) -> Result<Answer<Term>, Error> {
        let answer = self.0.here(operation::ENTER, &enter(candidate)).await?;
        Ok(answer.map(|output: wire::EnterOutput| output.term.into()))
    }

    /// Takes a candidate out; if it led, the first of the queue leads.
    pub async fn withdraw(&self, candidate: &str) -> Result<Answer<Term>, Error> {
        let answer = self.0.here(operation::WITHDRAW, &withdraw(candidate)).await?;
        Ok(answer.map(|output: wire::WithdrawOutput| output.term.into()))
    }

    /// Makes a queued candidate the leader; the old leader goes to the front of the queue. One that
    /// is not queued changes nothing.
    pub async fn anoint(&self, candidate: &str) -> Result<Answer<Term>, Error> {
        let input = wire::AnointInput { candidate: candidate.into() };
        let answer = self.0.here(operation::ANOINT, &input).await?;
        Ok(answer.map(|output: wire::AnointOutput| output.term.into()))
    }

    /// Moves a candidate up by one place; from the front of the queue it swaps with the leader.
    pub async fn promote(&self, candidate: &str) -> Result<Answer<Term>, Error> {
        let input = wire::PromoteInput { candidate: candidate.into() };
        let answer = self.0.here(operation::PROMOTE, &input).await?;
        Ok(answer.map(|output: wire::PromoteOutput| output.term.into()))
    }

    /// Moves a candidate down by one place; the leader swaps with the front of the queue.
    pub async fn demote(&self, candidate: &str) -> Result<Answer<Term>, Error> {
        let input = wire::DemoteInput { candidate: candidate.into() };
        let answer = self.0.here(operation::DEMOTE, &input).await?;
        Ok(answer.map(|output: wire::DemoteOutput| output.term.into()))
    }

    /// Removes a candidate, whoever entered it; if it led, the first of the queue leads.
    pub async fn evict(&self, candidate: &str) -> Result<Answer<Term>, Error> {
        let input = wire::EvictInput { candidate: candidate.into() };
        let answer = self.0.here(operation::EVICT, &input).await?;
        Ok(answer.map(|output: wire::EvictOutput| output.term.into()))
    }

    /// Enters a candidate and waits until it leads, for as long as it takes. Dropping the future
    /// takes it out again. A candidate that somebody else evicts is entered again.
    pub async fn campaign(&self, candidate: &str) -> Result<Leadership, Error> {
        let wish = Wish {
            get: self.0.operation(operation::ENTER, &enter(candidate)),
            waits: false,
            give_back: self.0.operation(operation::WITHDRAW, &withdraw(candidate)),
        };
        let position = self.0.cluster.position(&self.0.spec.name);
        let session = self.0.cluster.session(position, self.0.timeout).await?;
        let (held, answer) = hold(session, wish).await?;
        let output: wire::EnterOutput = decode(&answer.value)?;
        let mut place = Place { election: self.clone(), candidate: candidate.into(), held };
        let mut term: Term = output.term.into();
        let mut terms = None;
        while term.leader.as_deref() != Some(candidate) {
            if !term.has(candidate) {
                place.enter().await?;
            }
            let terms = match &mut terms {
                Some(terms) => terms,
                None => terms.insert(place.watch().await?),
            };
            term = terms.next().await.unwrap_or(Err(Error::Closed))?.value;
        }
        Ok(Leadership { place, token: term.token })
    }

    /// The present term, if there ever was one, then every change of it or of the queue. When a node
    /// fails it begins again at another, with the term as it is then.
    pub async fn watch(&self) -> Result<Stream<Term>, Error> {
        let outputs = self.0.watch(operation::WATCH, &wire::WatchInput {}).await?;
        Ok(meant(outputs, |output: wire::WatchOutput| Some(output.term.into())))
    }
}

impl Term {
    /// Whether a candidate leads or is queued.
    pub fn has(&self, candidate: &str) -> bool {
        self.leader.as_deref() == Some(candidate) || self.queue.iter().any(|c| c == candidate)
    }
}

/// A candidate's place in an election, bound to one session.
struct Place {
    election: Election,
    candidate: String,
    held: Held,
}

impl Place {
    /// In the session that entered the candidate.
    async fn watch(&self) -> Result<Stream<Term>, Error> {
        let operation = self.election.0.operation(operation::WATCH, &wire::WatchInput {});
        let feed = Feed::new(self.held.session().clone(), operation, Kind::Watch).await?;
        Ok(meant(feed.stream(), |output: wire::WatchOutput| Some(output.term.into())))
    }

    async fn enter(&mut self) -> Result<(), Error> {
        let operation = self.election.0.operation(operation::ENTER, &enter(&self.candidate));
        let deadline = Deadline::after(operation.timeout);
        self.held.session().operate(operation, deadline).await.map(drop)
    }
}

/// A candidate that leads, or led. Dropping it withdraws the candidate in the background.
pub struct Leadership {
    place: Place,
    token: FencingToken,
}

impl Leadership {
    /// The number of the term: higher than that of every earlier leader.
    pub fn token(&self) -> FencingToken {
        self.token
    }

    pub fn candidate(&self) -> &str {
        &self.place.candidate
    }

    /// Withdraws the candidate, and waits until that is done.
    pub async fn withdraw(self) -> Result<(), Error> {
        self.place.held.give_back().await.map(drop)
    }

    /// Waits until somebody else may lead: because the term is over, the session expired or could not
    /// be kept alive in time, or no node tells any more who leads.
    pub async fn lost(&self) {
        let ended = async {
            let Ok(mut terms) = self.place.watch().await else { return };
            while let Some(Ok(term)) = terms.next().await {
                if !self.is_of(&term.value) {
                    return;
                }
            }
        };
        tokio::select! {
            () = ended => {}
            () = self.place.held.lost() => {}
        }
    }

    fn is_of(&self, term: &Term) -> bool {
        term.token == self.token && term.leader.as_deref() == Some(self.candidate())
    }
}

impl fmt::Debug for Leadership {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Leadership")
            .field("candidate", &self.candidate())
            .field("token", &self.token)
            .finish_non_exhaustive()
    }
}

impl From<Option<wire::Term>> for Term {
    fn from(wire: Option<wire::Term>) -> Self {
        let wire::Term { leader, candidates, index } = wire.unwrap_or_default();
        let leader = (!leader.is_empty()).then_some(leader);
        Self { token: FencingToken(index), leader, queue: candidates }
    }
}

fn enter(candidate: &str) -> wire::EnterInput {
    wire::EnterInput { candidate: candidate.into() }
}

fn withdraw(candidate: &str) -> wire::WithdrawInput {
    wire::WithdrawInput { candidate: candidate.into() }
}
