"""The README's snippets of Python run as they stand, one after the other in one folder."""

import logging
from pathlib import Path
from typing import Any

import pytest
from apache_beam.options.pipeline_options import StandardOptions
from example_files import lay_out
from running import Dataset

README = (Path(__file__).parents[1] / "README.md").read_text()
SNIPPETS = [part.partition("```")[0] for part in README.split("```python\n")[1:]]


def only(word: str) -> str:
    (found,) = [code for code in SNIPPETS if word in code]
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("readme")
    lay_out(made)
    return made


@pytest.fixture(autouse=True)
def at_home(folder, monkeypatch):
    monkeypatch.chdir(folder)
    # What a pipeline without a runner takes, without its look for another one online.
    runner = "apache_beam.runners.portability.fn_api_runner.FnApiRunner"
    monkeypatch.setattr(StandardOptions, "DEFAULT_RUNNER", runner)
    logging.getLogger("apache_beam").setLevel(logging.ERROR)


def run(code: str, **names: Any) -> dict[str, Any]:
    """Runs a snippet as a program of its own, where some names are what the test gives."""
    names["__name__"] = "__main__"
    exec(compile(code, "README.md", "exec"), names)
    return names


def test_every_snippet_is_run_by_a_test_below():
    words = {
        "EmbedBatches",
        "EmbedCorpus",
        "EmbedExamples",
        "MLTransform",
        "RayBeamRunner",
        "run_job",
    }
    assert set(SNIPPETS) == set(map(only, words))


def test_a_job_is_run_and_its_dataset_read(capsys):
    names = run(only("run_job"))
    said = capsys.readouterr().out
    assert f"{names['result'].version} 3 0" in said
    assert len(names["ids"]) == len(names["vectors"]) == 3
    assert "line 1" in said
    assert "rows       about 3" in said


def test_a_pipeline_of_ones_own_leaves_complete_versions(folder):
    run(only("EmbedCorpus"))
    found = {name: Dataset.latest(folder / name).table for name in ("rows", "files", "cleaned")}
    assert [len(table) for table in found.values()] == [1, 3, 3]
    assert found["rows"]["stars"].to_pylist() == [5]
    assert found["files"]["embedding"].equals(found["cleaned"]["embedding"])


def test_any_pipeline_runs_on_ray(ray_session, folder):
    def note(counted: tuple[str, int]) -> None:
        # What a worker prints is not heard here.
        with (folder / "said").open("a") as file:
            file.write(f"{counted}\n")

    run(only("RayBeamRunner"), print=note)
    said = (folder / "said").read_text().splitlines()
    assert sorted(said) == ["('corpus', 2)", "('vectors', 1)"]


def test_rows_of_a_standing_pipeline_get_vectors_or_reasons(capsys):
    run(only("MLTransform"))
    assert sorted(capsys.readouterr().out.splitlines()) == [
        "a (8,)",
        "b empty_text",
        "b text: empty_text: the text is empty; leave the record out",
    ]


def test_a_dataset_of_ray_data_is_parted(ray_session, capsys):
    run(only("EmbedBatches"))
    assert "3 0" in capsys.readouterr().out


def test_a_dataset_of_hugging_face_is_parted(capsys, monkeypatch, tmp_path):
    import datasets.config

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path)
    run(only("EmbedExamples"))
    assert "List(Value('float32'), length=8) 3 0" in capsys.readouterr().out
