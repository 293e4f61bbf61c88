"""What the image promises, one chapter each: it boots, its console answers, nothing on the card keeps it from starting, it recovers
from hangs, and boards on one LAN share and obey."""

import re
import time

import cable
import card
from guest import Failed

# Seconds until a prompt, on a busy machine.
BOOT_S = 150
ANSWER_S = 120
# Words that no script of ours may print on a healthy board.
BAD_WORDS = ("potluck:", "not found", "rror", "ailed", "annot", "No such", "panic")


def prompt(guest, within=BOOT_S):
    """Waits for the console's prompt; returns what came before it."""
    return guest.console.expect("is ready", within=within) + guest.console.expect("\n> ", within=20)


def ask(guest, text, within=ANSWER_S):
    """Asks, and returns the line of figures, from its bracket on. The echo of the prompt may hold other brackets: those of the
    line editor's escape sequences."""
    guest.console.drain()
    guest.console.send(text)
    answered = guest.console.expect("tokens/s", within=within, fail=("\n! ",))
    return answered[answered.rindex("[") :]


def want(condition, what):
    """Fails with `what` unless the condition holds."""
    if not condition:
        raise Failed(what)


def seconds(shell, line, within):
    """When the kernel's log has `line`, in seconds after the kernel's start."""
    for _ in range(2 * within):
        found = re.search(r"\d+\.\d+", shell.run(f"dmesg | grep '{line}' | head -n 1")[0])
        if found:
            return float(found.group(0))
        time.sleep(0.5)
    raise Failed(f"the kernel's log lacks {line!r}")


def boots(machine, figures):
    """A fresh card boots to a prompt without an error line; it has grown; /boot is read-only; it powers off."""
    path = machine.fresh_card("boots")
    with machine.start(path, "boots") as guest:
        before = prompt(guest)
        figures["to prompt, s"] = round(time.monotonic() - guest.begun, 1)
        shell = guest.shell
        ready = seconds(shell, "potluck: ready", within=30)
        started = seconds(shell, "Run .* as init process", within=1)
        figures["of which user space, s"] = round(ready - started, 1)
        bad = [line for line in before.splitlines() if any(word in line for word in BAD_WORDS)]
        want(not bad, f"before the prompt the board prints {bad}")
        # Messages from user space have facility 1: an error of our scripts is 8 + 3.
        errors = shell.run("dmesg -r | grep '^<11>' | grep potluck")[0]
        want(not errors, f"the scripts report errors: {errors}")
        mounts = shell.must("cat /proc/mounts")
        want(re.search(r" /boot vfat ro,", mounts), f"/boot is not mounted read-only:\n{mounts}")
        want(re.search(r" /data ext4 rw,", mounts), f"/data is not mounted:\n{mounts}")
        for _ in range(40):
            size = int(shell.must("df -k /data | awk 'END { print $(NF - 4) }'"))
            if size > 60_000:
                break
            time.sleep(0.5)
        want(size > 60_000, f"/data has {size} kB: it has not grown to the card's end")
        used = shell.must("free -k | awk '/^Mem/ { print $3 }'")
        figures["memory in use at the prompt, MB"] = round(int(used) / 1024, 1)
        figures["of which potluck (resident), MB"] = round(
            int(shell.must("awk '/VmRSS/ { print $2 }' /proc/$(pidof potluck)/status")) / 1024, 1
        )
        shell.line.send("poweroff")
        guest.ended(within=60)


def console(machine, figures):
    """help, status, ask, stats and version over the serial line; then reboot, and poweroff."""
    with machine.start(machine.fresh_card("console"), "console") as guest:
        prompt(guest)
        for command, answer in (
            ("help", "this node"),
            ("status", "epoch 0"),
            ("peers", "no peer has been heard"),
            ("stats", "served"),
            ("version", "potluck "),
        ):
            guest.console.send(command)
            guest.console.expect(answer, within=20)
        line = ask(guest, "Why is the sky blue?")
        figures["an answer over the serial line"] = line.strip()
        again = ask(guest, "Why is the sky blue?")
        want(
            re.search(r"prompt tokens: [1-9]\d* own slab", again),
            f"a repeated prompt does not come from the slab: {again}",
        )
        guest.console.send("reboot")
        prompt(guest)
        ask(guest, "Hello")
        guest.console.send("poweroff")
        guest.ended(within=60)


# Files that a user may leave on the card, and what the board must say about them.
CONFIGS = (
    ("none", None, "cannot be read"),
    ("empty", b"", "is ready"),
    ("broken", b'x = [\n[node]\nname = "kit chen"\n\xff\n', "potluck.toml:1"),
    ("garbage", bytes(range(256)) * 8192, "potluck.toml"),
    ("wrong values", b'[memory]\nslab = "a lot"\n[network]\nport = 0\n', "potluck.toml:2"),
    # The kernel's own console answers whatever other terminals are named, present or not.
    ("other terminals", b'[console]\ndevices = ["/dev/ttyS0", "/dev/ttyGS0"]\n', "is ready"),
    ("a terminal that is not there", b'[console]\ndevices = ["/dev/ttyUSB0"]\n', "is ready"),
)


