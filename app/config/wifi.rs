//! `[wifi]`: its values, and the text that wpa_supplicant takes, the only one that shows the password.

use core::fmt;

use super::Config;
use super::fault::Problem;
use super::value::{Kind, Secret, Setting, single};

/// A Wi-Fi network's name: up to 32 bytes of any kind (IEEE 802.11).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Ssid(String);

impl Ssid {
    /// The name.
    pub fn as_bytes(&self) -> &[u8] {
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

/// A WPA passphrase: 8 to 63 printable ASCII characters, or the key itself as 64 hexadecimal digits (IEEE 802.11).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Passphrase(Secret);

impl Passphrase {
    /// The characters, for the radio's own configuration.
    pub(super) fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// Whether it is the key itself.
    pub(super) fn is_key(&self) -> bool {
        self.0.as_bytes().len() == 64
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
pub struct Country([u8; 2]);

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
        letters.iter().all(u8::is_ascii_alphabetic).then(|| Country(letters.map(|letter| letter.to_ascii_uppercase())))
    },
    Country::to_string,
    "a country's two letters such as \"DE\""
);

/// Why the radio stays off.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum RadioOff {
    /// No network is set.
    Unset,
    /// What is set cannot be understood.
    Doubtful(Problem),
}

impl Config {
    /// The text of wpa_supplicant.conf.
    ///
    /// # Errors
    /// [`RadioOff`] where no network is set, or where one of the `problems` of the file may be about the network or its password: a
    /// password that cannot be used must not become an open network of that name.
    ///
    /// The name goes in hexadecimal and the password between quotation marks, which end at the last one of the line: neither
    /// needs an escape, whatever it holds.
    pub fn wpa_supplicant(&self, problems: &[Problem]) -> Result<String, RadioOff> {
        if let Some(problem) = problems.iter().find(|problem| problem.hits.wifi) {
            return Err(RadioOff::Doubtful(problem.clone()));
        }
        let ssid = self.wifi.ssid.as_ref().ok_or(RadioOff::Unset)?;
        let mut text = String::from("ctrl_interface=/var/run/wpa_supplicant\n");
        if let Some(country) = self.wifi.country {
            text += &format!("country={country}\n");
        }
        let name: String = ssid.as_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
        // Asked for by name, so that a network that hides its name is found too.
        text += &format!("network={{\n\tssid={name}\n\tscan_ssid=1\n");
        text += &match &self.wifi.password {
            None => "\tkey_mgmt=NONE\n".to_string(),
            Some(key) if key.is_key() => format!("\tkey_mgmt=WPA-PSK\n\tpsk={}\n", key.as_str()),
            Some(password) => format!("\tkey_mgmt=WPA-PSK\n\tpsk=\"{}\"\n", password.as_str()),
        };
        Ok(text + "}\n")
    }
}
