"""report.html in a real browser: nothing is asked of the network, tables sort and equal summary.csv.

Speaks the WebDriver protocol to chromedriver (Debian: chromium, chromium-driver); skipped without them.
"""

import base64
import json
import re
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import pytest

from robustbench_coded.cli.main import main

CHROMEDRIVER = shutil.which("chromedriver")
MEASURED = Path(__file__).parents[2] / "reports" / "digits"
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(
        not (CHROMEDRIVER and CHROMIUM), reason="needs chromium and chromedriver (make browser installs them)"
    ),
]
ARGUMENTS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--window-size=1400,1000",
    "--hide-scrollbars",
]  # fmt: skip
LOCAL = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class Browser:
    """One page in a headless browser."""

    def __init__(self, port, profile):
        self._root = f"http://127.0.0.1:{port}"
        options = {"binary": CHROMIUM, "args": [*ARGUMENTS, f"--user-data-dir={profile}"]}
        wanted = {
            "goog:chromeOptions": options,
            "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"},
        }
        answer = self._ask("/session", {"capabilities": {"alwaysMatch": wanted}})
        self._root += f"/session/{answer['sessionId']}"

    def _ask(self, path, data=None, method=None):
        body = None if data is None else json.dumps(data).encode()
        request = urllib.request.Request(
            self._root + path, body, {"Content-Type": "application/json"}, method=method
        )
        with LOCAL.open(request, timeout=120) as answer:
            return json.load(answer)["value"]

    def open(self, path):
        self._ask("/url", {"url": path.as_uri()})

    def run(self, script, *arguments):
        return self._ask("/execute/sync", {"script": script, "args": list(arguments)})

    def log(self, kind):
        return self._ask("/se/log", {"type": kind})

    def colours(self, scheme):
        """Shows pages as to somebody who prefers ``light`` or ``dark`` ones."""
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        order = {"cmd": "Emulation.setEmulatedMedia", "params": {"features": features}}
        self._ask("/goog/cdp/execute", order)

    def narrow(self, width, height=800):
        """Shows pages in a window of so many pixels across."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self._ask("/goog/cdp/execute", {"cmd": "Emulation.setDeviceMetricsOverride", "params": size})

    def screenshot(self):
        """What the window shows, as a PNG."""
        return base64.b64decode(self._ask("/screenshot"))

    def printed(self):
        """The page on paper, as a PDF."""
        order = {"cmd": "Page.printToPDF", "params": {"preferCSSPageSize": True}}
        return base64.b64decode(self._ask("/goog/cdp/execute", order)["data"])

    def close(self):
        self._ask("", method="DELETE")


def answers(address):
    try:
        LOCAL.open(address, timeout=120).close()
    except (urllib.error.URLError, ConnectionError):
        return False
    return True


def in_time(happens):
    """Whether something happens within two minutes, which no machine is too busy for."""
    until = time.monotonic() + 120
    while not happens():
        if time.monotonic() > until:
            return False
        time.sleep(0.05)
    return True


@contextmanager
def browsing(profile):
    """A browser with a folder for its profile; docs/screenshots.py uses it, too."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    driver = subprocess.Popen(
        [CHROMEDRIVER, f"--port={port}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        assert in_time(lambda: answers(f"http://127.0.0.1:{port}/status"))
        opened = Browser(port, profile)
        yield opened
        opened.close()
    finally:
        driver.terminate()
        driver.wait(timeout=120)


@pytest.fixture(scope="module", params=["hostile names", "measured"])
def opened_run(request, hostile_run):
    """The run whose report is open."""
    return hostile_run if request.param == "hostile names" else MEASURED


@pytest.fixture(scope="module")
def browser(opened_run, tmp_path_factory):
    with browsing(tmp_path_factory.mktemp("profile")) as opened:
        opened.open(opened_run / "report.html")
        assert opened.run(UNFOLD) > 0  # what is for those who check is folded at first
        yield opened


UNFOLD = (
    "const all = [...document.querySelectorAll('details')]; for (const one of all) one.open = true;"
    "return all.length"
)
TEXTS = "return [...document.querySelectorAll(arguments[0])].map((e) => e.textContent.trim())"


def test_there_is_no_error_and_no_request_beyond_the_file(browser, opened_run):
    assert browser.log("browser") == []
    messages = [json.loads(entry["message"])["message"] for entry in browser.log("performance")]
    asked = [m["params"] for m in messages if m["method"] == "Network.requestWillBeSent"]
    page = (opened_run / "report.html").as_uri()
    urls = {request["request"]["url"] for request in asked if request["documentURL"] == page}
    assert page in urls
    assert all(url == page or url.startswith("data:") for url in urls)


def test_every_image_is_loaded(browser):
    sizes = browser.run("return [...document.images].map((image) => [image.complete, image.naturalWidth])")
    assert len(sizes) >= 1
    assert all(complete and width > 0 for complete, width in sizes)


def test_a_click_on_a_title_sorts_and_another_one_turns_it_round(browser):
    click = "document.querySelectorAll('.pivot thead button')[arguments[0]].click()"
    column = (
        "return [...document.querySelector('.pivot').tBodies[0].rows]"
        ".map((row) => row.cells[arguments[0]].dataset.value)"
    )
    index = browser.run(TEXTS, ".pivot thead th").index("Worst case")  # of the first table
    browser.run(click, index)
    rising = [float(value) for value in browser.run(column, index) if value]
    assert rising == sorted(rising)
    browser.run(click, index)
    falling = [float(value) for value in browser.run(column, index) if value]
    assert falling == sorted(falling, reverse=True)


def test_both_colour_schemes_keep_text_apart_from_its_background(browser):
    shown = (
        "const light = (c) => c.match(/[0-9]+/g).slice(0, 3).reduce((sum, part) => sum + Number(part), 0);"
        "const style = getComputedStyle(document.body);"
        "return [style.color, style.backgroundColor].map(light)"
    )
    browser.colours("dark")
    ink, back = browser.run(shown)
    assert ink > 600 > 100 > back
    browser.colours("light")
    ink, back = browser.run(shown)
    assert ink < 100 < 700 < back


@pytest.mark.parametrize(("name", "most"), [("digits", 6), ("cifar10-recipes", 7)])
def test_a_report_prints_whole_but_for_the_table_of_all_rows(name, most, tmp_path):
    copy = tmp_path / name
    shutil.copytree(MEASURED.parent / name, copy)
    assert main(["report", str(copy), "--quiet"]) == 0
    with browsing(tmp_path / "profile") as opened:
        opened.open(copy / "report.html")
        assert opened.run("return document.querySelectorAll('details').length") == 1
        pages = [len(re.findall(rb"/Type\s*/Page\b", opened.printed()))]
        opened.run("document.querySelector('details').open = true")
        pages.append(len(re.findall(rb"/Type\s*/Page\b", opened.printed())))
    assert 2 <= pages[0] <= most < pages[1]


PAGES = ("digits/report.html", "digits-gan/report.html", "board/index.html")


def test_every_kind_of_page_fits_a_page_and_a_telephone(tmp_path):
    # A table with many columns scrolls within itself; the page never does.
    scrolled = (
        "return [document.documentElement].filter((e) => e.scrollWidth > e.clientWidth + 1)"
        ".map((e) => e.textContent.slice(0, 80))"
    )
    stuck = (
        "return [...document.querySelectorAll('body *')]"
        ".filter((e) => ['sticky', 'fixed'].includes(getComputedStyle(e).position)).length"
    )
    unnamed = (
        "return [...document.querySelectorAll('tbody td:not(.empty):not(.plot)')]"
        ".filter((cell) => cell.offsetParent"
        " && !getComputedStyle(cell, '::before').content.replaceAll('\"', '')).length"
    )
    # Names of attacks may be broken, words of a heading may not. A broken word has several boxes.
    torn = (
        "const found = [], range = document.createRange();"
        "for (const head of document.querySelectorAll('thead th')) {"
        "  const texts = document.createTreeWalker(head, NodeFilter.SHOW_TEXT);"
        "  while (texts.nextNode()) for (const word of texts.currentNode.data.matchAll(/[A-Z][a-z]+/g)) {"
        "    range.setStart(texts.currentNode, word.index);"
        "    range.setEnd(texts.currentNode, word.index + word[0].length);"
        "    if (new Set([...range.getClientRects()].map((box) => box.top)).size > 1) found.push(word[0]);"
        "  }"
        "} return found"
    )
    with browsing(tmp_path / "profile") as opened:
        for page in PAGES:
            for width in (1280, 390):
                opened.narrow(width)
                opened.open(MEASURED.parent / page)
                opened.run(UNFOLD)
                assert opened.run(scrolled) == [], (page, width)
                assert opened.run(stuck) == 0, (page, width)
                assert opened.run(torn) == [], (page, width)
            assert opened.run(unnamed) == 0, page


def test_a_link_to_a_folded_section_unfolds_it(browser, opened_run):
    shown = "return document.getElementById('cost').closest('details').open"
    browser.run("for (const one of document.querySelectorAll('details')) one.open = false")
    assert browser.run(shown) is False
    browser.run("location.hash = 'cost'")
    assert in_time(lambda: browser.run(shown) is True)
    browser.run(UNFOLD)


@pytest.fixture(scope="module")
def board_browser(tmp_path_factory):
    """The committed board, in a window as narrow as a telephone's."""
    with browsing(tmp_path_factory.mktemp("profile")) as opened:
        opened.narrow(390)
        opened.open(MEASURED.parent / "board" / "index.html")
        yield opened


def test_the_board_fits_a_telephone_and_filters_and_sorts(board_browser):
    assert board_browser.log("browser") == []
    assert board_browser.run("return document.documentElement.scrollWidth <= 390")
    visible = (
        "return [...document.querySelectorAll('#rows tbody tr')].filter((row) => row.offsetParent)"
        ".map((row) => row.dataset.kind)"
    )
    every = board_browser.run(visible)
    board_browser.run(
        "const s = document.querySelector('select[data-filter=kind]'); s.value = 'deterministic';"
        "s.dispatchEvent(new Event('change', {bubbles: true}))"
    )
    assert board_browser.run(visible) == [kind for kind in every if kind == "deterministic"] != []
    index = board_browser.run(TEXTS, "#rows thead th").index("All attacks")
    board_browser.run("document.querySelectorAll('#rows thead button')[arguments[0]].click()", index)
    values = board_browser.run(
        "return [...document.querySelectorAll('#rows tbody tr')]"
        ".map((row) => row.cells[arguments[0]].dataset.value)",
        index,
    )
    shown = [float(value) for value in values if value]
    assert len(shown) > 40 and shown == sorted(shown)
