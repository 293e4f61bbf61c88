"""A headless Chromium driven over the DevTools protocol: pages, keys and rendering. Needs PyPI's websocket-client."""

import json
import shutil
import subprocess
import tempfile
import time
import urllib.request

import websocket

NAMES = ["chromium", "chromium-browser", "google-chrome"]
TIMEOUT_S = 60


def program():
    """The path of an installed browser, if there is one."""
    return next((found for name in NAMES if (found := shutil.which(name))), None)


class Browser:
    """A browser window with its own profile, which is deleted when it closes."""

    def __init__(self):
        self.profile = tempfile.TemporaryDirectory(
            prefix="potluck-page-", ignore_cleanup_errors=True
        )
        # No sandbox: tests run as root in containers, and only this machine's own page is opened.
        flags = [
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-dev-shm-usage",
            "--remote-debugging-port=0",
            f"--user-data-dir={self.profile.name}",
        ]
        self.process = subprocess.Popen(
            [program(), *flags, "about:blank"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        port = until("the browser listens", self.port)
        pages = lambda: [
            page
            for page in json.load(urllib.request.urlopen(f"http://127.0.0.1:{port}/json"))
            if page["type"] == "page"
        ]
        self.socket = websocket.create_connection(
            until("there is a page", pages)[0]["webSocketDebuggerUrl"],
            suppress_origin=True,
            timeout=TIMEOUT_S,
        )
        self.count, self.events = 0, []
        for domain in ["Page", "Runtime", "Log", "Network"]:
            self.call(f"{domain}.enable")

    def port(self):
        try:
            with open(f"{self.profile.name}/DevToolsActivePort") as file:
                return file.readline().strip()
        except FileNotFoundError:
            return None

    def call(self, method, **params):
        """Calls one method, and keeps the events that arrive meanwhile."""
        self.count += 1
        self.socket.send(json.dumps({"id": self.count, "method": method, "params": params}))
        while True:
            message = json.loads(self.socket.recv())
            if message.get("id") == self.count:
                if "error" in message:
                    raise AssertionError(f"{method}: {message['error']}")
                return message["result"]
            self.events.append(message)

    def run(self, script):
        """The result of a script, with promises awaited."""
        result = self.call(
            "Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True
        )
        if "exceptionDetails" in result:
            raise AssertionError(f"{script[:200]}: {result['exceptionDetails']}")
        return result["result"].get("value")

    def look(self, width, height, phone, dark):
        """Sets the window's size and the kind of device."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=2 if phone else 1,
            mobile=phone,
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])

    def open(self, url):
        self.call("Page.navigate", url=url)
        until(
            "the page has loaded",
            lambda: self.run(
                "document.readyState === 'complete' && location.href !== 'about:blank'"
            ),
        )

    def press(self, key, code=0, text=None):
        """Presses one key, given by its name, its code and the text that it types."""
        for kind in ["keyDown", "keyUp"]:
            typed = {"text": text} if text and kind == "keyDown" else {}
            self.call(
                "Input.dispatchKeyEvent",
                type=kind,
                key=key,
                code=key,
                windowsVirtualKeyCode=code,
                **typed,
            )

    def enter(self):
        self.press("Enter", 13, "\r")

    def type(self, text):
        self.call("Input.insertText", text=text)

    def addresses(self):
        """Every address requested so far."""
        return [
            event["params"]["request"]["url"]
            for event in self.events
            if event["method"] == "Network.requestWillBeSent"
        ]

    def complaints(self):
        """The page's errors so far, as the browser reports them."""
        wrong = [
            event["params"] for event in self.events if event["method"] == "Runtime.exceptionThrown"
        ]
        logged = [
            event["params"]["entry"] for event in self.events if event["method"] == "Log.entryAdded"
        ]
        return wrong + [entry for entry in logged if entry["level"] in ("error", "warning")]

    def close(self):
        self.socket.close()
        self.process.terminate()
        self.process.wait(timeout=TIMEOUT_S)
        self.profile.cleanup()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def until(what, look, timeout_s=TIMEOUT_S):
    """Waits until `look` returns a true value, and returns it."""
    end = time.monotonic() + timeout_s
    while not (seen := look()):
        if time.monotonic() > end:
            raise AssertionError(f"{what}: not within {timeout_s} s")
        time.sleep(0.02)
    return seen
