//! Answers to recent inputs that carry no sequence number, so that a duplicate takes effect once.

use imbl::OrdMap;

use crate::answer::Answer;
use crate::commands::Waiter;
use crate::limits::REMEMBERED_ANSWERS_MAX;

#[derive(Clone, Debug, Default)]
pub struct Remembered {
    answers: OrdMap<Waiter, Answer>,
    /// Index of the answer → who got it: the order in which answers are forgotten.
    order: OrdMap<u64, Waiter>,
}

impl Remembered {
    pub fn get(&self, waiter: Waiter) -> Option<&Answer> {
        self.answers.get(&waiter)
    }

    /// Origin 0 is nobody: its numbers mean nothing.
    pub fn insert(&mut self, waiter: Waiter, answer: Answer) {
        if waiter.origin == 0 {
            return;
        }
        self.order.insert(answer.index, waiter);
        self.answers.insert(waiter, answer);
        if self.order.len() > REMEMBERED_ANSWERS_MAX
            && let Some((oldest, waiter)) = self.order.get_min().copied()
        {
            self.order.remove(&oldest);
            self.answers.remove(&waiter);
        }
    }

    /// In the order of their indexes.
    pub fn iter(&self) -> impl Iterator<Item = (Waiter, &Answer)> + '_ {
        let answer = |waiter: &Waiter| self.answers.get(waiter).map(|answer| (*waiter, answer));
        self.order.values().filter_map(answer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::answer::Output;

    #[test]
    fn the_oldest_answer_is_forgotten_first() {
        let mut remembered = Remembered::default();
        for index in 1..=REMEMBERED_ANSWERS_MAX as u64 + 1 {
            let answer = Answer { index, result: Ok(Output::SessionOpened { session_id: index }) };
            remembered.insert(Waiter { origin: 7, number: index }, answer);
        }
        assert!(remembered.get(Waiter { origin: 7, number: 1 }).is_none());
        assert!(remembered.get(Waiter { origin: 7, number: 2 }).is_some());
        assert_eq!(remembered.iter().count(), REMEMBERED_ANSWERS_MAX);
    }

    #[test]
    fn origin_zero_is_not_remembered() {
        let mut remembered = Remembered::default();
        let answer = Answer { index: 1, result: Ok(Output::SessionClosed) };
        remembered.insert(Waiter { origin: 0, number: 1 }, answer);
        assert!(remembered.get(Waiter { origin: 0, number: 1 }).is_none());
    }
}
