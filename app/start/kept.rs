//! What a start computes from a model file and saves for the next one: the content hash for the
//! fingerprint, the packed vocabulary, and more. The files are in one folder, each named by the
//! hash of its input:
//!
//! ```text
//! HEX.tokens     the packed vocabulary (`tokenizer::Packed`), which is mapped
//! HEX.content    the hash of the tensors, with a check of its own
//! HEX.head       the output rows in two halves (`model::Head`), which are mapped
//! HEX.verdict    whether reading them in halves was measured to be faster, and on what
//! ```
//!
//! Promises: a truncated or damaged file counts as missing and is made again. A folder that cannot
//! be written costs time at every start and nothing else. The folder holds few files, however many
//! models are used. docs/inside/kv.md says how far a kept content hash can be trusted: a node that
//! shares compares it with the file while it runs.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use xxhash_rust::xxh3::{Xxh3Default, xxh3_64};

use crate::limits::{MAX_KEPT_FILES, MAX_KEPT_HEADS};
use crate::model::{self, Content, FileError, Head, Opened, Progress, Weight};
use crate::tokenizer::Packed;

const TOKENS: &str = "tokens";
const CONTENT: &str = "content";
const HEAD: &str = "head";
const VERDICT: &str = "verdict";
/// The extension of files being written.
const NEW: &str = "new";
const NEW_HEAD: &str = "newhead";

const FASTER: &str = "halves are faster";
const SLOWER: &str = "halves are not faster";

/// The outcome of comparing halves of output rows with whole ones.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Verdict {
    pub is_faster: bool,
    /// What was measured, in words.
    pub figures: String,
}

/// The folder; if none, nothing is kept.
#[derive(Clone, Debug)]
pub(crate) struct Kept(Option<PathBuf>);

