//! Hashing many stretches on all cores.

use std::io::Read;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use super::Progress;
use crate::digest::{Digest, Hasher};
use crate::error::{Error, Result};

/// Hashes each stretch of `tasks`, in their order, on all cores. `open` gives the bytes of a task;
/// `Err` of one stops all.
pub fn hash_all<T: Sync, R: Read>(
    tasks: &[T],
    total: u64,
    progress: Progress<'_>,
    open: impl Fn(&T) -> Result<R> + Sync,
) -> Result<Vec<Digest>> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(8).min(tasks.len().max(1));
    let next = AtomicUsize::new(0);
    let done = AtomicU64::new(0);
    let results = Mutex::new(vec![None; tasks.len()]);
    let work = || -> Result<()> {
        let mut buffer = vec![0; 1 << 20];
        loop {
            let i = next.fetch_add(1, Ordering::Relaxed);
            let Some(task) = tasks.get(i) else {
                return Ok(());
            };
            let mut reader = open(task)?;
            let mut hasher = Hasher::default();
            loop {
                let n = reader.read(&mut buffer).map_err(Error::io("read the bundle"))?;
                if n == 0 {
                    break;
                }
                hasher.update(&buffer[..n]);
                progress(done.fetch_add(n as u64, Ordering::Relaxed) + n as u64, total);
            }
            let mut results = results.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            results[i] = Some(hasher.finish());
        }
    };
    std::thread::scope(|scope| -> Result<()> {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        for worker in workers {
            worker.join().expect("a hashing thread does not panic")?;
        }
        Ok(())
    })?;
    let results = results.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    Ok(results.into_iter().map(|digest| digest.expect("every task was taken by a thread")).collect())
}
