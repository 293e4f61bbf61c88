//! The key that locks the swarm: where it is given, and how a passphrase becomes one.
//!
//! Promises: nodes that are given the same key derive the same bytes, whatever they run on. A key that is given and cannot be used is an
//! error, never no key. A passphrase is stretched by Argon2id (RFC 9106), which makes each guess of a stranger's cost what it costs this
//! node once: the result is kept in the state directory, in a file that only its owner reads:
//!
//! ```text
//! potluck key 1    the format's version, and that of the stretching
//! for 1f09...      BLAKE3 of the passphrase, keyed with the key: whether it is this one's
//! key 76e0...      the key
//! ```

use std::env;
use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use argon2::{Algorithm, Argon2, Params, Version};
use thiserror::Error;

use crate::config::{self, Config, Origin, SwarmKey};
use crate::limits::{MAX_KEY_FILE_BYTES, MAX_SWARM_KEY_BYTES, STRETCH_MEMORY_KIB, STRETCH_PASSES, SWARM_KEY_BYTES};

/// The variable of the environment that holds a key, so that it stands in no list of processes.
const VARIABLE: &str = "POTLUCK_SWARM_KEY";

/// The same for every node, for they must come to the same key without having talked. Another version of the stretching has another.
const SALT: &[u8] = b"potluck swarm key v1";

const NAME: &str = "key";
const NEW_NAME: &str = "key.new";

/// Why there is no key, though one was given.
#[derive(Debug, Error)]
pub(crate) enum KeyError {
    #[error("{0}: cannot be read ({1}): name a file with the swarm's key")]
    Unreadable(PathBuf, io::Error),
    #[error("{0}: holds no key: one line is needed, with a passphrase or what `potluck key` prints, copied exactly")]
    Unclear(PathBuf),
    #[error(
        "{VARIABLE} holds no key: a passphrase is needed, or what `potluck key` prints, copied exactly; without a key, unset it"
    )]
    Variable,
    #[error("--swarm-key and --key-file are both given: leave one out")]
    Two,
    #[error("--swarm-key is empty: give a key, or leave it out")]
    Empty,
    #[error("the passphrase of the swarm cannot be stretched ({0}): free some memory, or take a key from `potluck key`")]
    Stretch(String),
}

/// The key that counts: of the command line, else of the environment, else of the settings. None where none is given.
///
/// # Errors
/// Why it cannot be used, and whether whoever started the program named it, rather than the settings.
pub(super) fn given(config: &Config) -> Result<Option<SwarmKey>, (KeyError, bool)> {
    given_with(config, env::var_os(VARIABLE))
}

fn given_with(config: &Config, variable: Option<OsString>) -> Result<Option<SwarmKey>, (KeyError, bool)> {
    let rank = |name| match config.origin(config::key("swarm", name)) {
        Origin::Default => 0,
        Origin::Base(_) => 1,
        Origin::Line(_) => 2,
        Origin::Option => 3,
    };
    let (key, file) = (rank("key"), rank("key_file"));
    let is_option = key.max(file) == 3;
    if let Some(variable) = variable.filter(|_| !is_option) {
        let read = variable.to_str().and_then(SwarmKey::parse);
        return read.map(Some).ok_or((KeyError::Variable, true));
    }
    match &config.swarm.key_file {
        Some(path) if file > key => of_file(path).map(Some).map_err(|error| (error, is_option)),
        _ => Ok(config.swarm.key.clone()),
    }
}

/// The key in a file: its only line but for empty ones and comments.
fn of_file(path: &Path) -> Result<SwarmKey, KeyError> {
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(MAX_KEY_FILE_BYTES as u64 + 1).read_to_end(&mut bytes));
    read.map_err(|error| KeyError::Unreadable(path.to_path_buf(), error))?;
    let unclear = || KeyError::Unclear(path.to_path_buf());
    let text = str::from_utf8(&bytes).ok().filter(|text| text.len() <= MAX_KEY_FILE_BYTES).ok_or_else(unclear)?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut lines = text.lines().filter(|line| !line.trim().is_empty() && !line.trim_start().starts_with('#'));
    match (lines.next(), lines.next()) {
        (Some(line), None) => SwarmKey::parse(line).ok_or_else(unclear),
        _ => Err(unclear()),
    }
}

