//! `[wifi]`: its values, and the configuration for wpa_supplicant, the only text that shows the
//! network's key.
//!
//! That text contains nothing that a person typed: the name is written in hexadecimal, and the
//! password as the key that IEEE 802.11 derives from both. wpa_supplicant's parser has no escapes:
//! it takes `#` for a comment if the quotation marks before it pair up, and would read
//! `ab"c"d#efgh` as `ab"c"d`.
//!
//! WPA3 alone (SAE) needs the password itself, which this text does not have. The image's
//! wpa_supplicant is built without SAE; it joins networks that offer both WPA2 and WPA3 by WPA2.

use core::fmt;

use sha1::Sha1;

use super::Config;
use super::fault::Problem;
use super::value::{Kind, Secret, Setting, single};

/// A Wi-Fi network's name: up to 32 bytes of any kind (IEEE 802.11).
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Ssid(String);

impl Ssid {
    /// The name.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

single!(
    Ssid,
    Kind::Text,
    |text| (1..=32).contains(&text.len()).then(|| Ssid(text.to_string())),
    |ssid| ssid.0.clone(),
    "a network's name of at most 32 bytes"
);

/// Bytes of a network's key, and rounds of PBKDF2 to derive it (IEEE 802.11).
const KEY_BYTES: usize = 32;
const KEY_ROUNDS: u32 = 4_096;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A WPA passphrase: 8 to 63 printable ASCII characters, or the key itself as 64 hexadecimal digits
/// (IEEE 802.11).
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Passphrase(Secret);

impl Passphrase {
    /// The network's key (PSK) as 64 hexadecimal digits: PBKDF2 with HMAC-SHA1, salted with the
    /// network's name (IEEE 802.11, J.4).
    fn key(&self, ssid: &Ssid) -> String {
        let given = self.0.as_bytes();
        if given.len() == 2 * KEY_BYTES {
            return self.0.as_str().to_ascii_lowercase();
        }
        let mut key = [0; KEY_BYTES];
        pbkdf2::pbkdf2_hmac::<Sha1>(given, ssid.as_bytes(), KEY_ROUNDS, &mut key);
        hex(&key)
    }

    fn parse(text: &str) -> Option<Passphrase> {
        let printable = text.bytes().all(|byte| (b' '..=b'~').contains(&byte));
        let taken = match text.len() {
            8..=63 => printable,
            64 => text.bytes().all(|byte| byte.is_ascii_hexdigit()),
            _ => false,
        };
        taken.then(|| Passphrase(Secret::new(text)))
    }
}

single!(
    Passphrase,
    Kind::Text,
    Passphrase::parse,
    |_| Secret::HIDDEN.to_string(),
    "a password of 8 to 63 ASCII characters (or a key of 64 hexadecimal digits)"
);

/// Two letters of ISO 3166.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Country([u8; 2]);

impl fmt::Display for Country {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", char::from(self.0[0]), char::from(self.0[1]))
    }
}

single!(
    Country,
    Kind::Text,
    |text| {
        let letters: [u8; 2] = text.as_bytes().try_into().ok()?;
        letters
            .iter()
            .all(u8::is_ascii_alphabetic)
            .then(|| Country(letters.map(|letter| letter.to_ascii_uppercase())))
    },
    Country::to_string,
    "a country's two letters such as \"DE\""
);

/// Why the radio stays off.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum RadioOff {
    /// No network is set.
    Unset,
    /// The settings may be wrong.
    Doubtful(Problem),
}

impl Config {
    /// The text of wpa_supplicant.conf.
    ///
    /// # Errors
    /// [`RadioOff`] if no network is set, or if one of the file's `problems` may be about the
    /// network or its password: an invalid password must not make the board join an open network of
    /// that name.
    pub fn wpa_supplicant(&self, problems: &[Problem]) -> Result<String, RadioOff> {
        if let Some(problem) = problems.iter().find(|problem| problem.hits.wifi) {
            return Err(RadioOff::Doubtful(problem.clone()));
        }
        let ssid = self.wifi.ssid.as_ref().ok_or(RadioOff::Unset)?;
        let mut text = String::from("ctrl_interface=/var/run/wpa_supplicant\n");
        if let Some(country) = self.wifi.country {
            text += &format!("country={country}\n");
        }
        // Probe for the name, so that hidden networks are found, too.
        text += &format!("network={{\n\tssid={}\n\tscan_ssid=1\n", hex(ssid.as_bytes()));
        text += &match &self.wifi.password {
            None => "\tkey_mgmt=NONE\n".to_string(),
            Some(password) => format!("\tkey_mgmt=WPA-PSK\n\tpsk={}\n", password.key(ssid)),
        };
        Ok(text + "}\n")
    }
}
