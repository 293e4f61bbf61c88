//! The settings as the command `config` shows them: the effective values, and where each
//! comes from.

use std::path::Path;

use crate::config::{Config, Origin, TABLE};
use crate::start::{EffectiveSettings, in_file, read};

use super::event::{ConfigReport, SettingReport};

impl EffectiveSettings {
    /// The whole report, for a person or a program.
    pub(super) fn report(&self) -> ConfigReport {
        ConfigReport::of(
            &self.config,
            self.file.as_deref(),
            self.defaults.as_deref(),
            self.problems.clone(),
        )
    }

    /// What is wrong with the user's file as it is now; none if there is no file.
    pub(super) fn check(&self) -> Option<Vec<String>> {
        let file = self.file.as_deref()?;
        Some(match read(file, Config::default()) {
            Ok((_, problems)) => in_file(file, &problems),
            Err(error) => vec![format!("{}: cannot be read: {error}", file.display())],
        })
    }
}

impl ConfigReport {
    /// The report of one file, with what is wrong with it.
    pub(crate) fn of_file(file: &Path, config: &Config, problems: Vec<String>) -> ConfigReport {
        ConfigReport::of(config, Some(file), None, problems)
    }

    fn of(
        config: &Config,
        file: Option<&Path>,
        defaults: Option<&Path>,
        problems: Vec<String>,
    ) -> ConfigReport {
        let name = |file: Option<&Path>| file.map(|file| file.display().to_string());
        let settings = TABLE.iter().map(|key| SettingReport {
            key: key.name(),
            value: key.toml(config),
            origin: match config.origin(key) {
                Origin::Default => "default".to_string(),
                Origin::Base(line) => format!("{}:{line}", name(defaults).unwrap_or_default()),
                Origin::Line(line) => format!("{}:{line}", name(file).unwrap_or_default()),
                Origin::Variable => format!("environment, {}", key.variable().unwrap_or_default()),
                Origin::Option => "command line".to_string(),
            },
        });
        ConfigReport {
            path: name(file),
            defaults: name(defaults),
            settings: settings.collect(),
            problems,
        }
    }

    /// One line per setting, in the file's syntax.
    pub(super) fn table(&self) -> String {
        let line = |setting: &SettingReport| {
            let value = setting.value.as_deref().unwrap_or("not set");
            format!("{:<44} {}\n", format!("{} = {value}", setting.key), setting.origin)
        };
        self.settings
            .iter()
            .map(line)
            .chain(self.problems.iter().map(|problem| format!("! {problem}\n")))
            .collect()
    }
}