/// The bytes that lock the swarm; none for an open one. Takes up to two seconds of a board, unless `state` has kept what came out.
pub(crate) fn secret(key: Option<&SwarmKey>, state: Option<&Path>) -> Result<Vec<u8>, KeyError> {
    let passphrase = match key {
        None => return Ok(Vec::new()),
        Some(SwarmKey::Drawn(key)) => return Ok(key.to_vec()),
        Some(SwarmKey::Passphrase(passphrase)) => passphrase.as_bytes(),
    };
    if let Some(key) = state.and_then(|state| kept(state, passphrase)) {
        return Ok(key.to_vec());
    }
    let key = stretch(passphrase)?;
    if let Some(state) = state {
        // Where it cannot be kept, the next start takes as long.
        let _ = keep(state, passphrase, &key);
    }
    Ok(key.to_vec())
}

fn stretch(passphrase: &[u8]) -> Result<[u8; SWARM_KEY_BYTES], KeyError> {
    let failed = |error: argon2::Error| KeyError::Stretch(error.to_string());
    let params = Params::new(STRETCH_MEMORY_KIB, STRETCH_PASSES, 1, Some(SWARM_KEY_BYTES)).map_err(failed)?;
    let mut key = [0; SWARM_KEY_BYTES];
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params).hash_password_into(passphrase, SALT, &mut key).map_err(failed)?;
    Ok(key)
}

/// What a former start made of this passphrase.
fn kept(state: &Path, passphrase: &[u8]) -> Option<[u8; SWARM_KEY_BYTES]> {
    let mut text = String::new();
    File::open(state.join(NAME)).ok()?.take(MAX_SWARM_KEY_BYTES as u64).read_to_string(&mut text).ok()?;
    let digits = text.lines().nth(2)?.strip_prefix("key ")?;
    let Some(SwarmKey::Drawn(key)) = SwarmKey::parse(digits) else { return None };
    (written(passphrase, &key) == text).then_some(key)
}

/// Keeps it: whole or not at all, and for the owner's eyes only.
fn keep(state: &Path, passphrase: &[u8], key: &[u8; SWARM_KEY_BYTES]) -> io::Result<()> {
    fs::create_dir_all(state)?;
    let (new, path) = (state.join(NEW_NAME), state.join(NAME));
    // One that was left behind may be readable to others.
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
    file.write_all(written(passphrase, key).as_bytes())?;
    file.sync_all()?;
    fs::rename(&new, &path)
}

