"""What a board meets outside: a computer at its USB port, Wi-Fi with all its faults, a radio that went deaf, and a copied card.

The USB port is dummy_hcd's: the guest is then both the board, with /dev/ttyGS0, and the computer, with /dev/ttyACM0. The radios are
mac80211_hwsim's: one is the board's, the other belongs to an access point in a network namespace, which runs Debian's hostapd from a
second disk (machine.router).
"""

import os
import re
import time

import card
from chapters import LONG_PROMPT, ask, meet, prompt, want
from guest import TIMEOUT_FACTOR, Failed


def eventually(shell, command, wanted, within, what):
    """Repeats a command until its output matches; returns the output and how many seconds it took."""
    begun = time.monotonic()
    while True:
        output, _ = shell.run(command)
        if re.search(wanted, output):
            return output, round(time.monotonic() - begun, 1)
        if time.monotonic() - begun > within * TIMEOUT_FACTOR:
            raise Failed(f"{what}: not within {within} s. `{command}` prints:\n{output[-1500:]}")
        time.sleep(1)


def usb(machine, figures):
    """A computer at the USB port: its serial line is potluck's console and not a modem, and it returns after the cable was unplugged."""
    with machine.start(machine.fresh_card("usb"), "usb", early=("dummy_hcd", "cdc_acm")) as guest:
        prompt(guest)
        shell = guest.shell
        said, _ = eventually(
            shell,
            "dmesg | grep 'potluck: .*USB console'",
            "USB console",
            20,
            "S50gadget reports the state of the port",
        )
        want(
            "USB console: /dev/ttyGS0 on dummy_udc.0" in said,
            f"there is no console over USB: {said}",
        )
        eventually(
            shell, "ls /dev/ttyACM*", r"^/dev/ttyACM0$", 20, "the computer finds no serial line"
        )
        port = "/sys/class/tty/ttyACM0/device"
        kind = shell.must(
            f"cd {port} && cat bInterfaceClass bInterfaceSubClass bInterfaceProtocol; cd /"
        ).split()
        want(
            kind == ["02", "02", "00"],
            f"the port identifies itself as {kind}, not as a serial line without a modem (02 02 00)",
        )
        ids = shell.must(
            f"cd -P {port} && cd .. && cat idVendor idProduct manufacturer product serial; cd /"
        ).splitlines()
        want(
            ids[:4] == ["0525", "a4a7", "potluck", "potluck console"] and ids[4],
            f"the port identifies itself as {ids}",
        )
        typed(shell, "status", "epoch 0")
        typed(shell, "Why is the sky blue?", "tokens/s")
        # Unplugs the cable and plugs it in again.
        shell.must("echo >/sys/kernel/config/usb_gadget/potluck/UDC")
        eventually(
            shell, "ls /dev/ttyACM* 2>/dev/null | wc -l", "^0$", 20, "the cable is not unplugged"
        )
        shell.must("/etc/init.d/S50gadget start")
        eventually(
            shell,
            "ls /dev/ttyACM*",
            r"^/dev/ttyACM0$",
            20,
            "the computer finds no serial line the second time",
        )
        typed(shell, "version", "potluck ")
        figures["typed at the computer's side of the USB cable, and answered"] = 3


def typed(shell, line, answer):
    """Types a line on the computer's side, and waits for an answer there; after a few seconds it types again, because it takes a
    while to reopen a console after its cable was unplugged."""
    shell.must("stty -F /dev/ttyACM0 raw -echo; cat /dev/ttyACM0 >/tmp/usb & echo $! >/tmp/usb.pid")
    try:
        for _ in range(6):
            shell.must(f"printf '%s\\r' '{line}' >/dev/ttyACM0")
            for _ in range(10):
                heard, _ = shell.run("tr -d '\\r\\000' </tmp/usb")
                if answer in heard:
                    return
                time.sleep(1)
        raise Failed(f"{line!r} typed over USB is not answered with {answer!r}: {heard!r}")
    finally:
        shell.run("kill $(cat /tmp/usb.pid); wait $(cat /tmp/usb.pid) 2>/dev/null; rm -f /tmp/usb")


NETWORK = "Kitchen net"
PASSWORD = "correct horse"
WIFI = f'[node]\nname = "kitchen"\n[answers]\nmax_tokens = 8\n[wifi]\nssid = "{NETWORK}"\npassword = "{PASSWORD}"\ncountry = "DE"\n'
# The second disk's mount point in the guest, and its busybox, which needs no libraries.
DISK = "/tmp/router"
BUSYBOX = f"{DISK}/usr/bin/busybox"


