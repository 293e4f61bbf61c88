//! What the kernel says about this process: Linux's /proc, and nothing where there is none.

use std::fs;
use std::path::Path;
use std::time::Duration;

use super::memory::field;
use super::text;

/// Linux counts a process's time in these ticks on every machine (USER_HZ).
const TICKS_PER_S: f64 = 100.0;

/// The time that all threads of this process have computed.
pub(crate) fn cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec.unsigned_abs() as u32)
}

/// CPU seconds of this process: `utime` and `stime` in `/proc/self/stat`.
pub(crate) fn cpu_s(root: &Path) -> Option<f64> {
    let stat = text(root, "proc/self/stat")?;
    // The process's name, in parentheses, may hold anything.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<u64>().ok();
    Some((ticks()? + ticks()?) as f64 / TICKS_PER_S)
}

/// The most memory that was resident at once, mapped files included.
pub(crate) fn peak_rss_bytes() -> Option<u64> {
    field(&fs::read_to_string("/proc/self/status").ok()?, "VmHWM:")
}

/// How often this process waited for a page from the disk.
pub(crate) fn major_faults() -> Option<u64> {
    faults(&fs::read_to_string("/proc/self/stat").ok()?)
}

/// The twelfth field. The second is the program's name, which may hold spaces and brackets.
fn faults(stat: &str) -> Option<u64> {
    let (_, after_name) = stat.rsplit_once(')')?;
    after_name.split_whitespace().nth(9)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::super::write;
    use super::*;

    #[test]
    fn the_time_of_a_process_is_read_whatever_it_is_called() {
        let root = tempfile::tempdir().unwrap();
        write(root.path(), "proc/self/stat", "7 (a) b (c) S 1 2 3 4 5 6 7 8 9 10 250 50 0 0 20\n");
        assert_eq!(cpu_s(root.path()), Some(3.0));
        assert_eq!(cpu_s(&root.path().join("none")), None);
        assert!(cpu_s(Path::new("/")).is_some());
    }

    #[test]
    fn figures_are_found_where_the_kernel_writes_them() {
        assert_eq!(
            field("Name:\tpotluck\nVmHWM:\t  286720 kB\nVmRSS:\t  100 kB\n", "VmHWM:"),
            Some(293_601_280)
        );
        assert_eq!(field("Name:\tpotluck\n", "VmHWM:"), None);
        let stat = "4242 (pot (luck) 1) R 1 2 3 0 -1 4194304 1111 0 77 0 5 6 0 0 20 0 1 0";
        assert_eq!(faults(stat), Some(77));
        assert_eq!(faults("4242 (potluck) R 1"), None);
    }
}
