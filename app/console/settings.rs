//! How answers are made on one console until it says otherwise: the command `set`.

use serde::Serialize;

use crate::limits::{MAX_CONTEXT_TOKENS, MAX_VOCABULARY_TOKENS};
use crate::sampler::Sampling;

/// The names that `set` knows, and what each is.
pub const SETTINGS: [(&str, &str); 5] = [
    ("temperature", "0 always takes the likeliest token; higher is more varied"),
    ("top-k", "choose among the K likeliest tokens; 0 means all"),
    ("top-p", "choose among the likeliest tokens that together have this probability"),
    ("seed", "the same seed gives the same answer"),
    ("max-tokens", "tokens of an answer, at most"),
];

/// How answers are made.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
pub struct Settings {
    /// Tokens of an answer, at most.
    pub max_tokens: usize,
    /// How they are chosen.
    #[serde(flatten)]
    pub sampling: Sampling,
}

impl Settings {
    /// Sets the one of that name.
    ///
    /// # Errors
    /// What would be taken, for a person.
    pub fn set(&mut self, name: &str, value: &str) -> Result<(), String> {
        let Sampling { mut temperature, mut top_k, mut top_p, mut seed } = self.sampling;
        match name {
            "temperature" => temperature = number(name, value, "a number such as 0.7")?,
            "top-p" => top_p = number(name, value, "a number such as 0.95")?,
            "seed" => seed = number(name, value, "a whole number")?,
            "top-k" => top_k = within(name, value, 0, MAX_VOCABULARY_TOKENS)?,
            "max-tokens" => self.max_tokens = within(name, value, 1, MAX_CONTEXT_TOKENS)?,
            _ => return Err(unknown(name)),
        }
        self.sampling = Sampling::new(temperature, top_k, top_p, seed).map_err(|error| error.to_string())?;
        Ok(())
    }

    /// The value of the one of that name.
    ///
    /// # Errors
    /// The names that there are.
    pub fn get(&self, name: &str) -> Result<String, String> {
        Ok(match name {
            "temperature" => self.sampling.temperature.to_string(),
            "top-k" => self.sampling.top_k.to_string(),
            "top-p" => self.sampling.top_p.to_string(),
            "seed" => self.sampling.seed.to_string(),
            "max-tokens" => self.max_tokens.to_string(),
            _ => return Err(unknown(name)),
        })
    }

    /// All of them, a line each.
    pub fn table(&self) -> String {
        let line = |(name, about): &(&str, &str)| format!("{name:<12} {:<10} {about}\n", self.get(name).unwrap_or_default());
        SETTINGS.iter().map(line).collect()
    }
}

fn unknown(name: &str) -> String {
    let names: Vec<&str> = SETTINGS.iter().map(|(name, _)| *name).collect();
    format!("nothing is called {}: set knows {}", super::harmless(name), names.join(", "))
}

fn number<T: std::str::FromStr>(name: &str, value: &str, needs: &str) -> Result<T, String> {
    value.parse().map_err(|_| format!("{name} {}: {needs} is needed", super::harmless(value)))
}

fn within(name: &str, value: &str, least: usize, most: usize) -> Result<usize, String> {
    let needs = format!("a whole number from {least} to {most}");
    let given: usize = number(name, value, &needs)?;
    if (least..=most).contains(&given) { Ok(given) } else { Err(format!("{name} {given}: {needs} is needed")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_shown_and_set_and_bad_values_change_nothing() {
        let mut settings = Settings { max_tokens: 128, sampling: Sampling::GREEDY };
        for (name, _) in SETTINGS {
            settings.set(name, "1").unwrap();
            assert_eq!(settings.get(name).unwrap(), "1");
            assert!(settings.table().contains(name));
            let before = settings;
            for bad in ["-1", "nan", "x", "", "1e99"] {
                if let Err(reason) = settings.set(name, bad) {
                    assert!(!reason.is_empty());
                    assert_eq!(settings, before, "{name} {bad}");
                } else {
                    panic!("{name} {bad} was taken");
                }
            }
        }
        assert!(settings.set("temprature", "1").unwrap_err().contains("temperature, top-k"));
    }
}