class Router:
    """The access point: a radio in a network namespace of the guest, hostapd, and optionally a DHCP server."""

    def __init__(self, shell):
        self.shell = shell
        shell.must(f"mkdir -p {DISK} && mount -t ext4 -o ro /dev/vdb {DISK}")
        want(
            shell.run(f"[ -d {DISK}/usr/lib/modules/$(uname -r) ]")[1] == 0,
            "this image's kernel is not the one in Debian's archive now, so there are no radios for it: rebuild the image",
        )
        shell.must(f"mount --bind {DISK}/usr/lib/modules /lib/modules")
        for name in "dev proc sys run tmp".split():
            shell.must(f"mount --bind /{name} {DISK}/{name}")
        # The short form has none of these.
        loader = (
            f"{DISK}/usr/lib/ld-linux-aarch64.so.1 --library-path {DISK}/usr/lib/aarch64-linux-gnu"
        )
        for name in "wpa_supplicant iw".split():
            shell.must(
                f"command -v {name} >/dev/null || {{ printf '#!/bin/sh\\nexec {loader} {DISK}/usr/sbin/{name} \"$@\"\\n' "
                f">/usr/bin/{name} && chmod +x /usr/bin/{name}; }}"
            )
        shell.must(
            f"[ -e /lib/firmware/regulatory.db ] || echo -n {DISK}/usr/lib/firmware "
            ">/sys/module/firmware_class/parameters/path"
        )
        shell.must(f"{BUSYBOX} unshare -n {BUSYBOX} sleep 999999 & echo $! >/tmp/room")
        self.inside = f"{BUSYBOX} nsenter -t $(cat /tmp/room) -n"

    def plug_radios(self):
        """Plugs in two radios, and gives the second to the access point before the board sees it."""
        self.shell.must("killall -STOP network; modprobe mac80211_hwsim radios=2")
        eventually(self.shell, "ls /sys/class/net", "wlan1", 20, "there are no radios")
        self.take_radio()
        self.shell.must("killall -CONT network")

    def take_radio(self):
        """Moves the second radio into the access point's namespace."""
        eventually(
            self.shell,
            "iw phy $(cat /sys/class/net/wlan1/phy80211/name) set netns $(cat /tmp/room); ls /sys/class/net; "
            f"{self.inside} ip link",
            r"(?s)^(?!.*wlan1\n.*wlan1).*wlan1",
            20,
            "the access point has no radio",
        )
        self.shell.must(
            f"{self.inside} ip addr add 10.77.0.1/24 dev wlan1; {self.inside} ip link set wlan1 up"
        )

    def on(self, password=PASSWORD):
        """Turns the access point on, with a hidden name."""
        lines = (
            "interface=wlan1",
            "driver=nl80211",
            f"ssid={NETWORK}",
            "ignore_broadcast_ssid=1",
            "hw_mode=g",
            "channel=6",
            "wpa=2",
            "wpa_key_mgmt=WPA-PSK",
            "rsn_pairwise=CCMP",
            f"wpa_passphrase={password}",
        )
        self.shell.must(
            "printf '%s\\n' " + " ".join(f"'{line}'" for line in lines) + " >/tmp/hostapd.conf"
        )
        self.shell.must(
            f"{self.inside} chroot {DISK} /usr/sbin/hostapd -B -P /tmp/hostapd.pid /tmp/hostapd.conf >/tmp/hostapd.log"
        )

    def off(self):
        """Turns the access point off."""
        self.shell.must(
            "kill $(cat /tmp/hostapd.pid); while kill -0 $(cat /tmp/hostapd.pid) 2>/dev/null; do sleep 1; done"
        )

    def serve_addresses(self):
        """Starts the DHCP server."""
        lines = (
            "start 10.77.0.50",
            "end 10.77.0.60",
            "interface wlan1",
            "option subnet 255.255.255.0",
            "option router 10.77.0.1",
            "lease_file /tmp/leases",
            "pidfile /tmp/udhcpd.pid",
        )
        self.shell.must(
            "touch /tmp/leases; printf '%s\\n' "
            + " ".join(f"'{line}'" for line in lines)
            + " >/tmp/udhcpd.conf"
        )
        self.shell.must(
            f"{self.inside} {BUSYBOX} udhcpd -f /tmp/udhcpd.conf >/tmp/udhcpd.log 2>&1 &"
        )


