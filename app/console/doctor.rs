//! The doctor's report on what a node needs, item by item: good, or what is wrong and what to do.
//! `potluck doctor` and the console command fill it in; this module turns it into text.

use std::fmt::Write;

use serde::Serialize;

use super::NetFacts;

/// The result for one item.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Verdict {
    /// It works.
    Good,
    /// It works, with a remark.
    Note,
    /// It does not work; the text says what to do.
    Bad,
}

/// One item.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub(crate) struct Check {
    /// What was checked, in a word.
    pub what: &'static str,
    /// The result.
    pub verdict: Verdict,
    /// One sentence; if something is wrong, it says what to do.
    pub words: String,
}

impl Check {
    /// An item that works.
    pub(crate) fn good(what: &'static str, words: impl Into<String>) -> Check {
        Check { what, verdict: Verdict::Good, words: words.into() }
    }

    /// An item that works, with a remark.
    pub(crate) fn note(what: &'static str, words: impl Into<String>) -> Check {
        Check { what, verdict: Verdict::Note, words: words.into() }
    }

    /// An item that does not work.
    pub(crate) fn bad(what: &'static str, words: impl Into<String>) -> Check {
        Check { what, verdict: Verdict::Bad, words: words.into() }
    }
}

/// The whole report.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub(crate) struct Report {
    /// The items.
    pub checks: Vec<Check>,
    /// The network and the board.
    pub net: NetFacts,
    /// Faults of network and board, each with its remedy.
    pub faults: Vec<String>,
}

impl Report {
    /// A report of these items and the facts about network and board.
    pub(crate) fn new(checks: Vec<Check>, net: NetFacts) -> Report {
        let faults = net.faults();
        Report { checks, net, faults }
    }

    /// The number of faults.
    pub(crate) fn wrong(&self) -> usize {
        self.checks.iter().filter(|check| check.verdict == Verdict::Bad).count() + self.faults.len()
    }

    /// One line per item, then network and board, then the number of faults. Faults begin with `!`.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        for Check { what, verdict, words } in &self.checks {
            let mark = if *verdict == Verdict::Bad { "! " } else { "" };
            let _ = writeln!(
                text,
                "{mark}{what:<width$} {}",
                super::harmless(words),
                width = 8 - mark.len()
            );
        }
        text += &self.net.table();
        text += &match self.wrong() {
            0 => "nothing is wrong\n".to_string(),
            1 => "one thing is wrong: the line that begins with ! says what to do\n".to_string(),
            count => {
                format!("{count} things are wrong: the lines that begin with ! say what to do\n")
            }
        };
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_stands_out_and_is_counted() {
        let good = vec![Check::good("model", "a.gguf"), Check::note("swarm", "open")];
        let report = Report::new(good.clone(), NetFacts::default());
        assert_eq!(report.wrong(), 0);
        assert!(report.text().starts_with("model    a.gguf\nswarm    open\n"), "{}", report.text());
        assert!(report.text().ends_with("nothing is wrong\n"));
        let mut net = NetFacts::default();
        net.board.clock_set = Some(false);
        let report =
            Report::new([good, vec![Check::bad("state", "full\u{1b}: make room")]].concat(), net);
        assert_eq!(report.wrong(), 2);
        assert!(report.text().contains("! state  full\u{fffd}: make room\n"), "{}", report.text());
        assert!(report.text().contains("2 things are wrong"));
    }
}
