//! The types of `[answers]`: how tokens are chosen, and which text ends an answer.

use crate::limits::{
    MAX_REPEAT_PENALTY, MAX_STOP_BYTES, MAX_STOPS, MAX_SYSTEM_BYTES, MAX_TEMPERATURE,
};

use super::value::{Kind, Setting, single};

/// How varied answers are.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Temperature(f32);

impl Temperature {
    /// Always the likeliest token.
    pub(crate) const GREEDY: Temperature = Temperature(0.0);

    /// The number.
    pub(crate) fn get(self) -> f32 {
        self.0
    }
}

single!(
    Temperature,
    Kind::Number,
    |text| text
        .parse()
        .ok()
        .filter(|number| (0.0..=MAX_TEMPERATURE).contains(number))
        .map(Temperature),
    |temperature| format!("{:?}", temperature.0),
    format!("a number from 0 (always the likeliest token) to {MAX_TEMPERATURE}")
);

/// A probability above 0.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct TopP(f32);

impl TopP {
    /// As published with Gemma 3.
    pub(crate) const DEFAULT: TopP = TopP(0.95);

    /// The number.
    pub(crate) fn get(self) -> f32 {
        self.0
    }
}

single!(
    TopP,
    Kind::Number,
    |text| text.parse().ok().filter(|number| *number > 0.0 && *number <= 1.0).map(TopP),
    |top_p| format!("{:?}", top_p.0),
    "a number above 0 and at most 1"
);

/// The divisor of recent tokens' logits.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Penalty(f32);

impl Penalty {
    /// No penalty.
    pub(crate) const OFF: Penalty = Penalty(1.0);

    /// The number.
    pub(crate) fn get(self) -> f32 {
        self.0
    }
}

single!(
    Penalty,
    Kind::Number,
    |text| text
        .parse()
        .ok()
        .filter(|number| *number > 0.0 && *number <= MAX_REPEAT_PENALTY)
        .map(Penalty),
    |penalty| format!("{:?}", penalty.0),
    format!("a number above 0 and at most {MAX_REPEAT_PENALTY}, where 1 is off")
);

/// The system text before a conversation.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct System(String);

impl System {
    /// The text, which is not empty.
    pub(crate) fn text(&self) -> &str {
        &self.0
    }
}

single!(
    System,
    Kind::Text,
    |text| (1..=MAX_SYSTEM_BYTES).contains(&text.len()).then(|| System(text.to_string())),
    |system| system.0.clone(),
    format!("a text of at most {MAX_SYSTEM_BYTES} bytes")
);

/// Texts that end an answer.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Stops(Vec<String>);

impl Stops {
    /// The texts, none of them empty.
    pub(crate) fn texts(&self) -> &[String] {
        &self.0
    }
}

impl Setting for Stops {
    const KIND: Kind = Kind::List;
    fn read(given: &[&str]) -> Result<Stops, usize> {
        if given.len() > MAX_STOPS {
            return Err(MAX_STOPS);
        }
        let take = |(at, text): (usize, &&str)| {
            let fits = (1..=MAX_STOP_BYTES).contains(&text.len());
            fits.then(|| (*text).to_string()).ok_or(at)
        };
        given.iter().enumerate().map(take).collect::<Result<_, _>>().map(Stops)
    }
    fn show(&self) -> Vec<String> {
        self.0.clone()
    }
    fn needs() -> String {
        format!(
            "a list of at most {MAX_STOPS} texts of 1 to {MAX_STOP_BYTES} bytes, such as [\"User:\"]"
        )
    }
    fn needs_one() -> String {
        format!("a text of 1 to {MAX_STOP_BYTES} bytes, at most {MAX_STOPS} times,")
    }
}
