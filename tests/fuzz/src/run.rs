//! Feeds a target and judges what it did.

use crate::mutate::mutate;
use crate::{Target, corpus, memory};
use fastrand::Rng;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, Once, PoisonError};
use std::time::{Duration, Instant};

/// An input takes microseconds to milliseconds; after this long it hangs.
const HANG: Duration = Duration::from_secs(30);

/// The input that is running: (target, bytes, since).
static RUNNING: Mutex<Option<(&'static Target, Vec<u8>, Instant)>> = Mutex::new(None);
static PANIC: Mutex<String> = Mutex::new(String::new());

/// Runs one input. The error says what went wrong.
///
/// # Errors
/// The target panicked, or took too much memory.
pub fn check(target: &'static Target, input: &[u8]) -> Result<(), String> {
    prepare();
    set_running(Some((target, input.to_vec(), Instant::now())));
    let allowed = 4 * input.len() + target.slack;
    let mut used = run(target, input)?;
    if used > allowed {
        // Once more: the first time may have filled tables that stay.
        used = run(target, input)?;
    }
    set_running(None);
    if used > allowed {
        return Err(format!("{} bytes took {used} bytes of memory", input.len()));
    }
    Ok(())
}

fn run(target: &'static Target, input: &[u8]) -> Result<usize, String> {
    let act = || catch_unwind(AssertUnwindSafe(|| (target.run)(input)));
    let (result, used) = memory::peak_of(act);
    let message = || PANIC.lock().unwrap_or_else(PoisonError::into_inner).clone();
    result.map(|()| used).map_err(|_| message())
}

/// Runs `count` damaged inputs; stops at the first that fails, which goes into the corpus.
///
/// # Errors
/// Says what failed, and how to see it again.
pub fn fuzz(target: &'static Target, seed: u64, count: u64) -> Result<(), String> {
    let inputs = corpus::load(target).map_err(|e| format!("corpus of {}: {e}", target.name))?;
    let inputs: Vec<Vec<u8>> = inputs.into_iter().map(|(_, bytes)| bytes).collect();
    let mut rng = Rng::with_seed(seed);
    for number in 0..count {
        let input = mutate(&mut rng, &inputs);
        check(target, &input).map_err(|error| {
            let kept = corpus::keep(target, &input)
                .map_or_else(|e| e.to_string(), |path| path.display().to_string());
            format!("{}: FUZZ_SEED={seed}, input {number}: {error}\n  kept: {kept}", target.name)
        })?;
    }
    Ok(())
}

fn set_running(input: Option<(&'static Target, Vec<u8>, Instant)>) {
    *RUNNING.lock().unwrap_or_else(PoisonError::into_inner) = input;
}

/// Keeps panics quiet, and ends a process that hangs.
fn prepare() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            let running = RUNNING.lock().unwrap_or_else(PoisonError::into_inner).is_some();
            if running {
                *PANIC.lock().unwrap_or_else(PoisonError::into_inner) = panic.to_string();
            } else {
                before(panic);
            }
        }));
        std::thread::spawn(watch);
    });
}

fn watch() {
    loop {
        std::thread::sleep(Duration::from_secs(1));
        let running = RUNNING.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((target, input, since)) = &*running
            && since.elapsed() > HANG
        {
            let kept = corpus::keep(target, input);
            eprintln!("{}: an input of {} bytes hangs; kept: {kept:?}", target.name, input.len());
            std::process::exit(1);
        }
    }
}
