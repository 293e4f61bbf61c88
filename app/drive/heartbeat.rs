//! A heartbeat for a watchdog: a file whose text changes every few seconds while the driver's
//! thread is running. A board's scripts use it to feed the hardware watchdog, so that a hung node
//! is restarted with its board, and to drive the status light.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use smol::Timer;

/// Interval between heartbeats. The scripts treat eight missed ones as a hang.
pub(crate) const INTERVAL: Duration = Duration::from_secs(5);

/// How often to check whether the model has been loaded.
const LOOK: Duration = Duration::from_millis(250);

/// Writes a heartbeat counter to the file at `path` once per `interval`, for ever, followed by the
/// text of `state`: `7 ready`. A changed state is written at once. If the file cannot be written
/// the board is in trouble, and a counter that stands still says just that.
pub(crate) async fn write(path: PathBuf, interval: Duration, state: impl Fn() -> &'static str) {
    for count in 0u64.. {
        let said = state();
        let _ = fs::write(&path, format!("{count} {said}\n"));
        let mut left = interval;
        while !left.is_zero() && said == state() {
            let pause = left.min(LOOK);
            Timer::after(pause).await;
            left -= pause;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    use smol::future::{self, FutureExt};

    /// Waits until the file reads `text`, at most ten seconds.
    async fn says(path: &std::path::Path, text: &str) -> bool {
        for _ in 0..1_000 {
            Timer::after(Duration::from_millis(10)).await;
            if fs::read_to_string(path).is_ok_and(|found| found == text) {
                return true;
            }
        }
        false
    }

    /// The watchdog must see the text change, or a healthy node would be restarted.
    #[test]
    fn the_sign_changes_while_the_thread_takes_its_turns() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("alive");
        let showing = async {
            write(path.clone(), Duration::from_millis(20), || "starting").await;
            false
        };
        assert!(future::block_on(says(&path, "3 starting\n").or(showing)));
    }

    /// The status light must not lag by a whole heartbeat interval.
    #[test]
    fn a_new_state_is_said_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("alive");
        let state = Cell::new("starting");
        let showing = async {
            write(path.clone(), Duration::from_secs(3_600), || state.get()).await;
            false
        };
        let changing = async {
            assert!(says(&path, "0 starting\n").await);
            state.set("ready");
            says(&path, "1 ready\n").await
        };
        assert!(future::block_on(changing.or(showing)));
    }
}