def configs(machine, figures):
    """No potluck.toml, an empty one, a broken one, garbage, a folder in its place, a full partition: the board starts. It also does
    so if [console] names other terminals than the kernel's."""
    for name, content, says in CONFIGS:
        path = machine.fresh_card("config", None if content is None else {"potluck.toml": content})
        if content is None:
            card.remove(path, "potluck.toml")
        with machine.start(path, "config") as guest:
            came = prompt(guest)
            want(
                says in came,
                f"with {name} as potluck.toml the console does not say {says!r}:\n{came}",
            )
            ask(guest, "Hello")
    path = machine.fresh_card("config")
    card.remove(path, "potluck.toml")
    card.make_folder(path, "potluck.toml")
    card.fill(path)
    with machine.start(path, "config") as guest:
        want("cannot be read" in prompt(guest), "a folder as potluck.toml is not reported")
        ask(guest, "Hello")
    figures[
        "settings that are broken, absent, garbage, a folder on a full partition or name other terminals, and the board answers"
    ] = len(CONFIGS) + 1


def models(machine, figures):
    """A missing model: the demo model answers. A damaged model: the console works, and says what is wrong."""
    with machine.start(
        machine.fresh_card("model", {"potluck.toml": b'[model]\nfile = "nowhere.gguf"\n'}), "model"
    ) as guest:
        came = prompt(guest)
        want(
            "is ready with demo.gguf" in came,
            f"with a missing model the demo model does not answer:\n{came}",
        )
        want("nowhere.gguf" in came, f"the missing model is not reported:\n{came}")
        ask(guest, "Hello")
    with machine.start(
        machine.fresh_card("model", {"gemma.gguf": b"GGUF" + bytes(range(256)) * 64}), "model"
    ) as guest:
        guest.console.expect("no model: ", within=BOOT_S)
        guest.console.expect("gemma.gguf", within=20)
        guest.console.send("Hello")
        guest.console.expect("no model: ", within=30)
        guest.console.send("version")
        guest.console.expect("potluck ", within=30)
    figures["models missing or damaged, and the console says so"] = 2


def full_card(machine, figures):
    """/data is full: answers go on; failed saves are reported, and work again once there is room."""
    path = machine.fresh_card("full")
    with machine.start(path, "full") as guest:
        prompt(guest)
        shell = guest.shell
        shell.run(
            "dd if=/dev/zero of=/data/ballast bs=1M; while echo x >>/data/crumbs$((i++)) 2>/dev/null; do :; done; sync",
            within=300,
        )
        guest.console.drain()
        guest.console.send("reset")
        guest.console.expect("annot be saved", "not saved", "No space", within=30)
        ask(guest, "Hello")
        shell.line.send("reboot")
        prompt(guest)
        ask(guest, "Hello")
        shell.must("rm -f /data/ballast; sync")
        guest.console.send("reset")
        guest.console.expect("epoch", within=30)
        want(
            "epoch" in shell.must("cat /data/epoch"), "with free space again the epoch is not saved"
        )
    figures["a full card"] = "answers, boots, says what it could not save"


def watchdog(machine, figures):
    """potluck killed: it restarts, with a note. potluck hung: the board restarts. The feeder gone: the board restarts."""
    path = machine.fresh_card("watchdog")
    with machine.start(path, "watchdog") as guest:
        prompt(guest)
        shell = guest.shell
        begun = time.monotonic()
        shell.must("kill -9 $(pidof potluck)")
        prompt(guest)
        figures["killed, back after, s"] = round(time.monotonic() - begun, 1)
        notes = shell.must("cat /data/crash/1-potluck.txt")
        want("status" in notes, f"the crash left no note: {notes}")
        for what, command in (
            ("potluck hung", "kill -STOP $(pidof potluck)"),
            ("nobody fed the watchdog", "kill -9 $(pidof watchdog) || killall -9 watchdog"),
        ):
            begun = time.monotonic()
            shell.must(command)
            guest.event("WATCHDOG", within=150)
            figures[f"{what}: restarted after, s"] = round(time.monotonic() - begun, 1)
            prompt(guest)
            ask(guest, "Hello")


LONG_PROMPT = " ".join(
    f"Question {n}: why does the river bend where the hill is low, and who has seen it?"
    for n in range(1, 18)
)


def epoch_of(guest):
    """The epoch saved on a board's card."""
    text, _ = guest.shell.run("cat /data/epoch 2>/dev/null")
    found = re.search(r"^epoch (\d+)", text, re.M)
    return int(found.group(1)) if found else 0


