//! `[wifi]` as wpa_supplicant takes it. The only place that shows the password.

use super::Config;

impl Config {
    /// The text of wpa_supplicant.conf; none where no network is set.
    ///
    /// The name goes in hexadecimal and the password between quotation marks, which end at the last one of the line: neither
    /// needs an escape, whatever it holds.
    pub fn wpa_supplicant(&self) -> Option<String> {
        let ssid = self.wifi.ssid.as_ref()?;
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
        Some(text + "}\n")
    }
}
