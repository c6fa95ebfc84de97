"""The page as a browser shows it."""

import html
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from embedkit.reports.render import render_html

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
QUIET = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-sync",
    "--disable-background-networking",
    "--disable-component-update",
    "--no-first-run",
    "--hide-scrollbars",
    "--host-resolver-rules=MAP * ~NOTFOUND",
    "--enable-logging=stderr",
    "--virtual-time-budget=3000",
)
# A frame of its own document keeps the page's own policy, and lets the document around it measure.
HARNESS = """<!doctype html><meta charset="utf-8">
<iframe style="border:0;width:{width}px;height:3000px" srcdoc="{page}"></iframe>
<script>
onload = () => {{
  const frame = document.querySelector("iframe");
  const inner = frame.contentDocument, width = frame.clientWidth;
  const wide = [...inner.querySelectorAll("body *")].filter(
    (node) => !node.closest("svg, .scroll") && node.getBoundingClientRect().right > width + 1);
  document.title = JSON.stringify({{
    scroll: inner.documentElement.scrollWidth,
    wide: wide.map((node) => node.className + ":" + node.tagName).slice(0, 5),
    requests: frame.contentWindow.performance.getEntriesByType("resource").length,
    sections: inner.querySelectorAll("section").length,
    bars: inner.querySelectorAll("svg .main rect").length,
    cut: [...inner.querySelectorAll(".quantiles")].filter(
      (node) => node.scrollWidth > node.parentElement.clientWidth).length,
    flat: [...inner.querySelectorAll("svg")].filter(
      (node) => node.getBoundingClientRect().width < width / 2).length,
  }});
}};
</script>"""


@pytest.fixture(scope="module")
def browse(tmp_path_factory):
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        pytest.skip("no Chromium is installed to look at the page with (package chromium)")

    def run(page: str, *flags: str) -> tuple[str, list[str]]:
        folder = tmp_path_factory.mktemp("browser")
        path = folder / "page.html"
        path.write_text(page, encoding="utf-8")
        found = subprocess.run(
            [browser, *QUIET, f"--user-data-dir={folder / 'profile'}", *flags, path.as_uri()],
            capture_output=True,
            text=True,
            timeout=120,
            check=True,
        )
        return found.stdout, [line for line in found.stderr.splitlines() if "CONSOLE" in line]

    return run


@pytest.fixture(scope="module")
def pages(make_report, usual_blocks, hostile_blocks, hostile_dataset):
    return {
        "usual": render_html(make_report(usual_blocks)),
        "hostile": render_html(make_report(hostile_blocks, hostile_dataset)),
        "empty": render_html(make_report([])),
    }


def measure(browse, page, width):
    harness = HARNESS.format(width=width, page=html.escape(page, quote=True))
    dom, console = browse(harness, "--dump-dom", f"--window-size={width + 40},1200")
    title = re.search(r"<title>(.*?)</title>", dom)
    assert title, dom[:500]
    import json

    return json.loads(html.unescape(title.group(1))), console


@pytest.mark.parametrize("name", ["usual", "hostile", "empty"])
def test_a_phone_shows_the_page_without_scrolling_sideways(browse, pages, name):
    found, console = measure(browse, pages[name], 390)
    assert found["wide"] == []
    assert found["cut"] == 0
    assert found["scroll"] <= 390
    assert found["sections"] == pages[name].count("<section>") >= 7
    assert found["requests"] == 0
    assert console == []


def test_charts_fill_a_wide_page(browse, pages):
    found, console = measure(browse, pages["usual"], 1200)
    assert found["bars"] > 20
    assert found["flat"] == 0
    assert found["scroll"] <= 1200
    assert console == []


def test_the_policy_of_the_page_stops_what_escaping_would_miss(browse, pages):
    spoiled = pages["usual"].replace("<main>", "<main><script>document.title='run'</script>")
    dom, console = browse(spoiled, "--dump-dom")
    assert "<title>run</title>" not in dom
    assert console


@pytest.mark.parametrize("scheme", [0, 1])
def test_the_page_is_drawn_dark_and_light(browse, pages, tmp_path, scheme):
    picture = tmp_path / "page.png"
    browse(
        pages["usual"],
        f"--screenshot={picture}",
        "--window-size=900,1200",
        f"--blink-settings=preferredColorScheme={scheme}",
    )
    image = pytest.importorskip("PIL.Image").open(Path(picture)).convert("L")
    assert image.size == (900, 1200)
    corner = image.getpixel((3, 3))
    assert corner > 230 if scheme else corner < 40
    assert len(image.getcolors(256)) > 40