impl Kept {
    /// In the node's state directory if it has one, else in the user's cache directory.
    pub(crate) fn at(state: Option<&Path>) -> Kept {
        let folder = |name: &str| {
            std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute())
        };
        let cache = || folder("XDG_CACHE_HOME").or_else(|| Some(folder("HOME")?.join(".cache")));
        Kept(state.map(|state| state.join("models")).or_else(|| Some(cache()?.join("potluck"))))
    }

    /// The packed vocabulary that was made from `source`, mapped.
    pub(crate) fn tokens(&self, source: [u8; 16]) -> Option<Packed> {
        let path = self.path(source, TOKENS)?;
        // Checked on a temporary map: the check reads every byte, and a prompt needs few of
        // them in memory.
        Packed::open(model::map(&path).ok()?).filter(|packed| packed.made_from() == source)?;
        Packed::open_unread(model::map(&path).ok()?).filter(|packed| packed.made_from() == source)
    }

    /// Saves a complete packed vocabulary and returns it mapped from the saved file, or as it is if
    /// it cannot be saved.
    pub(crate) fn keep_tokens(&self, source: [u8; 16], bytes: Vec<u8>) -> Packed {
        // If this fails, the next start packs again.
        let kept = self.keep(source, TOKENS, &bytes).ok().and_then(|()| self.tokens(source));
        kept.or_else(|| Packed::open_unread(bytes))
            .unwrap_or_else(|| unreachable!("a freshly packed vocabulary is complete"))
    }

    /// The content hash of the model, if one is kept for a file of this length, these times, this
    /// header and these samples.
    pub(crate) fn content(&self, opened: &Opened) -> Option<Content> {
        let text = fs::read_to_string(self.path(identity(opened).ok()?, CONTENT)?).ok()?;
        parse(&text)
    }

    /// Saves the content hash of the model.
    pub(crate) fn keep_content(&self, opened: &Opened, content: Content) {
        if let Ok(identity) = identity(opened) {
            // Without it the next start computes it again.
            let _ = self.keep(identity, CONTENT, written(content).as_bytes());
        }
    }

    /// Deletes the content hash of the model: the file is not the one that was hashed.
    pub(crate) fn forget_content(&self, opened: &Opened) {
        if let Some(path) = identity(opened).ok().and_then(|identity| self.path(identity, CONTENT))
        {
            let _ = fs::remove_file(path);
        }
    }

    /// The split output rows `weight` of the model with this content, if they are kept.
    pub(crate) fn head(&self, content: Content, weight: &Weight) -> Option<Head> {
        Head::open(&self.path(content.0, HEAD)?, weight, content.0)
    }

    /// Splits the output rows and saves the halves. None if there is no folder for them.
    ///
    /// # Errors
    /// Why they cannot be written.
    pub(crate) fn make_head(
        &self,
        content: Content,
        weight: &Weight,
        progress: &mut dyn FnMut(Progress<'_>),
    ) -> Result<Option<Head>, FileError> {
        let Some(path) = self.path(content.0, HEAD) else { return Ok(None) };
        let folder = path.parent().unwrap_or(Path::new(""));
        fs::create_dir_all(folder)
            .map_err(|error| FileError::new(folder, model::Fault::Write(error)))?;
        // Frees space first: the card may have none for one more.
        prune(folder, HEAD, MAX_KEPT_HEADS - 1);
        prune(folder, NEW_HEAD, 1);
        Head::build(&path, weight, content.0, progress)?;
        Ok(self.head(content, weight))
    }

    /// Whether halves of so many bytes would leave as much free again, once those of other models
    /// have made room; true where nobody can say.
    pub(crate) fn has_room(&self, bytes: u64) -> bool {
        let Some(folder) = self.0.as_deref() else { return true };
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        let kept: u64 = entries
            .filter(|entry| entry.path().extension().is_some_and(|it| it == HEAD || it == NEW_HEAD))
            .filter_map(|entry| Some(entry.metadata().ok()?.len()))
            .sum();
        let disk = folder.ancestors().find(|at| at.exists());
        let disk = disk.and_then(|disk| rustix::fs::statvfs(disk).ok());
        disk.is_none_or(|disk| {
            let free = disk.f_bavail.saturating_mul(disk.f_frsize);
            free.saturating_add(kept) >= bytes.saturating_mul(2)
        })
    }

    /// Deletes the halves: they are damaged or not wanted.
    pub(crate) fn forget_head(&self, content: Content) {
        if let Some(path) = self.path(content.0, HEAD) {
            let _ = fs::remove_file(path);
        }
    }

    /// The verdict on this model's halves, if they were compared with whole rows on such a
    /// `machine`.
    pub(crate) fn verdict(&self, content: Content, machine: &str) -> Option<Verdict> {
        let text = fs::read_to_string(self.path(content.0, VERDICT)?).ok()?;
        let (on, verdict) = text.strip_suffix('\n')?.split_once('\n')?;
        let (is_faster, figures) = match verdict.split_once(": ")? {
            (FASTER, figures) => (true, figures),
            (SLOWER, figures) => (false, figures),
            _ => return None,
        };
        (on == machine).then(|| Verdict { is_faster, figures: figures.to_owned() })
    }

    /// Saves a verdict; the one on another machine is forgotten.
    pub(crate) fn keep_verdict(&self, content: Content, machine: &str, verdict: &Verdict) {
        let word = if verdict.is_faster { FASTER } else { SLOWER };
        let text = format!("{machine}\n{word}: {}\n", verdict.figures);
        // Without it the next start measures again.
        let _ = self.keep(content.0, VERDICT, text.as_bytes());
    }

    fn path(&self, of: [u8; 16], kind: &str) -> Option<PathBuf> {
        let name: String = of.iter().map(|byte| format!("{byte:02x}")).collect();
        Some(self.0.as_ref()?.join(name).with_extension(kind))
    }

    /// Writes a file completely or not at all, and deletes the oldest if there are too many. Does
    /// not wait for the disk: behind other programs' writes that takes seconds, while a person
    /// waits for the first answer. After a power cut the file may be shorter; that is detected, and
    /// it counts as missing.
    fn keep(&self, of: [u8; 16], kind: &str, bytes: &[u8]) -> io::Result<()> {
        let path = self.path(of, kind).ok_or(io::ErrorKind::NotFound)?;
        let folder = path.parent().ok_or(io::ErrorKind::NotFound)?;
        fs::create_dir_all(folder)?;
        let new = folder.join(format!("{}.{NEW}", std::process::id()));
        let done = fs::write(&new, bytes).and_then(|()| fs::rename(&new, &path));
        if done.is_err() {
            let _ = fs::remove_file(&new);
        }
        [TOKENS, CONTENT, VERDICT, NEW].iter().for_each(|kind| prune(folder, kind, MAX_KEPT_FILES));
        done
    }
}

/// Keeps the newest `most` files of a kind.
fn prune(folder: &Path, kind: &str, most: usize) {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut files: Vec<(SystemTime, PathBuf)> = entries
        .filter(|entry| entry.path().extension().is_some_and(|extension| extension == kind))
        .filter_map(|entry| Some((entry.metadata().ok()?.modified().ok()?, entry.path())))
        .collect();
    files.sort_unstable_by(|a, b| b.cmp(a));
    for (_, path) in files.iter().skip(most) {
        let _ = fs::remove_file(path);
    }
}

/// Identifies a model's files: hashes everything that a change would alter and that is cheap to
/// read. (Not the inode: on FAT, where boards have their models, it changes with every mount.)
fn identity(opened: &Opened) -> Result<[u8; 16], FileError> {
    let mut hash = Xxh3Default::new();
    for file in opened.gguf.files() {
        let meta = fs::metadata(&file.path)
            .map_err(|error| FileError::new(&file.path, model::Fault::Open(error)))?;
        hash.update(&meta.len().to_le_bytes());
        for time in [meta.mtime(), meta.mtime_nsec(), meta.ctime(), meta.ctime_nsec()] {
            hash.update(&time.to_le_bytes());
        }
    }
    hash.update(&opened.sample()?);
    Ok(hash.digest128().to_le_bytes())
}

