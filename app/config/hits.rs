//! Whether a broken place of a file may have been meant for one of the two settings that must not
//! fall back to a default: the swarm's key and the radio's password. Without either, a node would
//! talk to strangers.
//!
//! Promise: in doubt, the answer is yes. A place is harmless only if its section is known and a
//! different one, and nothing in the place looks like a key of these two.

use super::near::nearest;
use super::table::TABLE;

/// The sections that must not fall back to defaults, each with whether a place may belong to it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Hits {
    /// `[swarm]`
    pub swarm: bool,
    /// `[wifi]`
    pub wifi: bool,
}

/// Parts of words that people use for a key or password.
const TELLING: [(&str, &[&str]); 2] =
    [("swarm", &["key", "swarm"]), ("wifi", &["pass", "psk", "ssid", "wifi", "wlan"])];

impl Hits {
    /// It may have been meant for anything.
    pub(crate) const ALL: Hits = Hits { swarm: true, wifi: true };

    /// It was meant for something else.
    pub(crate) const NONE: Hits = Hits { swarm: false, wifi: false };

    /// It was meant for this section.
    pub(super) fn of(section: &str) -> Hits {
        Hits { swarm: section == "swarm", wifi: section == "wifi" }
    }

    /// It is in this section, or in none, and has these words.
    pub(super) fn at(section: Option<&str>, text: &str) -> Hits {
        let Some(section) =
            section.filter(|section| TABLE.iter().any(|key| key.section == *section))
        else {
            return Hits::ALL;
        };
        Hits::of(section).or(Hits::by_words(text))
    }

    /// What the words of the text look like.
    pub(super) fn by_words(text: &str) -> Hits {
        let words = text
            .split(|c: char| !(c.is_alphanumeric() || c == '_' || c == '-'))
            .filter(|word| !word.is_empty());
        words.map(Hits::by_word).fold(Hits::NONE, Hits::or)
    }

    fn by_word(word: &str) -> Hits {
        let word = word.to_lowercase();
        let looks_like = |section: &str| {
            let telling = TELLING
                .iter()
                .any(|(of, parts)| *of == section && parts.iter().any(|part| word.contains(part)));
            let names = TABLE
                .iter()
                .filter(|key| key.section == section)
                .map(|key| key.key)
                .chain([section]);
            // Up to a third of its letters may be wrong.
            telling
                || nearest(&word, names, |name| name)
                    .is_some_and(|(name, changes)| changes <= (name.len() / 3).max(1))
        };
        Hits { swarm: looks_like("swarm"), wifi: looks_like("wifi") }
    }

