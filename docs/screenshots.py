"""Screenshots of a run's report.html for docs/, in the browser that the tests use (`make screenshots`).

python docs/screenshots.py RUN

Each picture carries the first screen of report.md as text: a test knows by it that it is of today's report.
"""

import importlib.util
import io
import sys
import tempfile
from pathlib import Path

from PIL import Image, PngImagePlugin

DOCS = Path(__file__).parent
TESTS = DOCS.parent / "tests" / "reports" / "test_report_in_browser.py"
WIDE, NARROW = 1280, 390  # pixels
WIDE_HEIGHT, NARROW_HEIGHT = 1000, 800
# file -> colour scheme, width of the window, and the section at its top, None for the top of the page
SHOTS = {
    "report-light.png": ("light", WIDE, None),
    "report-dark.png": ("dark", WIDE, "figures"),
    "report-narrow.png": ("dark", NARROW, None),
}
SCROLL = "scrollTo(0, arguments[0] ? document.getElementById(arguments[0]).offsetTop - 8 : 0)"
COLOURS = 192  # of the palette: half the size, and nothing to be seen of it


def first_screen(run: Path) -> str:
    """What report.md says above its tables."""
    return (run / "report.md").read_text().partition("\n## ")[0]


def main(run: Path) -> None:
    shown = PngImagePlugin.PngInfo()
    shown.add_itxt("Description", first_screen(run))
    spec = importlib.util.spec_from_file_location("browser_tests", TESTS)
    assert spec is not None and spec.loader is not None
    tests = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tests)
    if not (tests.CHROMEDRIVER and tests.CHROMIUM):
        sys.exit("screenshots: there is no chromium and chromedriver; make browser installs them")
    with tempfile.TemporaryDirectory() as profile, tests.browsing(profile) as browser:
        browser.open((run / "report.html").resolve())
        for name, (scheme, width, section) in SHOTS.items():
            browser.colours(scheme)
            browser.narrow(width, NARROW_HEIGHT if width == NARROW else WIDE_HEIGHT)
            browser.run(tests.UNFOLD)
            browser.run(SCROLL, section)
            picture = Image.open(io.BytesIO(browser.screenshot())).convert("RGB")
            picture.quantize(COLOURS, dither=Image.Dither.NONE).save(
                DOCS / name, optimize=True, pnginfo=shown
            )
            print(f"{DOCS / name}: {(DOCS / name).stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
