#!/usr/bin/env python3
"""Makes a container image from a static potluck, as a tar in the OCI image layout, without a container engine.

    tools/dist/oci.py BINARY OUT.tar [--version 0.1.0] [--licences DIR]

The image contains the binary, its licences and three empty folders: /data (a node's state), /models, and /tmp. It runs as user 65532.
Arguments after the image's name are a command of potluck: `docker run potluck ask ...`; without them, a node runs that reads nothing
from standard input.

The same binary always gives the same bytes, independent of times, owners and the order of a file system. Beside the layout, the tar
has a manifest.json, which `docker load` of older engines reads.
"""

import argparse
import gzip
import hashlib
import io
import json
import pathlib
import struct
import sys
import tarfile

MACHINES = {62: ("amd64", None), 183: ("arm64", "v8")}
USER = 65532
PT_INTERP = 3
# Nothing in an image depends on the time when it was made.
CREATED = "1970-01-01T00:00:00Z"


def machine(binary):
    """The architecture of a static ELF binary, and its variant."""
    if binary[:6] != b"\x7fELF\x02\x01":
        sys.exit("oci: the binary is not a 64-bit little-endian ELF file")
    (kind,) = struct.unpack_from("<H", binary, 18)
    (table,) = struct.unpack_from("<Q", binary, 32)
    size, count = struct.unpack_from("<HH", binary, 54)
    for at in range(count):
        if struct.unpack_from("<I", binary, table + at * size)[0] == PT_INTERP:
            sys.exit(
                "oci: the binary needs a dynamic loader, and an image has none: make a static one (make dist)"
            )
    if kind not in MACHINES:
        sys.exit(f"oci: machine {kind} is neither x86-64 nor aarch64")
    return MACHINES[kind]


def entry(name, mode, data=None, owner=0):
    info = tarfile.TarInfo(name)
    info.mode, info.uid, info.gid, info.mtime = mode, owner, owner, 0
    if data is None:
        info.type = tarfile.DIRTYPE
    else:
        info.size = len(data)
    return info, data


def packed(entries):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for info, data in entries:
            tar.addfile(info, None if data is None else io.BytesIO(data))
    return out.getvalue()


def layer(binary, licences):
    entries = [
        entry("data", 0o755, owner=USER),
        entry("models", 0o755),
        entry("tmp", 0o1777),
        entry("usr", 0o755),
    ]
    entries += [entry("usr/bin", 0o755), entry("usr/bin/potluck", 0o755, binary)]
    if licences:
        entries += [
            entry("usr/share", 0o755),
            entry("usr/share/doc", 0o755),
            entry("usr/share/doc/potluck", 0o755),
        ]
        for path in sorted(pathlib.Path(licences).glob("LICENSE*")):
            entries.append(entry(f"usr/share/doc/potluck/{path.name}", 0o644, path.read_bytes()))
    return packed(entries)


def as_json(value):
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def image(binary, version, licences):
    """The files of the layout, by name."""
    architecture, variant = machine(binary)
    plain = layer(binary, licences)
    squeezed = gzip.compress(plain, mtime=0)
    blobs = {}

    def blob(data, media):
        digest = hashlib.sha256(data).hexdigest()
        blobs[f"blobs/sha256/{digest}"] = data
        return {"mediaType": media, "digest": f"sha256:{digest}", "size": len(data)}

    platform = {"architecture": architecture, "os": "linux"} | (
        {"variant": variant} if variant else {}
    )
    labels = {
        "org.opencontainers.image.title": "potluck",
        "org.opencontainers.image.version": version,
        "org.opencontainers.image.licenses": "MIT OR Apache-2.0",
    }
    config = platform | {
        "created": CREATED,
        "config": {
            "User": f"{USER}:{USER}",
            "Env": ["PATH=/usr/bin", "HOME=/data", "POTLUCK_NODE_STATE=/data"],
            "Entrypoint": ["/usr/bin/potluck"],
            "Cmd": ["run", "--no-console"],
            "WorkingDir": "/models",
            "Volumes": {"/data": {}},
            "Labels": labels,
        },
        "rootfs": {"type": "layers", "diff_ids": ["sha256:" + hashlib.sha256(plain).hexdigest()]},
        "history": [{"created": CREATED, "created_by": "tools/dist/oci.py"}],
    }
    of_layer = blob(squeezed, "application/vnd.oci.image.layer.v1.tar+gzip")
    of_config = blob(as_json(config), "application/vnd.oci.image.config.v1+json")
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": of_config,
        "layers": [of_layer],
        "annotations": labels,
    }
    of_manifest = blob(as_json(manifest), "application/vnd.oci.image.manifest.v1+json")
    names = {
        "org.opencontainers.image.ref.name": version,
        "io.containerd.image.name": f"docker.io/library/potluck:{version}",
    }
    index = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [of_manifest | {"platform": platform, "annotations": names}],
    }
    path = lambda of: "blobs/sha256/" + of["digest"].removeprefix("sha256:")
    older = [
        {"Config": path(of_config), "RepoTags": [f"potluck:{version}"], "Layers": [path(of_layer)]}
    ]
    return {
        "oci-layout": as_json({"imageLayoutVersion": "1.0.0"}),
        "index.json": as_json(index),
        "manifest.json": as_json(older),
    } | blobs


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("binary", type=pathlib.Path)
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--version", default="latest")
    parser.add_argument("--licences", type=pathlib.Path, help="a folder with LICENSE files")
    given = parser.parse_args()
    files = image(given.binary.read_bytes(), given.version, given.licences)
    folders = [entry("blobs", 0o755), entry("blobs/sha256", 0o755)]
    given.out.write_bytes(
        packed(folders + [entry(name, 0o644, files[name]) for name in sorted(files)])
    )


main()
