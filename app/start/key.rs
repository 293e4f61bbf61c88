//! The key that locks the swarm: where it is set, and how a passphrase becomes one.
//!
//! Promises: nodes with the same key derive the same bytes on any machine. A key that is given but
//! unusable is an error, never no key. A passphrase is stretched by Argon2id (RFC 9106), so each
//! guess costs an attacker what it costs this node once. The results for the current and former
//! keys are kept in the state directory, in a file that only its owner can read:
//!
//! ```text
//! potluck key 2    the format's version, and that of the stretching
//! for 1f09...      BLAKE3 of a passphrase, keyed with its key: identifies the passphrase
//! key 76e0...      the key
//! for ...          and so on, for at most one current and four former keys
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
use crate::keyring::Keyring;
use crate::limits::{
    MAX_KEY_FILE_BYTES, MAX_OLD_KEYS, STRETCH_MEMORY_KIB, STRETCH_PASSES, SWARM_KEY_BYTES,
};

/// The environment variable that holds a key, so that it does not appear in process lists.
pub(super) const VARIABLE: &str = "POTLUCK_SWARM_KEY";

/// The same for every node, because nodes must derive the same key without having talked. Another
/// version of the stretching has another.
const SALT: &[u8] = b"potluck swarm key v1";

/// The first line of the file. A file of the older version holds one key.
const HEADS: [&str; 2] = ["potluck key 2", "potluck key 1"];

/// Bytes of the longest file: two lines per key, of about 70 bytes each.
const MAX_KEPT_BYTES: u64 = 16 + (1 + MAX_OLD_KEYS as u64) * 2 * 72;

const NAME: &str = "key";
const NEW_NAME: &str = "key.new";

/// Why there is no key although one was given.
#[derive(Debug, Error)]
pub(crate) enum KeyError {
    #[error("{0}: cannot be read ({1}): name a file with the swarm's key")]
    Unreadable(PathBuf, io::Error),
    #[error(
        "{0}: holds no key: one line is needed, with a passphrase or what `potluck key` prints, copied exactly"
    )]
    Unclear(PathBuf),
    #[error(
        "{VARIABLE} holds no key: a passphrase is needed, or what `potluck key` prints, copied exactly; without a key, unset it"
    )]
    Variable,
    #[error("--swarm-key and --key-file are both given: give only one")]
    Two,
    #[error("{VARIABLE} and {VARIABLE}_FILE are both set: unset one of them")]
    TwoVariables,
    #[error("--swarm-key is empty: give a key, or leave it out")]
    Empty,
    #[error(
        "the passphrase of the swarm cannot be stretched ({0}): free some memory, or take a key from `potluck key`"
    )]
    Stretch(String),
}

/// The effective key: from the command line, else from the environment, else from the settings.
/// None if none is given.
///
/// # Errors
/// Why the key cannot be used, and whether it was named by the command line or the environment
/// rather than by the settings.
pub(super) fn given(config: &Config) -> Result<Option<SwarmKey>, (KeyError, bool)> {
    given_with(config, env::var_os(VARIABLE))
}

fn given_with(
    config: &Config,
    variable: Option<OsString>,
) -> Result<Option<SwarmKey>, (KeyError, bool)> {
    let rank = |name| match config.origin(config::key("swarm", name)) {
        Origin::Default => 0,
        Origin::Base(_) => 1,
        Origin::Line(_) => 2,
        Origin::Variable => 3,
        Origin::Option => 4,
    };
    let (key, file) = (rank("key"), rank("key_file"));
    let is_named = key.max(file) >= 3;
    if variable.is_some() && file == 3 {
        return Err((KeyError::TwoVariables, true));
    }
    if let Some(variable) = variable.filter(|_| key.max(file) < 4) {
        let read = variable.to_str().and_then(SwarmKey::parse);
        return read.map(Some).ok_or((KeyError::Variable, true));
    }
    match &config.swarm.key_file {
        Some(path) if file > key => of_file(path).map(Some).map_err(|error| (error, is_named)),
        _ => Ok(config.swarm.key.clone()),
    }
}

/// The key in a file: its only line besides empty ones and comments.
fn of_file(path: &Path) -> Result<SwarmKey, KeyError> {
    let mut bytes = Vec::new();
    let read = File::open(path)
        .and_then(|file| file.take(MAX_KEY_FILE_BYTES as u64 + 1).read_to_end(&mut bytes));
    read.map_err(|error| KeyError::Unreadable(path.to_path_buf(), error))?;
    let unclear = || KeyError::Unclear(path.to_path_buf());
    let text = str::from_utf8(&bytes)
        .ok()
        .filter(|text| text.len() <= MAX_KEY_FILE_BYTES)
        .ok_or_else(unclear)?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut lines =
        text.lines().filter(|line| !line.trim().is_empty() && !line.trim_start().starts_with('#'));
    match (lines.next(), lines.next()) {
        (Some(line), None) => SwarmKey::parse(line).ok_or_else(unclear),
        _ => Err(unclear()),
    }
}

