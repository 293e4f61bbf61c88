//! The decisions that scripts in `tools/` make: which Debian suite the board's compiler comes from,
//! which file is the real model, which model a card may have, and which instructions the board has.

use std::fs;
use std::io::{Write, stderr};
use std::path::Path;
use std::process::{Command, Output};

use tempfile::TempDir;

/// One package in a made-up index: name, architecture, version and dependencies.
type Package<'a> = (&'a str, &'a str, &'a str, &'a str);

/// A Debian archive in a folder, with indices only: nothing can be downloaded from it, but the
/// script can choose from it.
struct Archive(TempDir);

impl Archive {
    fn new() -> Archive {
        Archive(tempfile::tempdir().unwrap())
    }

    /// Adds a suite with `rustc` and its two libraries in these versions, and with `others`.
    fn suite(&self, name: &str, rustc: &str, amd64: &str, arm64: &str, others: &[Package]) {
        let rust = [
            ("rustc", "amd64", rustc, "libc6"),
            ("cargo", "amd64", rustc, "libc6"),
            ("libstd-rust-dev", "amd64", amd64, "libc6"),
            ("libstd-rust-dev", "arm64", arm64, "libc6"),
        ];
        let suite = self.0.path().join("dists").join(name);
        for arch in ["amd64", "arm64"] {
            let folder = suite.join(format!("main/binary-{arch}"));
            fs::create_dir_all(&folder).unwrap();
            let of_arch = rust.iter().chain(others).filter(|package| package.1 == arch);
            let stanza = |(name, arch, version, depends): &Package| {
                let shared = if name.starts_with("lib") { "same" } else { "foreign" };
                let depends = if depends.is_empty() {
                    String::new()
                } else {
                    format!("Depends: {depends}\n")
                };
                format!(
                    "Package: {name}\nVersion: {version}\nArchitecture: {arch}\nMulti-Arch: {shared}\n{depends}\
                     Filename: pool/{name}_{arch}.deb\nSize: 1\nSHA256: {:064}\n\n",
                    1
                )
            };
            fs::write(folder.join("Packages"), of_arch.map(stanza).collect::<String>()).unwrap();
        }
        let release = format!(
            "Origin: Debian\nSuite: {name}\nCodename: {name}\nArchitectures: amd64 arm64\nComponents: main\n"
        );
        fs::write(suite.join("Release"), release).unwrap();
    }

    /// Asks `tools/debian-rust.sh` for a suite that has `gcc` too. Where there is no apt, prints a
    /// line that says so and returns `None`.
    fn choose(&self, suites: &str, test: &str) -> Option<Output> {
        if Command::new("apt-get").arg("--version").output().is_err() {
            // Bypasses the test harness, which hides the output of tests that pass.
            let line = format!("skipped: {test}: it needs apt-get, and this machine has none\n");
            let _ = stderr().write_all(line.as_bytes());
            return None;
        }
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tools/debian-rust.sh");
        let mut command = Command::new(script);
        command
            .env("DEBIAN_MIRROR", format!("file:{}", self.0.path().display()))
            .env("DEBIAN_SUITES", suites);
        Some(command.arg(self.0.path().join("apt")).arg("gcc").output().unwrap())
    }
}

/// The other packages of a suite in good order.
const GOOD: &[Package] = &[
    ("gcc", "amd64", "15", "libc6"),
    ("libc6", "amd64", "2.41", ""),
    ("libc6", "arm64", "2.41", ""),
];

