//! The settings for answers on one console, shown and changed by the command `set`.

use serde::Serialize;

use crate::limits::{
    MAX_CONTEXT_TOKENS, MAX_REPEAT_TOKENS, MAX_STOP_BYTES, MAX_STOPS, MAX_SYSTEM_BYTES,
    MAX_VOCABULARY_TOKENS,
};
use crate::sampler::{Repeat, Sampling};

/// The names that `set` knows, with descriptions.
pub(crate) const SETTINGS: [(&str, &str); 10] = [
    ("temperature", "0 always takes the likeliest token; higher is more varied"),
    ("top-k", "choose among the K likeliest tokens; 0 means all"),
    ("top-p", "choose among the likeliest tokens that together have this probability"),
    ("seed", "the same seed gives the same answer"),
    ("max-tokens", "tokens of an answer, at most"),
    ("repeat-penalty", "above 1, tokens that have just been used become less likely; 1 is off"),
    ("repeat-last-n", "how many of the latest tokens the repetition penalty looks at"),
    ("stop", "texts that end an answer, in quotation marks: \"\\n\\n\" \"User:\"; \"\" for none"),
    ("raw", "on: texts are completed as they stand, whatever chat template the model has"),
    (
        "drop-oldest",
        "on: a conversation that fills the context goes on without its oldest turns; off: it says that it is full",
    ),
];

/// The settings for answers.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub(crate) struct Settings {
    /// Maximum tokens of an answer.
    pub max_tokens: usize,
    /// How tokens are chosen.
    #[serde(flatten)]
    pub sampling: Sampling,
    /// Texts that end an answer.
    pub stop: Vec<String>,
    /// Whether texts are completed as they stand, whatever chat template the model has.
    pub raw: bool,
    /// The system text of a conversation.
    pub system: Option<String>,
    /// Whether a conversation that fills the context goes on without its oldest turns.
    pub drop_oldest: bool,
}

impl Settings {
    /// Sets the named setting.
    ///
    /// # Errors
    /// The accepted values, as a message to a person.
    pub(crate) fn set(&mut self, name: &str, value: &str) -> Result<(), String> {
        let Sampling { mut temperature, mut top_k, mut top_p, mut seed, mut repeat } =
            self.sampling;
        match name {
            "temperature" => temperature = number(name, value, "a number such as 0.7")?,
            "top-p" => top_p = number(name, value, "a number such as 0.95")?,
            "seed" => seed = number(name, value, "a whole number")?,
            "top-k" => top_k = within(name, value, 0, MAX_VOCABULARY_TOKENS)?,
            "max-tokens" => self.max_tokens = within(name, value, 1, MAX_CONTEXT_TOKENS)?,
            "repeat-penalty" => {
                repeat = penalty(number(name, value, "a number such as 1.1")?, repeat.last_n())?
            }
            "repeat-last-n" => {
                repeat = penalty(repeat.penalty(), within(name, value, 0, MAX_REPEAT_TOKENS)?)?
            }
            "stop" => {
                self.stop = stops(
                    texts(value)
                        .ok_or_else(|| format!("stop {}: {STOP_NEEDS}", super::harmless(value)))?,
                )?
            }
            "raw" => self.raw = switch(name, value)?,
            "drop-oldest" => self.drop_oldest = switch(name, value)?,
            _ => return Err(unknown(name)),
        }
        let sampling =
            Sampling::new(temperature, top_k, top_p, seed).map_err(|error| error.to_string())?;
        self.sampling = Sampling { repeat, ..sampling };
        Ok(())
    }

    /// The value of the named setting.
    ///
    /// # Errors
    /// The known names, if this is not one.
    pub(crate) fn get(&self, name: &str) -> Result<String, String> {
        Ok(match name {
            "temperature" => self.sampling.temperature.to_string(),
            "top-k" => self.sampling.top_k.to_string(),
            "top-p" => self.sampling.top_p.to_string(),
            "seed" => self.sampling.seed.to_string(),
            "max-tokens" => self.max_tokens.to_string(),
            "repeat-penalty" => self.sampling.repeat.penalty().to_string(),
            "repeat-last-n" => self.sampling.repeat.last_n().to_string(),
            "raw" => if self.raw { "on" } else { "off" }.to_string(),
            "drop-oldest" => if self.drop_oldest { "on" } else { "off" }.to_string(),
            "stop" if self.stop.is_empty() => "none".to_string(),
            "stop" => self.stop.iter().map(|text| quoted(text)).collect::<Vec<_>>().join(" "),
            _ => return Err(unknown(name)),
        })
    }

    /// All settings, one per line.
    pub(crate) fn table(&self) -> String {
        let line = |(name, about): &(&str, &str)| {
            format!("{name:<15} {:<10} {about}\n", self.get(name).unwrap_or_default())
        };
        SETTINGS.iter().map(line).collect()
    }
}

/// What `set stop` takes.
const STOP_NEEDS: &str = "texts in quotation marks are needed, such as \"User:\" \"\\n\\n\", where \\n, \\t, \\\" and \\\\ are known";

/// Checks the number and length of stop strings, and leaves out empty ones.
///
/// # Errors
/// The limits, as a message to a person.
pub(crate) fn stops(texts: Vec<String>) -> Result<Vec<String>, String> {
    let texts: Vec<String> = texts.into_iter().filter(|text| !text.is_empty()).collect();
    if texts.len() > MAX_STOPS {
        return Err(format!(
            "{} stop strings are too many: at most {MAX_STOPS} are taken",
            texts.len()
        ));
    }
    match texts.iter().find(|text| text.len() > MAX_STOP_BYTES) {
        Some(long) => Err(format!(
            "a stop string of {} bytes is too long: at most {MAX_STOP_BYTES} are taken",
            long.len()
        )),
        None => Ok(texts),
    }
}

