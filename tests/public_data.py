"""Where the public data with labels or schemas lie, which nobody can make here."""

import os
from pathlib import Path

_BESIDE_THE_CHECKOUT = Path(__file__).resolve().parents[2] / "shared" / "data"

PUBLIC_DATA = Path(os.environ.get("EMBEDKIT_TEST_DATA") or _BESIDE_THE_CHECKOUT)

NO_PUBLIC_DATA = (
    f"{PUBLIC_DATA} does not exist; name the folder of public data by EMBEDKIT_TEST_DATA (README, "
    "'Work on it')"
)