/// The keys that lock the swarm: the current one, if it has one, and the former ones. A passphrase
/// whose key is not kept in `state` takes up to two seconds on a board.
pub(crate) fn keyring(
    key: Option<&SwarmKey>,
    former: &[SwarmKey],
    state: Option<&Path>,
) -> Result<Keyring, KeyError> {
    let kept = state.map(kept).unwrap_or_default();
    let mut used = Vec::new();
    let current = key.map_or(Ok(Vec::new()), |key| secret(key, &kept, &mut used))?;
    let former =
        former.iter().map(|key| secret(key, &kept, &mut used)).collect::<Result<Vec<_>, _>>()?;
    if let Some(state) = state.filter(|_| !used.is_empty() && used != kept) {
        // If they cannot be saved, the next start takes as long.
        let _ = keep(state, &used);
    }
    Ok(Keyring::new(&current, former.iter().map(Vec::as_slice)))
}

/// A stretched key, and a mark of the passphrase that it came from.
#[derive(Clone, PartialEq, Eq)]
struct Stretched {
    mark: String,
    key: [u8; SWARM_KEY_BYTES],
}

impl Stretched {
    fn new(passphrase: &[u8], key: [u8; SWARM_KEY_BYTES]) -> Stretched {
        Stretched { mark: blake3::keyed_hash(&key, passphrase).to_hex().to_string(), key }
    }
}

/// The bytes with which a key locks the swarm. Stretched keys that it needs, new or kept, are
/// added to `used`.
fn secret(
    key: &SwarmKey,
    kept: &[Stretched],
    used: &mut Vec<Stretched>,
) -> Result<Vec<u8>, KeyError> {
    let passphrase = match key {
        SwarmKey::Drawn(key) => return Ok(key.to_vec()),
        SwarmKey::Passphrase(passphrase) => passphrase.as_bytes(),
    };
    let known = kept.iter().find(|kept| Stretched::new(passphrase, kept.key) == **kept).cloned();
    let stretched = match known {
        Some(known) => known,
        None => Stretched::new(passphrase, stretch(passphrase)?),
    };
    let key = stretched.key.to_vec();
    if !used.contains(&stretched) {
        used.push(stretched);
    }
    Ok(key)
}

fn stretch(passphrase: &[u8]) -> Result<[u8; SWARM_KEY_BYTES], KeyError> {
    let failed = |error: argon2::Error| KeyError::Stretch(error.to_string());
    let params = Params::new(STRETCH_MEMORY_KIB, STRETCH_PASSES, 1, Some(SWARM_KEY_BYTES))
        .map_err(failed)?;
    let mut key = [0; SWARM_KEY_BYTES];
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_password_into(passphrase, SALT, &mut key)
        .map_err(failed)?;
    Ok(key)
}

/// The stretched keys of former starts; none if the file is damaged.
fn kept(state: &Path) -> Vec<Stretched> {
    let mut text = String::new();
    let read = File::open(state.join(NAME))
        .and_then(|file| file.take(MAX_KEPT_BYTES + 1).read_to_string(&mut text));
    if read.is_err() || text.len() as u64 > MAX_KEPT_BYTES {
        return Vec::new();
    }
    let mut lines = text.lines();
    if !lines.next().is_some_and(|line| HEADS.contains(&line)) {
        return Vec::new();
    }
    let entry = || {
        let mark = lines.next()?.strip_prefix("for ")?.to_string();
        match SwarmKey::parse(lines.next()?.strip_prefix("key ")?)? {
            SwarmKey::Drawn(key) => Some(Stretched { mark, key }),
            SwarmKey::Passphrase(_) => None,
        }
    };
    core::iter::from_fn(entry).take(1 + MAX_OLD_KEYS).collect()
}

/// Saves the stretched keys: all or none, readable by the owner only.
fn keep(state: &Path, keys: &[Stretched]) -> io::Result<()> {
    fs::create_dir_all(state)?;
    let (new, path) = (state.join(NEW_NAME), state.join(NAME));
    // A leftover file may be readable to others.
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
    file.write_all(written(keys).as_bytes())?;
    file.sync_all()?;
    fs::rename(&new, &path)
}

