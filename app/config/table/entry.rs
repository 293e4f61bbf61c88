//! What the table says of one key, and how a row of the table becomes that.
//!
//! Promise: a key's kind, its valid values, and how it is set and shown all come from the type of
//! its field in [`Config`], so that a row cannot contradict it.

use toml_writer::{ToTomlValue, TomlStringBuilder};

use super::super::Config;
use super::super::value::{Kind, Setting};

/// One key of the file.
pub struct Key {
    /// Its section.
    pub(crate) section: &'static str,
    /// Its name.
    pub(crate) key: &'static str,
    /// The option that overrides it, without the two hyphens.
    pub option: Option<&'static str>,
    /// What its value is called in the help, such as `FILE`.
    pub(crate) value: &'static str,
    /// The kind of its value in the file.
    pub(crate) kind: Kind,
    /// Whether messages must not show it.
    pub secret: bool,
    /// A value other than the default, in TOML.
    pub(crate) example: &'static str,
    /// What it is.
    pub(crate) about: &'static str,
    /// Why the default is what it is.
    pub(crate) why: &'static str,
    /// The valid values, for a message.
    pub(crate) needs: fn() -> String,
    /// The valid values of its option, for a message.
    pub(crate) needs_one: fn() -> String,
    /// Sets it from the elements of a list or from one text; the error is the index of an invalid
    /// element.
    pub(crate) set: fn(&mut Config, &[&str]) -> Result<(), usize>,
    /// Its value; empty if it has none. Secrets stay hidden.
    pub show: fn(&Config) -> Vec<String>,
}

impl Key {
    /// `memory.slab`
    pub fn name(&self) -> String {
        format!("{}.{}", self.section, self.key)
    }

    /// The environment variable that sets it: `POTLUCK_MEMORY_SLAB`. `None` for the radio, which
    /// only a board's scripts bring up.
    pub(crate) fn variable(&self) -> Option<String> {
        (self.section != "wifi")
            .then(|| format!("POTLUCK_{}_{}", self.section, self.key).to_uppercase())
    }

    /// Its one-letter option, if it is often used.
    pub(crate) fn short(&self) -> Option<char> {
        SHORT.iter().find(|(option, _)| self.option == Some(*option)).map(|(_, letter)| *letter)
    }

    pub(in crate::config) fn same(&self, other: &Key) -> bool {
        self.section == other.section && self.key == other.key
    }

    /// The value in TOML; `None` if it has none.
    pub fn toml(&self, config: &Config) -> Option<String> {
        let texts = (self.show)(config);
        let quoted = |text: &String| TomlStringBuilder::new(text).as_basic().to_toml_value();
        match (self.kind, texts.first()) {
            (Kind::List, Some(_)) => {
                Some(format!("[{}]", texts.iter().map(quoted).collect::<Vec<_>>().join(", ")))
            }
            (Kind::Number, Some(text)) if text.parse::<f64>().is_ok() => Some(text.clone()),
            (Kind::Switch, text) => text.cloned(),
            (_, text) => text.map(quoted),
        }
    }
}

/// One-letter options, the same as in llama.cpp if that has one.
const SHORT: [(&str, char); 4] =
    [("model", 'm'), ("threads", 't'), ("max-tokens", 'n'), ("peer", 'p')];

/// A row: the field of [`Config`], the option and what its value is called, an example, what the
/// key is, and why the default is what it is.
macro_rules! row {
    ($section:ident . $key:ident, $option:expr, $value:expr, $example:expr, $about:expr, $why:expr) => {
        row!($section.$key, $option, $value, $example, $about, $why, false)
    };
    ($section:ident . $key:ident, $option:expr, $value:expr, $example:expr, $about:expr, $why:expr, $secret:expr) => {
        Key {
            section: stringify!($section),
            key: stringify!($key),
            option: $option,
            value: $value,
            kind: kind_of(|config| &config.$section.$key),
            secret: $secret,
            example: $example,
            about: $about,
            why: $why,
            needs: || needs_of(|config| &config.$section.$key),
            needs_one: || needs_one_of(|config| &config.$section.$key),
            set: |config, given| {
                config.$section.$key = Setting::read(given)?;
                Ok(())
            },
            show: |config| config.$section.$key.show(),
        }
    };
}

pub(super) use row;

/// The kind of the field that the function returns.
pub(super) const fn kind_of<T: Setting>(_: fn(&Config) -> &T) -> Kind {
    T::KIND
}

pub(super) fn needs_of<T: Setting>(_: fn(&Config) -> &T) -> String {
    T::needs()
}

pub(super) fn needs_one_of<T: Setting>(_: fn(&Config) -> &T) -> String {
    T::needs_one()
}
