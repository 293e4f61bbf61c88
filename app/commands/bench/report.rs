//! What was measured, as JSON for scripts and as a table for people.

use core::fmt;

use serde::Serialize;

/// Everything that one call of the command measured.
#[derive(Serialize)]
pub(super) struct Report {
    /// Which program, with its version.
    pub program: String,
    /// The model file's name.
    pub model: String,
    /// Its size.
    pub file_bytes: u64,
    /// The file whose tokens were measured on; none where they were random.
    pub text: Option<String>,
    /// int8 or float.
    pub precision: &'static str,
    /// Which build of the loops ran.
    pub instructions: &'static str,
    /// Cores that computed.
    pub threads: usize,
    /// Of how many likeliest tokens a decoded step found the logits, reading output rows in halves;
    /// none where it found all.
    pub likeliest: Option<u32>,
    /// Times that each case was measured.
    pub runs: usize,
    /// Opening and checking the file, and binding its weights; its pages come in as they are used.
    pub load_s: f64,
    /// Making the tokenizer; none where it was left out.
    pub tokenizer_s: Option<f64>,
    /// What was computed, and how long it took.
    #[serde(serialize_with = "with_rates")]
    pub cases: Vec<Case>,
    /// The most memory that was resident while loading, the model's mapped file included; none
    /// where the kernel does not say.
    pub loaded_rss_bytes: Option<u64>,
    /// The most in all.
    pub peak_rss_bytes: Option<u64>,
    /// Pages that had to come from the disk.
    pub major_faults: Option<u64>,
}

/// Some tokens, taken in after `depth` others.
pub(super) struct Case {
    /// Tokens before.
    pub depth: usize,
    /// Tokens taken in.
    pub tokens: usize,
    /// Whether one after the other, as an answer is made, and not as a prompt.
    pub one_by_one: bool,
    /// How long, run by run.
    pub seconds: Vec<f64>,
    /// How much time of cores it took, run by run: on one core the same, unless others were given
    /// that core meanwhile.
    pub cpu_seconds: Vec<f64>,
    /// Output rows that were computed from both halves, in all steps of a run; 0 where they are
    /// read whole.
    pub rows: usize,
}

impl Case {
    pub(super) fn prefill(depth: usize, tokens: usize) -> Case {
        Case {
            depth,
            tokens,
            one_by_one: false,
            seconds: Vec::new(),
            cpu_seconds: Vec::new(),
            rows: 0,
        }
    }

    pub(super) fn decode(depth: usize, tokens: usize) -> Case {
        Case {
            depth,
            tokens,
            one_by_one: true,
            seconds: Vec::new(),
            cpu_seconds: Vec::new(),
            rows: 0,
        }
    }

    fn name(&self) -> &'static str {
        if self.one_by_one { "decode" } else { "prefill" }
    }

    /// Seconds: the middle run, or the mean of the two in the middle.
    pub(super) fn median(&self) -> Option<f64> {
        let mut sorted = self.seconds.clone();
        sorted.sort_by(f64::total_cmp);
        let (low, high) = (sorted.len().checked_sub(1)? / 2, sorted.len() / 2);
        Some((sorted[low] + sorted[high]) / 2.0)
    }

    /// Seconds of the fastest and the slowest run.
    fn range(&self) -> Option<(f64, f64)> {
        let fastest = self.seconds.iter().copied().min_by(f64::total_cmp)?;
        let slowest = self.seconds.iter().copied().max_by(f64::total_cmp)?;
        Some((fastest, slowest))
    }

    pub(super) fn rate(&self, seconds: f64) -> f64 {
        self.tokens as f64 / seconds.max(1e-9)
    }
}

#[derive(Serialize)]
struct Rated<'a> {
    case: &'static str,
    depth: usize,
    tokens: usize,
    median_s: Option<f64>,
    tokens_per_s: Option<f64>,
    runs_s: &'a [f64],
    runs_cpu_s: &'a [f64],
    rows_a_run: usize,
}

fn with_rates<S: serde::Serializer>(cases: &[Case], to: S) -> Result<S::Ok, S::Error> {
    to.collect_seq(cases.iter().map(|case| Rated {
        case: case.name(),
        depth: case.depth,
        tokens: case.tokens,
        median_s: case.median(),
        tokens_per_s: case.median().map(|seconds| case.rate(seconds)),
        runs_s: &case.seconds,
        runs_cpu_s: &case.cpu_seconds,
        rows_a_run: case.rows,
    }))
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Report { program, model, precision, instructions, threads, .. } = self;
        let plural = if *threads == 1 { "" } else { "s" };
        let file = self.file_bytes as f64 / 1e6;
        writeln!(
            f,
            "{program}: {model} ({file:.0} MB), {precision}, {instructions}, {threads} thread{plural}"
        )?;
        write!(f, "load {:.3} s", self.load_s)?;
        if let Some(seconds) = self.tokenizer_s {
            write!(f, ", tokenizer {seconds:.3} s")?;
        }
        if let (Some(loaded), Some(peak)) = (self.loaded_rss_bytes, self.peak_rss_bytes) {
            write!(
                f,
                "; peak RSS {:.0} MB, {:.0} MB when loaded",
                peak as f64 / 1e6,
                loaded as f64 / 1e6
            )?;
        }
        if let Some(faults) = self.major_faults {
            write!(f, "; {faults} major faults")?;
        }
        let mut rows = self
            .cases
            .iter()
            .filter_map(|case| Some((case, case.median()?, case.range()?)))
            .peekable();
        if rows.peek().is_some() {
            write!(f, "\n\ncase        depth   tokens   median ms   tokens/s   fastest   slowest")?;
        }
        for (case, median, (fastest, slowest)) in rows {
            let rates = [median, fastest, slowest].map(|seconds| case.rate(seconds));
            let (name, depth, tokens, ms) = (case.name(), case.depth, case.tokens, median * 1e3);
            write!(
                f,
                "\n{name:<9}{depth:>8}{tokens:>9}{ms:>12.1}{:>11.1}{:>10.1}{:>10.1}",
                rates[0], rates[1], rates[2]
            )?;
        }
        writeln!(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_whatever_the_order() {
        let of =
            |seconds: &[f64]| Case { seconds: seconds.to_vec(), ..Case::prefill(0, 10) }.median();
        assert_eq!(
            [of(&[]), of(&[2.0]), of(&[3.0, 1.0, 2.0]), of(&[4.0, 1.0, 2.0, 9.0])],
            [None, Some(2.0), Some(2.0), Some(3.0)]
        );
    }
}
