"""The system under test: a kernel, a root file system and its card, in the boards that QEMU emulates.

`short` is Debian's kernel and tools with the image's own scripts and binary. `full` is sdcard.img itself.
"""

import os
import shutil
import subprocess

import cable
import card
import chapters
import debian
import outside
from guest import Failed, Guest

ROOT = debian.ROOT
# The board has four slow cores; a build machine can sustain two of the emulated kind.
VIRT = ["qemu-system-aarch64", "-M", "virt", "-cpu", "cortex-a53", "-m", "512", "-smp", "2"]
DEFAULT_CONFIG = b'[node]\nname = "kitchen"\n[answers]\nmax_tokens = 8\n'


# The model that answers if the card has none.
DEMO_MODEL = os.path.join(ROOT, "tools/demo-model/model/potluck-demo.gguf")


class Machine:
    """Starts guests, each from its own card."""

    # Words of the kernel's command line, which tests can change.
    words = "quiet loglevel=4 potluck.shell=ttyS0"
    left_out = ()
    # Whether it includes a multicast DNS responder.
    has_mdns = False
    # The emulated LAN's port, a different one for each run.
    cable_port = 17000 + os.getpid() % 1000

    def __init__(self, folder, packages):
        self.folder = folder
        self.packages = packages
        self.router_disk = None
        os.makedirs(folder, exist_ok=True)

    def chapters(self):
        """The chapters to run on it."""
        return chapters.CHAPTERS + outside.CHAPTERS

    def fresh_card(self, name, files=None):
        """The path of a new card, with `files` on its boot partition, which replace those of the same name."""
        raise NotImplementedError

    def boot_arguments(self, early, words):
        """QEMU's arguments for the kernel, which loads the drivers `early` before any others; `words` are added to its command
        line."""
        raise NotImplementedError

    def router(self):
        """A disk with an access point and radios in memory (outside.Router), made on first use."""
        if not self.router_disk:
            debian.fetch(self.packages)
            self.router_disk = os.path.join(self.folder, "router.img")
            debian.make_router(self.packages, self.router_disk, debian.MODULES)
        return self.router_disk

    def start(self, path, name, lan=None, log=None, early=(), router=False, serial=None, words=""):
        """Plugs in a `virt` board with the card at `path`. `lan` is the end of its MAC address on the emulated LAN;
        `log` is a file that records every write to the card; `early` names drivers present from the start; with `router` its second
        disk is that of `router()`; `serial` is the serial number in its device tree; `words` are added to the kernel's command line."""
        argv = VIRT + self.boot_arguments(early, words)
        if serial:
            argv += ["-dtb", self._tree_with(serial)]
        argv += [
            "-serial",
            "unix:{serial0},server=on,wait=off",
            "-device",
            "pci-serial,chardev=second",
        ]
        argv += ["-chardev", "socket,path={serial1},server=on,wait=off,id=second"]
        disk = f"driver=raw,node-name=card,file.driver=file,file.filename={path}"
        if log:
            disk = f"driver=blklogwrites,node-name=card,file.driver=file,file.filename={path},log.driver=file,log.filename={log}"
        argv += ["-blockdev", disk, "-device", "virtio-blk-pci,drive=card"]
        if router:
            argv += [
                "-blockdev",
                f"driver=raw,node-name=router,read-only=on,file.driver=file,file.filename={self.router()}",
            ]
            argv += ["-device", "virtio-blk-pci,drive=router"]
        argv += ["-device", "i6300esb", "-device", "virtio-rng-pci"]
        if lan is None:
            argv += ["-nic", "none"]
        else:
            # The cable is multicast on the loopback interface: nothing leaves this machine.
            argv += [
                "-netdev",
                f"socket,id=lan,mcast={cable.GROUP}:{self.cable_port},localaddr=127.0.0.1",
            ]
            argv += [
                "-device",
                f"virtio-net-pci,id=card0,netdev=lan,mac=52:54:00:77:00:{lan:02x},romfile=",
            ]
        return Guest(self.folder, name, argv)

    def _tree_with(self, serial):
        """The device tree that QEMU makes for such a board, with a serial number added, because QEMU sets none."""
        tree = os.path.join(self.folder, f"{serial}.dtb")
        quiet = dict(check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        subprocess.run(
            [VIRT[0], "-M", f"virt,dumpdtb={tree}", *VIRT[3:], "-nic", "none", "-display", "none"],
            **quiet,
        )
        subprocess.run(["fdtput", "-t", "s", tree, "/", "serial-number", serial], **quiet)
        return tree


class Short(Machine):
    """Debian's kernel and tools, the image's scripts, the board's binary."""

    left_out = (
        "the card's own boot partition contents, kernel and root (Debian's kernel and an initramfs stand in for them)",
        "the boards raspi3ap and Zero 2 W: their device tree, SD controller, UART, status light and bcm2835 watchdog",
        "Buildroot's busybox, wpa_supplicant and libraries, a read-only root, the board's radio, mDNS",
    )

    def __init__(self, folder, binary, packages):
        super().__init__(folder, packages)
        debian.fetch(packages)
        root = os.path.join(folder, "root")
        self.initrd = os.path.join(folder, "root.cpio")
        debian.make_root(packages, root, binary, DEMO_MODEL)
        debian.pack(root, self.initrd)
        self.root_bytes = sum(
            os.lstat(os.path.join(at, name)).st_size
            for at, _, names in os.walk(root)
            for name in names
        )
        shutil.rmtree(root)

    def fresh_card(self, name, files=None):
        path = os.path.join(self.folder, name + ".img")
        card.make(path, {"potluck.toml": DEFAULT_CONFIG} | (files or {}))
        return path

    def boot_arguments(self, early, words):
        initrd = self.initrd
        if early:
            # The init script loads this whether or not something requests it.
            initrd = self.initrd + ".early"
            debian.add_files(
                self.initrd,
                {"etc/modules": "".join(f"{name}\n" for name in early).encode()},
                initrd,
            )
        return [
            "-kernel",
            debian.kernel(self.packages),
            "-initrd",
            initrd,
            "-append",
            f"console=ttyAMA0 {self.words} {words}",
        ]


class Full(Machine):
    """sdcard.img itself: its kernel, device tree and command line are read from its own boot partition, as the GPU would."""

    words = "potluck.shell=ttyS0"
    has_mdns = True
    left_out = (
        "the GPU's boot code and config.txt, which only a board can run (QEMU loads what they would)",
        "the board's radio, its driver and firmware (wpa_supplicant and the scripts talk to mac80211_hwsim's radios instead)",
        "in raspi3ap the radio's SDIO bus, where QEMU has no chip: the kernel's own lines about mmc0 do not count as errors",
        "bcm2835's watchdog: QEMU's has no timer, and resets as soon as it is opened (i6300esb is tested instead)",
    )
    # A power of two, as QEMU's SD controller requires, with room to grow into.
    card_bytes = 1 << 29

    def __init__(self, folder, image, packages):
        super().__init__(folder, packages)
        if not os.path.exists(image):
            raise Failed(f"no {image}: run make image, or name one with IMAGE=FILE")
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
        """The path of an extracted file of the boot partition."""
        return os.path.join(self.folder, name)

    def chapters(self):
        return super().chapters() + (chapters.raspi,)

    def fresh_card(self, name, files=None):
        path = os.path.join(self.folder, name + ".img")
        card.copy(self.image, path)
        os.truncate(path, self.card_bytes)
        for file, content in ({"potluck.toml": DEFAULT_CONFIG} | (files or {})).items():
            card.put(path, file, content)
        return path

    def _kernel(self, words, early=()):
        initrd = ["-initrd", self.part(self.initrd)] if self.has_initrd else []
        if early and self.has_initrd:
            # The initramfs loads all its drivers, one after another.
            debian.fetch(self.packages)
            initrd = ["-initrd", self.part("early.img")]
            code = debian.modules(self.packages, early).items()
            files = {
                f"modules/{900 + at}-{name}.ko": content for at, (name, content) in enumerate(code)
            }
            debian.add_files(self.part(self.initrd), files, self.part("early.img"))
        return ["-kernel", self.part(self.kernel), *initrd, "-append", f"{self.cmdline} {words}"]

    def boot_arguments(self, early, words):
        return self._kernel(f"{self.words} {words}", early)

    def start_raspi(self, path, name):
        """Plugs in QEMU's closest board to a Zero 2 W, with its own device tree."""
        # QEMU lacks a block that the power driver looks for, and its watchdog fires as soon as
        # it is opened.
        words = "initcall_blacklist=bcm2835_power_driver_init,bcm2835_wdt_driver_init"
        argv = [
            "qemu-system-aarch64",
            "-M",
            "raspi3ap",
            *self._kernel(words),
            "-dtb",
            self.part(self.tree),
        ]
        argv += [
            "-serial",
            "unix:{serial0},server=on,wait=off",
            "-serial",
            "unix:{serial1},server=on,wait=off",
        ]
        argv += ["-drive", f"file={path},if=sd,format=raw"]
        return Guest(self.folder, name, argv)


def check_tools():
    """Reports what is missing on this machine, and how to install it."""
    needs = {
        "qemu-system-aarch64": "qemu-system-arm",
        "qemu-aarch64": "qemu-user",
        "mkfs.fat": "dosfstools",
        "mke2fs": "e2fsprogs",
        "mcopy": "mtools",
        "fdtput": "device-tree-compiler",
        "apt-get": "apt (a Debian machine)",
        "dpkg-deb": "dpkg",
    }
    path = os.environ["PATH"] + ":/usr/sbin:/sbin"
    os.environ["PATH"] = path
    missing = sorted({package for tool, package in needs.items() if not shutil.which(tool)})
    if missing:
        raise Failed(f"this needs: apt-get install {' '.join(missing)}")
