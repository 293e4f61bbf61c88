//! Output rows in two halves: whether a model's are used, made at its first start, and worth it on
//! this machine.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::config::Halves;
use crate::id::TokenId;
use crate::kv::Sequence;
use crate::machine::memory::available;
use crate::model::{self, Bytes, Content, Head, Logits, Model, Opened, Wanted, Weight};

use super::kept::{Kept, Verdict};

/// Steps that are timed each way. Guess.
const STEPS: usize = 8;

/// Steps before them, so that they lie within a text and not at its first token. Guess.
const SETTLING_STEPS: usize = 8;

/// How often each step is timed; the fastest counts.
const TRIES: usize = 2;

/// Rows whose halves take less are not worth a measurement: they stay in a processor's cache, and
/// cost next to nothing to read. Guess.
const LEAST_BYTES: u64 = 32_000_000;

/// Memory that must be left to the node and to other programs where rows and halves are compared,
/// for which both have to be in memory. Guess.
const ROOM_BESIDE: u64 = 256_000_000;

/// Halves must bring a step to this part of its time to be worth their room on the disk. Guess.
const WORTH: f64 = 0.95;

/// The output rows of an opened model.
pub(crate) struct OutputRows {
    weight: Weight,
    content: Content,
    /// Which of the model's files they lie in, and what of that file they are not.
    file: usize,
    others: [(std::path::PathBuf, core::ops::Range<usize>); 2],
}

impl OutputRows {
    pub(crate) fn of(opened: &Opened, content: Content) -> OutputRows {
        let (weight, file, range) = opened.output_rows();
        let whole = &opened.gguf.files()[file];
        let others = [0..range.start, range.end..whole.bytes.as_slice().len()];
        OutputRows {
            weight: weight.clone(),
            content,
            file,
            others: others.map(|part| (whole.path.clone(), part)),
        }
    }

    /// Lets `model` read halves of these rows where the setting has it so: kept ones, or those that
    /// are made now. `say` is told what takes long, and what does not work. Returns the halves, and
    /// whether they were kept by a former start.
    pub(crate) fn halve(
        &self,
        model: &mut Model,
        setting: Halves,
        kept: &Kept,
        say: &mut dyn FnMut(String),
    ) -> Option<(Head, bool)> {
        if setting == Halves::Off
            || !Head::fits(&self.weight)
            || !model.precision().int8_activations
        {
            return None;
        }
        let machine = machine(model);
        let fits_beside = self.fits_beside();
        let (head, is_kept) = match kept.head(self.content, &self.weight) {
            Some(head) => (head, true),
            None => (self.make(setting, &machine, kept, say)?, false),
        };
        // Halves that are kept may never have been compared on this machine: they were made at a
        // start that ended too soon, or was told to use them, or that had other cores.
        if setting == Halves::Auto && fits_beside {
            let verdict = kept.verdict(self.content, &machine).or_else(|| {
                let verdict = compare(model, &head)?;
                kept.keep_verdict(self.content, &machine, &verdict);
                if !verdict.is_faster {
                    say(format!("the output rows stay whole: {}", verdict.figures));
                }
                Some(verdict)
            });
            if verdict.is_some_and(|verdict| !verdict.is_faster) {
                kept.forget_head(self.content);
                return None;
            }
        }
        model.set_head(Some(head.clone()), !fits_beside);
        Some((head, is_kept))
    }

    /// Whether memory holds the model and the halves. Then both ways can be compared, and what
    /// needs all logits uses the rows. Where it does not (on a board), the rows would be read from
    /// the card again and again: halves replace them altogether, without a comparison, because a step
    /// then reads a third less.
    fn fits_beside(&self) -> bool {
        let model: u64 = self.others.iter().map(|(_, part)| part.len() as u64).sum::<u64>()
            + self.weight.bytes().len() as u64;
        let needed = model + Head::file_bytes(&self.weight) + ROOM_BESIDE;
        available().is_none_or(|available| available.bytes >= needed)
    }

