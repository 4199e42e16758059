"""Checks a report page in a real browser: headless Chromium, driven over the WebDriver protocol with the standard library alone.

    report.py REPORT.html OUTDIR          every check, and screenshots at two widths in light and dark
    report.py --big REPORT.html OUTDIR    that a tree of many agents can be used within two seconds

Ends with 1 and the name of the first check that failed. CHROMEDRIVER and CHROMIUM name other programs than those on the PATH.
"""
import argparse
import base64
import json
import os
import pathlib
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

ELEMENT = "element-6066-11e4-a52e-4f735466cecf"  # The key under which the protocol hands elements over (W3C WebDriver, section 12).
KEYS = {"Down": "\ue015", "Up": "\ue013", "Left": "\ue012", "Right": "\ue014", "Home": "\ue011", "End": "\ue010", "Enter": "\ue007", "Escape": "\ue00c"}
WIDTHS = (400, 1600)
USABLE_WITHIN_S = 2.0


class Failed(Exception):
    """A check that did not hold: its name and what was found instead."""


class Browser:
    """As much of a WebDriver client as these checks need."""

    def __init__(self):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        driver = os.environ.get("CHROMEDRIVER") or shutil.which("chromedriver")
        self.process = subprocess.Popen([driver, f"--port={port}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.base = f"http://127.0.0.1:{port}"
        self.session = None
        try:
            self.wait("chromedriver answers", lambda: self.call("GET", "/status")["ready"], (OSError, urllib.error.URLError))
            # No sandbox: as root Chromium starts in no other way. The page is our own.
            options = {"args": ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--window-size=1600,1000", "--hide-scrollbars"]}
            if binary := os.environ.get("CHROMIUM") or shutil.which("chromium"):
                options["binary"] = binary
            wanted = {"browserName": "chrome", "goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}}
            answer = self.call("POST", "/session", {"capabilities": {"alwaysMatch": wanted}})
            self.session = f"/session/{answer['sessionId']}"
            # Smooth scrolling would move what is about to be clicked.
            self.cdp("Emulation.setEmulatedMedia", features=[{"name": "prefers-reduced-motion", "value": "reduce"}])
        except BaseException:
            self.process.kill()
            raise

    def close(self):
        try:
            if self.session:
                self.call("DELETE", self.session)
        finally:
            self.process.terminate()
            self.process.wait(10)

    def call(self, method, path, body=None):
        data = json.dumps(body if body is not None else {}).encode() if method == "POST" else None
        request = urllib.request.Request(self.base + path, data, {"Content-Type": "application/json"}, method=method)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return json.load(answer)["value"]
        except urllib.error.HTTPError as error:
            value = json.load(error)["value"]
            raise Failed(f"WebDriver {path.rsplit('/', 1)[-1]}: {value['error']}: {value['message'].splitlines()[0]}") from None

    def wait(self, what, ready, ignored=(), seconds=20):
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            try:
                if value := ready():
                    return value
            except ignored:
                pass
            time.sleep(0.03)
        raise Failed(f"{what}: not within {seconds} s")

    def open(self, url):
        self.call("POST", f"{self.session}/url", {"url": url})

    def script(self, source, *args):
        return self.call("POST", f"{self.session}/execute/sync", {"script": source, "args": list(args)})

    def cdp(self, command, **params):
        return self.call("POST", f"{self.session}/goog/cdp/execute", {"cmd": command, "params": params})

    def find(self, css):
        return self.call("POST", f"{self.session}/element", {"using": "css selector", "value": css})[ELEMENT]

    def click(self, css):
        self.script("document.querySelector(arguments[0]).scrollIntoView({block: 'center', behavior: 'instant'})", css)
        self.call("POST", f"{self.session}/element/{self.find(css)}/click")

    def press(self, *keys):
        actions = [{"type": kind, "value": KEYS.get(key, key)} for key in keys for kind in ("keyDown", "keyUp")]
        self.call("POST", f"{self.session}/actions", {"actions": [{"type": "key", "id": "keyboard", "actions": actions}]})

    def click_at(self, css, x, y):
        """Clicks a point of an element, measured from its upper left corner, in view coordinates."""
        left, top = self.script("const e = document.querySelector(arguments[0]); e.scrollIntoView({block: 'center', behavior: 'instant'}); const b = e.getBoundingClientRect(); return [b.left, b.top]", css)
        moves = [{"type": "pointerMove", "duration": 0, "x": round(left + x), "y": round(top + y)}, {"type": "pointerDown", "button": 0}, {"type": "pointerUp", "button": 0}]
        self.call("POST", f"{self.session}/actions", {"actions": [{"type": "pointer", "id": "mouse", "parameters": {"pointerType": "mouse"}, "actions": moves}]})

    def width(self, width, height=1000):
        # A window cannot be made as narrow as a telephone; the view within can.
        self.cdp("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        self.wait(f"the view is {width} wide", lambda: self.script("return innerWidth") == width)
        time.sleep(0.2)  # Plots follow their box in the next frames.

    def screenshot(self, path, full=False):
        size = self.cdp("Page.getLayoutMetrics")["cssContentSize"] if full else None
        extra = {"captureBeyondViewport": True, "clip": {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}} if full else {}
        path.write_bytes(base64.b64decode(self.cdp("Page.captureScreenshot", format="png", **extra)["data"]))

    def log(self):
        return self.call("POST", f"{self.session}/se/log", {"type": "browser"})


def check(name, holds, found=""):
    if not holds:
        raise Failed(f"{name}: {found}" if found != "" else name)
    print(f"ok: {name}")


def selected(browser):
    return browser.script("return document.querySelector('[role=treeitem][aria-selected=true]')?.id")


def rows(browser):
    """The rows of the tree as ids, by their place."""
    return browser.script("return [...document.querySelectorAll('[role=treeitem]')].sort((a, b) => a.offsetTop - b.offsetTop).map(e => e.id)")


def expanded(browser, css="#node-0"):
    return browser.script("return document.querySelector(arguments[0])?.getAttribute('aria-expanded')", css)


def data_of(browser):
    """How much of each kind the page was given, so that the checks ask for no more than there is."""
    return browser.script("""const d = JSON.parse(document.getElementById('data').textContent);
        return {version: d.version, scores: d.arms.reduce((n, a) => n + new Set(a.runs.flatMap(r => r.scores.map(s => s.difficulty + '|' + s.windows))).size, 0),
                steps: d.arms.some(a => a.runs.some(r => r.steps && Object.values(r.steps).some(c => c.length))), arms: d.arms.length,
                trees: d.groups.length ? d.groups[0].trees.length : 0, nodes: d.groups.length ? d.groups[0].trees[0].parent.length : 0,
                timed: d.groups.length > 0 && d.groups[0].trees[0].end_us[0] - d.groups[0].trees[0].begin_us[0] > 0.6 * d.groups[0].trees[0].wall_us}""")


def opened(browser, url):
    browser.open(url)
    browser.wait("the page is drawn", lambda: browser.script("return document.documentElement.dataset.ready") == "yes")
    failed = browser.script("return [...document.querySelectorAll('.empty')].map(e => e.textContent).filter(t => t.includes('could not be drawn'))")
    check("every section is drawn", not failed, failed)


def check_sections(browser, data):
    found = browser.script("return document.querySelectorAll('#results tbody tr').length")
    check("the table of results has a row per arm and difficulty", found == data["scores"], f"{found} rows, {data['scores']} in the data")
    if found:
        browser.click("#results thead th.number button")
        check("a click on a heading sorts", browser.script("return document.querySelector('#results th[aria-sort]') !== null"))
    if data["steps"]:
        check("learning curves are drawn", browser.script("return document.querySelector('#curves .uplot canvas')?.width > 100"))
        first = "#curves .legend button"
        browser.click(first)
        check("an arm of the curves can be hidden", browser.script("return document.querySelector(arguments[0]).getAttribute('aria-pressed')", first) == "false")
        browser.click(first)
        for key in browser.script("return [...document.querySelector('#curves select').options].map(o => o.value)"):
            browser.script("const s = document.querySelector('#curves select'); s.value = arguments[0]; s.dispatchEvent(new Event('change'))", key)
        browser.script("const s = document.querySelector('#curves select'); s.selectedIndex = 0; s.dispatchEvent(new Event('change'))")


def check_tree(browser, data):
    check("the tree has rows", browser.script("return document.querySelectorAll('[role=tree] [role=treeitem]').length") > 0)
    check("there is a tile per tree", browser.script("return document.querySelectorAll('.tile').length") == data["trees"])
    check("tasks stay text, whatever they say", browser.script("return document.querySelectorAll('.task *, .turn pre *').length") == 0)
    check("just one row can be reached by Tab", browser.script("return document.querySelectorAll('[role=treeitem][tabindex=\"0\"]').length") == 1)
    if data["nodes"] > 1:
        before = expanded(browser)
        browser.click("#node-0 .expander")
        check("the mouse folds and unfolds", expanded(browser) != before)
        browser.click("#node-0 .expander")
        check("and back", expanded(browser) == before)
        browser.script("document.getElementById('node-0').focus()")
        browser.press("Home", "Left")
        check("Left folds", expanded(browser) == "false")
        check("a folded tree is one row", rows(browser) == ["node-0"], rows(browser))
        browser.press("Right")
        check("Right unfolds", expanded(browser) == "true")
        browser.press("Right")
        check("Right again goes to the first child", selected(browser) == rows(browser)[1], selected(browser))
        browser.press("Left", "Left")
        check("Left goes to the parent", selected(browser) == "node-0", selected(browser))
        if expanded(browser) == "false":
            browser.press("Right")
        browser.press("End")
        last = selected(browser)
        browser.press("Up", "Down")
        check("End, Up and Down keep to the rows", selected(browser) == last == rows(browser)[-1], (last, selected(browser)))
        browser.press("Home")
        check("the focus follows", browser.script("return document.activeElement.id") == "node-0")
    browser.click("#node-0 .task")
    turns = browser.script("return JSON.parse(document.getElementById('data').textContent).groups[0].trees[0].turns[0].length")
    shown = browser.script("return document.querySelectorAll('.detail .turn').length")
    check("the turns of the selected agent are shown", shown == min(200, turns), f"{shown} of {turns}")
    if data["nodes"] > 1:
        other = rows(browser)[1]
        browser.click(f"#{other} .task")
        texts = browser.script("return [...document.querySelectorAll('.detail .turn pre')].map(e => e.textContent)")
        # What is very long is shown up to a point at first.
        expected = browser.script("""return JSON.parse(document.getElementById('data').textContent).groups[0].trees[0].turns[arguments[0]]
            .slice(0, 200).map(turn => turn[1]).filter(Boolean).map(text => text.slice(0, 4000))""", int(other[5:]))
        check("and those of another, word for word", texts == expected, (texts[:2], expected[:2]))
    browser.press("Enter")
    check("Enter goes to the agent", browser.script("return document.activeElement.className") == "detail")
    browser.press("Escape")
    check("Escape goes back to the tree", browser.script("return document.activeElement.getAttribute('role')") == "treeitem")


def check_tools(browser, data):
    button = "[...document.querySelectorAll('.tools button')].find(b => b.textContent.startsWith(arguments[0]))"
    browser.script(f"{button}.click()", "Expand all")
    height = browser.script("return document.querySelector('[role=tree]').clientHeight")
    check("all agents have a place when all are open", height == 30 * data["nodes"], height)
    if browser.script(f"const b = {button}; return Boolean(b)", "Next failure"):
        browser.script(f"{button}.click()", "Next failure")
        check("the next failure is one", browser.script("return document.querySelector('[aria-selected=true]').classList.contains('trouble')"))
    browser.script(f"{button}.click()", "Critical path")
    check("the critical path is opened", browser.script("return document.querySelector('[aria-selected=true]').classList.contains('critical')"))
    browser.script("const s = document.querySelector('input[type=search]'); s.value = 'no agent says this'; s.dispatchEvent(new Event('input'))")
    check("a filter that nothing passes leaves no rows", rows(browser) == [], rows(browser))
    browser.script("const s = document.querySelector('input[type=search]'); s.value = ''; s.dispatchEvent(new Event('input'))")
    check("and the rows come back", len(rows(browser)) > 0)
    if not data["timed"]:
        return
    box = browser.script("const b = document.querySelector('.timeline canvas').getBoundingClientRect(); return [b.width, b.height]")
    if data["nodes"] > 1:
        browser.script("document.querySelector('.timeline canvas').focus()")
        browser.press("End")
        picked = selected(browser)
        check("the timeline selects by keyboard", picked and picked != "node-0", picked)
        browser.press("+", "-", "0")
    browser.click_at(".timeline canvas", box[0] / 2, 44 + 3)
    check("a click on the timeline selects the agent of the first lane", selected(browser) == "node-0", selected(browser))


def check_looks(browser, out, name):
    for theme in ("light", "dark"):
        if browser.script("return document.getElementById('theme').textContent") == theme.capitalize():
            browser.click("#theme")
        browser.script("scrollTo({top: 0, behavior: 'instant'})")
        ground = browser.script("return getComputedStyle(document.body).backgroundColor.match(/[0-9.]+/g).slice(0, 3).map(Number)")
        check(f"{theme} is {theme}", (sum(ground) > 600) == (theme == "light"), ground)
        for width in WIDTHS:
            browser.width(width)
            wide = browser.script("return document.documentElement.scrollWidth")
            check(f"nothing is wider than a page of {width} ({theme})", wide <= width, wide)
            browser.screenshot(out / f"{name}-{width}-{theme}.png", full=True)
    browser.width(1600)


def check_log(browser):
    entries = [entry["message"] for entry in browser.log() if entry["level"] in ("SEVERE", "WARNING")]
    check("the console is silent", not entries, entries[:3])
    requests = browser.script("return performance.getEntriesByType('resource').map(e => e.name).filter(n => !n.startsWith('data:'))")
    check("nothing was fetched", not requests, requests)


def small(browser, url, out):
    opened(browser, url)
    check("the page has a title", bool(browser.script("return document.title")))
    data = data_of(browser)
    check("the data are of the version that the page reads", data["version"] == 1, data["version"])
    check_sections(browser, data)
    if data["nodes"]:
        check_tree(browser, data)
        check_tools(browser, data)
    else:
        check("a report without trees says how to get some", "rao train" in browser.script("return document.querySelector('#trees .empty').textContent"))
    check_looks(browser, out, pathlib.Path(url).stem)
    check_log(browser)


def big(browser, url, out):
    times = []
    # The best of three: the first start of a browser and what else runs on the machine are not the page's doing.
    for _ in range(3):
        browser.open("about:blank")
        started = time.monotonic()
        browser.open(url)
        browser.wait("a tree is drawn", lambda: browser.script("return performance.getEntriesByName('first-tree').length && document.querySelectorAll('[role=treeitem]').length"))
        wall = time.monotonic() - started
        times.append((wall, browser.script("return performance.getEntriesByName('first-tree')[0].startTime") / 1000))
    data = data_of(browser)
    print(f"{data['nodes']} agents: first tree after " + ", ".join(f"{mark:.2f}" for _, mark in times) + " s by the page's clock, " + ", ".join(f"{wall:.2f}" for wall, _ in times) + " s from navigation to answer")
    check("the tree is there in time", max(min(times)) <= USABLE_WITHIN_S, f"{min(times)}; at most {USABLE_WITHIN_S} s")
    spent = browser.script("""const t = performance.now(); [...document.querySelectorAll('.tools button')].find(b => b.textContent === 'Expand all').click(); return performance.now() - t""")
    check("all agents open at once within half a second", spent < 500, f"{spent:.0f} ms")
    height = browser.script("return document.querySelector('[role=tree]').clientHeight")
    check("all agents have a place", height == 30 * data["nodes"], height)
    present = browser.script("return document.querySelectorAll('[role=treeitem]').length")
    check("only rows in sight exist", present < 120, present)
    frame = browser.call("POST", f"{browser.session}/execute/async", {"args": [], "script": """
        const done = arguments[0], view = document.querySelector('.view'), times = []; let last = performance.now();
        const step = () => { const now = performance.now(); times.push(now - last); last = now; view.scrollTop += 437; times.length < 90 ? requestAnimationFrame(step) : done(times.slice(5).sort((a, b) => a - b)); };
        requestAnimationFrame(step);"""})
    print(f"scrolling: median frame {frame[len(frame) // 2]:.1f} ms, worst {frame[-1]:.1f} ms")
    check("scrolling keeps up", frame[len(frame) // 2] < 50, f"median frame {frame[len(frame) // 2]:.1f} ms")
    browser.script("document.querySelector('[role=treeitem][tabindex=\"0\"]').focus({preventScroll: true})")
    browser.press("End")
    check("the last agent is reached by a key", selected(browser) == rows(browser)[-1] and selected(browser) != "node-0", selected(browser))
    browser.script("document.querySelector('#trees .timeline').scrollIntoView({behavior: 'instant'})")
    time.sleep(0.2)  # The timeline follows in the next frame.
    browser.screenshot(out / f"{pathlib.Path(url).stem}-big.png")
    check_log(browser)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("report", type=pathlib.Path)
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--big", action="store_true")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    browser = Browser()
    try:
        browser.width(1600)
        (big if args.big else small)(browser, args.report.resolve().as_uri(), args.out)
    except Failed as failed:
        print(f"failed: {failed}", file=sys.stderr)
        browser.screenshot(args.out / "failed.png")
        return 1
    finally:
        browser.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