def lan(machine, figures):
    """Two boards on one LAN: the second takes a repeated prompt from the first, both obey a reset, and so does one that was paused
    during it, within one announcement interval after it resumes."""
    interval_s = 10
    names = ("kitchen", "attic")
    guests = []
    try:
        for at, name in enumerate(names):
            config = f'[node]\nname = "{name}"\n[swarm]\nkey = "correct horse"\n[network]\nannounce = {interval_s}\n[answers]\nmax_tokens = 8\n'
            guests.append(
                machine.start(
                    machine.fresh_card(name, {"potluck.toml": config.encode()}), name, lan=at + 1
                )
            )
        first, second = guests
        for guest in guests:
            prompt(guest)
        meet(first, 1)
        meet(second, 1)
        computed = ask(first, LONG_PROMPT)
        figures["first board"] = computed.strip()
        # A delta announces new blocks within a quarter of a second.
        time.sleep(3)
        taken = ask(second, LONG_PROMPT)
        figures["second board"] = taken.strip()
        found = re.search(r"\[(\d+) prompt tokens: (\d+) own slab, (\d+) peers", taken)
        want(found, f"no figures: {taken}")
        share = int(found.group(3)) / int(found.group(1))
        figures["share of the repeated prompt taken from the first, %"] = round(100 * share, 1)
        # Computing does not wait for the network, and an emulated board computes while the
        # other serves.
        want(
            share >= 0.75,
            f"the second board took {share:.0%} of the prompt from the first: {taken}",
        )

        # Only potluck and the multicast DNS responder listen: the catalog has its port and another
        # to send from, and blocks use an arbitrary one.
        listening = second.shell.must(
            "netstat -lntu | awk '/^(tcp|udp)/ { sub(/.*:/, \"\", $4); print $1, $4 }' | sort -u"
        ).splitlines()
        ports = {
            kind: [line.split()[1] for line in listening if line.startswith(kind)]
            for kind in ("tcp", "udp")
        }
        known = set(ports["udp"]) & {"7654", "5353"}
        want(
            len(ports["tcp"]) == 1 and len(ports["udp"]) <= len(known) + 1,
            f"other ports than potluck's are open: {listening}",
        )
        if machine.has_mdns:
            for name in names:
                address = cable.address_of(machine.cable_port, f"{name}.local", within=30)
                want(address, f"nothing answers to {name}.local")
                figures[f"{name}.local"] = address

        first.console.send("reset --store")
        first.console.expect("1 of 1", within=60)
        want(
            [epoch_of(guest) for guest in guests] == [1, 1], "the reset has not reached both boards"
        )
        again = ask(second, LONG_PROMPT)
        want(
            re.search(r": 0 own slab, 0 peers", again),
            f"after a reset of the blocks some are still used: {again}",
        )

        # Also unplugged, until a second after it resumes: the emulated cable would otherwise
        # deliver the datagrams kept meanwhile.
        second.qmp("set_link", name="card0", up=False)
        second.qmp("stop")
        first.console.send("reset")
        first.console.expect("epoch 2", within=60)
        time.sleep(interval_s / 2)
        second.qmp("cont")
        time.sleep(1)
        want(epoch_of(second) == 1, "the paused board has heard the reset, so this proves nothing")
        second.qmp("set_link", name="card0", up=True)
        resumed = time.monotonic()
        second.console.expect("epoch 2", within=3 * interval_s)
        took = time.monotonic() - resumed
        figures["a board paused during a reset obeys after, s"] = round(took, 1)
        want(
            took <= interval_s,
            f"a board paused during a reset obeyed {took:.1f} s after it resumed, not within {interval_s} s",
        )
        want(epoch_of(second) == 2, "the paused board has not saved the epoch")
    finally:
        for guest in guests:
            guest.end()


def meet(guest, peers):
    """Waits until a board has heard its peers."""
    for _ in range(60):
        guest.console.drain()
        guest.console.send("status")
        status = guest.console.expect("\npeers", within=20) + guest.console.expect("\n", within=20)
        if re.search(rf"peers +{peers}\b", status):
            return
        time.sleep(2)
    raise Failed(f"{guest.name} hears no peer: {status}")


def raspi(machine, figures):
    """QEMU's closest board to a Zero 2 W, with the image's own kernel and device tree: a prompt, an answer, the card grown.
    Its device tree has one serial line, so there is no shell for further checks."""
    path = machine.fresh_card("raspi")
    with machine.start_raspi(path, "raspi") as guest:
        before = prompt(guest, within=2 * BOOT_S)
        figures["to prompt, s"] = round(time.monotonic() - guest.begun, 1)
        bad = [
            line
            for line in before.splitlines()
            if any(word in line for word in BAD_WORDS) and " mmc0: " not in line
        ]
        want(not bad, f"before the prompt the board prints {bad}")
        for command, answer in (("help", "this node"), ("status", "epoch 0"), ("stats", "served")):
            guest.console.send(command)
            guest.console.expect(answer, within=30)
        figures["an answer over the serial line"] = ask(
            guest, "Why is the sky blue?", within=2 * ANSWER_S
        ).strip()
        free = card.free_at_end(path)
        want(
            free < 8 * card.MIB,
            f"{free} bytes after the data partition are free: it has not grown to the card's end",
        )


CHAPTERS = (boots, console, configs, models, full_card, watchdog, lan)
