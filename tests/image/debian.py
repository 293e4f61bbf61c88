"""A root file system for the short form: Debian's arm64 kernel, static busybox and the tools that the scripts call, the image's
overlay as it is, and the board's binary, packed as an initramfs.

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
# What the scripts call besides busybox, and the libraries that these tools need.
PACKAGES = (
    "busybox-static e2fsprogs fdisk util-linux libc6 libblkid1 libuuid1 libcom-err2 libext2fs2t64 libss2 libfdisk1 "
    "libsmartcols1 libmount1 libselinux1 libpcre2-8-0 libtinfo6 libreadline8t64"
).split()
TOOLS = "usr/sbin/e2fsck usr/sbin/mke2fs usr/sbin/resize2fs usr/sbin/sfdisk usr/bin/partx".split()
# Drivers of the emulated boards; their dependencies are added.
MODULES = (
    "virtio_blk virtio_net virtio_rng i6300esb ext4 vfat nls_cp437 nls_iso8859-1 nls_ascii nls_utf8 crc32c_generic "
    "libcomposite u_serial usb_f_acm"
).split()
# Additions of the tests: a USB port looped back to itself, with the computer's driver for a serial
# line; radios in memory, with their ciphers; and, in its own namespace, an access point.
TEST_MODULES = "dummy_hcd cdc_acm mac80211_hwsim ccm cmac gcm".split()
ROUTER_PACKAGES = (
    "busybox-static hostapd iw wpasupplicant wireless-regdb libc6 libnl-3-200 libnl-genl-3-200 libnl-route-3-200 "
    "libssl3t64 libreadline8t64 libtinfo6 libdbus-1-3 libpcsclite1 libsystemd0 libcap2 zlib1g libzstd1 libgcc-s1"
).split()


def fetch(folder):
    """Unpacks the kernel below FOLDER/kernel and the tools below FOLDER/tools, once."""
    done, wanted = os.path.join(folder, "fetched"), " ".join([SUITE, *PACKAGES, *ROUTER_PACKAGES])
    if os.path.exists(done):
        with open(done) as file:
            if file.read() == wanted:
                return
    shutil.rmtree(folder, ignore_errors=True)
    apt = os.path.join(folder, "apt")
    for name in "etc/apt.conf.d etc/preferences.d etc/trusted.gpg.d lists/partial cache/archives/partial debs".split():
        os.makedirs(os.path.join(apt, name))
    open(os.path.join(apt, "status"), "w").close()
    mirror = subprocess.check_output(
        [os.path.join(ROOT, "tools/debian-mirror.sh")], text=True
    ).strip()
    with open(os.path.join(apt, "etc/sources.list"), "w") as file:
        file.write(
            f"deb [arch=arm64 signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] {mirror} {SUITE} main\n"
        )
    dump = subprocess.check_output(
        ["apt-config", "dump", "Acquire", "--format", '%f "%v";%n'], text=True
    )
    with open(os.path.join(apt, "apt.conf"), "w") as file:
        file.writelines(
            line + "\n"
            for line in dump.splitlines()
            if re.match("Acquire::(http|https|Retries)", line)
        )
        file.write(
            f'Dir::Etc "{apt}/etc"; Dir::Etc::Parts "apt.conf.d"; Dir::Etc::SourceList "sources.list";\n'
            f'Dir::Etc::SourceParts "-"; Dir::State::Lists "{apt}/lists"; Dir::State::Status "{apt}/status";\n'
            f'Dir::Cache "{apt}/cache"; APT::Architecture "arm64"; APT::Architectures {{ "arm64"; }};\n'
            'Acquire::Languages "none"; APT::Sandbox::User "";\n'
        )
    environment = dict(os.environ, APT_CONFIG=os.path.join(apt, "apt.conf"))
    debs = os.path.join(apt, "debs")

    def run(*command):
        return subprocess.check_output(command, cwd=debs, env=environment, text=True)

    run("apt-get", "-qq", "update")
    kernel = re.search(
        r"Depends: (linux-image-\S+)", run("apt-cache", "depends", "linux-image-arm64")
    ).group(1)
    run("apt-get", "-qq", "download", kernel, *sorted({*PACKAGES, *ROUTER_PACKAGES}))
    for deb in os.listdir(debs):
        package = deb.split("_")[0]
        folders = ["kernel"] if package == kernel else []
        folders += ["tools"] if package in PACKAGES else []
        folders += ["router"] if package in ROUTER_PACKAGES else []
        for name in folders:
            into = os.path.join(folder, name)
            os.makedirs(into, exist_ok=True)
            run("dpkg-deb", "-x", deb, into)
    shutil.rmtree(apt)
    with open(done, "w") as file:
        file.write(wanted)


def kernel(folder):
    """The kernel, for -kernel."""
    boot = os.path.join(folder, "kernel/boot")
    return os.path.join(
        boot, next(name for name in os.listdir(boot) if name.startswith("vmlinuz-"))
    )


def board(folder, name):
    """A board's device tree."""
    trees = os.path.join(folder, "kernel/usr/lib")
    return os.path.join(
        trees, next(n for n in os.listdir(trees) if n.startswith("linux-image-")), "broadcom", name
    )


