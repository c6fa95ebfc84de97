"""The page as a browser shows it."""

import html
import json
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from map_tables import map_table, named_clusters

from embedkit.reports.render import render_html
from embedkit.reports.word_picture import words_page

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
  const point = async (view, x, y, kinds = ["pointerenter", "pointermove"], time = 300) => {{
    const place = view.canvas_view.events_el, box = place.getBoundingClientRect();
    const at = {{
      clientX: box.x + view.frame.x_scale.compute(x),
      clientY: box.y + view.frame.y_scale.compute(y),
      bubbles: true, composed: true, pointerType: "mouse", pointerId: 1, isPrimary: true,
      view: page}};
    for (const kind of kinds) {{
      const buttons = kind === "pointerdown" ? 1 : 0;
      place.dispatchEvent(new page.PointerEvent(kind, {{...at, buttons}}));
    }}
    await wait(time);
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


HOSTILE = (
    "</script><script>document.title='run'</script>",
    "<img src=x onerror=document.title='run'>",
    "a\x00b\u2028c",
    "\u202eright to left\u2066 שלום",
    "@{id} $index {{ 7 * 7 }} <b>bold</b> &amp;",
    "<!-- <script>",
)


@pytest.fixture(scope="module")
def pages(make_report, usual_blocks, hostile_blocks, hostile_dataset):
    report = make_report(usual_blocks)
    report["clusters"] = {"measured": False, "why": "", "clusters": named_clusters("a", "b", "c")}
    drawn = {"measured": True, "method": "pca", "rows": 300, "start": None, "explained": (0.5, 0.3)}
    report |= {"map": {**drawn, "file": "report/map.parquet"}}
    report["sections"] = [*report["sections"], "map"]
    placed = map_table(300, metadata={"lang": ["en", "de", None] * 100, "year": range(300)})
    hostile = dict(report)
    hostile["clusters"] = {**report["clusters"], "clusters": named_clusters(*HOSTILE)}
    harm = [HOSTILE[place % len(HOSTILE)] for place in range(60)]
    hostile_map = map_table(
        60, len(HOSTILE), harm, [f"{n}{one}" for n, one in enumerate(harm)], harm,
        {f"{one}{n}": harm for n, one in enumerate(HOSTILE)},
    )  # fmt: skip
    return {
        "map": render_html(report, placed=placed),
        "hostile map": render_html(hostile, placed=hostile_map),
        "hostile words": words_page(
            "model", [*HOSTILE, "$$x^2$$"], np.eye(7)[:, :2], (0.6, 0.3), np.eye(7), 4
        ),
        "usual": render_html(make_report(usual_blocks)),
        "hostile": render_html(make_report(hostile_blocks, hostile_dataset)),
        "empty": render_html(make_report([])),
    }


POINT = """async ({page, inner, views, point, tooltips}) => {
  await point(views[0], 9.5, 30);
  const told = tooltips().map((one) => one.innerText);
  // A page is printed in its light colours as soon as its event is over.
  const red = () => {
    let found = 0;
    const walk = (node) => {
      if (node instanceof page.HTMLCanvasElement && node.width > 0) {
        const copy = new OffscreenCanvas(node.width, node.height);
        const context = copy.getContext("2d", {willReadFrequently: true});
        context.drawImage(node, 0, 0);
        const {data} = context.getImageData(0, 0, node.width, node.height);
        for (let at = 0; at < data.length; at += 4)
          found += data[at] > 200 && data[at + 1] < 60 && data[at + 3] > 200;
      }
      for (const child of [...node.children, ...(node.shadowRoot?.children ?? [])]) walk(child);
    };
    walk(inner.body);
    return found;
  };
  const before = red();
  inner.documentElement.style.setProperty("--ink", "#ff0000");
  page.dispatchEvent(new page.Event("beforeprint"));
  const printed = inner.documentElement.className;
  return {told, red: [before, red()], printed};
}"""


# What the probes of a map share: what stands there, and ways to use it.
MAP = """
  const part = (name) => inner.getElementById(`map-${name}`);
  const source = page.Bokeh.documents[0].get_model_by_name("map-rows"), view = views.at(-1);
  const [x, y] = ["x", "y"].map((name) => source.get_array(name));
  const said = () => part("said").textContent;
  const listed = () => [...part("rows").tBodies[0].rows].map(
    (row) => [...row.cells].map((cell) => cell.textContent));
  const find = async (word) => {
    part("find").value = word;
    part("find").dispatchEvent(new page.Event("input"));
    await wait(400);
  };
  const colourBy = (name) => {
    const place = [...part("colour").options].findIndex((one) => one.textContent === name);
    part("colour").selectedIndex = place;
    part("colour").dispatchEvent(new page.Event("change"));
  };
  const legend = () => [...part("legend").querySelectorAll("button")].map((one) => one.textContent);
"""
USE_MAP = f"""async ({{page, inner, views, point, tooltips, measured}}) => {{ {MAP}
  const found = {{}};
  await point(view, x[250], y[250]);
  found.told = tooltips().map((one) => one.innerText);
  found.colourings = [...part("colour").options].map((one) => one.textContent);
  found.clusters = legend();
  await find("TEXT OF 12");
  found.search = [said(), listed()];
  await find("row-299");
  found.id = [said(), listed()];
  await find("nowhere");
  found.nowhere = [said(), part("rows").hidden];
  colourBy("lang");
  found.languages = legend();
  part("legend").querySelectorAll("button")[1].click();
  found.german = [said(), listed().length, listed().every((row) => row[1] === "de")];
  colourBy("year");
  found.years = legend();
  // Taps and lines around dots come from a pointer.
  const path = async (places) => {{
    const [first, last] = [places[0], places.at(-1)];
    await point(view, ...first, ["pointermove", "pointerdown"], 20);
    for (const one of places.slice(1)) await point(view, ...one, ["pointermove"], 20);
    await point(view, ...last, ["pointerup"]);
  }};
  await path([[x[250], y[250]]]);
  found.tapped = [said(), listed()];
  const [[left, right], [low, high]] = [view.model.x_range, view.model.y_range].map(
    ({{start, end}}) => [0.99 * start + 0.01 * end, 0.01 * start + 0.99 * end]);
  await path([[left, low], [right, low], [right, high], [left, high], [left, low]]);
  found.all = said();
  return {{...found, ...measured()}};
}}"""
USE_HOSTILE_MAP = f"""async ({{page, inner, views, point, tooltips, measured}}) => {{ {MAP}
  await point(view, x[0], y[0]);
  const told = tooltips().map((one) => [one.innerText, one.querySelectorAll("img, b, a").length]);
  await point(view, x[1], y[1]);
  const image = tooltips().map((one) => [one.innerText, one.querySelectorAll("img, b, a").length]);
  await find("bold");
  colourBy([...part("colour").options].at(-2).textContent);
  return {{
    ...measured(), told, image, said: said(), listed: listed(), legend: legend(),
    title: inner.title,
    strange: inner.querySelectorAll("body img, body script script, body iframe, body b").length,
  }};
}}"""


@pytest.fixture(scope="module")
def looked(browse, pages):
    frames = {
        "usual": (390, pages["usual"]),
        "hostile": (390, pages["hostile"]),
        "empty": (390, pages["empty"]),
        "wide": (1280, pages["usual"]),
        "map": (1280, pages["map"]),
        "narrow map": (390, pages["map"]),
        "hostile map": (390, pages["hostile map"]),
        "hostile words": (390, pages["hostile words"]),
    }
    probes = {"wide": POINT, "map": USE_MAP, "hostile map": USE_HOSTILE_MAP}
    return look(browse, frames, probes)


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


def test_what_is_printed_is_painted_in_the_colours_of_then(looked):
    before, after = looked[0]["wide"]["red"]
    assert before == 0 < after
    assert looked[0]["wide"]["printed"] == "printed"


def test_a_map_tells_of_the_dot_that_is_pointed_at(looked):
    (told,) = looked[0]["map"]["told"]
    lines = [line.strip() for line in told.strip().split("\n") if line.strip()]
    assert lines[0] == "text of 250"
    assert lines[1:] == [
        "Cluster: b", "Input file: part-0.jsonl", "lang: de", "year: 234 to 266",
    ]  # fmt: skip


def test_a_map_finds_rows_by_their_texts_and_ids(looked):
    found = looked[0]["map"]
    said, listed = found["search"]
    assert said == "11 rows with \u201cTEXT OF 12\u201d."
    assert [row[0] for row in listed] == [
        f"text of {n}" for n in range(300) if str(n).startswith("12")
    ]
    assert found["id"] == ["1 row with \u201crow-299\u201d.", [["text of 299", "none", "row-299"]]]
    assert found["nowhere"] == ["No row with \u201cnowhere\u201d.", True]


def test_a_map_is_coloured_by_what_is_chosen_and_lists_the_rows_of_a_colour(looked):
    found = looked[0]["map"]
    assert found["colourings"] == ["Cluster", "Input file", "lang", "year"]
    assert found["clusters"] == ["a 90", "b 90", "c 90", "none 30"]
    assert found["languages"] == ["de 100", "en 100", "null 100"]
    assert found["german"] == ["100 rows of en, the first 50 are listed.", 50, False]
    assert len(found["years"]) == 9


def test_a_map_lists_the_rows_that_are_tapped_or_drawn_around(looked):
    found = looked[0]["map"]
    assert found["tapped"][0] == "1 row."
    assert found["tapped"][1][0][2] == "row-250"
    assert found["all"] == "300 rows, the first 50 are listed."


@pytest.mark.parametrize(
    ("name", "width"),
    [("map", 1280), ("narrow map", 390), ("hostile map", 390), ("hostile words", 390)],
)
def test_points_fit_the_page(looked, name, width):
    found = looked[0][name]
    assert found["wide"] == []
    assert found["scroll"] <= width
    assert found["plots"][-1] > 0.6


def test_hostile_texts_of_a_map_stay_texts(looked):
    found = looked[0]["hostile map"]
    assert "run" not in found["title"].split()
    assert found["strange"] == 0
    ((told, elements),) = found["told"]
    assert HOSTILE[0] in told and elements == 0
    ((told, elements),) = found["image"]
    assert HOSTILE[1] in told and elements == 0
    assert found["said"] == "10 rows with \u201cbold\u201d."
    assert {row[0] for row in found["listed"]} == {HOSTILE[4]}
    assert f"{HOSTILE[0]} 10" in found["legend"]
    assert "a\u2400b\ufffdc 10" in found["legend"]


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