    pub(super) fn or(self, other: Hits) -> Hits {
        Hits { swarm: self.swarm || other.swarm, wifi: self.wifi || other.wifi }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::{Config, RadioOff};
    use super::*;

    /// Everything that the problems of a file may have been meant for; `NONE` without problems.
    fn hits(bytes: &[u8]) -> Option<Hits> {
        let (_, problems) = Config::read(bytes, Path::new("/boot"));
        problems.iter().map(|problem| problem.hits).reduce(Hits::or)
    }

    /// Without this check, each of these made a node join the swarm without a key.
    #[test]
    fn a_key_that_cannot_be_understood_is_in_doubt_wherever_it_stands() {
        let long = vec![b'#'; crate::limits::MAX_CONFIG_FILE_BYTES + 1];
        let utf16: Vec<u8> =
            "\u{feff}[swarm]\n".encode_utf16().flat_map(u16::to_le_bytes).collect();
        let drawn = format!("[swarm]\nkey = \"{}\"\n", "7f".repeat(31));
        let all: [&[u8]; 42] = [
            b"[swarm]\nkey = \"sesame\n",
            b"[swarm]\nkey = \"sesame",
            b"[swarm]\nkey = 'sesame\n[memory]\nslab = 64\n",
            b"[swarm]\nkey = sesame\"\n",
            b"[swarm]\nkey = sesame\n",
            b"[swarm]\nkey = 12345\n",
            b"[swarm]\nkey = true\n",
            b"[swarm]\nkey = [\"sesame\"]\n",
            b"[swarm]\nkey = \"open \"sesame\"\"\n",
            b"[swarm]\nkey = \"a\\sesame\"\n",
            b"[swarm]\nkey = \"sesame\" open\n",
            b"[swarm]\nkey =\n",
            b"[swarm]\nkey\n",
            b"[swarm]\nkey: \"sesame\"\n",
            b"[swarm]\nkey \"sesame\"\n",
            b"[swarm]\n\"sesame\"\n",
            b"[swarm]\nkye = \"sesame\"\n",
            b"[swarm]\npassword = \"sesame\"\n",
            b"[swarm]\nanything = 3\n",
            b"[swarm]\nkey = \"sesame\"\nkey = \"open\"\n",
            b"[swarm]\nkey = \"sesame\"\nkey_file = \"k\"\n",
            b"[swarm]\nkey_file = 3\n",
            b"[swarm]\nold_keys = 3\n",
            b"[swarm]\nold_keys = [\"sesame\", 3]\n",
            b"[swarm.key]\nis = \"sesame\"\n",
            b"[swarm]\nkey = \"K\xfcche\"\n",
            b"[sw\xe4rm]\nkey = \"sesame\"\n",
            b"[swarm\nkey = \"sesame\"\n",
            b"swarm]\nkey = \"sesame\"\n",
            b"[[swarm]]\nkey = \"sesame\"\n",
            b"[swram]\nkey = \"sesame\"\n",
            b"[Swarm]\nkey = \"sesame\"\n",
            b"[shared]\nswarm_key = \"sesame\"\n",
            b"[node]\nkey = \"sesame\"\n",
            b"[node]\nswarm-key = \"sesame\"\n",
            b"key = \"sesame\"\n",
            b"swarm = \"sesame\"\n",
            b"[node]\nname = \"kitchen\n[swarm]\nkey = \"sesame\"\n",
            b"[answers]\nsystem = \"\"\"Be brief.\n[swarm]\nkey = \"sesame\"\n[log]\nlevel = \"warn\"\n# \"\"\"\n",
            &drawn.into_bytes(),
            &long,
            &utf16,
        ];
        for bytes in all {
            let text = String::from_utf8_lossy(&bytes[..bytes.len().min(200)]);
            assert!(hits(bytes).is_some_and(|hits| hits.swarm), "{text}");
        }
    }

    /// Nobody would repair a board that stops sharing because of a typo in its slab.
    #[test]
    fn what_is_wrong_elsewhere_is_wrong_there_alone() {
        let all: [&[u8]; 15] = [
            b"[memory]\nslab = 96 MB\n[swarm]\nkey = \"sesame\"\n",
            b"[memory]\nslab = \"lots\"\n",
            b"[memory]\nslap = 64\n",
            b"[memory\nslab = 64\n",
            b"[memory]\nslab = 64\nslab = 65\n",
            b"[memory]\nslab = 64\n[node]\n[memory]\n",
            b"[node]\nnmae = \"kitchen\"\n",
            b"[node]\nname = \"K\xfcche\"\n",
            b"# K\xfcche\n",
            b"[network]\nport\n",
            b"[network]\npeers = [\n  10.0.0.2:7654,\n]\n",
            b"[console]\ndevices = [/dev/ttyS0]\n",
            b"[answers]\ntemperature = hot\n",
            b"[newer]\nspeed = 3\n",
            b"[model]\nport = 7655\n",
        ];
        for bytes in all {
            assert_eq!(hits(bytes), Some(Hits::NONE), "{}", String::from_utf8_lossy(bytes));
        }
        for open in ["", "[swarm]\n", "[swarm]\nkey = \"\"\n", "[swarm]\nold_keys = []\n"] {
            assert_eq!(hits(open.as_bytes()), None, "{open}");
        }
    }

    /// Without this check, each of these made a board join an open network of that name.
    #[test]
    fn a_password_that_cannot_be_used_leaves_the_radio_off() {
        for wrong in [
            "password = \"short\"",
            "password = \"p\u{e4}ssw\u{f6}rter\"",
            "password = \"back\\slash\"",
            "password = \"back\\bspace\"",
            "password = 12345678",
            "password = \"open sesame",
            "password = \"open \"sesame\"\"",
            "password: \"open sesame\"",
            "passwrod = \"open sesame\"",
            "passphrase = \"open sesame\"",
            "key = \"open sesame\"",
            "[wfi]\npassword = \"open sesame\"",
            "[node]\npassword = \"open sesame\"",
            "[swarm]\npassword = \"open sesame\"",
        ] {
            let (config, problems) = Config::read(
                format!("[wifi]\nssid = \"home\"\n{wrong}\n").as_bytes(),
                Path::new(""),
            );
            assert!(
                matches!(config.wpa_supplicant(&problems), Err(RadioOff::Doubtful(_))),
                "{wrong}: {problems:?}"
            );
        }
        let (config, problems) =
            Config::read(b"[wifi]\nssid = \"home\"\n[memory]\nslab = lots\n", Path::new(""));
        assert!(
            config.wpa_supplicant(&problems).unwrap().contains("key_mgmt=NONE"),
            "an open network that was asked for"
        );
    }
}