def version(folder):
    """The kernel's version string."""
    return os.listdir(os.path.join(folder, "kernel/usr/lib/modules"))[0]


def modules(folder, wanted):
    """Drivers and their dependencies, as name to code, with dependencies first."""
    there, found = {}, {}
    for where, _, names in os.walk(
        os.path.join(folder, "kernel/usr/lib/modules", version(folder), "kernel")
    ):
        for name in names:
            there[name.split(".ko")[0].replace("-", "_")] = os.path.join(where, name)

    def take(name):
        path = there.get(name)
        if path is None or name in found:
            return
        with lzma.open(path) if path.endswith(".xz") else open(path, "rb") as file:
            code = file.read()
        for needs in re.findall(rb"\0depends=([^\0]+)\0", code):
            for need in needs.decode().replace("-", "_").split(","):
                take(need)
        found[name] = code

    for name in wanted:
        take(name.replace("-", "_"))
    return found


def _install_modules(folder, root, wanted):
    into = os.path.join(root, "usr/lib/modules", version(folder))
    os.makedirs(into)
    for name in ("modules.builtin", "modules.order", "modules.builtin.modinfo"):
        shutil.copy(os.path.join(folder, "kernel/usr/lib/modules", version(folder), name), into)
    for name, code in modules(folder, wanted).items():
        with open(os.path.join(into, name + ".ko"), "wb") as file:
            file.write(code)
    busybox = os.path.join(root, "usr/bin/busybox")
    subprocess.run(
        ["qemu-aarch64", busybox, "depmod", "-b", root, version(folder)],
        check=True,
        stdout=subprocess.DEVNULL,
    )


def make_router(folder, image, wanted):
    """Makes a disk with an access point and with modules for a board's kernel: `wanted`, and those that the tests add."""
    root = image + ".root"
    shutil.rmtree(root, ignore_errors=True)
    shutil.copytree(os.path.join(folder, "router"), root, symlinks=True)
    for name in "bin sbin lib".split():
        if not os.path.lexists(os.path.join(root, name)):
            os.symlink("usr/" + name, os.path.join(root, name))
    for name in "dev proc sys run tmp".split():
        os.makedirs(os.path.join(root, name), exist_ok=True)
    firmware = os.path.join(root, "usr/lib/firmware")
    for name in ("regulatory.db", "regulatory.db.p7s"):
        # Signed by its maintainers, whose key every kernel has.
        os.replace(os.path.join(firmware, name + "-upstream"), os.path.join(firmware, name))
    _install_modules(folder, root, [*wanted, *TEST_MODULES])
    if os.path.exists(image):
        os.unlink(image)
    subprocess.run(["mke2fs", "-q", "-F", "-t", "ext4", "-d", root, image, "96m"], check=True)
    shutil.rmtree(root)


