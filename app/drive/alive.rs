//! A sign of life for a watchdog: a file whose text changes every few seconds while the driver's thread takes its turns. A board's
//! scripts feed the hardware watchdog by it, so that a node that hangs is started again with its board.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use smol::Timer;

/// How often. The scripts take eight missed ones for a hang.
const INTERVAL: Duration = Duration::from_secs(5);

/// Counts in the file at `path` for ever. A file that cannot be written is a board in trouble, which is what its absence says.
pub(super) async fn show(path: PathBuf) {
    for count in 0u64.. {
        let _ = fs::write(&path, format!("{count}\n"));
        Timer::after(INTERVAL).await;
    }
}
