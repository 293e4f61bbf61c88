//! Output rows in two halves: whether a model's are used, made at its first start, and worth it on
//! this machine.

use std::fmt::Write;
use std::sync::Arc;
use std::time::Instant;

use crate::config::Halves;
use crate::id::TokenId;
use crate::kv::Sequence;
use crate::model::{self, Bytes, Content, Head, Logits, Model, Opened, Wanted, Weight};

use super::kept::Kept;

/// Steps of each way that are timed.
const STEPS: usize = 5;

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
        if let Some(head) = kept.head(self.content, &self.weight) {
            model.set_head(Some(head.clone()));
            return Some((head, true));
        }
        if setting == Halves::Auto && kept.whole(self.content).is_some() {
            return None;
        }
        let megabytes = Head::file_bytes(&self.weight).div_ceil(1_000_000);
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
        let head = match made {
            Ok(head) => head?,
            Err(error) => {
                say(format!("the output rows stay whole: {error}"));
                return None;
            }
        };
        model.set_head(Some(head.clone()));
        if setting == Halves::Auto
            && let Some(why) = slower(model)
        {
            say(format!("the output rows stay whole: {why}"));
            model.set_head(None);
            kept.keep_whole(self.content, &why);
            kept.forget_head(self.content);
            return None;
        }
        Some((head, false))
    }

    /// What stays in memory of the model's `files` when `head` stands for the rows. (Their map
    /// stays, for the embedding's sake, and the system may take its pages away.)
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

/// Why halves do not pay on these cores, by a step's time; none where they do.
fn slower(model: &Model) -> Option<String> {
    let sequence = Arc::new(Sequence::private(model.kv_shape(), 1));
    let token = [TokenId(model.config().vocab as u32 / 3)];
    let timed = |halves: bool| {
        let start = Instant::now();
        let done = if halves {
            let wanted = Wanted { count: 1, apart: &[] };
            model.likeliest_while(&token, 0, &sequence, wanted, &|| true).map(drop)
        } else {
            model.forward(&token, 0, &sequence, Logits::Last(1)).map(drop)
        };
        done.ok().map(|()| start.elapsed())
    };
    let mut best = [None; 2];
    for _ in 0..STEPS {
        for (best, halves) in best.iter_mut().zip([false, true]) {
            let took = timed(halves)?;
            *best = Some(best.map_or(took, |best: std::time::Duration| best.min(took)));
        }
    }
    let [whole, halves] = [best[0]?, best[1]?];
    let mut why = String::new();
    let _ = write!(
        why,
        "a step takes {:.1} ms with them and {:.1} ms with halves",
        whole.as_secs_f64() * 1e3,
        halves.as_secs_f64() * 1e3
    );
    (halves > whole).then_some(why)
}