fn written(content: Content) -> String {
    let line = format!("potluck content 1 {:032x}", u128::from_le_bytes(content.0));
    format!("{line} {:016x}\n", xxh3_64(line.as_bytes()))
}

fn parse(text: &str) -> Option<Content> {
    let word = text.split(' ').nth(3)?;
    let content = Content(u128::from_str_radix(word, 16).ok()?.to_le_bytes());
    (written(content) == text).then_some(content)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::convert::ConvertType;
    use crate::model::synth::{Shape, synth};
    use crate::tokenizer::Vocabulary;

    fn model(dir: &Path, seed: u64) -> Opened {
        let path = dir.join("model.gguf");
        synth(Shape::Demo, seed, ConvertType::Q4_0, &path, &mut |_| {}).unwrap();
        model::open(&path).unwrap()
    }

    #[test]
    fn a_content_hash_comes_back_for_the_same_file_only() {
        let dir = tempfile::tempdir().unwrap();
        let kept = Kept::at(Some(&dir.path().join("state")));
        let opened = model(dir.path(), 1);
        assert_eq!(kept.content(&opened), None);
        kept.keep_content(&opened, opened.content());
        assert_eq!(kept.content(&opened), Some(opened.content()));

        // A write in place that no sample sees still changes the file's time.
        let path = opened.gguf.path();
        let mut bytes = fs::read(path).unwrap();
        let tensor = &opened.gguf.tensors()["token_embd.weight"].range;
        bytes[tensor.start + 500_000] ^= 1;
        fs::write(path, &bytes).unwrap();
        let written = model::open(path).unwrap();
        assert_eq!(
            kept.content(&written),
            None,
            "a damaged model would share under a good one's fingerprint"
        );

        let other = model(dir.path(), 2);
        assert_eq!(kept.content(&other), None);
        kept.keep_content(&other, other.content());
        kept.forget_content(&other);
        assert_eq!(kept.content(&other), None);
    }

    #[test]
    fn what_is_damaged_counts_as_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let kept = Kept::at(Some(dir.path()));
        let opened = model(dir.path(), 1);
        kept.keep_content(&opened, Content([3; 16]));
        let bytes = Vocabulary::synthetic(512, 1).pack([5; 16]).unwrap();
        kept.keep_tokens([5; 16], bytes);
        let files: Vec<PathBuf> = fs::read_dir(dir.path().join("models"))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        assert_eq!(files.len(), 2, "{files:?}");
        for file in &files {
            let whole = fs::read(file).unwrap();
            fs::write(file, &whole[..whole.len() - 3]).unwrap();
        }
        assert!(kept.content(&opened).is_none() && kept.tokens([5; 16]).is_none());
    }

    #[test]
    fn a_folder_that_cannot_be_written_costs_no_more_than_time() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("models"), "a file where the folder should be").unwrap();
        let kept = Kept::at(Some(dir.path()));
        let bytes = Vocabulary::synthetic(512, 1).pack([5; 16]).unwrap();
        assert_eq!(kept.keep_tokens([5; 16], bytes).made_from(), [5; 16]);
        assert!(kept.tokens([5; 16]).is_none());
    }

    #[test]
    fn halves_are_made_only_with_room_and_used_once_they_were_compared() {
        let dir = tempfile::tempdir().unwrap();
        let kept = Kept::at(Some(&dir.path().join("not yet there")));
        assert!(kept.has_room(0) && !kept.has_room(u64::MAX));
        let content = model(dir.path(), 1).content();
        assert_eq!(kept.verdict(content, "2 cores, neon"), None);
        for is_faster in [true, false] {
            let verdict = Verdict { is_faster, figures: "a step takes 3.0 ms: or so".to_owned() };
            kept.keep_verdict(content, "2 cores, neon", &verdict);
            assert_eq!(kept.verdict(content, "2 cores, neon"), Some(verdict));
        }
        assert_eq!(kept.verdict(content, "1 cores, neon"), None);
        assert_eq!(kept.verdict(model(dir.path(), 2).content(), "2 cores, neon"), None);
        let path = kept.path(content.0, VERDICT).unwrap();
        for damaged in ["", "2 cores, neon", "2 cores, neon\n", "2 cores, neon\nhalves are: so\n"] {
            fs::write(&path, damaged).unwrap();
            assert_eq!(kept.verdict(content, "2 cores, neon"), None);
        }
    }

    #[test]
    fn models_that_come_and_go_leave_few_files() {
        let dir = tempfile::tempdir().unwrap();
        let kept = Kept::at(Some(dir.path()));
        for number in 0..3 * MAX_KEPT_FILES as u8 {
            kept.keep_tokens(
                [number; 16],
                Vocabulary::synthetic(512, 1).pack([number; 16]).unwrap(),
            );
        }
        assert_eq!(fs::read_dir(dir.path().join("models")).unwrap().count(), MAX_KEPT_FILES);
        assert!(kept.tokens([3 * MAX_KEPT_FILES as u8 - 1; 16]).is_some(), "the newest went");
    }
}
