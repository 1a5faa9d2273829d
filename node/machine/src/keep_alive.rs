//! What a keep-alive says about the calls of a session.

use multiraft_proto::v1::KeepAliveInput;
use std::collections::BTreeMap;

use crate::bloom::Filter;
use crate::limits::{ACKNOWLEDGEMENTS_MAX, OPEN_NUMBERS_MAX};

/// A decoded keep-alive: the client has started all numbers up to `through`, and of these the ones
/// in `open` are still of interest to it.
#[derive(Debug)]
pub struct KeepAlive {
    pub through: u64,
    pub open: OpenNumbers,
    /// Command → highest output received.
    pub acknowledged: BTreeMap<u64, u64>,
}

#[derive(Debug)]
pub enum OpenNumbers {
    /// Sorted.
    Exact(Vec<u64>),
    Filter(Filter),
}

impl OpenNumbers {
    pub fn contains(&self, number: u64) -> bool {
        match self {
            OpenNumbers::Exact(numbers) => numbers.binary_search(&number).is_ok(),
            OpenNumbers::Filter(filter) => filter.contains(number),
        }
    }

    /// Open numbers in `after+1..=through`, of which a filter may name too many. At most `max`
    /// numbers are considered, the highest ones.
    pub fn between(&self, after: u64, through: u64, max: usize) -> Vec<u64> {
        match self {
            OpenNumbers::Exact(numbers) => {
                let start = numbers.partition_point(|number| *number <= after);
                let end = numbers.partition_point(|number| *number <= through);
                let range = numbers.get(start..end).unwrap_or_default();
                range[range.len().saturating_sub(max)..].to_vec()
            }
            OpenNumbers::Filter(filter) if filter.is_empty() || through <= after => Vec::new(),
            OpenNumbers::Filter(filter) => {
                let first = after.max(through.saturating_sub(max as u64)) + 1;
                (first..=through).filter(|number| filter.contains(*number)).collect()
            }
        }
    }
}

impl KeepAlive {
    pub fn decode(input: KeepAliveInput) -> Result<Self, String> {
        let open = if input.exact {
            exact(input.open_sequence_nums)?
        } else {
            let filter = Filter::decode(&input.pending_commands_filter);
            OpenNumbers::Filter(filter.map_err(|e| format!("pending_commands_filter: {e}"))?)
        };
        let acknowledged = input.output_stream_sequence_nums;
        if acknowledged.len() > ACKNOWLEDGEMENTS_MAX {
            let excess = format!("more than {ACKNOWLEDGEMENTS_MAX} streams");
            return Err(format!("output_stream_sequence_nums: {excess}"));
        }
        Ok(Self { through: input.last_command_sequence_num, open, acknowledged })
    }
}

fn exact(mut numbers: Vec<u64>) -> Result<OpenNumbers, String> {
    if numbers.len() > OPEN_NUMBERS_MAX {
        return Err(format!("open_sequence_nums: more than {OPEN_NUMBERS_MAX} numbers"));
    }
    numbers.sort_unstable();
    Ok(OpenNumbers::Exact(numbers))
}

/// Refuses what the machine would reject, before it is proposed; the message names the field.
pub fn validate_keep_alive(input: &KeepAliveInput) -> Result<(), String> {
    KeepAlive::decode(input.clone()).map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn open_numbers_between_two_lines() {
        let exact = OpenNumbers::Exact(vec![2, 4, 6, 8]);
        assert_eq!(exact.between(2, 6, 10), [4, 6]);
        assert_eq!(exact.between(0, 8, 2), [6, 8]);
        assert_eq!(exact.between(6, 2, 10), [] as [u64; 0]);
        let json = br#"{"m":7,"k":5,"b":"AAAAAAAAAAcAAAAAAAAAFQ=="}"#;
        let filter = OpenNumbers::Filter(Filter::decode(json).unwrap());
        assert_eq!(filter.between(0, 8, 100), [1, 8]);
        assert_eq!(filter.between(1, 8, 100), [8]);
        assert_eq!(filter.between(0, u64::MAX, 4).len(), filter.between(0, u64::MAX, 4).len());
    }

    #[test]
    fn neither_list_nor_filter_is_refused_and_names_the_field() {
        let message = validate_keep_alive(&KeepAliveInput::default()).unwrap_err();
        assert!(message.starts_with("pending_commands_filter: "), "{message}");
        let exact = KeepAliveInput { exact: true, ..Default::default() };
        assert_eq!(validate_keep_alive(&exact), Ok(()));
    }
}
