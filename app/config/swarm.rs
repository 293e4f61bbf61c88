//! `[swarm]`: the key of a swarm, and how many of its blocks are audited.

use core::fmt;

use bip39::{Language, Mnemonic};

use crate::limits::{MAX_OLD_KEYS, MAX_SWARM_KEY_BYTES, SWARM_KEY_BYTES};

use super::value::{Kind, Secret, Setting, single};

/// Words of a drawn key, of 11 bits each: 256 bits of key and 8 of checksum (BIP-39).
const WORDS: usize = 24;

/// A text with at least this many BIP-39 words is a drawn key that was copied wrongly, rather than
/// a sentence: half the words of a key.
const MANY_WORDS: usize = WORDS / 2;

/// A text of only hexadecimal digits, at least this many, is a drawn key with digits lost or added.
const MANY_DIGITS: core::ops::RangeInclusive<usize> = 48..=80;

/// The key of a swarm, as the user gives it.
#[derive(Clone, PartialEq, Eq)]
pub enum SwarmKey {
    /// A drawn key: 64 hexadecimal digits or 24 words. It is used as it is.
    Drawn([u8; SWARM_KEY_BYTES]),
    /// A passphrase that a person chose. It is stretched before use.
    Passphrase(Secret),
}

impl SwarmKey {
    /// Parses `text`; `None` if it is invalid. A text that looks like a drawn key but is not one
    /// was copied wrongly. It is not accepted as a passphrase: the board would lock itself out of
    /// its swarm.
    pub fn parse(text: &str) -> Option<SwarmKey> {
        let is_text =
            (1..=MAX_SWARM_KEY_BYTES).contains(&text.len()) && !text.contains(char::is_control);
        let plain = Some(text.trim()).filter(|plain| is_text && !plain.is_empty())?;
        if plain.bytes().all(|byte| byte.is_ascii_hexdigit()) && MANY_DIGITS.contains(&plain.len())
        {
            return from_hex(plain).map(SwarmKey::Drawn);
        }
        let words: Vec<String> = plain.split_whitespace().map(str::to_ascii_lowercase).collect();
        let known = words.iter().filter(|word| Language::English.find_word(word).is_some()).count();
        if known >= MANY_WORDS && 4 * known >= 3 * words.len() {
            return from_words(&words.join(" ")).map(SwarmKey::Drawn);
        }
        Some(SwarmKey::Passphrase(Secret::new(text)))
    }

    /// A drawn key in hexadecimal.
    pub fn hex(key: &[u8; SWARM_KEY_BYTES]) -> String {
        key.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// A drawn key in words of the English BIP-39 list.
    pub fn words(key: &[u8; SWARM_KEY_BYTES]) -> String {
        let mnemonic = Mnemonic::from_entropy(key)
            .unwrap_or_else(|error| unreachable!("256 bits make 24 words: {error}"));
        mnemonic.words().collect::<Vec<_>>().join(" ")
    }
}

impl fmt::Debug for SwarmKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(Secret::HIDDEN)
    }
}

single!(SwarmKey, Kind::Text, SwarmKey::parse, |_| Secret::HIDDEN.to_string(), needs());

fn needs() -> String {
    format!(
        "a passphrase of at most {MAX_SWARM_KEY_BYTES} bytes, or a key as `potluck key` prints it, copied exactly, in quotation marks"
    )
}

/// Former keys of the swarm.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct OldKeys(Vec<SwarmKey>);

impl OldKeys {
    /// The keys, the latest first.
    pub(crate) fn keys(&self) -> &[SwarmKey] {
        &self.0
    }
}

impl Setting for OldKeys {
    const KIND: Kind = Kind::List;
    fn read(given: &[&str]) -> Result<OldKeys, usize> {
        if given.len() > MAX_OLD_KEYS {
            return Err(MAX_OLD_KEYS);
        }
        given
            .iter()
            .enumerate()
            .map(|(at, text)| SwarmKey::parse(text).ok_or(at))
            .collect::<Result<_, _>>()
            .map(OldKeys)
    }
    fn show(&self) -> Vec<String> {
        self.0.iter().map(|_| Secret::HIDDEN.to_string()).collect()
    }
    fn needs() -> String {
        format!("a list of at most {MAX_OLD_KEYS} keys, each {}", needs())
    }
}

/// A share of the whole, in steps of 0.01 %.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Share(u16);

impl Share {
    /// One in a hundred.
    pub(crate) const ONE_PERCENT: Share = Share(100);

    /// The share in ten-thousandths.
    pub(crate) fn per_10k(self) -> u16 {
        self.0
    }

