//! What the tests of the simulation share.

use std::any::Any;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::sync::Once;

use multiraft_sim::{Options, Report, run};

thread_local! {
    static QUIET: Cell<bool> = const { Cell::new(false) };
}

/// Runs; a broken promise comes back as what was said of it, and nothing is printed.
pub fn attempt(options: &Options) -> Result<Report, String> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let usual = take_hook();
        set_hook(Box::new(move |info| {
            if !QUIET.get() {
                usual(info);
            }
        }));
    });
    let options = options.clone();
    QUIET.set(true);
    let result = catch_unwind(AssertUnwindSafe(|| run(options)));
    QUIET.set(false);
    result.map_err(|panic| message(&*panic))
}

fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
    text.unwrap_or("a panic without words").to_owned()
}

/// The invariant that a message names in brackets, and so much of the rest as fits a line. What
/// panicked elsewhere names none.
pub fn broken(message: &str) -> (&str, String) {
    let own = message.strip_prefix("assertion `left == right` failed: ").unwrap_or(message);
    let named = own.strip_prefix('[').and_then(|rest| rest.split_once("] "));
    let (name, rest) = named.unwrap_or(("panic", own));
    (name, rest.lines().next().unwrap_or_default().chars().take(90).collect())
}
