"""How long headless Chromium takes to open a page with a map.

    PYTHONPATH=tests:. python tests/benchmarks/page.py

The processor's time is that of the page's own thread, which other work on the machine hardly moves.
"""

import json
import os
import random
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

from map_tables import map_table, named_clusters
from reporting import make_report

from embedkit.reports.render import render_html

ROWS, CLUSTERS = 25_000, 30
DRAWN = """new Promise((done) => embedkit.drawn.then(
  () => requestAnimationFrame(() => requestAnimationFrame(() => done(performance.now())))))"""
FIRST_PAINT = "performance.getEntriesByName('first-contentful-paint')[0].startTime"


class Browser:
    """Chromium, which is talked to over a pipe."""

    def __init__(self, folder: str) -> None:
        commands, self._out = os.pipe()
        self._in, answers = os.pipe()

        def place() -> None:
            os.dup2(os.dup(commands), 3)
            os.dup2(os.dup(answers), 4)

        browser = shutil.which("chromium") or "google-chrome"
        flags = ("--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe")
        self._process = subprocess.Popen(
            [browser, *flags, f"--user-data-dir={folder}", "--window-size=1280,900"],
            preexec_fn=place,
            close_fds=False,
            stderr=subprocess.DEVNULL,
        )
        self._number, self._read = 0, b""

    def send(self, method: str, session: str | None = None, **params: Any) -> dict[str, Any]:
        self._number += 1
        message = {"id": self._number, "method": method, "params": params}
        message |= {"sessionId": session} if session else {}
        os.write(self._out, json.dumps(message).encode() + b"\0")
        while True:
            while b"\0" not in self._read:
                self._read += os.read(self._in, 1 << 20)
            answer, _, self._read = self._read.partition(b"\0")
            if json.loads(answer).get("id") == self._number:
                return json.loads(answer)["result"]

    def close(self) -> None:
        self.send("Browser.close")
        self._process.wait(30)


def big_page() -> str:
    words = [f"word{n}" for n in range(5000)]
    draw = random.Random(1)
    texts = [" ".join(draw.choices(words, k=18)) for _ in range(ROWS)]
    metadata = {"year": [draw.randrange(1950, 2026) for _ in range(ROWS)], "lang": ["en"] * ROWS}
    table = map_table(ROWS, CLUSTERS, texts, metadata=metadata)
    drawn = {
        "measured": True,
        "method": "pca",
        "rows": ROWS,
        "start": None,
        "explained": (0.5, 0.3),
    }
    clusters = {"measured": False, "why": "", "clusters": named_clusters(*words[:CLUSTERS])}
    report = make_report([]) | {"map": {**drawn, "file": "map.parquet"}, "clusters": clusters}
    return render_html({**report, "sections": [*report["sections"], "map"]}, placed=table)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder, "page.html")
        page.write_text(big_page(), encoding="utf-8")
        print(f"{ROWS:,} rows, {page.stat().st_size / 1e6:.2f} MB")
        browser = Browser(f"{folder}/profile")
        for _ in range(3):
            target = browser.send("Target.createTarget", url="about:blank")["targetId"]
            session = browser.send("Target.attachToTarget", targetId=target, flatten=True)
            one = session["sessionId"]
            browser.send("Performance.enable", one, timeDomain="threadTicks")
            browser.send("Page.navigate", one, url=page.as_uri())
            ask = {"expression": "typeof embedkit"}
            while browser.send("Runtime.evaluate", one, **ask)["result"]["value"] != "object":
                time.sleep(0.05)
            ask = {"expression": DRAWN, "awaitPromise": True}
            drawn = browser.send("Runtime.evaluate", one, **ask)["result"]["value"]
            text = browser.send("Runtime.evaluate", one, expression=FIRST_PAINT)["result"]["value"]
            metrics = browser.send("Performance.getMetrics", one)["metrics"]
            spent = {metric["name"]: metric["value"] for metric in metrics}["TaskDuration"]
            print(
                f"text after {text / 1000:.2f} s, plots after {drawn / 1000:.2f} s, of which the "
                f"page's thread computed {spent:.2f} s (load {os.getloadavg()[0]:.1f})"
            )
            browser.send("Target.closeTarget", targetId=target)
        browser.close()


if __name__ == "__main__":
    main()