fn written(passphrase: &[u8], key: &[u8; SWARM_KEY_BYTES]) -> String {
    format!("potluck key 1\nfor {}\nkey {}\n", blake3::keyed_hash(key, passphrase).to_hex(), SwarmKey::hex(key))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn passphrase(text: &str) -> SwarmKey {
        let key = SwarmKey::parse(text).unwrap();
        assert!(matches!(key, SwarmKey::Passphrase(_)));
        key
    }

    fn config(text: &str, folder: &Path) -> Config {
        let (config, problems) = Config::read(text.as_bytes(), folder);
        assert!(problems.is_empty(), "{problems:?}");
        config
    }

    /// Another key here, and boards of two builds would not be one swarm.
    #[test]
    fn a_passphrase_makes_the_same_key_everywhere_and_it_is_not_the_passphrase() {
        let key = secret(Some(&passphrase("sesame")), None).unwrap();
        let hex: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, "2155a36f5fee594826933f426d982282ca3afb0d22676357ce5c8c23eac0516f");
        assert_eq!(secret(Some(&SwarmKey::Drawn([7; 32])), None).unwrap(), [7; 32], "a drawn key is taken as it is");
        assert_eq!(secret(None, None).unwrap(), [0; 0]);
    }

    #[test]
    fn what_came_out_is_kept_for_its_passphrase_and_its_owner_alone() {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("state");
        let key = secret(Some(&passphrase("sesame")), Some(&state)).unwrap();
        assert_eq!(kept(&state, b"sesame").as_ref().map(|key| &key[..]), Some(&key[..]));
        assert_eq!(kept(&state, b"sesamf"), None);
        let path = state.join(NAME);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let text = fs::read_to_string(&path).unwrap();
        assert!(!text.contains("sesame"));

        // The next start does not stretch: a key that stretching would not give is believed.
        keep(&state, b"sesame", &[9; 32]).unwrap();
        assert_eq!(secret(Some(&passphrase("sesame")), Some(&state)).unwrap(), [9; 32]);
        // Another passphrase, or damage, makes it anew.
        assert_eq!(secret(Some(&passphrase("open")), Some(&state)).unwrap(), secret(Some(&passphrase("open")), None).unwrap());
        for damaged in [&text[..text.len() - 1], &text.replace("key 1", "key 2"), &text.replacen('a', "b", 1), ""] {
            fs::write(&path, damaged).unwrap();
            assert_eq!(kept(&state, b"sesame"), None, "{damaged}");
        }
        assert_eq!(secret(Some(&passphrase("sesame")), Some(&state)).unwrap(), key);
        assert_eq!(fs::read_to_string(&path).unwrap(), text);
    }

    #[test]
    fn the_command_line_counts_before_the_environment_and_that_before_the_settings() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("k"), "# ours\n\n  from a file  \n").unwrap();
        let variable = || Some(OsString::from("from the environment"));
        let counts = |config: &Config, variable, text: &str| {
            let key = given_with(config, variable).unwrap().unwrap();
            let SwarmKey::Passphrase(secret) = key else { panic!("drawn") };
            assert_eq!(secret.as_bytes(), text.as_bytes());
        };
        let of_file = config("[swarm]\nkey_file = \"k\"\n", dir.path());
        counts(&of_file, None, "  from a file  ");
        counts(&of_file, variable(), "from the environment");
        let of_settings = config("[swarm]\nkey = \"from the settings\"\n", dir.path());
        counts(&of_settings, None, "from the settings");
        counts(&of_settings, variable(), "from the environment");
        let mut typed = of_file.clone();
        typed.set_option(config::key("swarm", "key"), &["typed".to_string()]).unwrap();
        counts(&typed, variable(), "typed");
        let (over, _) = of_settings.clone().read_over(b"[swarm]\nkey_file = \"k\"\n", dir.path());
        counts(&over, None, "  from a file  ");
        let (over, _) = of_file.clone().read_over(b"[swarm]\nkey = \"the person's\"\n", dir.path());
        counts(&over, None, "the person's");
        assert_eq!(given_with(&Config::default(), None).unwrap(), None);
    }

    #[test]
    fn a_key_that_is_given_and_cannot_be_used_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("k");
        let named = config("[swarm]\nkey_file = \"k\"\n", dir.path());
        assert!(matches!(given_with(&named, None), Err((KeyError::Unreadable(..), false))));
        let drawn = SwarmKey::hex(&[1; 32]);
        let long = "x\n".repeat(MAX_KEY_FILE_BYTES);
        for unclear in ["", "\n# nothing\n", "one\ntwo\n", &drawn[1..], &long] {
            fs::write(&path, unclear).unwrap();
            assert!(matches!(given_with(&named, None), Err((KeyError::Unclear(_), false))), "{unclear:?}");
        }
        fs::write(&path, b"k\xe4se").unwrap();
        assert!(matches!(given_with(&named, None), Err((KeyError::Unclear(_), false))));
        fs::write(&path, format!("{drawn}\r\n")).unwrap();
        assert_eq!(given_with(&named, None).unwrap(), Some(SwarmKey::Drawn([1; 32])));
        for wrong in ["", " ", &drawn[1..]] {
            let error = given_with(&named, Some(OsString::from(wrong)));
            assert!(matches!(error, Err((KeyError::Variable, true))), "a variable that a script left empty opens nothing");
        }
    }
}
