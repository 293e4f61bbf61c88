//! What wpa_supplicant reads from a board's Wi-Fi settings, with its own parser: Debian's package
//! wpasupplicant. Where that is not installed, these tests say so and pass. `WIFI=10000` tries more
//! networks than the usual few hundred.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use potluck::config::Config;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config as Runs, RngSeed, TestRunner};

/// Networks per file, so that one start of the parser reads this many.
const BATCH: usize = 500;

/// Whether Debian's wpasupplicant is installed.
fn is_installed() -> bool {
    let runs = |program: &str| {
        Command::new(program).arg("-v").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok()
    };
    let is_installed = runs("wpa_supplicant") && runs("wpa_passphrase");
    if !is_installed {
        eprintln!("skipped: wpa_supplicant and wpa_passphrase are not installed");
    }
    is_installed
}

/// Networks that users may have: names of up to 32 bytes, passwords of 8 to 63 printable
/// ASCII characters.
fn networks(count: usize) -> Vec<(String, String)> {
    let hard = prop::sample::select("\"\\# '%=ü東🔒".chars().collect::<Vec<_>>());
    let letter = prop_oneof![2 => prop::char::range(' ', '~'), 1 => hard];
    let name = prop::collection::vec(letter, 1..=32).prop_map(|letters| {
        letters.into_iter().fold(String::new(), |mut name, letter| {
            if name.len() + letter.len_utf8() <= 32 {
                name.push(letter);
            }
            name
        })
    });
    let hard = prop::sample::select("\"\"\\# ".chars().collect::<Vec<_>>());
    let letter = prop_oneof![4 => prop::char::range(' ', '~'), 1 => hard];
    let length = prop_oneof![1 => Just(63_usize), 2 => 8_usize..=63];
    let password =
        length.prop_flat_map(move |length| prop::collection::vec(letter.clone(), length));
    let network = (name, password.prop_map(|letters| letters.into_iter().collect::<String>()));
    let mut runner = TestRunner::new(Runs {
        rng_seed: RngSeed::Fixed(13),
        failure_persistence: None,
        ..Runs::default()
    });
    (0..count).map(|_| network.new_tree(&mut runner).unwrap().current()).collect()
}

/// A text quoted for `potluck.toml`.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

/// The section `network` of the configuration that wpa_supplicant gets.
fn section(ssid: &str, password: Option<&str>) -> String {
    let password =
        password.map_or(String::new(), |password| format!("password = {}\n", quoted(password)));
    let toml = format!("[wifi]\nssid = {}\n{password}", quoted(ssid));
    let (config, problems) = Config::read(toml.as_bytes(), Path::new(""));
    let text = config
        .wpa_supplicant(&problems)
        .unwrap_or_else(|off| panic!("{toml}: {off:?} {problems:?}"));
    let start = text.find("network={").unwrap();
    text[start..].to_string()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The name and key, in hexadecimal, of each network in the file as wpa_supplicant read it. An open
/// network has no key; a refused one is `None`.
fn read(sections: &[String]) -> Vec<Option<(String, Option<String>)>> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("wpa_supplicant.conf");
    std::fs::write(&path, sections.concat()).unwrap();
    // There is no such interface, so it exits as soon as it has read the file. Its log shows what
    // it read, keys included.
    let said = Command::new("wpa_supplicant")
        .args(["-i", "none0", "-D", "none", "-ddK", "-c"])
        .arg(&path)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    let (mut networks, mut is_name) = (Vec::new(), 0);
    for line in said.lines() {
        let digits = |text: &str| text.chars().filter(char::is_ascii_hexdigit).collect::<String>();
        let open = networks.last_mut().and_then(Option::as_mut);
        if line.contains("start of a new network block") {
            networks.push(Some((String::new(), None)));
        } else if let Some(rest) = line.strip_prefix("ssid - hexdump_ascii(len=") {
            is_name = rest.trim_end_matches("):").parse::<usize>().unwrap();
        } else if is_name > 0 {
            // Sixteen bytes per line, followed by the same bytes as characters.
            let here = is_name.min(16);
            let (name, _): &mut (String, Option<String>) = open.unwrap();
            *name += &digits(&line.trim_start()[..3 * here - 1]);
            is_name -= here;
        } else if let Some(rest) = line.strip_prefix("PSK - hexdump(len=32): ") {
            open.unwrap().1 = Some(digits(rest));
        } else if let Some(rest) = line.strip_prefix("PSK (from passphrase) - hexdump(len=32): ") {
            open.unwrap().1 = Some(digits(rest));
        } else if line.contains("failed to parse") {
            *networks.last_mut().unwrap() = None;
        }
    }
    networks
}

/// The key that wpa_passphrase derives from them.
fn key_of(ssid: &str, password: &str) -> String {
    let mut child = Command::new("wpa_passphrase")
        .arg(ssid)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(format!("{password}\n").as_bytes()).unwrap();
    let said = child.wait_with_output().unwrap().stdout;
    let said = String::from_utf8_lossy(&said);
    said.lines()
        .find_map(|line| line.strip_prefix("\tpsk="))
        .unwrap_or_else(|| panic!("{ssid:?} {password:?}: {said}"))
        .to_string()
}

/// A truncated password would keep a board off its network, and nothing would say why.
#[test]
fn wpa_supplicant_reads_what_was_meant_whatever_name_and_password_hold() {
    if !is_installed() {
        return;
    }
    let count = std::env::var("WIFI").ok().and_then(|count| count.parse().ok()).unwrap_or(BATCH);
    for batch in networks(count).chunks(BATCH) {
        let sections: Vec<String> =
            batch.iter().map(|(ssid, password)| section(ssid, Some(password))).collect();
        let given = read(&sections);
        assert_eq!(given.len(), batch.len());
        for ((ssid, password), given) in batch.iter().zip(given) {
            let meant = (hex(ssid.as_bytes()), Some(key_of(ssid, password)));
            assert_eq!(given, Some(meant), "{ssid:?} {password:?}");
        }
    }
    let key = "0123456789abcdefABCDEF9876543210".repeat(2);
    let others = [section("x", Some(&key)), section("#\"", None)];
    let meant = [("78", Some(key.to_ascii_lowercase())), ("2322", None)]
        .map(|(name, key)| Some((name.to_string(), key)));
    assert_eq!(read(&others), meant);
}

/// Why potluck writes the derived key: passwords in quotation marks, which potluck once wrote, are
/// not all read in full.
#[test]
fn a_password_between_quotation_marks_does_not_always_arrive() {
    if !is_installed() {
        return;
    }
    let networks = networks(BATCH);
    let plain = |password: &str| format!("network={{\n\tssid=78\n\tpsk=\"{password}\"\n}}\n");
    let given = read(&networks.iter().map(|(_, password)| plain(password)).collect::<Vec<_>>());
    let kept = given.iter().zip(&networks).filter(|(given, (_, password))| {
        given.as_ref().is_some_and(|(_, key)| *key == Some(key_of("x", password)))
    });
    let cut = BATCH - kept.count();
    assert!(
        cut > 5,
        "{cut} of {BATCH} were truncated: this parser now knows escapes, or the check is blind"
    );
}
