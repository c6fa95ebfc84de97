"""Fresh environments with a wheel of embedkit and what it requires, and nothing else."""

import os
import shutil
import subprocess
import sys
import venv
import zipfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from email.message import Message
from email.parser import Parser
from importlib import metadata
from pathlib import Path, PurePosixPath

from packaging.requirements import Requirement

REPOSITORY = Path(__file__).parents[1]
_SOURCES = ("embedkit", "pipelines", "pyproject.toml", "README.md", "LICENSE")


def build_wheel(folder: Path) -> Path:
    """Builds the wheel from a copy of the sources, so that nothing of earlier builds gets in.

    Args:
        folder: Where the copy and the wheel are put.
    """
    sources = folder / "sources"
    for name in _SOURCES:
        source = REPOSITORY / name
        if source.is_dir():
            shutil.copytree(source, sources / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, sources / name)
    options = ["--no-deps", "--no-build-isolation", "--quiet", "--wheel-dir", str(folder)]
    subprocess.run([sys.executable, "-m", "pip", "wheel", *options, str(sources)], check=True)
    (wheel,) = folder.glob("*.whl")
    return wheel


def wheel_metadata(wheel: Path) -> Message:
    """What the wheel says of itself."""
    with zipfile.ZipFile(wheel) as file:
        (name,) = [one for one in file.namelist() if one.endswith(".dist-info/METADATA")]
        return Parser().parsestr(file.read(name).decode())


@dataclass(frozen=True)
class Environment:
    """A virtual environment.

    Attributes:
        folder: Its place.
    """

    folder: Path

    @property
    def python(self) -> Path:
        """Its interpreter."""
        return self.folder / "bin" / "python"

    def run(
        self, program: str, *arguments: str, cwd: Path, **settings: str
    ) -> subprocess.CompletedProcess[str]:
        """Runs one of its programs.

        Args:
            program: The program's name.
            arguments: Its arguments.
            cwd: Where it runs.
            settings: Variables of its environment besides those of this process.
        """
        inherited = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        return subprocess.run(
            [str(self.folder / "bin" / program), *arguments],
            cwd=cwd,
            env=inherited | {"HF_HUB_OFFLINE": "1"} | settings,
            capture_output=True,
            text=True,
            timeout=240,
        )


def make_environment(folder: Path, wheel: Path, extras: Sequence[str] = ()) -> Environment:
    """Makes an environment of the wheel and of what it requires, as it is installed here.

    Args:
        folder: Where to make it.
        wheel: The wheel.
        extras: The extras to install it with.
    """
    said = wheel_metadata(wheel).get_all("Requires-Dist") or []
    made = make_environment_of(folder, said, extras)
    command = [sys.executable, "-m", "pip", "--python", str(made.python), "install", "--quiet"]
    subprocess.run([*command, "--no-deps", "--no-index", str(wheel)], check=True)
    return made


def make_environment_of(
    folder: Path, requirements: Iterable[str], extras: Sequence[str] = ()
) -> Environment:
    """Makes an environment of requirements and what they require, as it is installed here.

    Args:
        folder: Where to make it.
        requirements: The requirements.
        extras: Extras that their markers may name.
    """
    venv.create(folder, with_pip=False, symlinks=True)
    (site,) = folder.glob("lib/python*/site-packages")
    for distribution in _required(map(Requirement, requirements), frozenset(extras)):
        _link(distribution, site)
    return Environment(folder)


def find_python(version: str) -> Path | None:
    """The interpreter of a version of Python, on the path or among pyenv's; None where none is."""
    name = f"python{version}"
    places = [Path(os.environ.get("PYENV_ROOT", "~/.pyenv")).expanduser() / "versions"]
    found = [path for place in places for path in place.glob(f"{version}.*/bin/{name}")]
    onpath = shutil.which(name)
    working = [path for path in [*found, *([Path(onpath)] if onpath else [])] if _works(path)]
    return working[0] if working else None


def _works(python: Path) -> bool:
    # A shim of pyenv's is there for versions that are not chosen, and only complains.
    return subprocess.run([str(python), "-c", ""], capture_output=True).returncode == 0


def install(folder: Path, python: Path, requirement: str) -> Environment:
    """Makes an environment with pip from the registry, in the versions of the constraints.

    Args:
        folder: Where to make it.
        python: The interpreter.
        requirement: What to install.
    """
    subprocess.run([str(python), "-m", "venv", str(folder)], check=True)
    made = Environment(folder)
    constraints = ["--constraint", str(REPOSITORY / "constraints.txt")]
    command = [str(made.python), "-m", "pip", "install", "--quiet", *constraints, requirement]
    subprocess.run(command, check=True)
    return made


def _required(
    requirements: Iterable[Requirement], extras: frozenset[str]
) -> list[metadata.Distribution]:
    """All that requirements bring along, by what each distribution says that it requires."""
    found: dict[str, metadata.Distribution] = {}
    asked: set[tuple[str, str]] = set()
    waiting = [(one, extras) for one in requirements]
    while waiting:
        requirement, chosen = waiting.pop()
        marker = requirement.marker
        if marker and not any(marker.evaluate({"extra": extra}) for extra in chosen or {""}):
            continue
        distribution = metadata.distribution(requirement.name)
        found[requirement.name.lower()] = distribution
        new = {(requirement.name.lower(), extra) for extra in requirement.extras or {""}} - asked
        asked |= new
        if new:
            inner = frozenset(extra for _, extra in new) | {""}
            waiting += [(Requirement(one), inner) for one in distribution.requires or []]
    return list(found.values())


def _link(distribution: metadata.Distribution, site: Path) -> None:
    """Links what a distribution has installed; folders that several of them share are made."""
    linked: set[PurePosixPath] = set()
    for file in distribution.files or []:
        parts = file.parts
        if parts[0] in ("..", "__pycache__"):
            continue
        for depth in range(1, len(parts) + 1):
            place = PurePosixPath(*parts[:depth])
            if place in linked:
                break
            source = Path(str(distribution.locate_file(place)))
            if depth == len(parts) or _is_whole(source):
                target = site / place
                target.parent.mkdir(parents=True, exist_ok=True)
                if not target.exists():
                    target.symlink_to(source)
                linked.add(place)
                break


def _is_whole(folder: Path) -> bool:
    return (folder / "__init__.py").exists() or folder.suffix in (".dist-info", ".libs")