def make_root(folder, root, binary, model):
    """Lays the root file system out in the directory `root`."""
    shutil.rmtree(root, ignore_errors=True)
    for name in "usr/bin usr/sbin usr/lib usr/share/potluck boot data run tmp dev proc sys root etc var".split():
        os.makedirs(os.path.join(root, name))
    for name in "bin sbin lib".split():
        os.symlink("usr/" + name, os.path.join(root, name))
    os.symlink("../run", os.path.join(root, "var/run"))
    tools = os.path.join(folder, "tools")
    shutil.copytree(
        os.path.join(tools, "usr/lib"),
        os.path.join(root, "usr/lib"),
        symlinks=True,
        dirs_exist_ok=True,
    )
    for name in TOOLS:
        source = next(
            path
            for path in (os.path.join(tools, name), os.path.join(tools, name.removeprefix("usr/")))
            if os.path.exists(path)
        )
        shutil.copy(source, os.path.join(root, name))
    busybox = os.path.join(root, "usr/bin/busybox")
    shutil.copy(os.path.join(tools, "usr/bin/busybox"), busybox)
    for applet in subprocess.check_output(["qemu-aarch64", busybox, "--list"], text=True).split():
        link = os.path.join(
            root,
            "usr/sbin"
            if applet in ("init", "mdev", "modprobe", "reboot", "poweroff")
            else "usr/bin",
            applet,
        )
        if applet not in ("busybox", "mke2fs") and not os.path.lexists(link):
            os.symlink("/usr/bin/busybox", link)
    shutil.copytree(OVERLAY, root, symlinks=True, dirs_exist_ok=True)
    shutil.copy(binary, os.path.join(root, "usr/bin/potluck"))
    shutil.copy(model, os.path.join(root, "usr/share/potluck/demo.gguf"))
    os.symlink("usr/sbin/init", os.path.join(root, "init"))
    _install_modules(folder, root, [*MODULES, "dummy_hcd", "cdc_acm"])


def pack(root, out):
    """Writes the directory as a cpio archive in the kernel's format (newc), owned by root."""
    entries = []
    for where, folders, names in os.walk(root):
        folders.sort()
        entries += [os.path.join(where, name) for name in sorted(folders + names)]
    # Not compressed: an emulated board takes longer to unpack it than this machine
    # takes to read it.
    with open(out, "wb") as file:
        for number, path in enumerate(entries, 1):
            mode = os.lstat(path).st_mode
            if stat.S_ISLNK(mode):
                data = os.readlink(path).encode()
            elif stat.S_ISREG(mode):
                with open(path, "rb") as source:
                    data = source.read()
            else:
                data = b""
            file.write(_entry(number, os.path.relpath(path, root), mode, data))
        # The kernel opens its console before anything is mounted.
        file.write(
            _entry(len(entries) + 1, "dev/console", stat.S_IFCHR | 0o600, device=(5, 1))
            + _entry(0, "TRAILER!!!", 0)
        )


def add_files(initrd, files, out):
    """Writes an initramfs with further files, which are added or replace existing ones; their folders must exist."""
    shutil.copy(initrd, out)
    with open(out, "ab") as file:
        file.write(b"\0" * (-file.tell() % 4))
        for number, (name, content) in enumerate(files.items(), 1):
            file.write(_entry(number, name, stat.S_IFREG | 0o644, content))
        file.write(_entry(0, "TRAILER!!!", 0))


def _entry(number, name, mode, data=b"", device=(0, 0)):
    fields = [number, mode, 0, 0, 1, 0, len(data), 0, 0, *device, len(name) + 1, 0]
    head = b"070701" + b"".join(b"%08X" % field for field in fields) + name.encode() + b"\0"
    return head + b"\0" * (-len(head) % 4) + data + b"\0" * (-len(data) % 4)
