//! Answers to the numbered commands of sessions.
//!
//! A number executes once, however often its command comes, so each of its answers carries the same
//! index and the same bytes.

use std::collections::BTreeMap;

/// One answer to a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    pub session_id: u64,
    pub sequence_num: u64,
    /// Counts the outputs of one command.
    pub number: u64,
    /// Index at which the command was executed.
    pub index: u64,
    pub bytes: Vec<u8>,
}

/// Two answers to one command that differ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// At two indexes: it was executed twice.
    RanTwice { first: Output, second: Output },
    /// With other bytes.
    Changed { first: Output, second: Output },
}

/// All outputs of one group that any client was given.
#[derive(Debug, Default)]
pub struct Outputs {
    /// By session, command and number.
    seen: BTreeMap<(u64, u64, u64), Output>,
    repeated: u64,
}

impl Outputs {
    /// Takes the next one.
    ///
    /// # Errors
    /// It contradicts an earlier one.
    pub fn take(&mut self, second: Output) -> Result<(), Fault> {
        let key = (second.session_id, second.sequence_num, second.number);
        let Some(first) = self.seen.get(&key).cloned() else {
            self.seen.insert(key, second);
            return Ok(());
        };
        self.repeated += 1;
        if first.index != second.index {
            return Err(Fault::RanTwice { first, second });
        }
        if first.bytes != second.bytes {
            return Err(Fault::Changed { first, second });
        }
        Ok(())
    }

    /// Outputs that had been given before.
    pub fn repeated(&self) -> u64 {
        self.repeated
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn output(sequence_num: u64, index: u64, byte: u8) -> Output {
        Output { session_id: 1, sequence_num, number: 1, index, bytes: vec![byte] }
    }

    #[test]
    fn a_replayed_output_is_the_same() {
        let mut outputs = Outputs::default();
        for one in [output(1, 5, 7), output(2, 6, 7), output(1, 5, 7)] {
            assert_eq!(outputs.take(one), Ok(()));
        }
        let other_session = Output { session_id: 2, ..output(1, 9, 8) };
        assert_eq!(outputs.take(other_session), Ok(()));
        assert_eq!(outputs.repeated(), 1);
    }

    #[test]
    fn a_command_that_ran_twice_is_found() {
        let mut outputs = Outputs::default();
        outputs.take(output(1, 5, 7)).unwrap();
        let fault = outputs.take(output(1, 6, 7)).unwrap_err();
        assert_eq!(fault, Fault::RanTwice { first: output(1, 5, 7), second: output(1, 6, 7) });
    }

    #[test]
    fn an_output_that_changed_is_found() {
        let mut outputs = Outputs::default();
        outputs.take(output(1, 5, 7)).unwrap();
        assert!(matches!(outputs.take(output(1, 5, 8)), Err(Fault::Changed { .. })));
    }
}