#[test]
fn the_boards_compiler_comes_from_the_first_suite_whose_versions_fit_together() {
    let archive = Archive::new();
    archive.suite("trixie", "1.85.1+d-1", "1.85.1+d-1", "1.85.1+d-1", GOOD);
    // The state of trixie-backports on 2026-11-28: the compiler is days ahead of the library for
    // one architecture.
    archive.suite("trixie-backports", "1.97.1+d-1", "1.97.1+d-1", "1.96.1+d-2", &[]);
    // The same source, but rebuilt for one architecture: apt cannot install these side by
    // side either.
    archive.suite("rebuilt", "1.97.1+d-1", "1.97.1+d-1", "1.97.1+d-1+b1", GOOD);
    archive.suite("fits", "1.97.1+d-1", "1.97.1+d-1", "1.97.1+d-1", GOOD);
    archive.suite("fits-later", "1.98.0+d-1", "1.98.0+d-1", "1.98.0+d-1", GOOD);
    let test = "the_boards_compiler_comes_from_the_first_suite_whose_versions_fit_together";
    let Some(chosen) = archive.choose("trixie trixie-backports rebuilt fits fits-later", test)
    else {
        return;
    };
    assert_eq!(String::from_utf8_lossy(&chosen.stdout), "fits 1.97.1\n", "{chosen:?}");
    assert!(chosen.status.success());
    let said = String::from_utf8_lossy(&chosen.stderr);
    for why in [
        "trixie does not serve: rustc is 1.85.1, and potluck needs ",
        "trixie-backports does not serve: rustc is 1.97.1+d-1, its libraries 1.97.1+d-1 for amd64 and 1.96.1+d-2 for arm64",
        "rebuilt does not serve: rustc is 1.97.1+d-1, its libraries 1.97.1+d-1 for amd64 and 1.97.1+d-1+b1 for arm64",
    ] {
        assert!(said.contains(why), "{why:?} is not in {said}");
    }
}

#[test]
fn backports_stand_on_their_suite() {
    let archive = Archive::new();
    archive.suite("trixie", "1.85.1+d-1", "1.85.1+d-1", "1.85.1+d-1", GOOD);
    archive.suite("trixie-backports", "1.97.1+d-1", "1.97.1+d-1", "1.97.1+d-1", &[]);
    let Some(chosen) = archive.choose("trixie-backports", "backports_stand_on_their_suite") else {
        return;
    };
    assert_eq!(String::from_utf8_lossy(&chosen.stdout), "trixie-backports 1.97.1\n", "{chosen:?}");
}

#[test]
fn where_no_suite_serves_the_exit_code_says_so_and_each_suite_has_its_reason() {
    let archive = Archive::new();
    archive.suite("no-gcc", "1.97.1+d-1", "1.97.1+d-1", "1.97.1+d-1", &GOOD[1..]);
    archive.suite("no-arm64", "1.97.1+d-1", "1.97.1+d-1", "1.97.1+d-1", &GOOD[..2]);
    let libc = [GOOD[0], GOOD[1], ("libc6", "arm64", "2.42", "")];
    archive.suite("two-libcs", "1.97.1+d-1", "1.97.1+d-1", "1.97.1+d-1", &libc);
    let test = "where_no_suite_serves_the_exit_code_says_so_and_each_suite_has_its_reason";
    let Some(chosen) = archive.choose("nonesuch no-gcc no-arm64 two-libcs", test) else { return };
    assert_eq!(chosen.status.code(), Some(69), "{chosen:?}");
    assert!(chosen.stdout.is_empty(), "{chosen:?}");
    let said = String::from_utf8_lossy(&chosen.stderr);
    for why in [
        "nonesuch does not serve: its indices cannot be fetched",
        "no-gcc does not serve: E: Unable to locate package gcc",
        "no-arm64 does not serve:  libstd-rust-dev:arm64 : Depends: libc6:arm64",
        "two-libcs does not serve:  ",
        "no suite of the archive has a compiler",
    ] {
        assert!(said.contains(why), "{why:?} is not in {said}");
    }
}

/// Runs `tools/model.sh` into `folder`, with the programs in `first` ahead of all others in PATH.
fn bring_model(folder: &Path, first: &Path) -> Output {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tools/model.sh");
    let path = format!("{}:{}", first.display(), std::env::var("PATH").unwrap());
    Command::new(script).arg(folder).env("PATH", path).output().unwrap()
}

