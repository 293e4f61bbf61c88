//! A sign of life for a watchdog: a file whose text changes every few seconds while the driver's thread takes its turns. A board's
//! scripts feed the hardware watchdog by it, so that a node that hangs is started again with its board.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use smol::Timer;

/// How often. The scripts take eight missed ones for a hang.
pub(super) const INTERVAL: Duration = Duration::from_secs(5);

/// Counts in the file at `path` for ever, once per `interval`. A file that cannot be written is a board in trouble, which is what a
/// count that stands still says.
pub(super) async fn show(path: PathBuf, interval: Duration) {
    for count in 0u64.. {
        let _ = fs::write(&path, format!("{count}\n"));
        Timer::after(interval).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use smol::future::{self, FutureExt};

    /// Whoever watches must see the text change, or a living node would be restarted.
    #[test]
    fn the_sign_changes_while_the_thread_takes_its_turns() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("alive");
        let counted = async {
            for _ in 0..1_000 {
                Timer::after(Duration::from_millis(10)).await;
                if fs::read_to_string(&path).is_ok_and(|text| text == "3\n") {
                    return true;
                }
            }
            false
        };
        let showing = async {
            show(path.clone(), Duration::from_millis(20)).await;
            false
        };
        assert!(future::block_on(counted.or(showing)));
    }
}
