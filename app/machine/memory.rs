//! How much memory this machine has available, as the system reports it.

use std::fs;
use std::path::{Path, PathBuf};

/// Available bytes, and their source.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Available {
    pub bytes: u64,
    /// Whether this is the limit of the process's control group rather than of the whole machine.
    pub limited: bool,
}

/// Bytes that this process holds in memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Resident {
    pub bytes: u64,
    /// The most that it has held so far.
    pub peak_bytes: u64,
}

/// The memory available now: the machine's free and reclaimable memory, or what a control group
/// leaves of it, whichever is less. None if the system does not report it.
pub(crate) fn available() -> Option<Available> {
    let machine = field(&fs::read_to_string("/proc/meminfo").ok()?, "MemAvailable:");
    let machine = machine.map(|bytes| Available { bytes, limited: false });
    let group = group_available(
        &fs::read_to_string("/proc/self/cgroup").unwrap_or_default(),
        Path::new("/sys/fs/cgroup"),
    );
    let group = group.map(|bytes| Available { bytes, limited: true });
    [machine, group].into_iter().flatten().min_by_key(|available| available.bytes)
}

/// What this process holds. None if the system does not report it.
pub(crate) fn resident() -> Option<Resident> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    Some(Resident { bytes: field(&status, "VmRSS:")?, peak_bytes: field(&status, "VmHWM:")? })
}

/// What this process holds, as a status line; empty if the system does not report it.
pub(crate) fn line() -> String {
    resident().map_or(String::new(), |Resident { bytes, peak_bytes }| {
        format!(
            "memory   {} MB held, mapped files among them; {} MB at most so far\n",
            bytes / 1_000_000,
            peak_bytes / 1_000_000
        )
    })
}

/// A field of a file in `/proc`, given in kB.
pub(super) fn field(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1_024)
}

/// What the control groups of this process leave it: version 2 (one hierarchy) and version 1 (the
/// controller `memory`).
fn group_available(groups: &str, root: &Path) -> Option<u64> {
    let paths = groups.lines().filter_map(|line| {
        let mut fields = line.splitn(3, ':');
        let (number, controllers, path) =
            (fields.next()?, fields.next()?, fields.next()?.trim_start_matches('/'));
        match (number, controllers) {
            ("0", "") => Some((root.to_path_buf(), path, ["memory.max", "memory.current"])),
            (_, "memory") => Some((
                root.join("memory"),
                path,
                ["memory.limit_in_bytes", "memory.usage_in_bytes"],
            )),
            _ => None,
        }
    });
    paths
        .flat_map(|(root, path, names)| {
            up(&root, path).into_iter().filter_map(move |folder| left(&folder, names))
        })
        .min()
}

/// A group's folder and those above it. Within a container the path may not exist; then the topmost
/// folder is the container's own.
fn up(root: &Path, path: &str) -> Vec<PathBuf> {
    root.join(path)
        .ancestors()
        .take_while(|folder| folder.starts_with(root))
        .map(Path::to_path_buf)
        .collect()
}

/// What one group leaves: its limit less the memory in use that cannot be reclaimed. Cached
/// files can be.
fn left(folder: &Path, [limit, used]: [&str; 2]) -> Option<u64> {
    let number =
        |name: &str| fs::read_to_string(folder.join(name)).ok()?.trim().parse::<u64>().ok();
    let stat = fs::read_to_string(folder.join("memory.stat")).unwrap_or_default();
    let cached = |name: &str| {
        let value = stat.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value.and_then(|value| value.parse::<u64>().ok())
    };
    let of = |total: &str, own: &str| cached(total).or_else(|| cached(own)).unwrap_or(0);
    let cached =
        of("total_inactive_file", "inactive_file") + of("total_active_file", "active_file");
    Some(number(limit)?.saturating_sub(number(used)?.saturating_sub(cached)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_tells() {
        let available = available().unwrap();
        assert!(available.bytes > 1 << 20, "{available:?}");
        let resident = resident().unwrap();
        assert!(resident.bytes > 1 << 20 && resident.peak_bytes >= resident.bytes, "{resident:?}");
    }

    #[test]
    fn the_narrowest_group_counts_and_cached_files_can_be_given_back() {
        let root = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write("slice/memory.max", "500\n");
        write("slice/memory.current", "300\n");
        write("slice/memory.stat", "anon 200\nactive_file 60\ninactive_file 40\n");
        write("slice/node/memory.max", "max\n");
        write("slice/node/memory.current", "10\n");
        assert_eq!(group_available("0::/slice/node\n", root.path()), Some(300));
        write("memory/a/memory.limit_in_bytes", "436207616\n");
        write("memory/a/memory.usage_in_bytes", "1000\n");
        write(
            "memory/a/memory.stat",
            "cache 1\ninactive_file 1\ntotal_inactive_file 600\ntotal_active_file 400\n",
        );
        assert_eq!(
            group_available("4:memory:/a\n3:cpu:/b\n0::/\n", root.path()),
            Some(436_207_616)
        );
        assert_eq!(group_available("0::/\n", root.path()), None);
        assert_eq!(group_available("nonsense", root.path()), None);
    }

    #[test]
    fn fields_are_read_in_bytes() {
        assert_eq!(
            field("MemFree:  3 kB\nMemAvailable:    416 kB\n", "MemAvailable:"),
            Some(416 << 10)
        );
        assert_eq!(field("MemAvailable: many kB\n", "MemAvailable:"), None);
    }
}
