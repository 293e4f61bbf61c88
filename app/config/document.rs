//! Parses lines into assignments with the crate `toml`. Statements that are not TOML are reported
//! and blanked, so that every other line still counts.

use std::collections::BTreeSet;

use toml::de::{DeTable, DeValue};

use crate::limits::MAX_CONFIG_PROBLEMS;

use super::fault::{Fault, Problem, shown};
use super::hits::Hits;
use super::lines::{Place, place};
use super::near::nearest;
use super::table::{Key, TABLE};

/// `key = value`, found in `section`.
pub(super) struct Assignment {
    pub section: Option<String>,
    pub key: String,
    pub at: Place,
    pub given: Given,
    value_at: Place,
    /// The value as written.
    source: String,
}

/// A value by its TOML type.
pub(super) enum Given {
    Text(String),
    Number(String),
    Switch(String),
    /// A list whose elements are all texts.
    List(Vec<Part>),
    Other,
}

/// An element of a list.
pub(super) struct Part {
    pub text: String,
    at: Place,
    source: String,
}

impl Assignment {
    /// Looks the key up in the table.
    pub(super) fn known(&self) -> Result<&'static Key, Fault> {
        let section = self.section.as_deref();
        if let Some(key) =
            TABLE.iter().find(|known| Some(known.section) == section && known.key == self.key)
        {
            return Ok(key);
        }
        if let Some(other) = TABLE.iter().find(|known| known.key == self.key) {
            return Err(Fault::Misplaced { key: shown(&self.key), section: other.section });
        }
        // Among equally similar keys, prefer one of this section.
        let (here, there): (Vec<&Key>, Vec<&Key>) =
            TABLE.iter().partition(|known| Some(known.section) == section);
        match nearest(&self.key, here.into_iter().chain(there), |known| known.key) {
            Some((near, _)) => Err(Fault::UnknownKey {
                key: shown(&self.key),
                nearest: near.key,
                section: near.section,
            }),
            None => Err(Fault::NotASetting),
        }
    }

    /// The place of element `part` of the value, or of the whole value.
    pub(super) fn place_of(&self, part: usize) -> Place {
        self.part(part).map_or(self.value_at, |part| part.at)
    }

    /// Element `part` as written, or the whole value.
    pub(super) fn source_of(&self, part: usize) -> &str {
        self.part(part).map_or(&self.source, |part| &part.source)
    }

    /// What may have been meant if this cannot be used. The value of a known key is no sign of
    /// another key.
    pub(super) fn hits(&self) -> Hits {
        let name = self.section.as_deref();
        match self.known() {
            Ok(key) => Hits::of(key.section),
            Err(Fault::Misplaced { section, .. }) => {
                Hits::at(name.or(Some(section)), &self.key).or(Hits::of(section))
            }
            Err(_) => Hits::at(name, &self.key),
        }
    }

    /// Whether a multi-line text contains a section, because its quotation marks were closed too
    /// late.
    pub(super) fn swallowed(&self) -> Option<Problem> {
        let is_header = |line: &str| {
            let name = line
                .trim()
                .strip_prefix('[')
                .and_then(|rest| rest.strip_suffix(']'))
                .map(str::trim);
            name.is_some_and(|name| TABLE.iter().any(|key| key.section == name))
        };
        let texts = match &self.given {
            Given::Text(text) => vec![text.as_str()],
            Given::List(parts) => parts.iter().map(|part| part.text.as_str()).collect(),
            _ => Vec::new(),
        };
        let has_header =
            texts.iter().any(|text| text.contains('\n') && text.lines().any(is_header));
        has_header.then(|| Problem::at(self.value_at, Fault::NotClosed(shown(&self.key))))
    }

    fn part(&self, part: usize) -> Option<&Part> {
        match &self.given {
            Given::List(parts) => parts.get(part),
            _ => None,
        }
    }
}

/// Every assignment of the file that is TOML, in a known section or in none.
pub(super) fn parse(mut lines: Vec<String>, problems: &mut Vec<Problem>) -> Vec<Assignment> {
    for (number, line) in lines.iter_mut().enumerate() {
        let doubled = line
            .trim_start()
            .strip_prefix("[[")
            .is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_alphabetic()));
        if doubled && problems.len() < MAX_CONFIG_PROBLEMS {
            let at = Place { line: number + 1, column: 1 };
            problems.push(
                Problem::at(at, Fault::Header(meant_section(line)))
                    .hitting(Hits::at(Some(&header_name(line)), "")),
            );
            *line = format!("[{}]", header_name(line));
        }
    }
    // Report a section that begins twice once; `toml` joins its parts.
    let mut joined = BTreeSet::new();
    loop {
        let text = lines.join("\n");
        let (table, errors) = DeTable::parse_recoverable(&text);
        let mut found: Vec<(usize, &str)> = errors
            .iter()
            .map(|error| (error.span().map_or(0, |span| span.start), error.message()))
            .collect();
        found.retain(|(offset, message)| {
            !(*message == DUPLICATE && joined.contains(&place(&text, *offset).line))
        });
        let Some(&(offset, message)) = found.iter().min_by_key(|(offset, _)| *offset) else {
            return assignments(table.get_ref(), &text, problems);
        };
        if problems.len() >= MAX_CONFIG_PROBLEMS {
            problems.push(Problem::whole(Fault::TooMany));
            return Vec::new();
        }
        let at = place(&text, offset);
        let header = lines[at.line - 1].trim_start().starts_with('[');
        let broken = Broken { at, message, owner: owner(table.get_ref(), &text, offset), header };
        if header && message == DUPLICATE {
            joined.insert(at.line);
            let name = header_name(&lines[at.line - 1]);
            problems.push(
                Problem::at(at, Fault::SectionTwice(name.clone()))
                    .hitting(Hits::at(Some(&name), "")),
            );
            continue;
        }
        let (problem, blanked) = broken.mend(&mut lines);
        problems.push(problem);
        if !blanked {
            return Vec::new();
        }
    }
}