def reached(shell, what, within=240):
    """Waits until the board has an address from the access point and both routes, and can reach it."""
    took = eventually(
        shell, "ip -4 addr show wlan0", r"inet 10\.77\.0\.5\d/24", within, f"no address {what}"
    )[1]
    eventually(
        shell,
        "ip route show dev wlan0 | sort -r",
        r"(?s)default via 10\.77\.0\.1 .*\n224\.0\.0\.0/4 ",
        10,
        f"a route is missing {what}",
    )
    shell.must("ping -c 3 -W 5 10.77.0.1")
    return took


def wifi(machine, figures):
    """Wi-Fi: the router starts after the board, hides its name, and gets DHCP later; a wrong password is reported within 30 s."""
    with machine.start(
        machine.fresh_card("wifi", {"potluck.toml": WIFI.encode()}), "wifi", router=True
    ) as guest:
        prompt(guest)
        shell = guest.shell
        # An error in the kernel's log also appears on the console.
        eventually(
            shell,
            "dmesg -r | grep 'potluck: Wi-Fi:'",
            "^<11>.*this board has no radio that works: no driver has found one",
            90,
            "the missing radio is not reported",
        )
        router = Router(shell)
        router.plug_radios()
        guest.console.expect(f"Wi-Fi: {NETWORK} is not in range", within=90)
        rules = shell.must("iw reg get")
        want("country DE:" in rules, f"the country's regulatory rules are not set:\n{rules}")
        want(
            "power_save off"
            in shell.must("iw dev wlan0 get power_save; true")
            .lower()
            .replace(": ", " ")
            .replace("power save", "power_save"),
            "power saving is on",
        )
        begun = time.monotonic()
        router.on()
        guest.console.expect(f"Wi-Fi: joined {NETWORK}", within=90)
        figures["a hidden network that came up after the board: joined after, s"] = round(
            time.monotonic() - begun, 1
        )
        found, took = eventually(
            shell,
            "ip -4 addr show wlan0",
            r"inet 169\.254\.\d+\.\d+/16",
            60,
            "no address without a DHCP server",
        )
        figures["without a DHCP server: an address of its own after, s"] = took
        router.serve_addresses()
        figures["a DHCP server that came up later: its address after, s"] = reached(
            shell, "from the DHCP server"
        )
        ask(guest, "Hello")

        router.off()
        router.on(password="battery staple")
        begun = time.monotonic()
        guest.console.expect(f"Wi-Fi: {NETWORK} refuses the password", within=60)
        took = time.monotonic() - begun
        figures["a wrong password is reported on the console after, s"] = round(took, 1)
        want(took <= 30 * TIMEOUT_FACTOR, f"a wrong password is reported after {took:.0f} s")
        router.off()
        router.on()
        guest.console.expect(f"Wi-Fi: joined {NETWORK}", within=180)
        reached(shell, "after the password was right again")
        # Each is reported once, however often it was tried.
        lines = shell.must("dmesg | grep -c 'Wi-Fi: .* refuses'")
        want(lines == "1", f"a wrong password is reported {lines} times")


def radio(machine, figures):
    """A radio that is up and deaf: `radio bounce` and `radio reload` bring it back with its address and routes, or say why not. A wired
    interface with its own address keeps it."""
    with machine.start(
        machine.fresh_card("radio", {"potluck.toml": WIFI.encode()}),
        "radio",
        router=True,
        lan=1,
        words="potluck.address.eth0=10.78.0.2/24,10.78.0.1",
    ) as guest:
        prompt(guest)
        shell = guest.shell
        own_address(shell, "at first")
        router = Router(shell)
        router.plug_radios()
        router.on()
        router.serve_addresses()
        reached(shell, "at first")
        for action in ("bounce", "reload"):
            # Deaf: there are no replies from the only address.
            index = shell.must("cat /sys/class/net/wlan0/ifindex")
            begun = time.monotonic()
            shell.must(f"/usr/libexec/potluck/radio {action} wlan0", within=90)
            figures[f"radio {action} takes, s"] = round(time.monotonic() - begun, 1)
            if action == "reload":
                want(
                    shell.must("cat /sys/class/net/wlan0/ifindex") != index,
                    "the driver was not reloaded",
                )
                # The access point's radio was removed with it.
                router.off()
                router.take_radio()
                router.on()
                shell.must("kill $(cat /tmp/udhcpd.pid)")
                router.serve_addresses()
            reached(shell, f"after radio {action}")
            figures[f"radio {action}: an address again after, s"] = round(
                time.monotonic() - begun, 1
            )
        for wrong, says in (
            ("bounce wlan7", "there is no wlan7"),
            ("reload lo", "is not a network card"),
            ("bounce ../lo", "is not a network card"),
            ("", "usage"),
            ("kick wlan0", "usage"),
        ):
            output, status = shell.run(f"/usr/libexec/potluck/radio {wrong} 2>&1")
            want(
                status == 1
                and output.startswith("radio: ")
                and says in output
                and "\n" not in output,
                f"radio {wrong} exits with {status}: {output}",
            )
        # A wired interface can be restarted too, and a restart in progress is not disturbed.
        output, status = shell.run(
            "mkdir /run/potluck/eth0.radio; /usr/libexec/potluck/radio bounce eth0 2>&1"
        )
        want(status == 1 and "already" in output, f"a card whose restart is in progress: {output}")
        shell.must(
            "rmdir /run/potluck/eth0.radio; /usr/libexec/potluck/radio bounce eth0", within=60
        )
        own_address(shell, "after radio bounce")
        want(
            shell.must("ls -d /run/potluck/*.radio 2>/dev/null | wc -l") == "0",
            "a card is still marked as being restarted",
        )


