"""The page in a real browser, by the keyboard alone: a prompt, the streaming answer, stop, figures, the swarm; and axe-core's
accessibility rules in light and dark mode, on a desktop and on a phone.

    page.py FIRST SECOND      the addresses of two nodes of one swarm
    page.py --missing         what is missing to run this, if anything
"""

import importlib.util
import json
import pathlib
import re
import sys
import time

try:
    import browser
except ImportError:
    browser = None

LOOKS = [
    (1280, 860, False, False),
    (1280, 860, False, True),
    (390, 844, True, False),
    (390, 844, True, True),
]
PROMPT = "What one board has worked through, every other takes over: say why. " * 12
FIRST_PAINT_MS = 1000


def axe():
    """axe-core's script, from its package."""
    found = importlib.util.find_spec("axe_playwright_python")
    return pathlib.Path(found.submodule_search_locations[0]) / "axe.min.js" if found else None


def missing():
    if browser is None or axe() is None:
        return "the clients: make clients installs them"
    return None if browser.program() else "a browser: chromium"


def text(page, where):
    return page.run(f"document.querySelector({json.dumps(where)})?.textContent ?? ''")


def answer(page):
    """The last answer's text, and its figures."""
    return page.run("""(() => {
        const last = [...document.querySelectorAll('.turn.answer')].pop();
        return last ? { text: last.firstChild.data, figures: last.querySelector('.figures')?.textContent ?? '' } : null;
    })()""")


def counts(words):
    """How many tokens came from where; what is 0 may be left out."""
    found = re.findall(r"([\d,]+) (from its slab|from peers|computed)", words)
    return {where: number for number, where in found if number != "0"}


def ask(page, prompt, longest, temperature=0):
    """Asks as a user without a mouse does."""
    page.run(
        f"$('max').value = {longest}; $('temperature').value = {temperature}; $('text').focus()"
    )
    page.type(prompt)
    page.enter()


def stop(page, how):
    """Stops an answer. A small model may finish first: then this asks for another one."""
    for attempt in range(10):
        ask(page, f"{how} {attempt}: the state of the union and", 3000, 1)
        begun = browser.until(
            "the answer begins",
            lambda: (last := answer(page)) and (last["text"] or last["figures"]) and last,
        )
        if not begun["figures"]:
            if how == "Escape":
                page.press("Escape", 27)
            else:
                page.run("$('stop').focus()")
                page.enter()
        figures = browser.until("the answer ends", lambda: answer(page)["figures"])
        if "Stopped after" in figures:
            return
    raise AssertionError(f"no answer could be stopped by {how}: {figures}")


def check_access(page, rules, when):
    """Checks the accessibility rules in every size and colour scheme."""
    for width, height, phone, dark in LOOKS:
        page.look(width, height, phone, dark)
        page.run("$('settings').open = true")
        page.run(rules)
        found = page.run(
            "axe.run(document, { resultTypes: ['violations'] }).then((found) => found.violations.map("
            + "(rule) => ({ rule: rule.id, nodes: rule.nodes.map((node) => node.html + ': ' + node.failureSummary) })))"
        )
        assert found == [], (
            f"{when}, {width} wide, {'dark' if dark else 'light'}: {json.dumps(found, indent=1)}"
        )
        over = page.run(
            "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        )
        assert over <= 0, f"{when}: {width} wide, the page is {over} pixels wider than the window"


def main(first, second):
    rules = axe().read_text()
    with browser.Browser() as page:
        page.look(*LOOKS[0])
        page.open(f"{first}/")
        paint = browser.until(
            "something is painted",
            lambda: page.run(
                "performance.getEntriesByType('paint').find((entry) => entry.name === 'first-contentful-paint')?.startTime"
            ),
        )
        assert paint <= FIRST_PAINT_MS, f"first paint after {paint:.0f} ms"
        browser.until("the node is known", lambda: "answers with" in text(page, "#who"))
        check_access(page, rules, "before a prompt")
        page.look(*LOOKS[0])

        # By the keyboard: the first Tab reaches the link to the prompt.
        page.run("document.activeElement.blur()")
        page.press("Tab", 9)
        assert page.run("document.activeElement.className") == "skip"
        page.enter()
        page.type(PROMPT)
        assert page.run("$('text').value") == PROMPT, "the link to the prompt leads elsewhere"
        page.run("$('max').value = 600")
        # The page itself records the answer's growth, because a small model's answer may end
        # between two polls.
        page.run("""(() => {
            window.lengths = new Set();
            const look = () => lengths.add([...document.querySelectorAll('.turn.answer')].pop()?.firstChild?.data?.length ?? 0);
            new MutationObserver(look).observe(document.body, { subtree: true, childList: true, characterData: true });
        })()""")
        page.enter()
        browser.until("the answer ends", lambda: (answer(page) or {"figures": ""})["figures"])
        lengths = page.run("[...lengths]")
        assert len(lengths) > 3, f"it did not stream: {lengths}"
        figures = answer(page)["figures"]
        assert re.search(
            r"\d+ prompt tokens: .*computed\. First token after .* s; \d+ tokens? in ", figures
        ), figures
        assert (
            "computed" in text(page, "#prompt-words")
            and page.run("$('prompt').childElementCount") > 0
        )
        browser.until("the hour shows it", lambda: "1 answer" in text(page, "#hour-words"))
        assert page.run("document.activeElement.id") == "text", (
            "the prompt field has lost the focus"
        )

        for how in ["Escape", "button"]:
            stop(page, how)
            assert page.run("!$('send').disabled && $('stop').disabled")
        check_access(page, rules, "after answers")
        page.look(*LOOKS[0])

        # The second node has never seen the prompt. The first node has, and its ring shows
        # how much of it.
        page.open(f"{second}/")
        browser.until(
            "the second knows the first",
            lambda: page.run(
                "swarm && swarm.peers.some((peer) => peer.current && peer.shares && peer.generation > 0)"
            ),
        )
        time.sleep(1)
        ask(page, PROMPT, 400)
        given = lambda: re.search(
            r"([\d,]+) from peers", (answer(page) or {"figures": ""})["figures"]
        )
        given = int(
            browser.until(
                "the second has answered",
                lambda: (answer(page) or {"figures": ""})["figures"] and given(),
            )[1].replace(",", "")
        )
        assert given >= 64, answer(page)
        panel, figures = text(page, "#prompt-words"), answer(page)["figures"]
        assert counts(panel) == counts(figures), (panel, figures)
        browser.until("the table says who gave it", lambda: "gave" in text(page, "#nodes"))
        ring = page.run(
            "Math.max(...[...document.querySelectorAll('.ring')].map((ring) => parseFloat(ring.getAttribute('stroke-dasharray'))))"
        )
        assert ring > 0 and page.run("document.querySelectorAll('#prompt .peers').length") > 0, ring
        check_access(page, rules, "with a peer")
        page.look(1200, 860, False, False)
        over = page.run("(at => at.scrollWidth - at.clientWidth)(document.querySelector('.scroll'))")
        assert over <= 0, f"the table of nodes is {over} pixels wider than its place"

        elsewhere = [
            address
            for address in page.addresses()
            if not address.startswith((first, second, "data:"))
        ]
        assert elsewhere == [], elsewhere
        assert page.complaints() == [], page.complaints()
    print(f"first paint {paint:.0f} ms; {given} tokens from the peer")


if __name__ == "__main__":
    if sys.argv[1:] == ["--missing"]:
        print(missing() or "")
    else:
        main(*sys.argv[1:])
