//! How long to wait before looking at an object again: longer each time, forgotten at the first success.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Duration;

/// Waits of one kind of trouble, kept for each object.
#[derive(Debug)]
pub struct Backoff {
    first: Duration,
    longest: Duration,
    tries: Mutex<HashMap<String, u32>>,
}

impl Backoff {
    /// Starts at `first`, doubles, stops growing at `longest`.
    pub fn new(first: Duration, longest: Duration) -> Self {
        Self { first, longest, tries: Mutex::default() }
    }

    /// The next wait for this object.
    pub fn next(&self, key: &str) -> Duration {
        let mut tries = self.lock();
        let count = tries.entry(key.to_owned()).or_insert(0);
        let wait = self.first.saturating_mul(1_u32.checked_shl(*count).unwrap_or(u32::MAX)).min(self.longest);
        *count = (*count + 1).min(31);
        wait
    }

    /// All is well with this object.
    pub fn forget(&self, key: &str) {
        self.lock().remove(key);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, u32>> {
        self.tries.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// Up to a quarter more, so that a hundred objects that failed together do not come back together.
pub fn jittered(wait: Duration) -> Duration {
    wait.mul_f64(1.0 + rand::random::<f64>() / 4.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_longest_and_start_anew_after_success() {
        let backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(60));
        let waits: Vec<u64> = (0..10).map(|_| backoff.next("a").as_millis() as u64).collect();
        assert_eq!(waits, [500, 1000, 2000, 4000, 8000, 16000, 32000, 60000, 60000, 60000]);
        assert_eq!(backoff.next("b").as_millis(), 500, "each object waits for itself");
        backoff.forget("a");
        assert_eq!(backoff.next("a").as_millis(), 500);
    }

    #[test]
    fn a_wait_never_overflows() {
        let backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(60));
        assert!((0..200).all(|_| backoff.next("a") <= Duration::from_secs(60)));
    }
}