/// The crate's message for a duplicate key or section.
const DUPLICATE: &str = "duplicate key";

/// A statement that is not TOML.
struct Broken<'a> {
    at: Place,
    message: &'a str,
    /// The key whose value contains it, and the places of that key and its value.
    owner: Option<(String, Place, Place)>,
    /// Whether it is a section header.
    header: bool,
}

impl Broken<'_> {
    /// Reports it and blanks its lines; false if there is nothing to blank.
    fn mend(self, lines: &mut [String]) -> (Problem, bool) {
        let error_line = self.at.line - 1;
        // A value that continues past the start of the next setting was never closed.
        let runs_on = |key_line: usize| {
            key_line < self.at.line
                && (starts_statement(&lines[error_line])
                    || lines[error_line..].iter().all(|line| line.is_empty()))
        };
        let unclosed = self.message.contains("string, ") || self.message.starts_with("unclosed");
        let opens = |value_at: &Place| lines[value_at.line - 1].chars().nth(value_at.column - 1);
        let is_list = |value_at: &Place| opens(value_at) == Some('[');
        let is_bare = |value_at: &Place| !opens(value_at).is_some_and(|c| "\"'[{".contains(c));
        let unquoted = self.message.contains("must be quoted");
        let problem = match &self.owner {
            Some((key, key_at, value_at)) if runs_on(key_at.line) || (unclosed && !unquoted) => {
                Problem::at(*value_at, Fault::NotClosed(shown(key)))
            }
            Some((key, _, value_at)) if is_bare(value_at) => {
                Problem::at(*value_at, Fault::Unquoted(example(key)))
            }
            Some((key, _, value_at)) if is_list(value_at) => {
                Problem::at(self.at, Fault::Unquoted(example(key)))
            }
            _ if self.header => {
                Problem::at(self.at, Fault::Header(meant_section(&lines[error_line])))
            }
            _ if self.message == DUPLICATE => {
                Problem::at(self.at, Fault::Twice(key_name(&lines[error_line])))
            }
            _ if !lines[error_line].contains('=') => Problem::at(self.at, Fault::NotASetting),
            _ => Problem::at(self.at, Fault::Syntax(self.message.to_string())),
        };
        let first = self.owner.as_ref().map_or(error_line, |(_, at, _)| at.line - 1);
        // If the error is reported at the end of the file, the broken line is the last that is not
        // empty.
        let Some(first) = (0..=first).rev().find(|&line| !lines[line].is_empty()) else {
            return (problem, false);
        };
        if self.header && first == error_line {
            let meant = format!("[{}]", header_name(&lines[first]));
            let known = TABLE.iter().any(|key| meant[1..meant.len() - 1] == *key.section);
            if known && lines[first] != meant {
                let hits = Hits::of(&meant[1..meant.len() - 1]);
                lines[first] = meant;
                return (problem.hitting(hits), true);
            }
            // The settings of a section with an unreadable name belong to no section.
            let rest = lines[first + 1..]
                .iter()
                .position(|line| starts_section(line))
                .map_or(lines.len(), |at| first + 1 + at);
            lines[first..rest].iter_mut().for_each(String::clear);
            return (problem, true);
        }
        let rest = lines[first + 1..]
            .iter()
            .position(|line| starts_statement(line))
            .map_or(lines.len(), |at| first + 1 + at);
        let last = if self.owner.is_some() { rest } else { first + 1 };
        // An unclosed value or an unspecific syntax error may have been meant for anything.
        let hits = match &problem.fault {
            Fault::NotClosed(_) | Fault::Syntax(_) | Fault::Header(_) => Hits::ALL,
            _ => Hits::at(section_of(lines, first).as_deref(), &lines[first..last].join(" ")),
        };
        lines[first..last].iter_mut().for_each(String::clear);
        (problem.hitting(hits), true)
    }
}

/// The section of a line.
fn section_of(lines: &[String], line: usize) -> Option<String> {
    lines[..line]
        .iter()
        .rev()
        .find(|line| line.trim_start().starts_with('['))
        .map(|line| header_name(line))
}

