//! What the kernel says about this process: Linux's /proc, and nothing where there is none.

use std::fs;
use std::time::Duration;

/// The time that all threads of this process have computed.
pub(super) fn cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec.unsigned_abs() as u32)
}

/// The most memory that was resident at once, mapped files included.
pub(super) fn peak_rss_bytes() -> Option<u64> {
    high_water(&fs::read_to_string("/proc/self/status").ok()?)
}

/// How often this process waited for a page from the disk.
pub(super) fn major_faults() -> Option<u64> {
    faults(&fs::read_to_string("/proc/self/stat").ok()?)
}

fn high_water(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1_024)
}

/// The twelfth field. The second is the program's name, which may hold spaces and brackets.
fn faults(stat: &str) -> Option<u64> {
    let (_, after_name) = stat.rsplit_once(')')?;
    after_name.split_whitespace().nth(9)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_found_where_the_kernel_writes_them() {
        assert_eq!(
            high_water("Name:\tpotluck\nVmHWM:\t  286720 kB\nVmRSS:\t  100 kB\n"),
            Some(293_601_280)
        );
        assert_eq!(high_water("Name:\tpotluck\n"), None);
        let stat = "4242 (pot (luck) 1) R 1 2 3 0 -1 4194304 1111 0 77 0 5 6 0 0 20 0 1 0";
        assert_eq!(faults(stat), Some(77));
        assert_eq!(faults("4242 (potluck) R 1"), None);
    }
}
