//! What the demonstration prints: one line per prompt, then the totals and whether every check
//! held.

use core::fmt;

use crate::id::NodeId;

use super::process::Answer;
use super::{Expect, Item};

/// One prompt's line.
pub(super) struct Row<'a> {
    pub name: &'a str,
    pub item: &'a Item,
    pub answer: &'a Answer,
    pub reference: &'a Answer,
    /// Tokens that peers must have given; `None` if there is no such requirement.
    pub shared: Option<usize>,
}

impl Row<'_> {
    pub(crate) const HEADER: &'static str = "node    subject (examples)                 prompt       tokens =  own +        peers + computed    TTFT s  TTLT s  alone s  checks";
}

impl fmt::Display for Row<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let figures = &self.answer.figures;
        let from: Vec<String> = figures
            .peers
            .iter()
            .map(|(node, tokens)| format!("{tokens} {}", letter(*node)))
            .collect();
        let from = if from.is_empty() { "0".to_string() } else { from.join(", ") };
        let subject = format!("{} ({})", self.item.subject, self.item.shots);
        let checks = match (same(self.answer, self.reference), took(self.answer, self.shared)) {
            (true, true) => "ok",
            (false, _) => "ANSWER DIFFERS",
            (true, false) => "COMPUTED AGAIN",
        };
        write!(
            f,
            "{:<7} {:<34.34} {:<14}{:>5} = {:>4} + {:>12} + {:>8}    {:>6.3}  {:>6.3}   {:>6.3}  {checks}",
            self.name,
            subject,
            self.item.what,
            figures.prompt_tokens,
            figures.own,
            from,
            figures.computed,
            figures.ttft_ms as f64 / 1e3,
            figures.ttlt_ms as f64 / 1e3,
            self.reference.figures.ttft_ms as f64 / 1e3,
        )
    }
}

/// A question and its answer, on a line each.
pub(super) struct Said<'a> {
    pub question: &'a str,
    pub answer: String,
}

impl fmt::Display for Said<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const LONGEST: usize = 110;
        // One line each, even if the model's answer has line ends or control characters.
        let line = |text: &str| {
            text.split(|c: char| c.is_whitespace() || c.is_control())
                .filter(|part| !part.is_empty())
                .collect::<Vec<_>>()
                .join(" ")
        };
        let (question, answer) = (line(self.question), line(&self.answer));
        write!(f, "  {question:.LONGEST$}\n    {answer:.LONGEST$}")
    }
}

/// The letter of the node with this id: the demonstration numbers them from 1.
fn letter(node: NodeId) -> char {
    (b'A' + (node.0.saturating_sub(1) % 26) as u8) as char
}

fn same(answer: &Answer, reference: &Answer) -> bool {
    answer.tokens == reference.tokens && answer.text == reference.text
}

fn given(answer: &Answer) -> usize {
    answer.figures.peers.iter().map(|(_, tokens)| tokens).sum()
}

/// Whether peers gave as many tokens as they must.
fn took(answer: &Answer, shared: Option<usize>) -> bool {
    shared.is_none_or(|shared| given(answer) >= shared)
}

/// Sums over the prompts.
#[derive(Default)]
pub(super) struct Totals {
    prompts: usize,
    tokens: usize,
    own: usize,
    given: usize,
    computed: usize,
    same: usize,
    must_share: usize,
    shared: usize,
    repeated: Times,
    examples: Times,
}

#[derive(Default)]
struct Times {
    prompts: usize,
    given: usize,
    /// Tokens that the node did not hold itself.
    missing: usize,
    ttft_ms: u64,
    alone_ms: u64,
}

impl Totals {
    pub(super) fn add(
        &mut self,
        item: &Item,
        answer: &Answer,
        reference: &Answer,
        shared: Option<usize>,
    ) {
        let figures = &answer.figures;
        self.prompts += 1;
        self.tokens += figures.prompt_tokens;
        self.own += figures.own;
        self.given += given(answer);
        self.computed += figures.computed;
        self.same += usize::from(same(answer, reference));
        if shared.is_some() {
            self.must_share += 1;
            self.shared += usize::from(took(answer, shared));
        }
        let times = match item.expect {
            Expect::New => return,
            Expect::Repeated => &mut self.repeated,
            Expect::SharedWith(_) => &mut self.examples,
        };
        times.prompts += 1;
        times.given += given(answer);
        times.missing += figures.prompt_tokens - figures.own;
        times.ttft_ms += figures.ttft_ms;
        times.alone_ms += reference.figures.ttft_ms;
    }

    /// Whether every answer was the same as without sharing, and nothing that a peer had was
    /// computed again.
    pub(super) fn held(&self) -> bool {
        self.prompts > 0 && self.same == self.prompts && self.shared == self.must_share
    }
}

impl fmt::Display for Totals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} prompts, {} tokens: {} from own slabs, {} from peers, {} computed",
            self.prompts, self.tokens, self.own, self.given, self.computed
        )?;
        writeln!(f, "repeated on another node: {}", self.repeated)?;
        writeln!(f, "another question after the same examples: {}", self.examples)?;
        let verdict = |held: bool| if held { "ok" } else { "FAILED" };
        writeln!(
            f,
            "what a peer had was taken from it: {} of {} prompts: {}",
            self.shared,
            self.must_share,
            verdict(self.shared == self.must_share)
        )?;
        write!(
            f,
            "answers equal to those without sharing: {} of {}: {}",
            self.same,
            self.prompts,
            verdict(self.same == self.prompts)
        )
    }
}

impl fmt::Display for Times {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.prompts == 0 {
            return write!(f, "none");
        }
        let mean = |ms: u64| ms as f64 / 1e3 / self.prompts as f64;
        let share = 100.0 * self.given as f64 / self.missing.max(1) as f64;
        write!(f, "{share:.1} % of the tokens that the node lacked came from peers; ")?;
        write!(f, "mean TTFT {:.3} s, alone {:.3} s", mean(self.ttft_ms), mean(self.alone_ms))
    }
}
