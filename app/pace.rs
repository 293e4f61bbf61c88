//! The pace of another machine: what each engine job costs there, so that measurements on this
//! machine can imitate it.
//!
//! Promise: a pure function of a job's position and size. The driver waits by it and the simulator
//! counts by it, so both model the same machine.

use core::fmt;

use thiserror::Error;

use crate::limits::{
    BLOCK_TOKENS, MAX_CONTEXT_TOKENS, MAX_PACE_MICROS, MAX_PACE_NAME_BYTES, MAX_PACE_ROWS,
};

/// The job costs of one machine.
#[derive(Clone, PartialEq, Debug)]
pub struct Pace {
    name: String,
    estimate: bool,
    start_ms: u64,
    token: Table,
    depth: Table,
    logits: Table,
    job_us: f64,
}

/// The parts of a [`Pace`], unchecked.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct PaceParts {
    /// Name of the machine, shown with every figure that this pace affects.
    pub name: String,
    /// Whether the costs were derived rather than measured.
    pub estimate: bool,
    /// Duration of a cold start, until the weights are in memory, in milliseconds.
    pub start_ms: f64,
    /// Rows of (tokens that pass through the layers together, microseconds per token), without the
    /// logits. Batches larger than the last row are split into several passes.
    pub token_us: Vec<(f64, f64)>,
    /// Rows of (preceding tokens, extra microseconds per token for attending to them).
    pub depth_us: Vec<(f64, f64)>,
    /// Rows of (tokens whose logits are computed together, microseconds per token for its logits).
    pub logits_us: Vec<(f64, f64)>,
    /// Fixed cost of a job, independent of its size, in microseconds.
    pub job_us: f64,
}

