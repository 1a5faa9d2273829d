//! A signed 64-bit number.

use std::iter;

use bytes::Bytes;
use multiraft_proto::atomix::multiraft::counter::v1 as wire;
use multiraft_proto::log;
use multiraft_proto::rpc::counter as operation;

use super::{
    Call, CommandKey, Context, Failure, Primitive, Records, RestoreContext, Service, Size, Status,
    Step, decode, decode_record, encode, unknown_operation,
};
use crate::digest::Digest;

#[derive(Clone, Debug, Default)]
pub struct Counter {
    value: i64,
}

impl Primitive for Counter {
    fn apply(&mut self, call: Call, _: &mut Context<'_>) -> Result<Step, Failure> {
        let output = match call.operation {
            operation::SET => {
                let wire::SetInput { value } = decode(call.input)?;
                self.value = value;
                encode(&wire::SetOutput { value })
            }
            operation::UPDATE => {
                let input: wire::UpdateInput = decode(call.input)?;
                if self.value != input.compare {
                    return Err(Failure::new(Status::Conflict, "compare: value is another"));
                }
                self.value = input.update;
                encode(&wire::UpdateOutput { value: self.value })
            }
            operation::INCREMENT => {
                let wire::IncrementInput { delta } = decode(call.input)?;
                encode(&wire::IncrementOutput { value: self.add(self.value.checked_add(delta))? })
            }
            operation::DECREMENT => {
                let wire::DecrementInput { delta } = decode(call.input)?;
                encode(&wire::DecrementOutput { value: self.add(self.value.checked_sub(delta))? })
            }
            other => return Err(unknown_operation(Service::Counter, other)),
        };
        Ok(Step::Complete(output))
    }

    fn query(&self, operation: u32, input: Bytes) -> Result<Bytes, Failure> {
        match operation {
            operation::GET => {
                let wire::GetInput {} = decode(input)?;
                Ok(encode(&wire::GetOutput { value: self.value }))
            }
            other => Err(unknown_operation(Service::Counter, other)),
        }
    }

    fn on_command_canceled(&mut self, _: CommandKey, _: &mut Context<'_>) {}

    fn on_session_closed(&mut self, _: u64, _: &mut Context<'_>) {}

    fn on_timer(&mut self, _: u64, _: &mut Context<'_>) {}

    fn size(&self) -> Size {
        Size::default()
    }

    fn digest(&self, digest: &mut Digest) {
        let Self { value } = self;
        digest.word(*value as u64);
    }

    fn snapshot(&self) -> Records<'_> {
        let Self { value } = *self;
        Box::new(iter::once_with(move || encode(&log::CounterRecord { value })))
    }

    fn restore(&mut self, record: Bytes, _: &mut RestoreContext<'_>) -> Result<(), String> {
        let log::CounterRecord { value } = decode_record(record)?;
        *self = Self { value };
        Ok(())
    }
}

impl Counter {
    /// The original wraps around silently; a counter that was above all others must not become the
    /// smallest.
    fn add(&mut self, sum: Option<i64>) -> Result<i64, Failure> {
        self.value = sum.ok_or_else(|| Failure::invalid("delta: value would overflow 64 bits"))?;
        Ok(self.value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::each_field_changes_the_digest;

    #[test]
    fn each_field_of_a_counter_is_in_the_digest() {
        each_field_changes_the_digest!(Counter { value: 1 }, Counter::digest, Counter {
            value => *value = -1,
        });
    }
}
