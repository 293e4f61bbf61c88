//! A file of a machine's costs, for `potluck run --pace`: TOML like `potluck.toml`, but separate
//! from it, so that no board gets one by accident. It is parsed strictly: a measurement with costs
//! that were only half understood is worthless.

use thiserror::Error;
use toml::de::{DeTable, DeValue};

use crate::limits::MAX_CONFIG_FILE_BYTES;
use crate::pace::{Pace, PaceError, PaceParts};

/// Why a file is not a valid pace.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum PaceFault {
    /// Too long to be a file of costs.
    #[error("more than {MAX_CONFIG_FILE_BYTES} bytes: this is not a file of costs")]
    TooLarge,
    /// Not TOML.
    #[error("not TOML: {0}")]
    Syntax(String),
    /// An unknown key.
    #[error(
        "{0} is not known: a pace has name, estimate, start_ms, token_us, depth_us, logits_us and job_us"
    )]
    Unknown(String),
    /// A key whose value has the wrong type.
    #[error("{0}: {1}")]
    Kind(String, &'static str),
    /// A required key is missing.
    #[error("{0} is missing")]
    Missing(&'static str),
    /// Values that make no sense.
    #[error(transparent)]
    Value(#[from] PaceError),
}

/// The required keys.
const NEEDED: [&str; 4] = ["name", "token_us", "depth_us", "logits_us"];

impl Pace {
    /// Reads the text of a file.
    ///
    /// # Errors
    /// [`PaceFault`], naming the first thing that is wrong.
    pub fn read(text: &str) -> Result<Pace, PaceFault> {
        if text.len() > MAX_CONFIG_FILE_BYTES {
            return Err(PaceFault::TooLarge);
        }
        let table =
            DeTable::parse(text).map_err(|error| PaceFault::Syntax(error.message().to_string()))?;
        let table = table.get_ref();
        if let Some(missing) = NEEDED.iter().find(|key| !table.contains_key(**key)) {
            return Err(PaceFault::Missing(missing));
        }
        let mut parts = PaceParts::default();
        for (key, value) in table.iter() {
            let (key, value) = (key.get_ref().as_ref(), value.get_ref());
            let kind = |what| PaceFault::Kind(key.to_string(), what);
            let a_number = || number(value).ok_or(kind("a number is needed"));
            let some_rows =
                || rows(value).ok_or(kind("rows are needed: [[tokens, microseconds], ...]"));
            match (key, value) {
                ("name", DeValue::String(name)) => parts.name = name.to_string(),
                ("name", _) => return Err(kind("text in quotation marks is needed")),
                ("estimate", DeValue::Boolean(is)) => parts.estimate = *is,
                ("estimate", _) => return Err(kind("true or false is needed")),
                ("start_ms", _) => parts.start_ms = a_number()?,
                // The same for every token, however many there are.
                ("logits_us", DeValue::Integer(_) | DeValue::Float(_)) => {
                    parts.logits_us = vec![(1.0, a_number()?)]
                }
                ("logits_us", _) => parts.logits_us = some_rows()?,
                ("job_us", _) => parts.job_us = a_number()?,
                ("token_us", _) => parts.token_us = some_rows()?,
                ("depth_us", _) => parts.depth_us = some_rows()?,
                _ => return Err(PaceFault::Unknown(key.to_string())),
            }
        }
        Ok(Pace::new(parts)?)
    }
}

fn number(value: &DeValue<'_>) -> Option<f64> {
    match value {
        DeValue::Integer(whole) => {
            i64::from_str_radix(whole.as_str(), whole.radix()).ok().map(|whole| whole as f64)
        }
        DeValue::Float(float) => float.as_str().parse().ok(),
        _ => None,
    }
}

fn rows(value: &DeValue<'_>) -> Option<Vec<(f64, f64)>> {
    let DeValue::Array(rows) = value else { return None };
    let pair = |row: &DeValue<'_>| match row {
        DeValue::Array(row) if row.len() == 2 => {
            Some((number(row[0].get_ref())?, number(row[1].get_ref())?))
        }
        _ => None,
    };
    rows.iter().map(|row| pair(row.get_ref())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "name = \"b\"\nestimate = true\nstart_ms = 5\ntoken_us = [[1, 9_000], [64, 1000.5]]\ndepth_us = [[0, 0]]\nlogits_us = 7\n";

    #[test]
    fn a_file_gives_the_costs_that_it_names_and_what_is_written_is_read_again() {
        let pace = Pace::read(GOOD).unwrap();
        assert_eq!((pace.name(), pace.is_estimate(), pace.start_ms()), ("b", true, 5));
        assert_eq!((pace.job_micros(0, 1, 1), pace.job_micros(0, 64, 0)), (9_007, 64_032));
        let rows = Pace::read(&GOOD.replace("= 7", "= [[1, 8], [4, 2]]")).unwrap();
        assert_eq!((rows.job_micros(0, 1, 1), rows.job_micros(0, 64, 4)), (9_008, 64_040));
        let written = pace.to_string();
        assert_eq!(Pace::read(&written).unwrap().to_string(), written);
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        let fails = |text: &str| Pace::read(text).unwrap_err().to_string();
        assert!(fails("name = ").starts_with("not TOML"));
        assert_eq!(
            fails("name = \"b\"\ntoken_us = [[1, 1]]\ndepth_us = [[0, 0]]\n"),
            "logits_us is missing"
        );
        assert!(fails(&format!("{GOOD}token = 1\n")).starts_with("token is not known"));
        assert!(fails(&format!("{GOOD}job_us = \"1\"\n")).starts_with("job_us: a number"));
        assert!(fails(&GOOD.replace("[[0, 0]]", "[[0, 0, 0]]")).starts_with("depth_us: rows"));
        assert!(fails(&GOOD.replace("[[0, 0]]", "[]")).starts_with("depth_us: 1 to"));
        assert!(fails(&GOOD.replace("9_000", "-1")).starts_with("token_us: a cost"));
        assert!(fails(&"#".repeat(MAX_CONFIG_FILE_BYTES + 1)).starts_with("more than"));
    }
}
