//! Which entries a list is asked for: a range of the keys, and how many of it. Finding them costs in
//! proportion to them, not to what else is there.

use std::ops::Bound;
use std::sync::Arc;

use imbl::OrdMap;

use super::Failure;
use super::checks::check_key;

/// All conditions hold together; what is empty or zero is none.
#[derive(Debug, Default)]
pub struct Keys {
    pub prefix: String,
    /// The first key that may be.
    pub start: String,
    /// The first key that may not be.
    pub end: String,
    /// Where an earlier answer ended.
    pub after: Option<String>,
    pub limit: u32,
}

impl Keys {
    /// The entries in the order of their keys.
    pub fn of<V: Send + Sync>(
        self,
        watch: bool,
        entries: &OrdMap<Arc<str>, V>,
    ) -> Result<impl Iterator<Item = (&Arc<str>, &V)> + Send, Failure> {
        check_watch(watch, self.after.is_some() || self.limit > 0)?;
        self.check()?;
        let Self { prefix, start, end, after, limit } = self;
        // Keys with the prefix follow it without a gap.
        let first = std::cmp::max(&prefix, &start).as_str();
        let first = match after.as_deref() {
            Some(after) if after >= first => Bound::Excluded(after),
            _ => Bound::Included(first),
        };
        let found = entries.range::<_, str>((first, Bound::Unbounded));
        let is_meant = move |key: &str| {
            key.starts_with(prefix.as_str()) && (end.is_empty() || key < end.as_str())
        };
        Ok(found.take_while(move |(key, _)| is_meant(key)).take(at_most(limit)))
    }

    fn check(&self) -> Result<(), Failure> {
        let Self { prefix, start, end, after, limit: _ } = self;
        check_key("prefix", prefix)?;
        check_key("start", start)?;
        check_key("end", end)?;
        check_key("after", after.as_deref().unwrap_or_default())
    }
}

/// A page has no later changes: what would be changed in it is on another page then.
pub fn check_watch(watch: bool, is_page: bool) -> Result<(), Failure> {
    if watch && is_page {
        return Err(Failure::invalid("watch: does not go with after or limit"));
    }
    Ok(())
}

/// A limit of 0 is none.
pub fn at_most(limit: u32) -> usize {
    if limit == 0 { usize::MAX } else { limit as usize }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::KEY_BYTES_MAX;

    const NAMES: [&str; 9] = ["", "a", "aa", "ab", "abc", "abd", "b", "bé", "béa"];

    fn entries() -> OrdMap<Arc<str>, usize> {
        NAMES.iter().enumerate().map(|(number, key)| (Arc::from(*key), number)).collect()
    }

    fn found(keys: Keys) -> Vec<String> {
        keys.of(false, &entries()).unwrap().map(|(key, _)| key.to_string()).collect()
    }

    #[test]
    fn every_condition_holds_whatever_the_others_say() {
        let some = ["", "a", "ab", "abc", "az", "b", "bé", "c"];
        let afters = some.iter().map(Some).chain([None]);
        for (after, limit) in afters.flat_map(|after| [0, 1, 2].map(|limit| (after, limit))) {
            for (prefix, start, end) in
                some.iter().flat_map(|p| some.iter().flat_map(|s| some.map(|e| (*p, *s, e))))
            {
                let is_meant = |key: &&&str| {
                    key.starts_with(prefix)
                        && **key >= start
                        && (end.is_empty() || **key < end)
                        && after.is_none_or(|after| *key > after)
                };
                let expected: Vec<_> =
                    NAMES.iter().filter(is_meant).take(at_most(limit)).copied().collect();
                let keys = Keys {
                    prefix: prefix.into(),
                    start: start.into(),
                    end: end.into(),
                    after: after.map(|after| after.to_string()),
                    limit,
                };
                let case = format!("{keys:?}");
                assert_eq!(found(keys), expected, "{case}");
            }
        }
    }

    #[test]
    fn pages_make_the_whole() {
        let (mut after, mut whole) = (None, Vec::new());
        loop {
            let page = found(Keys { after: after.clone(), limit: 2, ..Keys::default() });
            let Some(last) = page.last() else { break };
            after = Some(last.clone());
            whole.extend(page);
        }
        assert_eq!(whole, NAMES);
    }

    #[test]
    fn a_bound_longer_than_any_key_is_refused_by_its_name() {
        let long = || "x".repeat(KEY_BYTES_MAX + 1);
        for (keys, name) in [
            (Keys { prefix: long(), ..Keys::default() }, "prefix: "),
            (Keys { start: long(), ..Keys::default() }, "start: "),
            (Keys { end: long(), ..Keys::default() }, "end: "),
            (Keys { after: Some(long()), ..Keys::default() }, "after: "),
        ] {
            let failure = keys.of(false, &entries()).map(drop).unwrap_err();
            assert!(failure.message.starts_with(name), "{failure:?}");
        }
    }
}