fn written(keys: &[Stretched]) -> String {
    let entries = keys
        .iter()
        .take(1 + MAX_OLD_KEYS)
        .map(|Stretched { mark, key }| format!("for {mark}\nkey {}\n", SwarmKey::hex(key)));
    format!("{}\n{}", HEADS[0], entries.collect::<String>())
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

    fn stretched(key: &SwarmKey) -> Vec<u8> {
        secret(key, &[], &mut Vec::new()).unwrap()
    }

    /// With another key here, boards of two builds would not form one swarm.
    #[test]
    fn a_passphrase_makes_the_same_key_everywhere_and_it_is_not_the_passphrase() {
        let key = stretched(&passphrase("sesame"));
        let hex: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, "2155a36f5fee594826933f426d982282ca3afb0d22676357ce5c8c23eac0516f");
        assert_eq!(stretched(&SwarmKey::Drawn([7; 32])), [7; 32], "a drawn key is taken as it is");
        assert_eq!(keyring(None, &[], None).unwrap(), Keyring::open());
    }

    #[test]
    fn what_came_out_is_kept_for_its_passphrase_and_its_owner_alone() {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("state");
        let (sesame, open) = (passphrase("sesame"), passphrase("open"));
        let first = keyring(Some(&sesame), &[], Some(&state)).unwrap();
        assert_eq!(first, Keyring::new(&stretched(&sesame), []));
        let path = state.join(NAME);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let text = fs::read_to_string(&path).unwrap();
        assert!(!text.contains("sesame"));

        // The next start does not stretch: it accepts a saved key that stretching would not give,
        // for its own passphrase.
        keep(&state, &[Stretched::new(b"sesame", [9; 32])]).unwrap();
        assert_eq!(keyring(Some(&sesame), &[], Some(&state)).unwrap(), Keyring::new(&[9; 32], []));
        assert_eq!(
            keyring(Some(&open), &[], Some(&state)).unwrap(),
            Keyring::new(&stretched(&open), [])
        );
        for damaged in [
            &text[..text.len() - 1],
            &text.replace("key 2", "key 3"),
            &text.replacen('a', "b", 1),
            "",
        ] {
            fs::write(&path, damaged).unwrap();
            assert_eq!(keyring(Some(&sesame), &[], Some(&state)).unwrap(), first, "{damaged}");
        }
        assert_eq!(fs::read_to_string(&path).unwrap(), text);
    }

    /// A board that gets a new key keeps the old one for a while, and must not stretch both at
    /// every start.
    #[test]
    fn former_keys_are_kept_as_well_and_no_more_than_there_are() {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("state");
        let names = ["new", "one", "two", "three", "four"];
        let made_up: Vec<Stretched> = names
            .iter()
            .enumerate()
            .map(|(at, name)| Stretched::new(name.as_bytes(), [at as u8 + 1; 32]))
            .collect();
        keep(&state, &made_up).unwrap();
        let former: Vec<SwarmKey> = names[1..].iter().map(|name| passphrase(name)).collect();
        let keys = keyring(Some(&passphrase("new")), &former, Some(&state)).unwrap();
        let expected: Vec<[u8; 32]> = (2..=5).map(|byte| [byte; 32]).collect();
        assert_eq!(
            keys,
            Keyring::new(&[1; 32], expected.iter().map(<[u8; 32]>::as_slice)),
            "none was stretched"
        );
        assert_eq!(kept(&state).len(), 5);
        assert!(written(&made_up).len() as u64 <= MAX_KEPT_BYTES);
        keyring(Some(&passphrase("new")), &former[..1], Some(&state)).unwrap();
        assert!(kept(&state) == made_up[..2], "keys no longer used are dropped");
        let older = written(&made_up[..1]).replace(HEADS[0], HEADS[1]);
        fs::write(state.join(NAME), older).unwrap();
        assert!(kept(&state) == made_up[..1], "a file of the older version");
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
            assert!(
                matches!(given_with(&named, None), Err((KeyError::Unclear(_), false))),
                "{unclear:?}"
            );
        }
        fs::write(&path, b"k\xe4se").unwrap();
        assert!(matches!(given_with(&named, None), Err((KeyError::Unclear(_), false))));
        fs::write(&path, format!("{drawn}\r\n")).unwrap();
        assert_eq!(given_with(&named, None).unwrap(), Some(SwarmKey::Drawn([1; 32])));
        for wrong in ["", " ", &drawn[1..]] {
            let error = given_with(&named, Some(OsString::from(wrong)));
            assert!(
                matches!(error, Err((KeyError::Variable, true))),
                "a variable that a script left empty opens nothing"
            );
        }
    }
}
