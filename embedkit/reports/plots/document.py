"""The plots of one page as Bokeh's document, with the scripts that draw it and their policy."""

import base64
import hashlib
import json
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from bokeh.core.serialization import Serializer
from bokeh.document import Document
from bokeh.models import Plot
from markupsafe import Markup

_FOLDER = Path(__file__).parent
_SCRIPTS = ("draw.js", "map.js")


class Plots:
    """The plots of one page, in their order.

    They are data in the page, and the only scripts are Bokeh's and this package's, which are the
    same on every page: a policy that names their hashes lets these run and no other.
    """

    def __init__(self) -> None:
        self._plots: list[Plot] = []
        self._held: dict[str, Any] = {}

    def place(self, plot: Plot, label: str) -> Markup:
        """Takes a plot up and returns the element that it is drawn in.

        Args:
            plot: The plot, of a fixed height.
            label: All of it in a sentence, for those who cannot see it and where no script runs.
        """
        self._plots.append(plot)
        return Markup(
            '<div class="plot" id="plot-{}" role="img" aria-label="{}" style="height: {}px"></div>'
            '<noscript><p class="soft small">{}</p></noscript>'
        ).format(len(self._plots), label, plot.height, label)

    def hold(self, name: str, value: Any) -> None:
        """Has the page hold data for a script, under an id."""
        self._held[name] = value

    def scripts(self) -> Markup:
        """Returns what draws the plots that were taken up; nothing where there is none."""
        if not self._plots:
            return Markup("")
        held = {"plots": self._document(), **self._held}
        blocks = (_data_block(name, value) for name, value in held.items())
        return Markup("\n").join([*blocks, *map(_script, _sources())])

    def _document(self) -> dict[str, Any]:
        # A document looks through each plot's models for what follows their changes: nothing here.
        content = Document().to_json(deferred=False)
        content["roots"] = Serializer(deferred=False).encode(self._plots)
        names = _Names()
        roots = [names.of(plot.id) for plot in self._plots]
        return {"document": names.within(content), "roots": roots}


class _Names:
    """Names of models that are the same for the same plots; Bokeh counts on within a process."""

    def __init__(self) -> None:
        self._names: dict[str, str] = {}

    def of(self, name: str) -> str:
        return self._names.setdefault(name, f"m{len(self._names) + 1}")

    def within(self, value: Any) -> Any:
        """Returns serialized models with other names; texts among their data stay."""
        if isinstance(value, list):
            return [self.within(one) for one in value]
        if not isinstance(value, dict):
            return value
        changed = {key: self.within(one) for key, one in value.items()}
        if isinstance(value.get("id"), str):
            changed["id"] = self.of(value["id"])
        return changed


def policy() -> str:
    """Returns the policy of a page: nothing is fetched, and only the package's scripts run."""
    hashes = " ".join(
        f"'sha256-{base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()}'"
        for source in _sources()
    )
    return (
        f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


def _data_block(name: str, value: Any) -> Markup:
    """Returns an element that holds data for a script, whatever texts are in them."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    # No text can close the element, nor open a comment in it.
    text = text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")
    return Markup('<script type="application/json" id="{}">{}</script>').format(name, Markup(text))


@cache
def _sources() -> tuple[str, ...]:
    bokeh = files("bokeh.server.static.js").joinpath("bokeh.min.js")
    own = (_FOLDER / name for name in _SCRIPTS)
    return tuple(one.read_text(encoding="utf-8").strip() for one in (bokeh, *own))


def _script(source: str) -> Markup:
    return Markup(f"<script>{source}</script>")
