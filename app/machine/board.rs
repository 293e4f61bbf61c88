//! The board: its model, heat and voltage, and the room on its card.

use std::fs;
use std::path::Path;

use super::text;

/// What the board reports of itself.
#[derive(Clone, PartialEq, Debug, Default)]
pub(crate) struct BoardFacts {
    /// The model name.
    pub model: Option<String>,
    /// Temperature of its hottest part.
    pub temperature_c: Option<f32>,
    /// The firmware's flags for voltage and heat: bits 0 to 3 now, 16 to 19 since the start.
    pub throttled: Option<u32>,
    /// Whether the supply voltage is too low, on boards that report only that.
    pub under_voltage: Option<bool>,
}

/// The facts about the board whose file system is at `root`: `/`, except in tests.
pub(crate) fn board(root: &Path) -> BoardFacts {
    let zones = fs::read_dir(root.join("sys/class/thermal")).into_iter().flatten().flatten();
    let heat = zones.filter_map(|zone| text(&zone.path(), "temp")?.parse::<f32>().ok());
    let throttled = text(root, "sys/devices/platform/soc/soc:firmware/get_throttled");
    let alarm = || {
        let monitors = fs::read_dir(root.join("sys/class/hwmon")).into_iter().flatten().flatten();
        let mut volts =
            monitors.filter(|monitor| text(&monitor.path(), "name").as_deref() == Some("rpi_volt"));
        volts.find_map(|monitor| text(&monitor.path(), "in0_lcrit_alarm")).map(|alarm| alarm != "0")
    };
    BoardFacts {
        model: text(root, "proc/device-tree/model")
            .or_else(|| text(root, "sys/class/dmi/id/product_name")),
        temperature_c: heat
            .map(|milli| milli / 1e3)
            .filter(|celsius| (-40.0..150.0).contains(celsius))
            .reduce(f32::max),
        throttled: throttled
            .and_then(|hex| u32::from_str_radix(hex.trim_start_matches("0x"), 16).ok()),
        under_voltage: alarm(),
    }
}

/// Free and total bytes of the file system that a path is on.
pub(crate) fn card(path: &Path) -> Option<(u64, u64)> {
    let of = rustix::fs::statvfs(path).ok()?;
    Some((of.f_bavail.saturating_mul(of.f_frsize), of.f_blocks.saturating_mul(of.f_frsize)))
        .filter(|(_, all)| *all > 0)
}

#[cfg(test)]
mod tests {
    use super::super::write;
    use super::*;

    #[test]
    fn a_board_is_read_from_proc_and_sys_and_what_is_not_there_is_absent() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(board(root.path()), BoardFacts::default());
        write(root.path(), "proc/device-tree/model", "Raspberry Pi Zero 2 W Rev 1.0\0");
        write(root.path(), "sys/class/thermal/thermal_zone0/temp", "52300\n");
        write(root.path(), "sys/devices/platform/soc/soc:firmware/get_throttled", "50005\n");
        write(root.path(), "sys/class/hwmon/hwmon1/name", "rpi_volt\n");
        write(root.path(), "sys/class/hwmon/hwmon1/in0_lcrit_alarm", "1\n");
        let board = board(root.path());
        assert_eq!(board.model.as_deref(), Some("Raspberry Pi Zero 2 W Rev 1.0"));
        assert_eq!(
            (board.temperature_c, board.throttled, board.under_voltage),
            (Some(52.3), Some(0x5_0005), Some(true))
        );
    }

    #[test]
    fn the_card_has_a_size() {
        assert!(card(Path::new("/")).is_some_and(|(free, all)| free <= all));
        assert_eq!(card(Path::new("/no/such/path")), None);
    }
}