    /// Makes the halves, unless `auto` has a reason not to.
    fn make(
        &self,
        setting: Halves,
        machine: &str,
        kept: &Kept,
        say: &mut dyn FnMut(String),
    ) -> Option<Head> {
        let bytes = Head::file_bytes(&self.weight);
        let megabytes = bytes.div_ceil(1_000_000);
        if setting == Halves::Auto {
            let verdict = kept.verdict(self.content, machine);
            if bytes < LEAST_BYTES || verdict.is_some_and(|verdict| !verdict.is_faster) {
                return None;
            }
            if !kept.has_room(bytes) {
                say(format!(
                    "the output rows stay whole: their halves take {megabytes} MB, and the disk \
                     has too little room"
                ));
                return None;
            }
        }
        let mut tenths = 0;
        let made = kept.make_head(self.content, &self.weight, &mut |progress| {
            let now = progress.done * 10 / progress.total.max(1);
            if tenths == 0 || now >= tenths + 2 {
                say(format!(
                    "splitting the output rows, once for this model: {} % of {megabytes} MB",
                    now * 10
                ));
                tenths = now.max(1);
            }
        });
        made.unwrap_or_else(|error| {
            say(format!("the output rows stay whole: {error}"));
            None
        })
    }

    /// What stays in memory of the model's `files` when `head` stands for the rows. (Their map
    /// stays, for the embedding's sake, and the system may take its pages away.)
    ///
    /// # Errors
    /// If a part of the file cannot be mapped a second time.
    pub(crate) fn held(
        &self,
        files: &[Bytes],
        head: &Head,
    ) -> Result<Vec<Bytes>, model::FileError> {
        let mut held: Vec<Bytes> = (0..)
            .zip(files)
            .filter(|(number, _)| *number != self.file)
            .map(|(_, file)| file.clone())
            .collect();
        for (path, part) in self.others.iter().filter(|(_, part)| !part.is_empty()) {
            held.push(model::map_part(path, part.clone())?);
        }
        held.push(head.bytes().clone());
        Ok(held)
    }

    pub(crate) fn content(&self) -> Content {
        self.content
    }
}

/// What a comparison of both ways depends on, besides the model.
fn machine(model: &Model) -> String {
    format!("{} cores, {}", model.cores(), model.instructions())
}

/// Compares steps with whole rows and with halves on these cores; `None` if a step fails. The steps
/// are those of a greedy answer, because how many rows must be read whole depends on the text.
/// Leaves the model with whole rows.
fn compare(model: &mut Model, head: &Head) -> Option<Verdict> {
    let sequence = Arc::new(Sequence::private(model.kv_shape(), SETTLING_STEPS + STEPS));
    let mut token = TokenId(model.config().vocab as u32 / 3);
    let mut took = [Duration::ZERO; 2];
    for at in 0..SETTLING_STEPS + STEPS {
        let mut best = [Duration::MAX; 2];
        let mut next = token;
        for _ in 0..TRIES {
            model.set_head(None, false);
            let start = Instant::now();
            let logits = model.forward(&[token], at, &sequence, Logits::Last(1)).ok()?;
            best[0] = best[0].min(start.elapsed());
            next = likeliest(&logits);
            model.set_head(Some(head.clone()), false);
            let start = Instant::now();
            let wanted = Wanted { count: 1, apart: &[] };
            let found = model.likeliest_while(&[token], at, &sequence, wanted, &|| true);
            best[1] = best[1].min(start.elapsed());
            model.set_head(None, false);
            found.ok()?;
        }
        token = next;
        if at >= SETTLING_STEPS {
            took = [0, 1].map(|way| took[way] + best[way]);
        }
    }
    let [whole, halves] = took.map(|took| took.as_secs_f64() * 1e3 / STEPS as f64);
    Some(Verdict {
        is_faster: halves <= whole * WORTH,
        figures: format!("a step takes {whole:.1} ms with them and {halves:.1} ms with halves"),
    })
}

/// The token of the highest logit.
fn likeliest(logits: &[f32]) -> TokenId {
    let highest = (0..).zip(logits).max_by(|a, b| a.1.total_cmp(b.1));
    TokenId(highest.map_or(0, |(id, _)| id))
}
