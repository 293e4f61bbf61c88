//! A sign of life for a watchdog: a file whose text changes every few seconds while the driver's thread takes its turns. A board's
//! scripts feed the hardware watchdog by it, so that a node that hangs is started again with its board, and light the status light.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use smol::Timer;

/// How often. The scripts take eight missed ones for a hang.
pub(crate) const INTERVAL: Duration = Duration::from_secs(5);

/// How often it is looked whether the model has been loaded.
const LOOK: Duration = Duration::from_millis(250);

/// Counts in the file at `path` for ever, once per `interval`, with what `state` says behind the number: `7 ready`. A state other than
/// the last is written at once. A file that cannot be written is a board in trouble, which is what a count that stands still says.
pub(crate) async fn show(path: PathBuf, interval: Duration, state: impl Fn() -> &'static str) {
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

    /// Waits until the file says `text`, ten seconds at most.
    async fn says(path: &std::path::Path, text: &str) -> bool {
        for _ in 0..1_000 {
            Timer::after(Duration::from_millis(10)).await;
            if fs::read_to_string(path).is_ok_and(|found| found == text) {
                return true;
            }
        }
        false
    }

    /// Whoever watches must see the text change, or a living node would be restarted.
    #[test]
    fn the_sign_changes_while_the_thread_takes_its_turns() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("alive");
        let showing = async {
            show(path.clone(), Duration::from_millis(20), || "starting").await;
            false
        };
        assert!(future::block_on(says(&path, "3 starting\n").or(showing)));
    }

    /// The light must not stay slow for as long as a watchdog is patient.
    #[test]
    fn a_new_state_is_said_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("alive");
        let state = Cell::new("starting");
        let showing = async {
            show(path.clone(), Duration::from_secs(3_600), || state.get()).await;
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
