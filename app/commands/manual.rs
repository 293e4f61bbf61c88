//! `potluck manual`: the manual pages, generated from the same tables as the help, the parser and
//! the console.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use clap::{Args, Command, CommandFactory};
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};
use thiserror::Error;

use crate::config::{Config, TABLE};
use crate::console;
use crate::fronts::{OutputError, print, print_line};
use crate::start::READ_TEMPLATE;

use super::cli::Cli;

/// Arguments of `potluck manual`.
#[derive(Args)]
pub(super) struct ManualArgs {
    /// The page: potluck, a command such as run, potluck.toml, or console
    #[arg(default_value = "potluck", conflicts_with = "all")]
    page: String,
    /// Write every page below DIR instead, such as DIR/man1/potluck.1
    #[arg(long, value_name = "DIR")]
    all: Option<PathBuf>,
}

/// Why there is no page.
#[derive(Debug, Error)]
pub(super) enum ManualError {
    #[error("there is no page {0}: potluck manual --all DIR writes every page")]
    Unknown(String),
    #[error("{0}: cannot be written: {1}")]
    Unwritable(PathBuf, io::Error),
    #[error(transparent)]
    Output(#[from] OutputError),
}

/// A page: the name of its file, and its text in roff.
struct Page {
    file: String,
    text: String,
}

/// Prints one page, or writes all.
pub(super) fn run(args: &ManualArgs) -> Result<(), ManualError> {
    let pages = pages();
    if let Some(folder) = &args.all {
        return write_all(folder, &pages);
    }
    let names = [args.page.clone(), format!("potluck-{}", args.page)];
    let named = |page: &&Page| {
        page.file == args.page
            || names
                .iter()
                .any(|name| page.file.rsplit_once('.').is_some_and(|(stem, _)| stem == name))
    };
    let page = pages.iter().find(named).ok_or_else(|| ManualError::Unknown(args.page.clone()))?;
    Ok(print(&page.text)?)
}

fn write_all(folder: &Path, pages: &[Page]) -> Result<(), ManualError> {
    let unwritable = |path: &Path| {
        let path = path.to_path_buf();
        move |error| ManualError::Unwritable(path, error)
    };
    for page in pages {
        let section = page.file.rsplit_once('.').map_or("", |(_, section)| section);
        let folder = folder.join(format!("man{section}"));
        fs::create_dir_all(&folder).map_err(unwritable(&folder))?;
        let path = folder.join(&page.file);
        fs::write(&path, &page.text).map_err(unwritable(&path))?;
        print_line(path.display())?;
    }
    Ok(())
}

/// Every page, without a date, so that one version always gives the same bytes.
fn pages() -> Vec<Page> {
    let mut whole = Cli::command();
    whole.build();
    let mut pages = vec![page(&whole, "potluck")];
    for command in whole
        .get_subcommands()
        .filter(|command| ![READ_TEMPLATE, "help"].contains(&command.get_name()))
    {
        let name = command.get_name();
        pages.push(page(command, &format!("potluck-{name}")));
    }
    pages.push(Page { file: "potluck.toml.5".to_string(), text: settings() });
    pages.push(Page { file: "potluck-console.7".to_string(), text: console::man_page() });
    pages
}

fn page(command: &Command, name: &str) -> Page {
    let command = command.clone().version(env!("CARGO_PKG_VERSION"));
    let (mut bytes, man) = (
        Vec::new(),
        Man::new(command).title(name).section("1").date(NO_DATE).source(SOURCE).manual(MANUAL),
    );
    // Writing to a Vec cannot fail.
    let _ = man.render(&mut bytes);
    Page { file: format!("{name}.1"), text: String::from_utf8_lossy(&bytes).into_owned() }
}

const SOURCE: &str = concat!("potluck ", env!("CARGO_PKG_VERSION"));
const MANUAL: &str = "potluck";

/// A blank, because roff skips an empty argument.
const NO_DATE: &str = " ";

/// potluck.toml(5).
fn settings() -> String {
    let mut page = Roff::new();
    page.control("TH", ["potluck.toml", "5", NO_DATE, SOURCE, MANUAL]);
    page.control("SH", ["NAME"]).text([roman("potluck.toml - the settings of a potluck node")]);
    page.control("SH", ["DESCRIPTION"]).text([roman(
        "A TOML file: sections in brackets, then key = value. Every key is optional. The file is named by --config FILE or \
         POTLUCK_CONFIG; else it is $XDG_CONFIG_HOME/potluck/potluck.toml, else /etc/potluck.toml. An option overrides an environment \
         variable, which overrides the file. potluck config check FILE lists the problems in a file.",
    )]);
    let defaults = Config::default();
    let mut section = "";
    for key in &TABLE {
        if key.section != section {
            section = key.section;
            page.control("SH", [format!("[{section}]").as_str()]);
        }
        let default = key
            .toml(&defaults)
            .map_or(format!("Not set: {}", key.why), |toml| format!("Default: {toml}"));
        let option = key
            .option
            .map(|option| format!(" Option: --{option} {}.", key.value))
            .unwrap_or_default();
        let variable =
            key.variable().map(|variable| format!(" Variable: {variable}.")).unwrap_or_default();
        let about = format!(
            "{}. Takes {}. {default}.{option}{variable}",
            key.about,
            (key.needs)().trim_end_matches(',')
        );
        page.control("TP", []).text([bold(key.key)]).text([roman(about)]);
    }
    page.control("SH", ["SEE ALSO"]).text([roman("potluck(1), potluck-config(1)")]);
    page.to_roff()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_a_page_for_every_command_and_it_has_every_option() {
        let pages = pages();
        let text = |file: &str| {
            &pages.iter().find(|page| page.file == file).unwrap_or_else(|| panic!("no {file}")).text
        };
        for (file, word) in [
            ("potluck.1", "potluck\\-run(1)"),
            ("potluck-run.1", "\\-\\-max\\-tokens"),
            ("potluck-config.1", "check"),
            ("potluck.toml.5", "POTLUCK_MEMORY_SLAB"),
            ("potluck-console.7", "answer TEXT by itself"),
        ] {
            assert!(
                text(file).to_lowercase().contains(&word.to_lowercase()),
                "{file} has no {word}:\n{}",
                text(file)
            );
        }
        assert!(pages.iter().all(|page| page.text.contains(".TH ")));
        assert!(!pages.iter().any(|page| page.file.contains(READ_TEMPLATE)));
    }
}
