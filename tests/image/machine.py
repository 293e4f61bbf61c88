"""What is tried: a kernel, a root file system and the card it belongs to, in the boards that QEMU has.

`short` is Debian's kernel and tools with the image's own scripts and binary. `full` is the very sdcard.img.
"""

import os
import shutil
import subprocess

import cable
import card
import chapters
import debian
from guest import Failed, Guest

ROOT = debian.ROOT
# The board: four slow cores. Two of the emulated kind are what a build machine can carry.
VIRT = ["qemu-system-aarch64", "-M", "virt", "-cpu", "cortex-a53", "-m", "512", "-smp", "2"]
DEFAULT_CONFIG = b'[node]\nname = "kitchen"\n[answers]\nmax_tokens = 8\n'


# What answers where the card has no model.
DEMO_MODEL = os.path.join(ROOT, "tools/demo-model/model/potluck-demo.gguf")


class Machine:
    """Starts guests, each from a card of its own."""

    # Words of the kernel's command line, for tests that need another.
    words = "quiet loglevel=4 potluck.shell=ttyS0"
    left_out = ()
    # Whether a responder of multicast DNS is part of it.
    has_mdns = False
    # The emulated LAN's, one for each run.
    cable_port = 17000 + os.getpid() % 1000

    def __init__(self, folder):
        self.folder = folder
        os.makedirs(folder, exist_ok=True)

    def chapters(self):
        """What is tried on it."""
        return chapters.CHAPTERS

    def fresh_card(self, name, files=None):
        """The path of a new card, with `files` on its boot partition in place of those of the same name."""
        raise NotImplementedError

    def boot_arguments(self):
        """QEMU's arguments for the kernel."""
        raise NotImplementedError

    def start(self, path, name, lan=None, log=None):
        """Plugs a `virt` board in with the card at `path`. `lan` is the end of its MAC address on the emulated LAN;
        `log` a file for every write to the card."""
        argv = VIRT + self.boot_arguments()
        argv += ["-serial", "unix:{serial0},server=on,wait=off", "-device", "pci-serial,chardev=second"]
        argv += ["-chardev", "socket,path={serial1},server=on,wait=off,id=second"]
        disk = f"driver=raw,node-name=card,file.driver=file,file.filename={path}"
        if log:
            disk = f"driver=blklogwrites,node-name=card,file.driver=file,file.filename={path},log.driver=file,log.filename={log}"
        argv += ["-blockdev", disk, "-device", "virtio-blk-pci,drive=card"]
        argv += ["-device", "i6300esb", "-device", "virtio-rng-pci"]
        if lan is None:
            argv += ["-nic", "none"]
        else:
            # Multicast on the loopback interface is the cable: nothing leaves this machine.
            argv += ["-netdev", f"socket,id=lan,mcast={cable.GROUP}:{self.cable_port},localaddr=127.0.0.1"]
            argv += ["-device", f"virtio-net-pci,id=card0,netdev=lan,mac=52:54:00:77:00:{lan:02x},romfile="]
        return Guest(self.folder, name, argv)


class Short(Machine):
    """Debian's kernel and tools, the image's scripts, the board's binary."""

    left_out = (
        "the card's own boot partition contents, kernel and root (Debian's kernel and an initramfs stand in for them)",
        "the boards raspi3ap and Zero 2 W: their device tree, SD controller, UART, status light and bcm2835 watchdog",
        "Buildroot's busybox and libraries, a read-only root, wpa_supplicant and the radio, mDNS",
    )

    def __init__(self, folder, binary, packages):
        super().__init__(folder)
        debian.fetch(packages)
        self.packages = packages
        root = os.path.join(folder, "root")
        self.initrd = os.path.join(folder, "root.cpio")
        debian.make_root(packages, root, binary, DEMO_MODEL)
        debian.pack(root, self.initrd)
        self.root_bytes = sum(os.lstat(os.path.join(at, name)).st_size for at, _, names in os.walk(root) for name in names)
        shutil.rmtree(root)

    def fresh_card(self, name, files=None):
        path = os.path.join(self.folder, name + ".img")
        card.make(path, {"potluck.toml": DEFAULT_CONFIG} | (files or {}))
        return path

    def boot_arguments(self):
        return ["-kernel", debian.kernel(self.packages), "-initrd", self.initrd, "-append", f"console=ttyAMA0 {self.words}"]


