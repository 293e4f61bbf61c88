"""A memory card as the image lays it out: FAT `BOOT`, a root, ext4 `data` of 16 MiB, and room after it to grow into."""

import os
import struct
import subprocess

MIB = 1 << 20
SECTOR = 512
BOOT_MIB, ROOT_MIB, DATA_MIB = 64, 16, 16


def make(path, files, size_mib=256):
    """Makes a fresh card of `size_mib` at `path`, with `files` (name to bytes) on its boot partition."""
    boot, data = path + ".boot", path + ".data"
    for part, size in ((boot, BOOT_MIB), (data, DATA_MIB)):
        with open(part, "wb") as file:
            file.truncate(size * MIB)
    quiet = dict(check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    subprocess.run(["mkfs.fat", "-F", "32", "-n", "BOOT", boot], **quiet)
    # As genimage makes it: block and inode sizes of a large file system, and room for the
    # descriptors of 256 GiB.
    subprocess.run(
        [
            "mke2fs",
            "-q",
            "-F",
            "-t",
            "ext4",
            "-L",
            "data",
            "-b",
            "4096",
            "-i",
            "65536",
            "-E",
            "resize=67108864",
            data,
        ],
        **quiet,
    )
    for name, content in files.items():
        put(boot, name, content, offset=0)
    at = [1, 1 + BOOT_MIB, 1 + BOOT_MIB + ROOT_MIB]
    with open(path, "wb") as card:
        card.truncate(size_mib * MIB)
        for kind, begin, size, slot in (
            (0x0C, at[0], BOOT_MIB, 0),
            (0x83, at[1], ROOT_MIB, 1),
            (0x83, at[2], DATA_MIB, 2),
        ):
            card.seek(446 + 16 * slot)
            sectors = MIB // SECTOR
            card.write(
                struct.pack(
                    "<B3sB3sII",
                    0,
                    b"\xfe\xff\xff",
                    kind,
                    b"\xfe\xff\xff",
                    begin * sectors,
                    size * sectors,
                )
            )
        card.seek(510)
        card.write(b"\x55\xaa")
        for part, begin in ((boot, at[0]), (data, at[2])):
            with open(part, "rb") as source:
                card.seek(begin * MIB)
                card.write(source.read())
            os.unlink(part)


def offset_of_boot(path):
    """Offset of the boot partition in bytes."""
    with open(path, "rb") as card:
        card.seek(446 + 8)
        return struct.unpack("<I", card.read(4))[0] * SECTOR


def _mtools(command, path, offset, *arguments, **options):
    offset = offset_of_boot(path) if offset is None else offset
    environment = dict(os.environ, MTOOLS_SKIP_CHECK="1")
    return subprocess.run(
        [command, "-i", f"{path}@@{offset}", *arguments], check=True, env=environment, **options
    )


def put(path, name, content, offset=None):
    """Writes a file on the boot partition, as another computer would."""
    _mtools("mcopy", path, offset, "-o", "-", f"::{name}", input=content)


def get(path, name):
    """Reads a file from the boot partition."""
    return _mtools("mcopy", path, None, f"::{name}", "-", stdout=subprocess.PIPE).stdout


def remove(path, name):
    """Removes a file or a folder from the boot partition."""
    _mtools("mdeltree", path, None, f"::{name}")


def make_folder(path, name):
    """Makes a folder on the boot partition."""
    _mtools("mmd", path, None, f"::{name}")


def fill(path):
    """Fills the boot partition to its last cluster."""
    for size in (16 * MIB, MIB, 64 << 10, 4096, 512):
        number = 0
        while True:
            try:
                _mtools(
                    "mcopy",
                    path,
                    None,
                    "-o",
                    "-",
                    f"::f{size}.{number}",
                    input=bytes(size),
                    stderr=subprocess.DEVNULL,
                )
            except subprocess.CalledProcessError:
                break
            number += 1


def copy(source, target):
    """Copies a card, keeping holes."""
    subprocess.run(["cp", "--sparse=always", source, target], check=True)


def names(path):
    """The files at the top of the boot partition."""
    listing = _mtools("mdir", path, None, "-b", stdout=subprocess.PIPE).stdout.decode()
    return [line.removeprefix("::/") for line in listing.split()]


def root_bytes(path):
    """Size of the root file system: from the squashfs header, else its partition's size."""
    with open(path, "rb") as card:
        card.seek(446 + 16 + 8)
        begin, sectors = struct.unpack("<II", card.read(8))
        card.seek(begin * SECTOR)
        head = card.read(48)
    return struct.unpack("<Q", head[40:48])[0] if head[:4] == b"hsqs" else sectors * SECTOR


def free_at_end(path):
    """Bytes after the last partition."""
    with open(path, "rb") as card:
        card.seek(446 + 32 + 8)
        begin, sectors = struct.unpack("<II", card.read(8))
    return os.path.getsize(path) - (begin + sectors) * SECTOR
