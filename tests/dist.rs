//! The output of `make dist`: users must be able to verify and use the archives and the
//! container image.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

fn tool(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tools/dist").join(name)
}

fn run(command: &mut Command) -> Output {
    command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"))
}

fn well(command: &mut Command) -> String {
    let output = run(command);
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Only the header of a static ELF binary for a machine.
fn static_binary(machine: u16) -> Vec<u8> {
    let mut head = vec![0; 64];
    head[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
    head[16] = 2;
    head[18..20].copy_from_slice(&machine.to_le_bytes());
    head[54..56].copy_from_slice(&56_u16.to_le_bytes());
    head
}

/// Whether there is a Python for the tools. If there is none, prints which test is skipped.
fn has_python(test: &str) -> bool {
    let newest = "import sys; sys.exit(sys.version_info < (3, 9))";
    let found =
        Command::new("python3").args(["-c", newest]).status().is_ok_and(|status| status.success());
    if !found {
        // Bypasses libtest's capture, to tell a run without Python from one with it.
        let _ =
            writeln!(std::io::stderr(), "skipped: {test}: the tools of a release need Python 3.9");
    }
    found
}

fn sha256(path: &Path) -> String {
    well(Command::new("sha256sum").arg(path)).split(' ').next().unwrap_or_default().to_string()
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

/// The blob that a descriptor names, with its digest and size checked.
fn blob(layout: &Path, of: &Value) -> PathBuf {
    let digest = of["digest"].as_str().unwrap().strip_prefix("sha256:").unwrap();
    let path = layout.join("blobs/sha256").join(digest);
    assert_eq!(sha256(&path), digest);
    assert_eq!(of["size"], fs::metadata(&path).unwrap().len());
    path
}

#[test]
fn a_container_image_is_what_its_digests_say_and_the_same_every_time() {
    if !has_python("a_container_image_is_what_its_digests_say_and_the_same_every_time") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    fs::write(at("potluck"), static_binary(183)).unwrap();
    let make = |out: &str| {
        let licences = env!("CARGO_MANIFEST_DIR");
        well(Command::new(tool("oci.py")).arg(at("potluck")).arg(at(out)).args([
            "--version",
            "1.2.3",
            "--licences",
            licences,
        ]))
    };
    make("one.tar");
    make("two.tar");
    assert_eq!(fs::read(at("one.tar")).unwrap(), fs::read(at("two.tar")).unwrap());

    let layout = at("layout");
    fs::create_dir(&layout).unwrap();
    well(Command::new("tar").arg("-xf").arg(at("one.tar")).arg("-C").arg(&layout));
    assert_eq!(json(&layout.join("oci-layout"))["imageLayoutVersion"], "1.0.0");
    let index = json(&layout.join("index.json"));
    let listed = &index["manifests"][0];
    assert_eq!(
        (&listed["platform"]["architecture"], &listed["platform"]["variant"]),
        (&"arm64".into(), &"v8".into())
    );
    let manifest = json(&blob(&layout, listed));
    let config = json(&blob(&layout, &manifest["config"]));
    let layer = blob(&layout, &manifest["layers"][0]);
    assert_eq!(config["architecture"], "arm64");
    assert_eq!(config["config"]["Entrypoint"][0], "/usr/bin/potluck");

    // The unpacked layer is the one named in the configuration, and it holds the binary.
    fs::write(at("layer.tar"), run(Command::new("gzip").arg("-dc").arg(&layer)).stdout).unwrap();
    assert_eq!(config["rootfs"]["diff_ids"][0], format!("sha256:{}", sha256(&at("layer.tar"))));
    let files = well(Command::new("tar").arg("-tvf").arg(at("layer.tar")));
    for line in [
        "-rwxr-xr-x 0/0 64 usr/bin/potluck",
        "drwxr-xr-x 65532/65532 0 data/",
        "drwxrwxrwt 0/0 0 tmp/",
    ] {
        let squeezed: Vec<String> = files
            .lines()
            .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
            .collect();
        let (head, name) = line.rsplit_once(' ').unwrap();
        assert!(
            squeezed.iter().any(|found| found.starts_with(head) && found.ends_with(name)),
            "{files} lacks {line}"
        );
    }
    assert!(files.contains("LICENSE-MIT"), "{files}");

    // The format that older engines load.
    let older = json(&layout.join("manifest.json"));
    assert_eq!(older[0]["RepoTags"][0], "potluck:1.2.3");
    assert!(layout.join(older[0]["Layers"][0].as_str().unwrap()).exists());
}

#[test]
fn a_binary_that_needs_a_loader_makes_no_image() {
    if !has_python("a_binary_that_needs_a_loader_makes_no_image") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("image.tar");
    let output = run(Command::new(tool("oci.py")).arg(env!("CARGO_BIN_EXE_potluck")).arg(&out));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && said.contains("dynamic loader"), "{said}");
    assert!(!out.exists());
}

/// The socket's mode decides who attaches, so members of any group must be able to enter its
/// folder.
#[test]
fn the_services_folder_keeps_no_group_from_the_consoles_socket() {
    let unit = include_str!("../tools/systemd/potluck.service");
    let mode = unit.lines().find_map(|line| line.strip_prefix("RuntimeDirectoryMode=")).unwrap();
    let mode = u32::from_str_radix(mode, 8).unwrap();
    assert_eq!((mode & 0o001, mode & 0o022), (1, 0), "{mode:o}: entered by all, changed by one");
}

#[test]
fn a_release_holds_what_it_says_and_its_checksums_fit() {
    if !has_python("a_release_holds_what_it_says_and_its_checksums_fit") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    fs::write(at("board"), static_binary(183)).unwrap();
    fs::write(at("sdcard.img"), "an image").unwrap();
    let out = at("dist");
    let mut dist = Command::new(tool("dist.py"));
    dist.arg(&out).args(["--host", env!("CARGO_BIN_EXE_potluck"), "--firmware"]).arg(at("board"));
    well(dist.arg("--image").arg(at("sdcard.img")));
    let version = env!("CARGO_PKG_VERSION");
    well(Command::new("sha256sum").args(["--check", "--strict", "SHA256SUMS"]).current_dir(&out));
    let sums = fs::read_to_string(out.join("SHA256SUMS")).unwrap();
    let names: Vec<&str> = sums.lines().filter_map(|line| line.split("  ").nth(1)).collect();
    let there = fs::read_dir(&out).unwrap().count();
    assert_eq!(names.len() + 1, there, "every file must have a checksum: {names:?}");
    for name in [
        "NOTES.md",
        &format!("potluck-{version}-oci-aarch64.tar"),
        &format!("potluck-{version}-zero2w.img.gz"),
    ] {
        assert!(names.contains(&name), "no {name} in {names:?}");
    }
    let archive = names
        .iter()
        .find(|name| name.ends_with("x86_64.tar.gz") || name.contains(std::env::consts::ARCH))
        .unwrap();
    let listed = well(Command::new("tar").arg("-tzf").arg(out.join(archive)));
    for file in [
        "bin/potluck",
        "share/man/man1/potluck-run.1",
        "share/man/man5/potluck.toml.5",
        "share/bash-completion/completions/potluck",
        "lib/systemd/system/potluck.service",
        "share/doc/potluck/LICENSE-MIT",
        "share/doc/potluck/docs/use/raspberry-pi-os.md",
        "share/potluck/eval/paper.py",
        "share/potluck/eval/zero2w.toml",
    ] {
        assert!(listed.lines().any(|line| line.ends_with(file)), "no {file} in {listed}");
    }
    let notes = fs::read_to_string(out.join("NOTES.md")).unwrap();
    assert!(
        notes.starts_with(&format!("# potluck {version}\n\npotluck lets ")),
        "the first version's notes say what it is: {notes}"
    );
    well(Command::new("tar").arg("-xzf").arg(out.join(archive)).arg("-C").arg(folder.path()));
    let top = folder.path().join(archive.strip_suffix(".tar.gz").unwrap());
    let documents = top.join("share/doc/potluck");
    let mut links = 0;
    for page in ["README.md", "CHANGELOG.md", "docs/use/raspberry-pi-os.md", "docs/use/http.md"] {
        let page = documents.join(page);
        let text = fs::read_to_string(&page).unwrap();
        for target in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let file = target.split('#').next().unwrap_or_default();
            if !file.is_empty() && !file.contains(':') {
                links += 1;
                let there = page.parent().unwrap().join(file).exists();
                assert!(there, "{}: {target} is not in the archive", page.display());
            }
        }
    }
    assert!(links > 5, "{links}");
}