/// An example of how the key is written.
fn example(key: &str) -> String {
    let known = TABLE.iter().find(|known| known.key == key);
    known.map_or_else(
        || format!("{} = \"...\"", shown(key)),
        |known| format!("{key} = {}", known.example),
    )
}

fn starts_section(line: &str) -> bool {
    line.trim_start()
        .strip_prefix('[')
        .is_some_and(|rest| rest.trim_start().starts_with(|c: char| c.is_ascii_alphabetic()))
}

fn starts_statement(line: &str) -> bool {
    let key = line.split_once('=').map_or("", |(key, _)| key.trim());
    let is_key =
        !key.is_empty() && key.chars().all(|c| c.is_ascii_alphanumeric() || "_-.".contains(c));
    is_key || starts_section(line)
}

/// The name in a section header.
fn header_name(line: &str) -> String {
    line.trim_start_matches(|c: char| c == '[' || c.is_whitespace())
        .chars()
        .take_while(|c| c.is_ascii_alphanumeric() || *c == '_' || *c == '-')
        .collect()
}

/// The word before the equals sign.
fn key_name(line: &str) -> String {
    shown(line.split_once('=').map_or(line, |(key, _)| key).trim())
}

/// The section that a broken section header most likely means.
fn meant_section(line: &str) -> &'static str {
    nearest(&header_name(line), TABLE.iter(), |key| key.section).map_or("", |(key, _)| key.section)
}

/// The key whose value contains the byte at `offset`, and the places of that key and its value.
fn owner(table: &DeTable<'_>, text: &str, offset: usize) -> Option<(String, Place, Place)> {
    table.iter().find_map(|(key, value)| match value.get_ref() {
        DeValue::Table(inner) => owner(inner, text, offset),
        _ if (value.span().start..=value.span().end).contains(&offset) => Some((
            key.get_ref().to_string(),
            place(text, key.span().start),
            place(text, value.span().start),
        )),
        _ => None,
    })
}

fn assignments(table: &DeTable<'_>, text: &str, problems: &mut Vec<Problem>) -> Vec<Assignment> {
    let mut out = Vec::new();
    for (key, value) in table {
        let at = place(text, key.span().start);
        let name = key.get_ref().as_ref();
        let known = TABLE.iter().find(|known| known.section == name);
        match (value.get_ref(), known) {
            (DeValue::Table(inner), Some(_)) => {
                out.extend(inner.iter().map(|(key, value)| {
                    assignment(Some(name), key.get_ref(), key.span().start, value, text)
                }));
            }
            (_, Some(known)) => problems.push(
                Problem::at(at, Fault::Header(known.section)).hitting(Hits::of(known.section)),
            ),
            (DeValue::Table(inner), None) => {
                let nearest = meant_section(name);
                let keys = inner.keys().map(|key| key.get_ref().as_ref());
                let words = [name].into_iter().chain(keys).collect::<Vec<&str>>().join(" ");
                let problem =
                    Problem::at(at, Fault::UnknownSection { section: shown(name), nearest });
                problems.push(problem.hitting(Hits::by_words(&words)));
            }
            _ => out.push(assignment(None, name, key.span().start, value, text)),
        }
    }
    out
}

fn assignment(
    section: Option<&str>,
    key: &str,
    offset: usize,
    value: &toml::Spanned<DeValue<'_>>,
    text: &str,
) -> Assignment {
    let source =
        |value: &toml::Spanned<DeValue<'_>>| text.get(value.span()).unwrap_or_default().to_string();
    let part = |value: &toml::Spanned<DeValue<'_>>| match value.get_ref() {
        DeValue::String(element) => Some(Part {
            text: element.to_string(),
            at: place(text, value.span().start),
            source: source(value),
        }),
        _ => None,
    };
    let given = match value.get_ref() {
        DeValue::String(string) => Given::Text(string.to_string()),
        DeValue::Integer(number) => Given::Number(number.to_string()),
        DeValue::Float(number) => Given::Number(number.to_string()),
        DeValue::Boolean(switch) => Given::Switch(switch.to_string()),
        DeValue::Array(array) => {
            array.iter().map(part).collect::<Option<_>>().map_or(Given::Other, Given::List)
        }
        _ => Given::Other,
    };
    Assignment {
        section: section.map(str::to_string),
        key: key.to_string(),
        at: place(text, offset),
        given,
        value_at: place(text, value.span().start),
        source: source(value),
    }
}

/// The texts of a list in TOML, such as `["a", "b"]`; `None` if `text` is no such list.
pub(super) fn list(text: &str) -> Option<Vec<String>> {
    let line = format!("list = {text}");
    let table = DeTable::parse(&line).ok().filter(|_| !text.contains(['\n', '\r']))?;
    let (_, value) = table.get_ref().iter().next()?;
    match assignment(None, "list", 0, value, &line).given {
        Given::List(parts) => Some(parts.into_iter().map(|part| part.text).collect()),
        _ => None,
    }
}
