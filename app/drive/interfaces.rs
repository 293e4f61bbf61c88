//! This machine's interfaces as the system reports them: addresses from `getifaddrs`, properties
//! from `/sys/class/net`.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;

use if_addrs::IfAddr;

use crate::lan::{Addr, Facts, Hardware};

/// Maximum number of interfaces considered. A machine with more runs containers by the hundred, and
/// hardware interfaces come first by index.
const MOST: usize = 64;

/// Maximum size of an attribute, in bytes: attributes are words and numbers.
const MOST_BYTES: usize = 4_096;

/// All interfaces, by index; `/sys` is looked up under `root`.
pub(super) fn read(root: &Path) -> io::Result<Vec<Facts>> {
    let mut all: BTreeMap<u32, Facts> = BTreeMap::new();
    let class = root.join("sys/class/net");
    for entry in fs::read_dir(&class).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let Some(index) = number(&class.join(&name), "ifindex") else { continue };
        let hardware = Some(hardware(&class, &name));
        all.insert(index as u32, Facts { name, index: index as u32, addrs: Vec::new(), hardware });
    }
    for interface in if_addrs::get_if_addrs()? {
        let Some(index) = interface.index else { continue };
        let addr = match &interface.addr {
            IfAddr::V4(v4) => Addr { ip: v4.ip.into(), prefix: v4.prefixlen },
            IfAddr::V6(v6) => Addr { ip: v6.ip.into(), prefix: v6.prefixlen },
        };
        let name = interface.name.clone();
        all.entry(index)
            .or_insert_with(|| Facts { name, index, addrs: Vec::new(), hardware: None })
            .addrs
            .push(addr);
    }
    Ok(all.into_values().take(MOST).collect())
}

fn hardware(class: &Path, name: &str) -> Hardware {
    let dir = class.join(name);
    let has = |what: &str| dir.join(what).symlink_metadata().is_ok();
    let flags = attribute(&dir, "flags")
        .and_then(|text| u32::from_str_radix(text.trim_start_matches("0x"), 16).ok());
    let uevent = attribute(&dir, "uevent").unwrap_or_default();
    let device = uevent
        .lines()
        .find_map(|line| line.strip_prefix("DEVTYPE="))
        .unwrap_or_default()
        .to_string();
    let is_hardware = |port: &fs::DirEntry| {
        class.join(port.file_name()).join("device").symlink_metadata().is_ok()
    };
    let ports = || {
        fs::read_dir(dir.join("brif"))
            .into_iter()
            .flatten()
            .flatten()
            .any(|port| is_hardware(&port))
    };
    Hardware {
        flags: flags.unwrap_or_default(),
        kind: number(&dir, "type").unwrap_or_default() as u32,
        tun: has("tun_flags"),
        bridge: has("bridge").then(ports),
        port: has("brport") || has("bonding_slave"),
        physical: has("device"),
        carrier: number(&dir, "carrier") == Some(1),
        carrier_changes: number(&dir, "carrier_changes").unwrap_or_default(),
        device: if has("wireless") || has("phy80211") { "wlan".to_string() } else { device },
    }
}

fn number(dir: &Path, what: &str) -> Option<u64> {
    attribute(dir, what)?.parse().ok()
}

fn attribute(dir: &Path, what: &str) -> Option<String> {
    let text = fs::read_to_string(dir.join(what)).ok().filter(|text| text.len() <= MOST_BYTES)?;
    Some(text.trim().to_string())
}

/// The gateway of an interface, if it has one, from `/proc/net/route`.
pub(super) fn gateway(root: &Path, interface: &str) -> Option<std::net::Ipv4Addr> {
    let table = fs::read_to_string(root.join("proc/net/route")).ok()?;
    table.lines().skip(1).find_map(|line| {
        let mut fields = line.split_whitespace();
        let (name, to, via) = (fields.next()?, fields.next()?, fields.next()?);
        let gateway = u32::from_str_radix(via, 16).ok().filter(|gateway| *gateway != 0)?;
        (name == interface && to == "00000000")
            .then(|| std::net::Ipv4Addr::from(gateway.to_ne_bytes()))
    })
}