/// Why the parts do not make a valid pace.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum PaceError {
    /// A name that is empty, too long, or has characters that are not allowed.
    #[error("name: 1 to {MAX_PACE_NAME_BYTES} letters, digits, dots and hyphens")]
    Name,
    /// A table without rows, or with too many.
    #[error("{0}: 1 to {MAX_PACE_ROWS} rows [tokens, microseconds]")]
    Rows(&'static str),
    /// Token counts out of order or out of range.
    #[error("{0}: the rows must begin at {1} tokens, grow, and end below {MAX_CONTEXT_TOKENS}")]
    Order(&'static str, usize),
    /// A cost outside the allowed range.
    #[error("{0}: a cost is a number from 0 to {MAX_PACE_MICROS} microseconds")]
    Cost(&'static str),
}

/// Costs at given sizes, interpolated linearly in between.
#[derive(Clone, PartialEq, Debug)]
struct Table(Vec<(f64, f64)>);

impl Table {
    fn new(name: &'static str, first: usize, rows: Vec<(f64, f64)>) -> Result<Table, PaceError> {
        if rows.is_empty() || rows.len() > MAX_PACE_ROWS {
            return Err(PaceError::Rows(name));
        }
        let grows = rows.windows(2).all(|pair| pair[0].0 < pair[1].0);
        let (low, high) = (rows[0].0, rows[rows.len() - 1].0);
        if !grows || low != first as f64 || high.is_nan() || high >= MAX_CONTEXT_TOKENS as f64 {
            return Err(PaceError::Order(name, first));
        }
        rows.iter().try_for_each(|row| cost(name, row.1).map(drop))?;
        Ok(Table(rows))
    }

    /// The cost at `x`. Beyond the last row, the last row's cost.
    fn at(&self, x: f64) -> f64 {
        let above = self.0.iter().position(|row| row.0 >= x);
        match above {
            None => self.0[self.0.len() - 1].1,
            Some(0) => self.0[0].1,
            Some(at) => {
                let ((x0, y0), (x1, y1)) = (self.0[at - 1], self.0[at]);
                y0 + (y1 - y0) * (x - x0) / (x1 - x0)
            }
        }
    }

    fn last(&self) -> f64 {
        self.0[self.0.len() - 1].0
    }
}

fn cost(name: &'static str, value: f64) -> Result<f64, PaceError> {
    if (0.0..=MAX_PACE_MICROS).contains(&value) { Ok(value) } else { Err(PaceError::Cost(name)) }
}

impl Pace {
    /// Validates the parts.
    ///
    /// # Errors
    /// [`PaceError`], naming the first part that is wrong.
    pub fn new(parts: PaceParts) -> Result<Pace, PaceError> {
        let PaceParts { name, estimate, start_ms, token_us, depth_us, logits_us, job_us } = parts;
        let plain = |c: char| c.is_ascii_alphanumeric() || ".-".contains(c);
        if name.is_empty() || name.len() > MAX_PACE_NAME_BYTES || !name.chars().all(plain) {
            return Err(PaceError::Name);
        }
        Ok(Pace {
            name,
            estimate,
            start_ms: (cost("start_ms", start_ms * 1e3)? / 1e3) as u64,
            token: Table::new("token_us", 1, token_us)?,
            depth: Table::new("depth_us", 0, depth_us)?,
            logits: Table::new("logits_us", 1, logits_us)?,
            job_us: cost("job_us", job_us)?,
        })
    }

    /// The machine's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether the costs were derived rather than measured.
    pub fn is_estimate(&self) -> bool {
        self.estimate
    }

    /// Duration of a cold start, in milliseconds.
    pub(crate) fn start_ms(&self) -> u64 {
        self.start_ms
    }

    /// Number of passes that `tokens` tokens need.
    pub(crate) fn passes(&self, tokens: usize) -> usize {
        tokens.div_ceil(self.pass_tokens())
    }

    /// Duration, in microseconds, of a job over `tokens` tokens starting at position `first`, which
    /// computes the logits of `rows` of them.
    pub fn job_micros(&self, first: usize, tokens: usize, rows: usize) -> u64 {
        let mut micros = self.job_us + rows as f64 * self.logits.at(rows as f64);
        let mut done = 0;
        while done < tokens {
            let pass = self.pass_tokens().min(tokens - done);
            // Attention's cost grows linearly along the pass, so the cost at its
            // middle is the mean.
            let depth = (first + done) as f64 + (pass as f64 - 1.0) / 2.0;
            micros += pass as f64 * (self.token.at(pass as f64) + self.depth.at(depth));
            done += pass;
        }
        micros as u64
    }

    /// Prefill rate in tokens per second, as a node measures its own speed when it starts.
    pub fn prefill_tokens_per_s(&self) -> f32 {
        let tokens = 2 * BLOCK_TOKENS;
        tokens as f32 * 1e6 / self.job_micros(0, tokens, 0).max(1) as f32
    }

    fn pass_tokens(&self) -> usize {
        self.token.last() as usize
    }
}

impl fmt::Display for Pace {
    /// In the format of the pace file.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rows = |table: &Table| {
            let rows: Vec<String> =
                table.0.iter().map(|(x, y)| format!("[{x}, {}]", y.round())).collect();
            rows.join(", ")
        };
        writeln!(
            f,
            "name = \"{}\"\nestimate = {}\nstart_ms = {}",
            self.name, self.estimate, self.start_ms
        )?;
        writeln!(f, "token_us = [{}]\ndepth_us = [{}]", rows(&self.token), rows(&self.depth))?;
        writeln!(f, "logits_us = [{}]\njob_us = {}", rows(&self.logits), self.job_us.round())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts() -> PaceParts {
        PaceParts {
            name: "board".to_string(),
            estimate: true,
            start_ms: 100.0,
            token_us: vec![(1.0, 58_000.0), (5.0, 11_600.0), (64.0, 11_000.0)],
            depth_us: vec![(0.0, 0.0), (512.0, 1_024.0)],
            logits_us: vec![(1.0, 137_000.0), (4.0, 34_250.0), (8.0, 18_000.0)],
            job_us: 10.0,
        }
    }

    #[test]
    fn a_job_costs_its_passes_its_depth_and_its_logits() {
        let pace = Pace::new(parts()).unwrap();
        assert_eq!(pace.job_micros(0, 1, 0), 58_010);
        assert_eq!(pace.job_micros(0, 1, 1), 195_010);
        assert_eq!(
            pace.job_micros(0, 4, 4),
            10 + 4 * (23_200 + 3) + 137_000,
            "the weights are read once for all rows"
        );
        assert_eq!(pace.job_micros(0, 16, 16) - pace.job_micros(0, 16, 0), 16 * 18_000);
        assert_eq!(pace.job_micros(0, 3, 0), 10 + 3 * (34_800 + 2));
        assert_eq!(pace.job_micros(0, 64, 0), 10 + 64 * (11_000 + 63));
        assert_eq!(pace.job_micros(0, 128, 0), 10 + 128 * 11_000 + 64 * (63 + 191));
        assert_eq!(
            pace.job_micros(9_000, 64, 0),
            10 + 64 * 12_024,
            "beyond the table, the last row applies"
        );
        assert_eq!((pace.passes(64), pace.passes(65), pace.passes(1)), (1, 2, 1));
        assert!(
            (pace.prefill_tokens_per_s() - 88.0).abs() < 1.0,
            "{}",
            pace.prefill_tokens_per_s()
        );
    }

    #[test]
    fn parts_that_no_machine_has_are_refused_by_name() {
        let fails = |change: &dyn Fn(&mut PaceParts)| {
            let mut parts = parts();
            change(&mut parts);
            Pace::new(parts).unwrap_err().to_string()
        };
        for name in ["", "a b", "x\n", &"x".repeat(MAX_PACE_NAME_BYTES + 1)] {
            assert!(fails(&|parts| parts.name = name.to_string()).starts_with("name"));
        }
        assert!(fails(&|parts| parts.token_us.clear()).starts_with("token_us: 1 to"));
        assert!(
            fails(&|parts| parts.token_us = vec![(1.0, 1.0); MAX_PACE_ROWS + 1])
                .starts_with("token_us: 1 to")
        );
        assert!(fails(&|parts| parts.token_us[0].0 = 2.0).contains("begin at 1"));
        assert!(fails(&|parts| parts.token_us[1].0 = 70.0).contains("grow"));
        assert!(fails(&|parts| parts.depth_us[1].0 = f64::NAN).contains("grow"));
        assert!(fails(&|parts| parts.depth_us[0].1 = -1.0).starts_with("depth_us: a cost"));
        assert!(
            fails(&|parts| parts.logits_us[0].1 = f64::INFINITY).starts_with("logits_us: a cost")
        );
        assert!(fails(&|parts| parts.start_ms = f64::NAN).starts_with("start_ms: a cost"));
    }
}
