//! Answers to recent inputs that carry no sequence number, so that a duplicate takes effect once.

use imbl::OrdMap;

use crate::answer::Answer;
use crate::commands::Waiter;
use crate::digest::Digest;
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

    pub fn len(&self) -> usize {
        self.order.len()
    }

    /// In the order of their indexes.
    pub fn iter(&self) -> impl Iterator<Item = (Waiter, &Answer)> + '_ {
        let answer = |waiter: &Waiter| self.answers.get(waiter).map(|answer| (*waiter, answer));
        self.order.values().filter_map(answer)
    }

    /// Takes an answer from a snapshot.
    pub fn restore(&mut self, waiter: Waiter, answer: Answer) -> Result<(), String> {
        let index = answer.index;
        if self.order.insert(index, waiter).is_some() {
            return Err(format!("index {index} has two answers"));
        }
        if self.answers.insert(waiter, answer).is_some() {
            return Err(format!(
                "call {} of origin {} has two answers",
                waiter.number, waiter.origin
            ));
        }
        Ok(())
    }

    pub fn digest(&self, digest: &mut Digest) {
        let Self { answers, order } = self;
        digest.number(answers.len());
        for (waiter, answer) in answers.iter() {
            waiter.digest(digest);
            answer.digest(digest);
        }
        digest.number(order.len());
        for (index, waiter) in order.iter() {
            digest.word(*index);
            waiter.digest(digest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::answer::Output;
    use crate::digest::each_field_changes_the_digest;

    #[test]
    fn each_field_of_the_remembered_answers_is_in_the_digest() {
        let mut remembered = Remembered::default();
        let waiter = Waiter { origin: 7, number: 1 };
        remembered.insert(waiter, Answer { index: 1, result: Ok(Output::SessionClosed) });
        let other = Waiter { number: 2, ..waiter };
        each_field_changes_the_digest!(remembered, Remembered::digest, Remembered {
            answers => answers[&waiter].index = 2,
            order => order.insert(1, other),
        });
    }

    #[test]
    fn the_oldest_answer_is_forgotten_first() {
        let mut remembered = Remembered::default();
        for index in 1..=REMEMBERED_ANSWERS_MAX as u64 + 1 {
            let answer = Answer { index, result: Ok(Output::SessionOpened { session_id: index }) };
            remembered.insert(Waiter { origin: 7, number: index }, answer);
        }
        assert!(remembered.get(Waiter { origin: 7, number: 1 }).is_none());
        assert!(remembered.get(Waiter { origin: 7, number: 2 }).is_some());
        assert_eq!(remembered.answers.len(), REMEMBERED_ANSWERS_MAX);
        assert_eq!(remembered.order.len(), REMEMBERED_ANSWERS_MAX);
    }

    #[test]
    fn origin_zero_is_not_remembered() {
        let mut remembered = Remembered::default();
        let answer = Answer { index: 1, result: Ok(Output::SessionClosed) };
        remembered.insert(Waiter { origin: 0, number: 1 }, answer);
        assert!(remembered.get(Waiter { origin: 0, number: 1 }).is_none());
    }
}