/// Whether the kernel has a neighbour's hardware address, from `/proc/net/arp`. A neighbour that
/// does not answer loses its entry.
pub(super) fn answers(root: &Path, neighbour: std::net::Ipv4Addr) -> bool {
    let table = fs::read_to_string(root.join("proc/net/arp")).unwrap_or_default();
    table.lines().skip(1).any(|line| {
        let mut fields = line.split_whitespace();
        let is_it = fields.next().and_then(|ip| ip.parse().ok()) == Some(neighbour);
        let flags = fields
            .nth(1)
            .and_then(|flags| u32::from_str_radix(flags.trim_start_matches("0x"), 16).ok());
        is_it && flags.is_some_and(|flags| flags & 0x2 != 0)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(root: &Path, files: &[(&str, &str)]) {
        for (path, text) in files {
            let path = root.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
    }

    #[test]
    fn what_an_interface_is_stands_in_sys() {
        let root = tempfile::tempdir().unwrap();
        let eth0 = "sys/class/net/eth0";
        write(
            root.path(),
            &[(&format!("{eth0}/flags"), "0x1003\n"), (&format!("{eth0}/type"), "1\n")],
        );
        write(
            root.path(),
            &[(&format!("{eth0}/carrier"), "1\n"), (&format!("{eth0}/carrier_changes"), "7\n")],
        );
        write(
            root.path(),
            &[(&format!("{eth0}/device/vendor"), ""), ("sys/class/net/br0/brif/eth0", "")],
        );
        write(
            root.path(),
            &[
                ("sys/class/net/br0/uevent", "DEVTYPE=bridge\nINTERFACE=br0\n"),
                ("sys/class/net/br0/bridge/x", ""),
            ],
        );
        write(
            root.path(),
            &[("sys/class/net/docker0/bridge/x", ""), ("sys/class/net/tun0/tun_flags", "0x1001")],
        );
        let class = root.path().join("sys/class/net");
        let eth0 = hardware(&class, "eth0");
        assert_eq!((eth0.flags, eth0.kind, eth0.carrier_changes), (0x1003, 1, 7));
        assert!(eth0.physical && eth0.carrier && eth0.bridge.is_none());
        let br0 = hardware(&class, "br0");
        assert_eq!((br0.bridge, br0.device.as_str()), (Some(true), "bridge"));
        assert_eq!(hardware(&class, "docker0").bridge, Some(false));
        assert!(hardware(&class, "tun0").tun && !hardware(&class, "gone").carrier);
    }

    #[test]
    fn a_gateway_that_answers_is_told_from_one_that_does_not() {
        let root = tempfile::tempdir().unwrap();
        let route = "Iface\tDestination\tGateway \tFlags\nwlan0\t0001A8C0\t00000000\t0001\nwlan0\t00000000\t0101A8C0\t0003\n";
        let arp = "IP address HW type Flags HW address Mask Device\n192.168.1.1 0x1 0x2 aa:bb:cc:dd:ee:ff * wlan0\n\
                   192.168.1.7 0x1 0x0 00:00:00:00:00:00 * wlan0\n";
        write(root.path(), &[("proc/net/route", route), ("proc/net/arp", arp)]);
        assert_eq!(gateway(root.path(), "wlan0"), Some([192, 168, 1, 1].into()));
        assert_eq!(gateway(root.path(), "eth0"), None);
        assert!(answers(root.path(), [192, 168, 1, 1].into()));
        assert!(
            !answers(root.path(), [192, 168, 1, 7].into())
                && !answers(root.path(), [192, 168, 1, 9].into())
        );
    }

    #[test]
    fn this_machine_has_interfaces() {
        let all = read(Path::new("/")).unwrap();
        assert!(
            all.iter().any(|facts| facts.addrs.iter().any(|addr| addr.ip.is_loopback())),
            "{all:?}"
        );
    }
}