def own_address(shell, what):
    """Waits until the wired interface has the address from the kernel's command line."""
    eventually(
        shell,
        "ip -4 addr show eth0; ip route show dev eth0 | sort -r",
        r"(?s)inet 10\.78\.0\.2/24.*default via 10\.78\.0\.1 .*\n224",
        60,
        f"the wired interface does not have its given address {what}",
    )


def cloned(machine, figures):
    """A copied card: two boards with the same card contents have two ids and two names, and share."""
    config = {"potluck.toml": b'[swarm]\nkey = "correct horse"\n[answers]\nmax_tokens = 8\n'}
    serials = ("10000000c0ffee01", "10000000c0ffee02")
    identity = "sed -n 's/^id //p' /data/node"
    original = machine.fresh_card("original", config)
    with machine.start(original, "original", lan=1, serial=serials[0]) as guest:
        prompt(guest)
        first_id = eventually(guest.shell, identity, r"\w", 30, "the board has no id")[0]
        guest.shell.line.send("poweroff")
        guest.ended(within=60)
    copy = os.path.join(machine.folder, "copy.img")
    card.copy(original, copy)
    guests = [
        machine.start(path, name, lan=at + 1, serial=serials[at])
        for at, (path, name) in enumerate(((original, "original"), (copy, "copy")))
    ]
    try:
        came = [prompt(guest) for guest in guests]
        want(
            "copied card" in came[1] and "copied card" not in came[0],
            f"the copy's console does not say so:\n{came[1]}",
        )
        ids = [
            eventually(guest.shell, identity, r"\w", 30, "the board has no id")[0]
            for guest in guests
        ]
        want(
            ids[0] == first_id and ids[1] not in ("", first_id),
            f"the ids of a card and its copy are {ids}, after {first_id}",
        )
        names = [guest.shell.must("hostname") for guest in guests]
        want(names == ["potluck-ffee01", "potluck-ffee02"], f"the two boards are called {names}")
        for guest in guests:
            meet(guest, 1)
        # A peer may be heard before it has announced its name.
        for guest, other in zip(guests, reversed(names)):
            known(guest, other)
        ask(guests[0], LONG_PROMPT)
        time.sleep(3)
        taken = ask(guests[1], LONG_PROMPT)
        found = re.search(r"\[(\d+) prompt tokens: (\d+) own slab, (\d+) peers", taken)
        want(
            found and int(found.group(3)) >= 0.75 * int(found.group(1)),
            f"the copy takes nothing from the original: {taken}",
        )
        figures["a card and its copy in two boards"] = (
            f"{names[0]} and {names[1]}; {found.group(3)} of {found.group(1)} tokens shared"
        )
    finally:
        for guest in guests:
            guest.end()


def known(guest, name):
    """Waits until a board's console shows a peer's name."""
    begun = time.monotonic()
    while True:
        guest.console.drain()
        guest.console.send("peers")
        said = guest.console.expect(";", within=20)
        if name in said:
            return
        want(
            time.monotonic() - begun < 30 * TIMEOUT_FACTOR,
            f"{guest.name} does not know {name} after 30 s: {said}",
        )
        time.sleep(2)


CHAPTERS = (usb, wifi, radio, cloned)
