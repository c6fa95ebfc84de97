"""The manual as a site: it builds without a warning, holds every page, and asks for nothing."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from manual import DOCS, ROOT

CONFIG = ROOT / "mkdocs.yml"


def build(folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "zensical", "build", "--strict"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)


@pytest.fixture(scope="module")
def copied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    shutil.copy2(CONFIG, folder)
    shutil.copytree(DOCS, folder / "docs")
    return folder


def test_it_builds_strictly_and_asks_for_nothing(copied):
    done = build(copied)
    assert done.returncode == 0, done.stdout + done.stderr
    site = copied / yaml.safe_load(CONFIG.read_text())["site_dir"]
    pages = {path.stem for path in DOCS.glob("*.md")} - {"index"}
    assert {path.parent.name for path in site.glob("*/index.html")} >= pages
    for path in site.rglob("*.html"):
        # What a browser loads by itself; links are for people to follow.
        asked = re.findall(
            r"<(?:script|img|iframe|link)\b[^>]*?(?:src|href)=\"?(https?:[^\"> ]*)",
            path.read_text(),
        )
        assert asked == [], path


def test_every_page_is_in_the_table_of_contents():
    def pages(entry: object) -> list[str]:
        if isinstance(entry, str):
            return [entry]
        inner = entry.values() if isinstance(entry, dict) else entry
        return [page for one in inner for page in pages(one)]

    listed = pages(yaml.safe_load(CONFIG.read_text())["nav"])
    assert sorted(listed) == sorted(path.name for path in DOCS.glob("*.md"))


def test_a_broken_link_breaks_the_build(copied):
    (copied / "docs" / "broken.md").write_text("# Broken\n\n[gone](gone.md)\n")
    assert build(copied).returncode != 0