    /// A nonzero share that would round to 0 is invalid: it was not meant as "off".
    fn parse(text: &str) -> Option<Share> {
        let percent = text.parse::<f64>().ok().filter(|percent| (0.0..=100.0).contains(percent))?;
        let share = (percent * 100.0).round() as u16;
        (share > 0 || percent == 0.0).then_some(Share(share))
    }
}

single!(
    Share,
    Kind::Number,
    Share::parse,
    |share| format!("{:?}", f64::from(share.0) / 100.0),
    "a number from 0 (none) to 100, in steps of 0.01"
);

fn from_hex(digits: &str) -> Option<[u8; SWARM_KEY_BYTES]> {
    let pairs =
        Some(digits.as_bytes().chunks(2)).filter(|_| digits.len() == 2 * SWARM_KEY_BYTES)?;
    let bytes: Option<Vec<u8>> =
        pairs.map(|pair| u8::from_str_radix(str::from_utf8(pair).ok()?, 16).ok()).collect();
    bytes?.try_into().ok()
}

fn from_words(words: &str) -> Option<[u8; SWARM_KEY_BYTES]> {
    let mnemonic = Mnemonic::parse_in_normalized(Language::English, words).ok()?;
    let (entropy, len) = mnemonic.to_entropy_array();
    entropy.get(..len)?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: [u8; SWARM_KEY_BYTES] = [0x7f; SWARM_KEY_BYTES];

    fn drawn(text: &str) -> Option<[u8; SWARM_KEY_BYTES]> {
        match SwarmKey::parse(text) {
            Some(SwarmKey::Drawn(key)) => Some(key),
            _ => None,
        }
    }

    #[test]
    fn a_share_is_a_number_from_none_to_all_and_never_none_by_a_slip() {
        for (text, share) in [
            ("0", 0),
            ("0.0", 0),
            ("0.01", 1),
            ("1", 100),
            ("2.5", 250),
            ("99.99", 9_999),
            ("100", 10_000),
        ] {
            assert_eq!(Share::parse(text).map(Share::per_10k), Some(share), "{text}");
        }
        for text in ["", "-1", "100.01", "0.001", "1 %", "1%", "NaN", "inf", "all"] {
            assert_eq!(Share::parse(text), None, "{text}");
        }
        assert_eq!(Share::ONE_PERCENT.show(), ["1.0"]);
    }

    #[test]
    fn a_drawn_key_is_the_same_in_digits_and_words() {
        // From the test vectors of BIP-39.
        let words = "legal winner thank year wave sausage worth useful ".repeat(2)
            + "legal winner thank year wave sausage worth title";
        assert_eq!(SwarmKey::words(&KEY), words);
        for text in [
            words.clone(),
            words.to_uppercase(),
            format!("  {}\u{a0}", words.replace(' ', "   ")),
            SwarmKey::hex(&KEY),
        ] {
            assert_eq!(drawn(&text), Some(KEY), "{text}");
        }
        assert_eq!(drawn(&SwarmKey::hex(&KEY).to_uppercase()), Some(KEY), "as the QR code has it");
        for last in 0..=255 {
            let mut key = KEY;
            key[31] = last;
            assert_eq!(drawn(&SwarmKey::words(&key)), Some(key));
        }
    }

    /// Accepted as a passphrase, a copying mistake would silently lock a board out of its swarm.
    #[test]
    fn a_drawn_key_that_was_copied_wrongly_is_refused() {
        let (digits, words) = (SwarmKey::hex(&KEY), SwarmKey::words(&KEY));
        for wrong in [
            digits[1..].to_string(),
            format!("{digits}0"),
            words.replace("title", "useful"),
            words.replace("winner", "wimmer"),
            words.replacen("legal ", "", 1),
            format!("{words} title"),
            words
                .split_once(" sausage")
                .map(|(head, _)| format!("{head} {head} {head} {head}"))
                .unwrap_or_default(),
        ] {
            assert_eq!(SwarmKey::parse(&wrong), None, "{wrong}");
        }
    }

    #[test]
    fn what_people_think_of_is_a_passphrase() {
        for text in [
            "sesame",
            "12345",
            "correct horse battery staple",
            "c0ffee",
            "Übermut tut selten gut",
            "the year we began this",
        ] {
            assert!(matches!(SwarmKey::parse(text), Some(SwarmKey::Passphrase(_))), "{text}");
        }
        for text in ["", " ", "a\nb", "a\u{0}", &"x".repeat(MAX_SWARM_KEY_BYTES + 1)] {
            assert_eq!(SwarmKey::parse(text), None, "{text:?}");
        }
        assert!(!format!("{:?}", SwarmKey::parse("sesame")).contains("sesame"));
    }
}
