//! A promise that a part which judges found broken: the run fails with it.

use std::cell::RefCell;

use tokio::sync::Notify;

/// The first one that anybody found.
#[derive(Default)]
pub struct Violation {
    what: RefCell<Option<String>>,
    found: Notify,
}

impl Violation {
    pub fn found(&self, what: String) {
        self.what.borrow_mut().get_or_insert(what);
        self.found.notify_one();
    }

    /// Waits for one.
    pub async fn wait(&self) -> String {
        loop {
            if let Some(what) = self.what.borrow().clone() {
                return what;
            }
            self.found.notified().await;
        }
    }
}
