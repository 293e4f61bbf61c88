#!/usr/bin/env python3
"""Real nodes on many kinds of LAN, in network namespaces that this creates and removes. Needs Python's standard library, `ip` and `bridge`.

  tests/network/run.py [--binary FILE] [--model FILE] [--only CHAPTER[,CHAPTER]]

In each chapter, nodes must share in both directions within two announcement intervals (20 s) of the change. Where namespaces are not
permitted, chapters are skipped by name.
"""

import argparse
import os
import shutil
import signal
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from lab import Failed, Lab, prompt, sh, share_both_ways, until, why_not  # noqa: E402

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

# Two announcement intervals, at their default.
BAR_S = 20


def pair(lab, *addresses, switch=None):
    """Two hosts on one switch."""
    switch = switch or lab.switch("sw")
    hosts = [lab.space("h1"), lab.space("h2")]
    for host, own in zip(hosts, addresses):
        lab.plug(host, "eth0", switch, *own)
    return hosts, switch


def default_routes(hosts):
    """Adds default routes as a DHCP server would, so that a chapter finds only the fault that it tests."""
    for host in hosts:
        sh("ip", "-n", host, "route", "add", "default", "dev", "eth0")


def no_default_route(lab):
    """Two machines on one cable, with no route but the cable's."""
    hosts, _ = pair(lab, ["10.77.1.1/24"], ["10.77.1.2/24"])
    one, other = lab.node(hosts[0], 1), lab.node(hosts[1], 2)
    return share_both_ways(one, other, 1, BAR_S)


def tunnel_is_default(lab):
    """One machine's default route is a tunnel without a peer."""
    hosts, _ = pair(lab, ["10.77.1.1/24"], ["10.77.1.2/24"])
    sh("ip", "-n", hosts[0], "tuntap", "add", "tun0", "mode", "tun")
    sh("ip", "-n", hosts[0], "addr", "add", "10.8.0.2/24", "dev", "tun0")
    sh("ip", "-n", hosts[0], "link", "set", "tun0", "up")
    sh("ip", "-n", hosts[0], "route", "add", "default", "dev", "tun0")
    one, other = lab.node(hosts[0], 1), lab.node(hosts[1], 2)
    took = share_both_ways(one, other, 2, BAR_S)
    verdicts = {
        interface["name"]: interface["verdict"] for interface in one.command("status")["interfaces"]
    }
    if verdicts != {"eth0": "used", "tun0": "tunnel", "lo": "loopback"}:
        raise Failed(f"status says {verdicts}")
    return took


def two_interfaces(lab):
    """One machine on two LANs shares with both."""
    hosts, _ = pair(lab, ["10.77.1.1/24"], ["10.77.1.2/24"])
    lab.plug(hosts[0], "eth1", lab.switch("sx"), "10.77.2.1/24")
    third = lab.space("h3")
    lab.plug(third, "eth0", lab.spaces[3], "10.77.2.3/24")
    nodes = [lab.node(host, number) for number, host in enumerate((*hosts, third), 1)]
    took = share_both_ways(nodes[0], nodes[1], 3, BAR_S)
    return max(took, share_both_ways(nodes[0], nodes[2], 4, BAR_S))


def ipv6_only(lab):
    """A LAN without any IPv4 address."""
    hosts, _ = pair(lab, [], [])
    one, other = lab.node(hosts[0], 1), lab.node(hosts[1], 2)
    return share_both_ways(one, other, 5, BAR_S)


def ipv6_beside_ipv4(lab):
    """Two machines have both, and one has only IPv6: no peer is counted twice, and IPv4 is preferred."""
    hosts, switch = pair(lab, ["10.77.1.1/24"], [])
    third = lab.space("h3")
    lab.plug(third, "eth0", switch, "10.77.1.3/24")
    one, other, both = (lab.node(host, number) for number, host in enumerate((*hosts, third), 1))
    took = share_both_ways(one, other, 6, BAR_S)
    until("all know all", BAR_S, lambda: one.knows(both) and both.knows(one) and both.knows(other))
    time.sleep(BAR_S)
    peers = one.status()["peers"]
    addresses = {peer["node"]: peer["addr"] for peer in peers}
    if (
        len(peers) != 2
        or not addresses[both.number].startswith("10.77.1.3:")
        or not addresses[other.number].startswith("[fe80:")
    ):
        raise Failed(f"peers are {addresses}")
    return took


