"""The page as a browser shows it."""

import html
import json
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
    "--virtual-time-budget=20000",
)
# A frame of its own document keeps the page's own policy, and lets the document around it measure.
# All frames stand in one document, since a browser takes seconds to start.
HARNESS = """<!doctype html><meta charset="utf-8">
{frames}
<script>
const wait = (time) => new Promise((done) => setTimeout(done, time));
const look = async (frame, probe) => {{
  const page = frame.contentWindow, inner = frame.contentDocument, width = frame.clientWidth;
  if (page.embedkit) await page.embedkit.drawn;
  await wait(300);
  const views = page.embedkit
    ? page.Bokeh.documents[0].roots().map((root) => page.Bokeh.index.get_by_id(root.id)) : [];
  const point = async (view, x, y, kinds = ["pointerenter", "pointermove"]) => {{
    const place = view.canvas_view.events_el, box = place.getBoundingClientRect();
    const at = {{
      clientX: box.x + view.frame.x_scale.compute(x),
      clientY: box.y + view.frame.y_scale.compute(y),
      bubbles: true, composed: true, pointerType: "mouse", isPrimary: true, view: page}};
    for (const kind of kinds) place.dispatchEvent(new page.PointerEvent(kind, at));
    await wait(300);
  }};
  const tooltips = () => {{
    const found = [];
    const walk = (node) => {{
      if (node.shadowRoot) walk(node.shadowRoot);
      if (node.classList?.contains("bk-Tooltip") && node.getBoundingClientRect().width > 0)
        found.push(node.shadowRoot.querySelector(".bk-tooltip-content"));
      for (const child of node.children ?? []) walk(child);
    }};
    walk(inner.body);
    return found;
  }};
  const measured = () => ({{
    scroll: inner.documentElement.scrollWidth,
    wide: [...inner.querySelectorAll("body *")].filter(
      (node) => !node.closest(".scroll") && node.getBoundingClientRect().right > width + 1,
    ).map((node) => node.className + ":" + node.tagName).slice(0, 5),
    cut: [...inner.querySelectorAll(".quantiles")].filter(
      (node) => node.scrollWidth > node.parentElement.clientWidth).length,
    requests: page.performance.getEntriesByType("resource").length,
    sections: inner.querySelectorAll("section").length,
    plots: views.map((view) => view.el.getBoundingClientRect().width / width),
  }});
  const found = measured();
  try {{
    return {{...found, ...await probe({{page, inner, views, point, tooltips, measured}})}};
  }} catch (error) {{
    return {{error: `${{error}} ${{error.stack}}`}};
  }}
}};
onload = async () => {{
  const found = {{}}, probes = {{{probes}}};
  for (const frame of document.querySelectorAll("iframe"))
    found[frame.name] = await look(frame, probes[frame.name] ?? (() => ({{}})));
  document.title = JSON.stringify(found);
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
        said = [line for line in found.stderr.splitlines() if "CONSOLE" in line]
        # Bokeh says how long it took.
        return found.stdout, [line for line in said if "document idle at" not in line]

    return run


def look(browse, frames, probes):
    """Looks at pages in frames, and runs a script beside each.

    Args:
        frames: The width and the page of each by its name.
        probes: Functions in JavaScript for some of them.

    Returns:
        What was found of each, and what the console says.
    """
    shown = "".join(
        f'<iframe name="{name}" style="border:0;display:block;width:{width}px;height:9000px" '
        f'srcdoc="{html.escape(page, quote=True)}"></iframe>'
        for name, (width, page) in frames.items()
    )
    scripts = ",".join(f"{json.dumps(name)}: {probe}" for name, probe in probes.items())
    dom, console = browse(
        HARNESS.format(frames=shown, probes=scripts), "--dump-dom", "--window-size=1400,1200"
    )
    title = re.search(r"<title>(.*?)</title>", dom)
    assert title, dom[:500]
    found = json.loads(html.unescape(title.group(1)))
    for name, one in found.items():
        assert "error" not in one, (name, one["error"])
    return found, console


@pytest.fixture(scope="module")
def pages(make_report, usual_blocks, hostile_blocks, hostile_dataset):
    return {
        "usual": render_html(make_report(usual_blocks)),
        "hostile": render_html(make_report(hostile_blocks, hostile_dataset)),
        "empty": render_html(make_report([])),
    }


POINT = """async ({views, point, tooltips}) => {
  await point(views[0], 9.5, 30);
  return {told: tooltips().map((one) => one.textContent)};
}"""


@pytest.fixture(scope="module")
def looked(browse, pages):
    frames = {
        "usual": (390, pages["usual"]),
        "hostile": (390, pages["hostile"]),
        "empty": (390, pages["empty"]),
        "wide": (1280, pages["usual"]),
    }
    return look(browse, frames, {"wide": POINT})


@pytest.mark.parametrize("name", ["usual", "hostile", "empty"])
def test_a_phone_shows_the_page_without_scrolling_sideways(looked, pages, name):
    found = looked[0][name]
    assert found["wide"] == []
    assert found["cut"] == 0
    assert found["scroll"] <= 390
    assert found["sections"] == pages[name].count("<section>") >= 7


def test_nothing_is_asked_for_and_the_console_stays_silent(looked):
    found, console = looked
    assert [one["requests"] for one in found.values()] == [0] * len(found)
    assert console == []


def test_charts_fill_a_wide_page_and_answer_who_points_at_them(looked):
    found = looked[0]["wide"]
    assert found["scroll"] <= 1280
    assert found["wide"] == []
    assert len(found["plots"]) == 2
    assert min(found["plots"]) > 0.6
    (told,) = found["told"]
    assert re.fullmatch(r"\s*\d+ to \d+ tokens: \d+ rows \([\d.]+ %\)\s*", told)


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
