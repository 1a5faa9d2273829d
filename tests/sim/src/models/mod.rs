//! What each primitive is to do, as simply as it can be said: one command after the other, in the
//! order of their indexes. Not a line of this is shared with the product.

mod keyed;
mod single;

use bytes::Bytes;
use multiraft_machine::Status;
use prost::Message;

use crate::uses::{Primitive, Use};

/// The encoded output of a call, or why it failed.
pub type Outcome = Result<Bytes, Status>;

/// One primitive of one group.
pub trait Model {
    /// Carries out a command; `told` gets what those who watch are told of it.
    fn command(&mut self, one: &Use, index: u64, told: &mut Vec<Bytes>) -> Outcome;

    fn query(&self, one: &Use) -> Outcome;

    /// What is there, as who begins to watch is told.
    fn list(&self) -> Vec<Bytes>;
}

pub fn new(primitive: Primitive) -> Box<dyn Model> {
    match primitive {
        Primitive::CounterMap => Box::<keyed::Numbers>::default(),
        Primitive::Election => Box::<single::Election>::default(),
        Primitive::IndexedMap => Box::<keyed::Indexed>::default(),
        Primitive::Map => Box::<keyed::Map>::default(),
        Primitive::MultiMap => Box::<keyed::Multi>::default(),
        Primitive::Set => Box::<single::Set>::default(),
        Primitive::Value => Box::<single::Value>::default(),
    }
}

fn encode(message: impl Message) -> Bytes {
    message.encode_to_vec().into()
}

/// What a compare-and-set wants, against the version that is there.
fn compare(one: &Use, present: Option<u64>) -> Result<(), Status> {
    match present {
        None => Err(Status::NotFound),
        Some(version) if one.version != 0 && one.version != version => Err(Status::Conflict),
        Some(_) => Ok(()),
    }
}

fn unknown(one: &Use) -> ! {
    panic!("no client calls {one:?}")
}
