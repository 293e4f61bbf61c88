"""A root file system for the short form: Debian's arm64 kernel, static busybox and the tools that the scripts call, the overlay of
the image as it stands, and the board's binary, packed as an initramfs.

Packages come from the archive that this machine's apt is configured with, into a private apt root; nothing is installed.
"""

import lzma
import os
import re
import shutil
import stat
import subprocess

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
OVERLAY = os.path.join(ROOT, "buildroot/board/potluck/overlay")
SUITE = "trixie"
# What the scripts call beside busybox, and the libraries that these need.
PACKAGES = ("busybox-static e2fsprogs fdisk util-linux libc6 libblkid1 libuuid1 libcom-err2 libext2fs2t64 libss2 libfdisk1 "
            "libsmartcols1 libmount1 libselinux1 libpcre2-8-0 libtinfo6 libreadline8t64").split()
TOOLS = "usr/sbin/e2fsck usr/sbin/mke2fs usr/sbin/resize2fs usr/sbin/sfdisk usr/bin/partx".split()
# Drivers of the emulated boards; what they need comes with them.
MODULES = "virtio_blk virtio_net virtio_rng i6300esb ext4 vfat nls_cp437 nls_iso8859-1 nls_ascii nls_utf8 crc32c_generic".split()


def fetch(folder):
    """Unpacks the kernel below FOLDER/kernel and the tools below FOLDER/tools, once."""
    done = os.path.join(folder, "fetched")
    if os.path.exists(done):
        return
    shutil.rmtree(folder, ignore_errors=True)
    apt = os.path.join(folder, "apt")
    for name in "etc/apt.conf.d etc/preferences.d etc/trusted.gpg.d lists/partial cache/archives/partial debs".split():
        os.makedirs(os.path.join(apt, name))
    open(os.path.join(apt, "status"), "w").close()
    mirror = subprocess.check_output([os.path.join(ROOT, "tools/debian-mirror.sh")], text=True).strip()
    with open(os.path.join(apt, "etc/sources.list"), "w") as file:
        file.write(f"deb [arch=arm64 signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] {mirror} {SUITE} main\n")
    dump = subprocess.check_output(["apt-config", "dump", "Acquire", "--format", '%f "%v";%n'], text=True)
    with open(os.path.join(apt, "apt.conf"), "w") as file:
        file.writelines(line + "\n" for line in dump.splitlines() if re.match("Acquire::(http|https|Retries)", line))
        file.write(f'Dir::Etc "{apt}/etc"; Dir::Etc::Parts "apt.conf.d"; Dir::Etc::SourceList "sources.list";\n'
                   f'Dir::Etc::SourceParts "-"; Dir::State::Lists "{apt}/lists"; Dir::State::Status "{apt}/status";\n'
                   f'Dir::Cache "{apt}/cache"; APT::Architecture "arm64"; APT::Architectures {{ "arm64"; }};\n'
                   'Acquire::Languages "none"; APT::Sandbox::User "";\n')
    environment = dict(os.environ, APT_CONFIG=os.path.join(apt, "apt.conf"))
    debs = os.path.join(apt, "debs")

    def run(*command):
        return subprocess.check_output(command, cwd=debs, env=environment, text=True)

    run("apt-get", "-qq", "update")
    kernel = re.search(r"Depends: (linux-image-\S+)", run("apt-cache", "depends", "linux-image-arm64")).group(1)
    run("apt-get", "-qq", "download", kernel, *PACKAGES)
    for deb in os.listdir(debs):
        into = os.path.join(folder, "kernel" if deb.startswith("linux-image") else "tools")
        os.makedirs(into, exist_ok=True)
        run("dpkg-deb", "-x", deb, into)
    shutil.rmtree(apt)
    open(done, "w").close()


def kernel(folder):
    """The kernel, for -kernel."""
    boot = os.path.join(folder, "kernel/boot")
    return os.path.join(boot, next(name for name in os.listdir(boot) if name.startswith("vmlinuz-")))


def board(folder, name):
    """A board's device tree."""
    trees = os.path.join(folder, "kernel/usr/lib")
    return os.path.join(trees, next(n for n in os.listdir(trees) if n.startswith("linux-image-")), "broadcom", name)


