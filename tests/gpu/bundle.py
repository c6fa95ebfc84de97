"""Puts what ``run.py`` needs on a machine without a registry into one folder.

The machine brings torch, transformers, sentence-transformers, NumPy and PyArrow along; the folder
has the wheel of this project and of the few packages that encoders need besides, and the script.
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch
from environments import REPOSITORY, build_wheel
from safetensors.torch import load_file, save_file

MOST_BYTES = 64_000_000
_NEEDS = ("annotated-types", "pydantic", "pydantic_core", "typing-inspection")
"""What ``embedkit.config`` imports that comes with none of those."""

_PLATFORMS = ("2_28", "2_17")
_MODEL_FILES = ("*.json", "*.txt", "*.model", "*.safetensors")
_READ_ME = """\
To check and measure a GPU here, without a network, from within this folder:
    python3 -m pip install --no-index --no-deps --upgrade --target site wheels/*.whl
    PYTHONPATH=site python3 tests/gpu/run.py --output results{options}
"""


def make_bundle(
    folder: Path, python: str, model: Path | None = None, data: Path | None = None
) -> int:
    """Makes the folder, in place of what was there.

    Args:
        folder: Where to make it.
        python: The version of Python that it is for, such as ``3.12``, on Linux on x86-64.
        model: A model's directory, of which a copy in float16 goes along.
        data: The folder of public data, of which Cranfield goes along.

    Returns:
        Its size in bytes.
    """
    shutil.rmtree(folder, ignore_errors=True)
    wheels = folder / "wheels"
    wheels.mkdir(parents=True)
    with tempfile.TemporaryDirectory() as scratch:
        shutil.copy(build_wheel(Path(scratch)), wheels)
    _download(_NEEDS, wheels, python)
    tests = folder / "tests"
    (tests / "gpu").mkdir(parents=True)
    for file in (REPOSITORY / "tests" / "gpu").glob("*.py"):
        if not file.name.startswith(("test_", "conftest", "bundle")):
            shutil.copy(file, tests / "gpu")
    shutil.copy(REPOSITORY / "tests" / "tiny_models.py", tests)
    options = ""
    if model is not None:
        _copy_model(model, folder / "model")
        options += " --model model"
    if data is not None:
        target = folder / "data" / "cranfield"
        target.mkdir(parents=True)
        for file in (data / "cranfield").iterdir():
            shutil.copyfile(file, target / file.name)
        options += " --data data"
    (folder / "README").write_text(_READ_ME.format(options=options))
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def _download(names: Sequence[str], folder: Path, python: str) -> None:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
    command += ["--only-binary=:all:", "--python-version", python, "--implementation", "cp"]
    for version in _PLATFORMS:
        command += ["--platform", f"manylinux_{version}_x86_64"]
    command += ["--constraint", str(REPOSITORY / "constraints.txt"), "--dest", str(folder)]
    subprocess.run([*command, *names], check=True)


def _copy_model(model: Path, folder: Path) -> None:
    """Copies a model, with its weights in float16, which takes half of the room."""
    for file in sorted({file for kind in _MODEL_FILES for file in model.rglob(kind)}):
        target = folder / file.relative_to(model)
        target.parent.mkdir(parents=True, exist_ok=True)
        if file.suffix != ".safetensors":
            shutil.copyfile(file, target)
            continue
        tensors = load_file(file)
        halves = {
            name: tensor.to(torch.float16) if tensor.is_floating_point() else tensor
            for name, tensor in tensors.items()
        }
        save_file(halves, target, metadata={"format": "pt"})


def main(arguments: Sequence[str] | None = None) -> None:
    """Makes the folder and prints its size; fails where it is too large to be carried."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--output", type=Path, default=Path("build/gpu-bundle"))
    parser.add_argument("--python", default="3.12", help="for this version, Linux on x86-64")
    parser.add_argument("--model", type=Path, help="takes along this model, in float16")
    parser.add_argument("--data", type=Path, help="takes along Cranfield of this folder")
    options = parser.parse_args(arguments)
    size = make_bundle(options.output, options.python, options.model, options.data)
    print(
        f"{options.output}: {size / 1e6:.1f} MB\n{(options.output / 'README').read_text()}", end=""
    )
    if size > MOST_BYTES:
        sys.exit(f"more than {MOST_BYTES / 1e6:.0f} MB; leave the model out, or take a smaller one")


if __name__ == "__main__":
    main()