/// Checks the length of a system text; an empty text is none.
///
/// # Errors
/// The limit, as a message to a person.
pub(crate) fn system(text: Option<String>) -> Result<Option<String>, String> {
    match text.filter(|text| !text.trim().is_empty()) {
        Some(text) if text.len() > MAX_SYSTEM_BYTES => Err(format!(
            "a system text of {} bytes is too long: at most {MAX_SYSTEM_BYTES} are taken",
            text.len()
        )),
        text => Ok(text),
    }
}

fn penalty(penalty: f32, last_n: usize) -> Result<Repeat, String> {
    Repeat::new(penalty, last_n).map_err(|error| error.to_string())
}

/// The texts of a line such as `"User:" "\n\n"`; a line without quotation marks is one text. None
/// if the line is malformed.
fn texts(line: &str) -> Option<Vec<String>> {
    if !line.contains('"') {
        return Some(vec![line.to_string()]);
    }
    let (mut texts, mut rest) = (Vec::new(), line.trim());
    while !rest.is_empty() {
        let (text, behind) = first_text(rest.strip_prefix('"')?)?;
        texts.push(text);
        rest = behind.trim_start();
    }
    Some(texts)
}

/// The text up to its closing quotation mark, and the rest of the line.
fn first_text(line: &str) -> Option<(String, &str)> {
    let (mut text, mut chars) = (String::new(), line.chars());
    loop {
        match chars.next()? {
            '"' => return Some((text, chars.as_str())),
            '\\' => text.push(match chars.next()? {
                'n' => '\n',
                't' => '\t',
                same @ ('"' | '\\') => same,
                _ => return None,
            }),
            character => text.push(character),
        }
    }
}

/// Quotes a text as `set stop` takes it.
fn quoted(text: &str) -> String {
    let text =
        text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n").replace('\t', "\\t");
    format!("\"{}\"", super::harmless(&text))
}

fn unknown(name: &str) -> String {
    let names: Vec<&str> = SETTINGS.iter().map(|(name, _)| *name).collect();
    format!("there is no setting {}: set knows {}", super::harmless(name), names.join(", "))
}

fn switch(name: &str, value: &str) -> Result<bool, String> {
    match value {
        "on" | "true" => Ok(true),
        "off" | "false" => Ok(false),
        _ => Err(format!("{name} {}: on or off is needed", super::harmless(value))),
    }
}

fn number<T: std::str::FromStr>(name: &str, value: &str, needs: &str) -> Result<T, String> {
    value.parse().map_err(|_| format!("{name} {}: {needs} is needed", super::harmless(value)))
}

fn within(name: &str, value: &str, least: usize, most: usize) -> Result<usize, String> {
    let needs = format!("a whole number from {least} to {most}");
    let given: usize = number(name, value, &needs)?;
    if (least..=most).contains(&given) {
        Ok(given)
    } else {
        Err(format!("{name} {given}: {needs} is needed"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEFORE: Settings = Settings {
        max_tokens: 128,
        sampling: Sampling::GREEDY,
        stop: Vec::new(),
        raw: false,
        system: None,
        drop_oldest: false,
    };

    #[test]
    fn every_name_is_shown_and_set_and_bad_values_change_nothing() {
        let mut settings = BEFORE;
        for (name, _) in SETTINGS {
            let (good, shown) = match name {
                "stop" => ("1", "\"1\""),
                "raw" | "drop-oldest" => ("true", "on"),
                _ => ("1", "1"),
            };
            settings.set(name, good).unwrap();
            assert_eq!(settings.get(name).unwrap(), shown);
            assert!(settings.table().contains(name));
            let before = settings.clone();
            let bad = if name == "stop" {
                ["\"", "\"a", "\"a\" b", "a \"b\"", "\"\\x\""]
            } else {
                ["-1", "nan", "x", "", "1e99"]
            };
            for bad in bad {
                if let Err(reason) = settings.set(name, bad) {
                    assert!(!reason.is_empty());
                    assert_eq!(settings, before, "{name} {bad}");
                } else {
                    panic!("{name} {bad} was taken");
                }
            }
        }
        assert!(settings.set("temprature", "1").unwrap_err().contains("temperature, top-k"));
        assert_eq!(settings.sampling.repeat.last_n(), 1, "one setting does not undo another");
    }

    #[test]
    fn stop_strings_are_set_as_they_are_shown() {
        let mut settings = BEFORE;
        for (line, meant) in [
            ("END", vec!["END"]),
            ("\"two words\"  \"\\n\\n\"", vec!["two words", "\n\n"]),
            (r#""say \"no\"" "\\n""#, vec!["say \"no\"", "\\n"]),
            ("\"\"", vec![]),
        ] {
            settings.set("stop", line).unwrap();
            assert_eq!(settings.stop, meant);
            let shown = settings.get("stop").unwrap();
            assert!(!shown.contains('\n'), "{shown}");
            if !meant.is_empty() {
                settings.set("stop", &shown).unwrap();
                assert_eq!(settings.stop, meant);
            }
        }
        let many = ["\"a\""; MAX_STOPS + 1].join(" ");
        assert!(settings.set("stop", &many).unwrap_err().contains("at most 8"));
        assert!(
            settings
                .set("stop", &"x".repeat(MAX_STOP_BYTES + 1))
                .unwrap_err()
                .contains("at most 256")
        );
    }
}
