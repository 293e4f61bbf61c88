"""Pulls the plug at random moments, again and again; the board must always start, with its data partition and everything that it
had promised to keep.

A card's life: it is made, plugged in and cut off somewhere in its first boot (while the partition grows). Then three times it boots,
is checked, writes without pause and is cut off. At last it boots and is checked, and the next card follows. A cut is harsher than
ending QEMU: the disk is rebuilt from a log of the guest's writes, in which those since the last flush are dropped at random, because
a card may have kept them in any order, and some of them are torn.
"""

import os
import random
import re
import shutil
import struct
import time

import card
from chapters import epoch_of, prompt, want
from guest import Failed

LOG_MAGIC = 0x6A736677736872
FLUSH, FUA, DISCARD = 1, 2, 4
SECTOR = 512
# Cuts per card after the one in its first boot.
WRITING_CUTS = 3
# A writer in the guest that keeps the journal busy; potluck's own saves come from the
# console (resets).
WRITER = "i=0; while :; do echo $i >/data/w.new && sync /data/w.new && mv /data/w.new /data/w$((i % 40)); i=$((i+1)); done &"


def read_log(path):
    """The guest's writes in order: (first sector, bytes or None for a discard, flags)."""
    with open(path, "rb") as log:
        head = log.read(28)
        if len(head) < 28 or struct.unpack("<Q", head[:8])[0] != LOG_MAGIC:
            return
        size = struct.unpack("<QQQI", head)[3]
        log.seek(size)
        while True:
            entry = log.read(size)
            if len(entry) < 32:
                return
            sector, sectors, flags, length = struct.unpack("<QQQQ", entry[:32])
            if not (sectors or flags):
                return
            data = None
            if not flags & DISCARD and sectors:
                data = log.read(sectors * size)
                if len(data) < sectors * size:
                    return
            yield sector * size, data, flags


def rebuild(before, log, after, chance):
    """Writes to `after` the card `before` as it is after the writes in `log` and a power cut; returns how many writes there were and how
    many were lost."""
    card.copy(before, after)
    entries = list(read_log(log))
    last_flush = max((at for at, (_, _, flags) in enumerate(entries) if flags & FLUSH), default=-1)
    lost = 0
    with open(after, "r+b") as out:
        for at, (offset, data, flags) in enumerate(entries):
            if data is None:
                continue
            if at > last_flush and not flags & FUA:
                fate = chance.random()
                if fate < 0.4:
                    lost += 1
                    continue
                if fate < 0.5:
                    # Torn: sectors are whole, but only the first few of the write were kept.
                    lost += 1
                    data = data[: chance.randrange(len(data) // SECTOR + 1) * SECTOR]
            out.seek(offset)
            out.write(data)
    return len(entries), lost


class Cutter:
    """One run, with its counts."""

    def __init__(self, machine, seed):
        self.machine = machine
        self.seed = seed
        self.chance = random.Random(seed)
        self.cuts = self.lost = self.writes = self.repairs = self.anew = 0
        self.path = machine.fresh_card("cut")
        self.pristine = os.path.join(machine.folder, "pristine.img")
        shutil.move(self.path, self.pristine)
        self.before = os.path.join(machine.folder, "before.img")
        self.log = os.path.join(machine.folder, "cut.writes")

    def plug_in(self):
        """Starts the board on the card, with every write logged."""
        card.copy(self.path, self.before)
        open(self.log, "wb").close()
        return self.machine.start(self.path, "cut", log=self.log)

    def cut(self, guest):
        """Pulls the plug."""
        guest.pull_the_plug()
        writes, lost = rebuild(self.before, self.log, self.path, self.chance)
        self.cuts += 1
        self.writes += writes
        self.lost += lost

    def check(self, guest, epoch):
        """Checks that the board is up, with /data mounted and nothing lost that was promised."""
        prompt(guest)
        shell = guest.shell
        want(re.search(r"/data ext4 rw,", shell.must("cat /proc/mounts")), "/data is not mounted")
        said = shell.must("dmesg | grep -E 'potluck: .*(repair|formatted)' || true")
        self.repairs += "being repaired" in said
        self.anew += "is formatted" in said
        want(
            "is formatted" not in said,
            f"the data partition was beyond repair:\n{said}\n{shell.run('cat /run/potluck/*.log')[0]}",
        )
        kept = epoch_of(guest)
        want(kept >= epoch, f"epoch {epoch} was promised, but the card holds {kept}")
        want(card.get(self.path, "potluck.toml") == self.config, "potluck.toml has changed")
        return kept

    def life(self, boot_s, most):
        """The life of one new card, with at most `most` cuts."""
        card.copy(self.pristine, self.path)
        self.config = card.get(self.path, "potluck.toml")
        with self.plug_in() as guest:
            time.sleep(self.chance.uniform(0.3, 1.0) * boot_s)
            self.cut(guest)
        epoch = 0
        for _ in range(min(most - 1, WRITING_CUTS)):
            with self.plug_in() as guest:
                epoch = self.write(guest, self.check(guest, epoch))
                self.cut(guest)
        with self.plug_in() as guest:
            self.check(guest, epoch)

    def write(self, guest, epoch):
        """Keeps the card busy for a while; returns the last epoch that the console reported as saved."""
        guest.shell.must(WRITER)
        until = time.monotonic() + self.chance.uniform(0.2, 4.0)
        while time.monotonic() < until:
            guest.console.send("reset")
            try:
                guest.console.expect(
                    "swarm is at epoch ", within=max(0.05, until - time.monotonic())
                )
                epoch = int(guest.console.expect(";", within=1).strip(" ;"))
            except Failed:
                break
        return epoch


def run(machine, cuts, seed, tell):
    """Cuts the power `cuts` times; returns the figures."""
    cutter = Cutter(machine, seed)
    card.copy(cutter.pristine, cutter.path)
    begun = time.monotonic()
    with cutter.plug_in() as guest:
        prompt(guest)
        boot_s = time.monotonic() - begun
    while cutter.cuts < cuts:
        cutter.life(boot_s, cuts - cutter.cuts)
        tell(
            f"{cutter.cuts} cuts, {cutter.lost} of {cutter.writes} writes lost, {cutter.repairs} repairs beyond the journal, "
            f"{time.monotonic() - begun:.0f} s"
        )
    return {
        "power cuts": cutter.cuts,
        "seed": seed,
        "writes logged": cutter.writes,
        "of which lost or torn by the cuts": cutter.lost,
        "boots that needed a repair beyond the journal": cutter.repairs,
        "data partitions lost": cutter.anew,
        "minutes": round((time.monotonic() - begun) / 60, 1),
    }
