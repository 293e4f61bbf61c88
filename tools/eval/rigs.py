"""Where experiments run: on nodes of this machine with an emulated radio, or on real boards."""

import contextlib
import os
import random
import tempfile
import threading

import boards as hosts
from air import Air

SWARM_KEY = "7f" * 32
# Runs a node at a higher priority than other processes, whose load would distort its pace.
FIRST = (
    "setsid",
    "nice",
    "-n",
    "-15",
    "sh",
    "-c",
    'echo -15 2>/dev/null >/proc/self/autogroup; exec "$@"',
    "board",
)
WARM = "The following is a text that nobody asks about. " * 24


class Rig:
    """Some boards that know each other. `paces` has, for each board, a file, or None for this machine's own pace."""

    def __init__(self, args, name, paces, rate, loss=0.0, seed=1):
        self.args, self.paces, self.rate, self.loss, self.seed = args, paces, rate, loss, seed
        self.mark, self.stack = name, contextlib.ExitStack()
        self.boards, self.start_s, self.air = [], [], None

    def __enter__(self):
        args = self.args
        if args.boards:
            self.boards = hosts.from_lines(args.boards[: len(self.paces)])
        else:
            self.emulate()
        self.start_s = [board.ready() for board in self.boards]
        for board in self.boards[1:]:
            hosts.wait_until_known(board, self.boards[0])
        return self

    def emulate(self):
        args, port = (
            self.args,
            random.Random(f"{os.getpid()} {self.mark}").randrange(20_000, 30_000),
        )
        is_root = os.geteuid() == 0 and not args.loopback
        if is_root:
            self.air = self.stack.enter_context(
                Air(
                    len(self.paces),
                    self.rate * 1e6,
                    args.round_trip_ms / 1e3,
                    self.loss,
                    args.crossings,
                    self.seed,
                    self.mark,
                )
            )
        for number, pace in enumerate(self.paces):
            state = self.stack.enter_context(tempfile.TemporaryDirectory())
            address = self.air.addresses[number] if is_root else "127.0.0.1"
            options = [
                "--raw",
                # A node takes the pace's time whatever it reads, and each would split the rows anew.
                "--halves",
                "off",
                "--slab",
                "64",
                "--context",
                str(args.context),
                "--interface",
                address,
                "--port",
                str(port),
                "--state",
                state,
            ]
            options += [] if is_root else ["--tcp-port", str(port + 1 + number)]
            options += ["--pace", pace] if pace else []
            within = self.air.within(number) if is_root else ()
            within = [*within, *(FIRST if is_root else ())]
            command = hosts.local(args.binary, args.model, options, within)
            self.boards.append(
                hosts.Board(f"{self.mark}{number}", command, {"POTLUCK_SWARM_KEY": SWARM_KEY})
            )

    def __exit__(self, *_):
        for board in self.boards:
            board.end()
        self.stack.close()

    @property
    def link(self):
        return "boards" if self.args.boards else "radio" if self.air else "loopback"

    def warm(self):
        """Lets the boards measure their own and each other's rates, as boards in use have done."""
        for giver in self.boards:
            text = f"{giver.name}. {WARM}"
            giver.ask(text)
            takers = [board for board in self.boards if board is not giver]
            for taker in takers[:2]:
                hosts.wait_until_known(taker, giver)
                taker.ask(text)

    def forget(self):
        """Empties every slab; measured rates are kept."""
        # In a swarm without a key each board empties only its own slab.
        for board in self.boards if self.args.boards else self.boards[:1]:
            board.forget()
        for one in self.boards:
            for other in self.boards:
                if one is not other:
                    hosts.wait_until_known(one, other)

    def counted(self, board):
        """The bytes transferred so far, for [`moved`]."""
        number = self.boards.index(board)
        status = board.status()
        told = self.air.tell() if self.air else None
        counts = told["stations"][number] if told else {}
        return {
            "planes": status["status"]["node_stats"]["bytes_fetched"],
            "late": status.get("pace", {}).get("late", 0),
            "jobs": status.get("pace", {}).get("jobs", 0),
            "tcp": counts.get("tcp_received"),
            "wire": counts.get("received_bytes"),
            "air_s": told["air_s"] if told else None,
        }

    def asked(self, board, text, max_tokens):
        """An answer with everything that it transferred: figures, tokens and counts."""
        before = self.counted(board)
        load = os.getloadavg()[0]
        done = board.ask(text, max_tokens)
        after = self.counted(board)
        moved = {
            name: None if after[name] is None else after[name] - before[name] for name in after
        }
        return {
            "figures": done["figures"],
            "answer": done["tokens"],
            "moved": moved,
            "load": load,
            "link": self.link,
        }


class Reference:
    """A node that shares nothing and reuses nothing: what every answer must equal."""

    def __init__(self, args):
        options = ["--raw", "--slab", "64", "--context", str(args.context), "--alone", "--no-reuse"]
        within = FIRST if os.geteuid() == 0 else ()
        self.board = hosts.Board(
            "the reference", hosts.local(args.binary, args.model, options, within)
        )
        self.board.ready()
        self.kept, self.lock = {}, threading.Lock()

    def holds(self, text, answer):
        """Whether `answer` equals that of computing alone."""
        with self.lock:
            known = self.kept.get(text, [])
            if len(known) < len(answer):
                known = self.kept[text] = self.board.ask(text, len(answer))["tokens"]
        return known[: len(answer)] == answer

    def end(self):
        self.board.end()


def after(seconds, what):
    """Does something a little later, while an answer is under way."""
    timer = threading.Timer(seconds, what)
    timer.start()
    return timer
