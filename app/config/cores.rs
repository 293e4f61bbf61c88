//! The cores that compute: the types of `isa` and `cpus` in `[model]`.

use crate::limits::MAX_CPUS;

use super::value::{Kind, Setting, single};

/// Which instructions the arithmetic uses. All of them give the same bits.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) enum Instructions {
    /// The fastest that this CPU has.
    #[default]
    Best,
    /// These, by the kernels' name for them.
    Named(&'static str),
}

impl Instructions {
    /// The names, for every kind of machine.
    const NAMES: [&'static str; 4] = ["portable", "neon", "avx2", "avx512"];
}

single!(
    Instructions,
    Kind::Text,
    |text| match text {
        "best" => Some(Instructions::Best),
        _ => Instructions::NAMES.into_iter().find(|name| *name == text).map(Instructions::Named),
    },
    |instructions| match instructions {
        Instructions::Best => "best".to_string(),
        Instructions::Named(name) => (*name).to_string(),
    },
    "\"best\", \"portable\", \"neon\", \"avx2\" or \"avx512\""
);

/// CPUs of this machine by number, each once, such as `0-2,5`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Cpus(Vec<usize>);

impl Cpus {
    /// Their numbers, in the order given.
    pub(crate) fn numbers(&self) -> &[usize] {
        &self.0
    }

    fn parse(text: &str) -> Option<Cpus> {
        let mut numbers = Vec::new();
        for part in text.split(',') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let number =
                |text: &str| text.trim().parse::<usize>().ok().filter(|number| *number < MAX_CPUS);
            let (first, last) = (number(first)?, number(last)?);
            if first > last || (first..=last).any(|number| numbers.contains(&number)) {
                return None;
            }
            numbers.extend(first..=last);
        }
        Some(Cpus(numbers))
    }

    /// Runs of numbers, as in the file.
    fn written(&self) -> String {
        let runs = self.0.chunk_by(|a, b| a + 1 == *b);
        let text = |run: &[usize]| match run {
            [only] => only.to_string(),
            _ => format!("{}-{}", run[0], run[run.len() - 1]),
        };
        runs.map(text).collect::<Vec<_>>().join(",")
    }
}

single!(
    Cpus,
    Kind::Text,
    Cpus::parse,
    Cpus::written,
    format!("numbers of CPUs below {MAX_CPUS}, each once, such as \"0-2,5\"")
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpus_are_numbers_and_runs_of_them() {
        let read = |text: &str| Cpus::read(&[text]).ok();
        let numbers = |text: &str| read(text).map(|cpus| cpus.0);
        assert_eq!(numbers("3"), Some(vec![3]));
        assert_eq!(numbers("0-2, 5"), Some(vec![0, 1, 2, 5]));
        assert_eq!(
            numbers("5,0-2"),
            Some(vec![5, 0, 1, 2]),
            "the first one computes what is not shared"
        );
        assert_eq!(read("5,0-2").map(|cpus| cpus.show()), Some(vec!["5,0-2".to_string()]));
        for wrong in ["", "-", "1-", "2-1", "0,0", "0-2,1", "a", "1024", "0-99999999999", "1,,2"] {
            assert_eq!(numbers(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn instructions_have_names() {
        assert_eq!(Instructions::read(&["best"]), Ok(Instructions::Best));
        assert_eq!(Instructions::read(&["avx2"]), Ok(Instructions::Named("avx2")));
        assert_eq!(Instructions::read(&["sse9"]), Err(0));
    }
}
