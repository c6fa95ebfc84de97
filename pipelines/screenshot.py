"""A report as a picture: opens it in headless Chromium and photographs it."""

import subprocess
import sys
import tempfile
from pathlib import Path

from embedkit.dataset.version import latest

_FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --hide-scrollbars "
    "--disable-background-networking --disable-component-update --disable-sync"
).split()


def main() -> None:
    """Photographs the newest report under a root: ``python -m pipelines.screenshot ROOT PNG``."""
    root, picture = Path(sys.argv[1]).resolve(), Path(sys.argv[2]).resolve()
    page = Path(latest(str(root)).url) / "report" / "report.html"
    with tempfile.TemporaryDirectory() as profile:
        subprocess.run(
            [
                "chromium",
                *_FLAGS,
                f"--user-data-dir={profile}",
                f"--screenshot={picture}",
                "--window-size=1100,3200",
                page.as_uri(),
            ],
            check=True,
            capture_output=True,
        )
    print(picture)


if __name__ == "__main__":
    main()
