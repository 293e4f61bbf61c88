#!/usr/bin/env python3
"""Gathers a release in one folder: `make dist`.

    tools/dist/dist.py OUT --host BINARY [--firmware BINARY] [--image sdcard.img]

OUT gets, for each binary, an archive that unpacks below /usr/local (binary, completions, manual pages, licences, the service, and the
evaluation) and, if the binary is static, a container image (oci.py); the card's image, compressed; the version's notes from
CHANGELOG.md; and SHA256SUMS over all of them. The host's binary writes the completions and manual pages.

The same inputs give the same bytes: archives have no times and no owners, and are sorted by name.
"""

import argparse
import gzip
import hashlib
import pathlib
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
OCI = ROOT / "tools/dist/oci.py"
MACHINES = {62: "x86_64", 183: "aarch64"}
COMPLETIONS = {
    "bash": "share/bash-completion/completions/potluck",
    "zsh": "share/zsh/site-functions/_potluck",
    "fish": "share/fish/vendor_completions.d/potluck.fish",
}
LICENCES = ["LICENSE", "LICENSE-MIT", "LICENSE-APACHE"]
PAGES = ["README.md", "CHANGELOG.md", "docs/use"]


def version():
    text = (ROOT / "Cargo.toml").read_text()
    return re.search(r'^version = "(.*)"', text, re.M).group(1)


def notes(of):
    """The section of CHANGELOG.md about this version; before its release, the section of unreleased changes. The first version has
    no earlier one to compare it with: its notes begin with what potluck is, as README.md says it."""
    text = (ROOT / "CHANGELOG.md").read_text()
    parts = re.split(r"^## \[(.*?)\].*$", text, flags=re.M)
    by_name = dict(zip(parts[1::2], parts[2::2]))
    found = by_name.get(of) or by_name.get("Unreleased")
    if not found or not found.strip():
        sys.exit(f"dist: CHANGELOG.md has no section about {of}")
    intro = (ROOT / "README.md").read_text().split("\n\n")[1] + "\n\n" if len(by_name) == 1 else ""
    return plain(f"# potluck {of}\n\n{intro}{found.strip()}\n", ROOT, set())


def plain(text, folder, there):
    """A page of `folder` in which links to files that are not `there` are only their text."""

    def link(found):
        target = found[2].split("#")[0]
        stays = not target or ":" in target or (folder / target).resolve() in there
        return found[0] if stays else found[1]

    return re.sub(r"\[([^][]*)\]\(([^()\s]*)\)", link, text)


def machine(binary):
    head = binary.read_bytes()[:20]
    kind = int.from_bytes(head[18:20], "little") if head[:4] == b"\x7fELF" else None
    if kind not in MACHINES:
        sys.exit(f"dist: {binary} is not a binary for x86-64 or aarch64")
    return MACHINES[kind]


def is_static(binary):
    """Whether a container image can be made from it; oci.py decides."""
    with tempfile.NamedTemporaryFile() as out:
        return subprocess.run([OCI, binary, out.name], stderr=subprocess.DEVNULL).returncode == 0


def tree(host, folder):
    """Everything beside the binary, below `folder`."""
    for shell, place in COMPLETIONS.items():
        path = folder / place
        path.parent.mkdir(parents=True)
        path.write_bytes(
            subprocess.run([host, "completions", shell], check=True, stdout=subprocess.PIPE).stdout
        )
    subprocess.run(
        [host, "manual", "--all", folder / "share/man"], check=True, stdout=subprocess.DEVNULL
    )
    for source, place in [
        ("potluck.service", "lib/systemd/system"),
        ("potluck.sysusers", "lib/sysusers.d"),
    ]:
        name = source if source.endswith(".service") else "potluck.conf"
        (folder / place).mkdir(parents=True)
        shutil.copyfile(ROOT / "tools/systemd" / source, folder / place / name)
    documents = folder / "share/doc/potluck"
    pages = [
        page
        for name in PAGES
        for page in (sorted((ROOT / name).iterdir()) if (ROOT / name).is_dir() else [ROOT / name])
    ]
    there = {*pages, *(ROOT / name for name in LICENCES)}
    for source in sorted(there):
        place = documents / source.relative_to(ROOT)
        place.parent.mkdir(parents=True, exist_ok=True)
        text = source.read_text()
        place.write_text(
            plain(text, source.parent, there) if source.suffix == ".md" else text
        )
    # The experiment that `potluck eval` runs.
    (folder / "share/potluck/eval").mkdir(parents=True)
    for source in sorted(
        [*(ROOT / "tools/eval").glob("*.py"), *(ROOT / "tools/eval").glob("*.toml")]
    ):
        shutil.copyfile(source, folder / "share/potluck/eval" / source.name)
    settings = subprocess.run(
        [host, "config", "default"], check=True, stdout=subprocess.PIPE
    ).stdout
    (folder / "share/doc/potluck/potluck.toml").write_bytes(settings)


def archive(out, top, folder, binary):
    """A compressed tar of `folder` and the binary."""
    files = {
        str(path.relative_to(folder)): path for path in folder.rglob("*") if path.is_file()
    } | {"bin/potluck": binary}
    with open(out, "wb") as raw, gzip.GzipFile("", "wb", fileobj=raw, mtime=0) as squeezed:
        with tarfile.open(fileobj=squeezed, mode="w", format=tarfile.USTAR_FORMAT) as tar:
            for name in sorted(files):
                info = tarfile.TarInfo(f"{top}/{name}")
                info.mode, info.size = (
                    0o755 if name.startswith("bin/") else 0o644,
                    files[name].stat().st_size,
                )
                with open(files[name], "rb") as data:
                    tar.addfile(info, data)


def squeeze(source, out):
    with (
        open(source, "rb") as plain,
        open(out, "wb") as raw,
        gzip.GzipFile("", "wb", fileobj=raw, mtime=0) as squeezed,
    ):
        shutil.copyfileobj(plain, squeezed)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--host", type=pathlib.Path, required=True, help="a binary that runs here")
    parser.add_argument("--firmware", type=pathlib.Path, help="the board's binary")
    parser.add_argument("--image", type=pathlib.Path, help="the card's image")
    given = parser.parse_args()
    of = version()
    host = given.host.resolve()
    shutil.rmtree(given.out, ignore_errors=True)
    given.out.mkdir(parents=True)
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        tree(host, folder)
        for binary in [host] + ([given.firmware] if given.firmware else []):
            top = f"potluck-{of}-linux-{machine(binary)}"
            archive(given.out / f"{top}.tar.gz", top, folder, binary)
            if is_static(binary):
                image = given.out / f"potluck-{of}-oci-{machine(binary)}.tar"
                subprocess.run(
                    [OCI, binary, image, "--version", of, "--licences", ROOT], check=True
                )
            else:
                print(
                    f"dist: {binary} is not static: no container image is made of it",
                    file=sys.stderr,
                )
    if given.image:
        squeeze(given.image, given.out / f"potluck-{of}-zero2w.img.gz")
    (given.out / "NOTES.md").write_text(notes(of))
    names = sorted(path.name for path in given.out.iterdir())
    sums = [
        f"{hashlib.sha256((given.out / name).read_bytes()).hexdigest()}  {name}\n" for name in names
    ]
    (given.out / "SHA256SUMS").write_text("".join(sums))
    print("".join(f"{given.out / name}\n" for name in names + ["SHA256SUMS"]), end="")


main()
