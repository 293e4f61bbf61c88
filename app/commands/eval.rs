//! `potluck eval`: measures the published tables again with this binary. The experiment is a Python
//! program (`tools/eval`), because it sets up networks and draws pictures, which no board needs.
//! This command finds it and replaces this process with it.

use std::env;
use std::ffi::OsString;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use clap::Args;
use thiserror::Error;

use crate::start::without_settings;

/// Where the experiment is in a clone: beside the folder `target`, which holds the binary.
const CLONE: &str = "tools/eval";

/// Where it is in an unpacked release, beside the folder of the binary.
const RELEASE: &str = "share/potluck/eval";

/// The experiment's own program.
const PROGRAM: &str = "paper.py";

/// Options of `potluck eval`.
#[derive(Debug, Args)]
pub(super) struct EvalArgs {
    /// The model: a Gemma 3 GGUF
    #[arg(short, long, value_name = "FILE")]
    model: PathBuf,
    /// MMLU as a folder with dev and test, a CSV file for each subject
    #[arg(long, value_name = "DIR")]
    mmlu: PathBuf,
    /// Number of MMLU subjects; 57 are all
    #[arg(long, default_value_t = 12)]
    subjects: u32,
    /// Prompts of each subject
    #[arg(long, default_value_t = 1)]
    questions: u32,
    /// Number of measurements of each case of each prompt
    #[arg(long, default_value_t = 1)]
    repetitions: u32,
    /// Seed that chooses subjects and prompts
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Folder for tables, pictures and measured rows; a run that was stopped resumes there
    #[arg(long, value_name = "DIR", default_value = "potluck-eval")]
    out: PathBuf,
    /// A real board: a command line that starts its node, such as "ssh board1 potluck run --json
    /// --raw"; once for each board, at least two
    #[arg(long = "board", value_name = "COMMAND")]
    boards: Vec<String>,
    /// Do not emulate a radio, even if this user may
    #[arg(long)]
    loopback: bool,
    /// Folder of the experiment [default: the one beside the binary, in a clone or a release]
    #[arg(long, value_name = "DIR")]
    scripts: Option<PathBuf>,
    /// More options for the experiment, after --: see its --help
    #[arg(last = true, value_name = "OPTIONS")]
    more: Vec<OsString>,
}

/// Why the experiment could not be run.
#[derive(Debug, Error)]
pub(super) enum EvalError {
    #[error("this binary cannot find its own path: {0}")]
    Lost(io::Error),
    #[error(
        "the experiment's {PROGRAM} is not in {0}: name its folder, tools/eval in a clone of potluck, with --scripts DIR"
    )]
    NotThere(PathBuf),
    #[error(
        "the experiment is not beside this binary: name its folder, tools/eval in a clone of potluck, with --scripts DIR"
    )]
    NotFound,
    #[error("--board needs at least two boards: one must have computed what the other asks for")]
    OneBoard,
    #[error(
        "python3 cannot be run ({0}): the experiment needs Python 3.11, and matplotlib for its pictures"
    )]
    NoPython(io::Error),
}

/// Replaces this process with the experiment; returns only if that fails.
pub(super) fn run(args: &EvalArgs) -> EvalError {
    let binary = match env::current_exe() {
        Ok(binary) => binary,
        Err(error) => return EvalError::Lost(error),
    };
    if args.boards.len() == 1 {
        return EvalError::OneBoard;
    }
    match program(args.scripts.as_deref(), &binary) {
        // The experiment configures its own nodes: settings of this machine's node must not apply.
        Ok(program) => EvalError::NoPython(
            without_settings(Command::new("python3").arg(program).args(arguments(args, &binary)))
                .exec(),
        ),
        Err(error) => error,
    }
}

/// Finds the experiment.
fn program(named: Option<&Path>, binary: &Path) -> Result<PathBuf, EvalError> {
    let there = |folder: PathBuf| Some(folder.join(PROGRAM)).filter(|file| file.is_file());
    match named {
        Some(folder) => {
            there(folder.to_path_buf()).ok_or_else(|| EvalError::NotThere(folder.to_path_buf()))
        }
        None => {
            // Look nowhere else: anybody may be able to write to a folder further up.
            let clone =
                binary.ancestors().find(|above| above.ends_with("target")).and_then(Path::parent);
            let release = binary.parent().and_then(Path::parent);
            let folders =
                [clone.map(|root| root.join(CLONE)), release.map(|root| root.join(RELEASE))];
            folders.into_iter().flatten().find_map(there).ok_or(EvalError::NotFound)
        }
    }
}

/// The experiment's command line.
fn arguments(args: &EvalArgs, binary: &Path) -> Vec<OsString> {
    let mut line: Vec<OsString> = vec![binary.into(), args.model.clone().into()];
    let mut set = |name: &str, value: OsString| line.extend([name.into(), value]);
    set("--mmlu", args.mmlu.clone().into());
    set("--subjects", args.subjects.to_string().into());
    set("--questions", args.questions.to_string().into());
    set("--repetitions", args.repetitions.to_string().into());
    set("--seed", args.seed.to_string().into());
    set("--out", args.out.clone().into());
    set("--kept", args.out.join("rows.jsonl").into());
    line.extend(args.loopback.then(|| "--loopback".into()));
    line.extend(args.more.iter().cloned());
    if !args.boards.is_empty() {
        line.push("--boards".into());
        line.extend(args.boards.iter().map(Into::into));
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_experiment_is_found_beside_the_binary_of_a_clone_and_of_a_release() {
        for (binary, place) in [
            ("target/debug/potluck", CLONE),
            ("target/debug/deps/potluck-1", CLONE),
            ("bin/potluck", RELEASE),
        ] {
            let root = tempfile::tempdir().unwrap();
            let binary = root.path().join(binary);
            assert!(matches!(program(None, &binary), Err(EvalError::NotFound)));
            assert!(matches!(
                program(None, &root.path().join("potluck")),
                Err(EvalError::NotFound)
            ));
            let folder = root.path().join(place);
            std::fs::create_dir_all(&folder).unwrap();
            std::fs::write(folder.join(PROGRAM), "").unwrap();
            assert_eq!(program(None, &binary).unwrap(), folder.join(PROGRAM));
            assert!(matches!(program(Some(root.path()), &binary), Err(EvalError::NotThere(_))));
        }
    }
}