def _modules(folder, root, wanted):
    base = os.path.join(folder, "kernel/usr/lib/modules")
    version = os.listdir(base)[0]
    there = {}
    for where, _, names in os.walk(os.path.join(base, version, "kernel")):
        for name in names:
            there[name.split(".ko")[0].replace("-", "_")] = os.path.join(where, name)
    into = os.path.join(root, "usr/lib/modules", version)
    os.makedirs(into)
    for name in ("modules.builtin", "modules.order", "modules.builtin.modinfo"):
        shutil.copy(os.path.join(base, version, name), into)
    todo, done = [name.replace("-", "_") for name in wanted], set()
    while todo:
        name = todo.pop()
        if name in done or name not in there:
            continue
        done.add(name)
        path = there[name]
        with (lzma.open(path) if path.endswith(".xz") else open(path, "rb")) as file:
            code = file.read()
        with open(os.path.join(into, name + ".ko"), "wb") as file:
            file.write(code)
        for needs in re.findall(rb"\0depends=([^\0]+)\0", code):
            todo += needs.decode().replace("-", "_").split(",")
    busybox = os.path.join(root, "usr/bin/busybox")
    subprocess.run(["qemu-aarch64", busybox, "depmod", "-b", root, version], check=True, stdout=subprocess.DEVNULL)


def make_root(folder, root, binary, model):
    """Lays the root file system out in the directory `root`."""
    shutil.rmtree(root, ignore_errors=True)
    for name in "usr/bin usr/sbin usr/lib usr/share/potluck boot data run tmp dev proc sys root etc".split():
        os.makedirs(os.path.join(root, name))
    for name in "bin sbin lib".split():
        os.symlink("usr/" + name, os.path.join(root, name))
    tools = os.path.join(folder, "tools")
    shutil.copytree(os.path.join(tools, "usr/lib"), os.path.join(root, "usr/lib"), symlinks=True, dirs_exist_ok=True)
    for name in TOOLS:
        source = next(path for path in (os.path.join(tools, name), os.path.join(tools, name.removeprefix("usr/")))
                      if os.path.exists(path))
        shutil.copy(source, os.path.join(root, name))
    busybox = os.path.join(root, "usr/bin/busybox")
    shutil.copy(os.path.join(tools, "usr/bin/busybox"), busybox)
    for applet in subprocess.check_output(["qemu-aarch64", busybox, "--list"], text=True).split():
        link = os.path.join(root, "usr/sbin" if applet in ("init", "mdev", "modprobe", "reboot", "poweroff") else "usr/bin", applet)
        if applet not in ("busybox", "mke2fs") and not os.path.lexists(link):
            os.symlink("/usr/bin/busybox", link)
    shutil.copytree(OVERLAY, root, symlinks=True, dirs_exist_ok=True)
    shutil.copy(binary, os.path.join(root, "usr/bin/potluck"))
    shutil.copy(model, os.path.join(root, "usr/share/potluck/demo.gguf"))
    os.symlink("usr/sbin/init", os.path.join(root, "init"))
    _modules(folder, root, MODULES)


def pack(root, out):
    """Writes the directory as a cpio archive in the form that the kernel unpacks (newc), owned by root."""
    entries = []
    for where, folders, names in os.walk(root):
        folders.sort()
        entries += [os.path.join(where, name) for name in sorted(folders + names)]
    # Not compressed: an emulated board takes longer to unpack it than this machine to read it.
    with open(out, "wb") as file:
        def entry(number, name, mode, data, links=1):
            fields = [number, mode, 0, 0, links, 0, len(data), 0, 0, 0, 0, len(name) + 1, 0]
            head = b"070701" + b"".join(b"%08X" % field for field in fields) + name.encode() + b"\0"
            file.write(head + b"\0" * (-len(head) % 4) + data + b"\0" * (-len(data) % 4))

        for number, path in enumerate(entries, 1):
            mode = os.lstat(path).st_mode
            if stat.S_ISLNK(mode):
                data = os.readlink(path).encode()
            elif stat.S_ISREG(mode):
                with open(path, "rb") as source:
                    data = source.read()
            else:
                data = b""
            entry(number, os.path.relpath(path, root), mode, data)
        # The kernel opens its console before anything is mounted.
        file.write(_node(len(entries) + 1, "dev/console", 5, 1))
        entry(0, "TRAILER!!!", 0, b"")


def _node(number, name, major, minor):
    fields = [number, stat.S_IFCHR | 0o600, 0, 0, 1, 0, 0, 0, 0, major, minor, len(name) + 1, 0]
    head = b"070701" + b"".join(b"%08X" % field for field in fields) + name.encode() + b"\0"
    return head + b"\0" * (-len(head) % 4)