def client_isolation(lab):
    """Multicast is dropped, and one of two nodes is told of the other."""
    hosts, _ = pair(lab, ["10.77.1.1/24"], ["10.77.1.2/24"])
    default_routes(hosts)
    for host in hosts:
        sh(
            "ip",
            "netns",
            "exec",
            host,
            "iptables",
            "-A",
            "INPUT",
            "-d",
            "224.0.0.0/4",
            "-j",
            "DROP",
        )
    other = lab.node(hosts[1], 2)
    one = lab.node(hosts[0], 1, "--peer", "10.77.1.2:7654")
    took = share_both_ways(one, other, 7, BAR_S)
    line = "multicast does not come through"
    until(
        "both are told",
        60,
        lambda: all(any(line in note for note in node.notes) for node in (one, other)),
    )
    faults = other.command("net")["faults"]
    if not any("multicast" in fault for fault in faults):
        raise Failed(f"net says {faults}")
    return took


def membership_lost(lab):
    """A switch that snoops multicast memberships has forgotten one."""
    options = (
        "mcast_snooping",
        "1",
        "mcast_querier",
        "1",
        "mcast_query_response_interval",
        "100",
        "mcast_startup_query_count",
        "1",
        "mcast_query_interval",
        "100000",
        "mcast_membership_interval",
        "100000",
    )
    hosts, switch = pair(lab, ["10.77.1.1/24"], ["10.77.1.2/24"], switch=lab.switch("sw", *options))
    default_routes(hosts)
    # From then on the switch acts as querier, and forwards to members only.
    time.sleep(3)
    one, other = lab.node(hosts[0], 1), lab.node(hosts[1], 2)
    share_both_ways(one, other, 8, BAR_S)
    entry = ("dev", "br0", "port", "h1eth0", "grp", "239.255.80.76")
    sh("bridge", "-n", switch, "mdb", "del", *entry)
    if "h1eth0 grp 239.255.80.76" in sh("bridge", "-n", switch, "mdb", "show"):
        raise Failed("the switch still has the membership")
    other.ask(prompt(99))
    took = until("the other is heard again", BAR_S, lambda: one.knows(other))
    share_both_ways(one, other, 9, BAR_S)
    return took


def cable(lab):
    """A cable is pulled until the peers have forgotten each other, and plugged in again."""
    hosts, switch = pair(lab, ["10.77.1.1/24"], ["10.77.1.2/24"])
    one, other = lab.node(hosts[0], 1), lab.node(hosts[1], 2)
    share_both_ways(one, other, 10, BAR_S)
    sh("ip", "-n", switch, "link", "set", "h1eth0", "down")
    until("the peer is forgotten", 60, lambda: not other.status()["peers"])
    verdicts = {
        interface["name"]: interface["verdict"] for interface in one.command("status")["interfaces"]
    }
    if verdicts["eth0"] != "no_carrier":
        raise Failed(f"status says {verdicts}")
    sh("ip", "-n", switch, "link", "set", "h1eth0", "up")
    return share_both_ways(one, other, 11, BAR_S)


def late_network(lab):
    """A machine gets its interface and address after its node has started."""
    switch = lab.switch("sw")
    hosts = [lab.space("h1"), lab.space("h2")]
    one = lab.node(hosts[0], 1)
    lab.plug(hosts[1], "eth0", switch, "10.77.1.2/24")
    other = lab.node(hosts[1], 2)
    lab.plug(hosts[0], "eth0", switch, "10.77.1.1/24")
    return share_both_ways(one, other, 12, BAR_S)


CHAPTERS = (
    no_default_route,
    tunnel_is_default,
    two_interfaces,
    ipv6_only,
    ipv6_beside_ipv4,
    client_isolation,
    membership_lost,
    cable,
    late_network,
)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    target = os.environ.get("CARGO_TARGET_DIR") or os.path.join(ROOT, "target")
    parser.add_argument("--binary", default=os.path.join(target, "debug/potluck"))
    parser.add_argument(
        "--model", default=os.path.join(ROOT, "tools/demo-model/model/potluck-demo.gguf")
    )
    parser.add_argument("--only", default="")
    options = parser.parse_args()
    chosen = [
        chapter
        for chapter in CHAPTERS
        if not options.only or chapter.__name__ in options.only.split(",")
    ]
    # An early end leaves nothing behind either.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    reason, failed = why_not(), 0
    for chapter in chosen:
        lacks = reason
        if chapter is client_isolation and not shutil.which("iptables"):
            lacks = lacks or "iptables is not installed"
        if chapter is tunnel_is_default and not os.path.exists("/dev/net/tun"):
            lacks = lacks or "there is no /dev/net/tun"
        if lacks:
            print(f"skipped: {chapter.__name__} ({lacks})", flush=True)
            continue
        try:
            with Lab(options.binary, options.model, f"network {os.getpid()}") as lab:
                print(f"ok: {chapter.__name__}, {chapter(lab):.1f} s", flush=True)
        except Failed as failure:
            failed += 1
            print(f"FAILED: {chapter.__name__}: {failure}", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
