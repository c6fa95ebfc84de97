"""Models that take queries another way than documents: which modules a route consists of."""

import re
from collections.abc import Iterable
from pathlib import Path

from embedkit.encoders.transformer.module_files import ModuleEntry, RouterFile, parsed, read_file
from embedkit.encoders.weights import below
from embedkit.errors import ConfigError

ROUTER = "Router"
"""Class of the module that has routes, which was Asym in older releases."""

_NAMES = ("router_config.json", "config.json")
_TEXT = "text"
_MAPPING = re.compile(r"\((None|'[^']*'), *(None|'[^']*')\)")


def along_route(
    modules: Iterable[tuple[str, Path]], task: str
) -> tuple[list[tuple[str, Path]], str]:
    """Puts the modules of a route in the place of the module that has routes.

    Args:
        modules: The class of each module, and its directory.
        task: What texts are: ``document`` or ``query``, or another name that the model has.

    Returns:
        The modules, and the route's name; empty where the model has none.

    Raises:
        ConfigError: It has no such route, or modules on it that are not supported.
    """
    found: list[tuple[str, Path]] = []
    taken: list[str] = []
    for kind, directory in modules:
        if kind == ROUTER:
            name, on_route = _route(directory, task)
            taken.append(name)
            found += on_route
        else:
            found.append((kind, directory))
    return found, "+".join(taken)


def _route(directory: Path, task: str) -> tuple[str, list[tuple[str, Path]]]:
    file = next((directory / name for name in _NAMES if (directory / name).is_file()), None)
    config = read_file(RouterFile, file or directory / _NAMES[0])
    file = file or directory / _NAMES[0]
    name = _name(config, task, file)
    modules = []
    for module in config.structure[name]:
        if module not in config.types:
            raise ConfigError(
                f"{file}: route {name!r} has the module {module[:200]!r}, which types does not "
                "name; download the model again"
            )
        entry = parsed(ModuleEntry, {"type": config.types[module], "path": module}, file)
        if entry.kind == ROUTER:
            raise ConfigError(f"{file}: a route of a route is not supported, see {module[:200]!r}")
        modules.append((entry.kind, below(directory, entry.path, file)))
    return name, modules


def _name(config: RouterFile, task: str, file: Path) -> str:
    """Returns the name of the route of a task, as sentence-transformers looks for it."""
    mapped: dict[tuple[str | None, str | None], str] = {}
    for key, route in (config.parameters.route_mappings or {}).items():
        if said := _MAPPING.fullmatch(key):
            of, kind = (None if one == "None" else one[1:-1] for one in said.groups())
            mapped[of, kind] = route
    keys = ((task, _TEXT), (task, None), (None, _TEXT), (None, None))
    asked = [mapped[key] for key in keys if key in mapped]
    asked += [one for one in (task, _TEXT) if one in config.structure]
    name = asked[0] if asked else task
    if name not in config.structure:
        raise ConfigError(
            f"{file}: no route for {name!r}; the model has "
            f"{', '.join(map(repr, config.structure)) or 'none'}: give the one for documents as "
            "route, or name it document (and the one for queries query) in that file"
        )
    return name