class Full(Machine):
    """The very sdcard.img: its kernel, device tree and command line are taken from its own boot partition, as the GPU would."""

    words = "potluck.shell=ttyS0"
    has_mdns = True
    left_out = (
        "the GPU's boot code and config.txt, which only a board can run (QEMU loads what they would)",
        "the radio: wpa_supplicant has nobody to talk to in QEMU",
        "in raspi3ap the radio's SDIO bus, where QEMU has no chip: the kernel's own lines about mmc0 are not held against the image",
        "bcm2835's watchdog: QEMU's has no timer, and resets as soon as it is opened (i6300esb is tried instead)",
    )
    # A power of two, which QEMU's SD controller insists on, and room to grow into.
    card_bytes = 1 << 29

    def __init__(self, folder, image):
        super().__init__(folder)
        if not os.path.exists(image):
            raise Failed(f"no {image}: make image, or name one with IMAGE=FILE")
        self.image = image
        names = card.names(image)
        self.kernel, self.initrd = "kernel8.img", "initrd.img"
        self.tree = next(name for name in names if name.endswith(".dtb"))
        for name in (self.kernel, self.tree) + ((self.initrd,) if self.initrd in names else ()):
            with open(self.part(name), "wb") as file:
                file.write(card.get(image, name))
        self.has_initrd = self.initrd in names
        self.cmdline = card.get(image, "cmdline.txt").decode().strip()
        self.root_bytes = card.root_bytes(image)

    def part(self, name):
        """Where a file of the boot partition was put."""
        return os.path.join(self.folder, name)

    def chapters(self):
        return chapters.CHAPTERS + (chapters.raspi,)

    def fresh_card(self, name, files=None):
        path = os.path.join(self.folder, name + ".img")
        card.copy(self.image, path)
        os.truncate(path, self.card_bytes)
        for file, content in ({"potluck.toml": DEFAULT_CONFIG} | (files or {})).items():
            card.put(path, file, content)
        return path

    def _kernel(self, words):
        initrd = ["-initrd", self.part(self.initrd)] if self.has_initrd else []
        return ["-kernel", self.part(self.kernel), *initrd, "-append", f"{self.cmdline} {words}"]

    def boot_arguments(self):
        return self._kernel(self.words)

    def start_raspi(self, path, name):
        """Plugs in the board that is closest to a Zero 2 W, with its own device tree."""
        # QEMU lacks a block that the power driver looks for, and its watchdog fires when it is opened.
        words = "initcall_blacklist=bcm2835_power_driver_init,bcm2835_wdt_driver_init"
        argv = ["qemu-system-aarch64", "-M", "raspi3ap", *self._kernel(words), "-dtb", self.part(self.tree)]
        argv += ["-serial", "unix:{serial0},server=on,wait=off", "-serial", "unix:{serial1},server=on,wait=off"]
        argv += ["-drive", f"file={path},if=sd,format=raw"]
        return Guest(self.folder, name, argv)


def check_tools():
    """Says what is missing on this machine, and how to get it."""
    needs = {"qemu-system-aarch64": "qemu-system-arm", "qemu-aarch64": "qemu-user", "mkfs.fat": "dosfstools", "mke2fs": "e2fsprogs",
             "mcopy": "mtools", "apt-get": "apt (a Debian machine)", "dpkg-deb": "dpkg"}
    path = os.environ["PATH"] + ":/usr/sbin:/sbin"
    os.environ["PATH"] = path
    missing = sorted({package for tool, package in needs.items() if not shutil.which(tool)})
    if missing:
        raise Failed(f"this needs: apt-get install {' '.join(missing)}")