#[test]
fn a_file_that_is_not_the_real_model_is_neither_taken_for_it_nor_overwritten() {
    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().join("gemma-3-270m-q4_k_m.gguf");
    fs::write(&model, "somebody's own").unwrap();
    let brought = bring_model(folder.path(), folder.path());
    assert_eq!(brought.status.code(), Some(1), "{brought:?}");
    assert!(String::from_utf8_lossy(&brought.stderr).contains("move it away"), "{brought:?}");
    assert_eq!(fs::read(&model).unwrap(), b"somebody's own");
}

#[test]
fn bringing_the_model_without_pip_says_what_to_install_in_one_line() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let python = folder.path().join("python3");
    fs::write(&python, "#!/bin/sh\nexit 1\n").unwrap();
    fs::set_permissions(&python, fs::Permissions::from_mode(0o755)).unwrap();
    let brought = bring_model(&folder.path().join("models"), folder.path());
    assert_eq!(brought.status.code(), Some(1), "{brought:?}");
    assert_eq!(
        String::from_utf8_lossy(&brought.stderr),
        "model: python3 has no pip: on Debian, apt-get install python3-pip\n"
    );
}

/// Runs `tools/image.sh build` with `model`, up to the point where it would download Buildroot.
#[cfg(all(feature = "model", feature = "net"))]
fn image_with(model: &Path) -> String {
    let mut command = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("tools/image.sh"));
    let potluck = env!("CARGO_BIN_EXE_potluck");
    command
        .arg("build")
        .env("MODEL", model)
        .env("POTLUCK_BIN", potluck)
        .env("POTLUCK_HOST", potluck);
    let image = command.env("BUILDROOT_DIR", "/nowhere").output().unwrap();
    assert_eq!(image.status.code(), Some(1), "{image:?}");
    String::from_utf8_lossy(&image.stderr).into_owned()
}

#[test]
#[cfg(all(feature = "model", feature = "net"))]
fn an_image_is_made_with_no_model_that_the_board_could_not_find_or_run() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    assert!(image_with(&path("none.gguf")).contains("make model downloads"));
    fs::write(path("damaged.gguf"), "GGUF").unwrap();
    let said = image_with(&path("damaged.gguf"));
    assert!(said.contains("damaged.gguf") && said.lines().count() == 1, "{said}");
    let good =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tools/demo-model/model/potluck-demo.gguf");
    assert!(image_with(&good).contains("is no Buildroot tree"));
    // In a download cache, the targets of links have other names: the link's own name counts.
    std::os::unix::fs::symlink(&good, path("link.gguf")).unwrap();
    assert!(image_with(&path("link.gguf")).contains("is no Buildroot tree"));
    std::os::unix::fs::symlink(&good, path("blob")).unwrap();
    assert!(image_with(&path("blob")).contains("must be called"));
}

#[test]
fn the_boards_instructions_are_told_from_later_ones_and_from_those_behind_a_question() {
    use std::process::Stdio;
    // (Whether the check passes, the instructions of a function.)
    let cases = [
        (true, "bti\tc\npaciasp\nfcvt\ts0, h1"),
        (false, "sdot\tv0.4s, v1.16b, v2.16b"),
        (false, "mrs\tx1, gcspr_el0"),
        // As binutils prints the check from 2.44 on, and before.
        (true, "chkfeat\tx16\ncbnz\tx16, 0x10\nmrs\tx1, gcspr_el0\ngcspopm\t"),
        (true, "hint\t#0x28\ncbnz\tx16, 0x10\ngcspopm\t"),
    ];
    for (passes, body) in cases {
        // An awk that read nothing must not pass, so the check requires the length of a
        // real program.
        let nops = "  0:\td503201f \tnop\t\n".repeat(1_000);
        let body: String = body.lines().map(|line| format!("  4:\t00000000 \t{line}\n")).collect();
        let listing = format!("0000000000400000 <one>:\n{nops}\n0000000000401000 <two>:\n{body}");
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tools/beyond-armv8.0.awk");
        let mut awk = Command::new("awk")
            .arg("-f")
            .arg(script)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        awk.stdin.take().unwrap().write_all(listing.as_bytes()).unwrap();
        assert_eq!(awk.wait().unwrap().code(), Some(i32::from(!passes)), "{body}");
    }
}
