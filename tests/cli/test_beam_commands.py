"""The commands that hand their flags on: a job on Dataflow, a pipeline in Beam YAML."""

import json
from pathlib import Path

import pytest
import yaml
from apache_beam.yaml import yaml_provider
from calling import call

from embedkit.engines import dataflow_flags
from embedkit.engines.dataflow_flags import template_metadata

pytestmark = pytest.mark.usefixtures("logging_restored")


def test_dataflow_takes_every_setting_and_beams_own_flags(monkeypatch):
    sent = []

    class Result:
        def job_id(self) -> str:
            return "job-1"

    class Settled:
        class version:
            name, url = "v1", "gs://out/v1"

    def start(job, workers, options):
        sent.append((job, workers, options.get_all_options()))
        return Settled, Result()

    monkeypatch.setattr(dataflow_flags, "start_on_dataflow", start)
    flags = ["--inputs=gs://in/a", "--model=/m", "--output", "gs://out", "--min-ram", "16GB"]
    answer = call("dataflow", *flags, "--store_text", "--project=p-1", "--experiments", "x")
    assert answer.json == {"job": "job-1", "version": "v1", "url": "gs://out/v1"}
    ((job, workers, beams),) = sent
    assert (job.inputs, job.output, job.store_text) == (("gs://in/a",), "gs://out", True)
    assert workers.min_ram == "16GB"
    assert (beams["project"], beams["experiments"]) == ("p-1", ["x"])


def test_dataflow_writes_the_metadata_of_its_template(tmp_path):
    file = tmp_path / "metadata.json"
    assert call("dataflow", "--write_metadata", str(file)).json == {"written": str(file)}
    assert json.loads(file.read_text()) == template_metadata()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("dataflow", "--modle=x"), "--modle: no setting of a job on Dataflow"),
        (("dataflow", "--write_metadata=/nowhere/at/all"), "/nowhere/at/all: cannot be written"),
        (("dataflow", "--write_metadata"), "expected one file to write"),
        (("dataflow", "--write_metadata", "a", "b"), "expected one file to write"),
        (("dataflow", "--write_metadata", "/nowhere/at/all"), "/nowhere/at/all: cannot be written"),
        (("beam-yaml",), "name a pipeline"),
        (("beam-yaml", "none.yaml"), "none.yaml: no such pipeline"),
    ],
)
def test_a_mistake_is_one_line(arguments, said):
    answer = call(*arguments)
    assert answer.code == 2
    assert said in answer.error


def test_beam_yaml_says_where_the_provider_is_that_pipelines_include():
    provider = Path(call("beam-yaml", "--provider").out.strip())
    (named,) = yaml.safe_load(provider.read_text())
    loaded = yaml_provider.load_providers(str(provider))
    offered = {name for one in loaded for name in one.provided_transforms()}
    assert offered == set(named["transforms"]) == {"EmbedCorpus", "EmbedFiles", "ReadCorpus"}


def test_beam_yaml_runs_a_pipeline_with_its_variables(tmp_path):
    file = tmp_path / "pipeline.yaml"
    steps = [
        {"type": "Create", "config": {"elements": [{"word": "{{ word }}"}]}},
        {"type": "AssertEqual", "config": {"elements": [{"word": "corpus"}]}},
    ]
    file.write_text(yaml.safe_dump({"pipeline": {"type": "chain", "transforms": steps}}))
    assert call("beam-yaml", str(file), "--word", "corpus").code == 0
    answer = call("beam-yaml", str(file), "--word=vectors")
    assert answer.code == 4
    assert "the pipeline stopped: BeamAssertException: " in answer.error
    assert "unexpected elements [{'word': 'vectors'}]" in answer.error
    assert answer.error.count("\n") <= 1


TEMPLATE = """pipeline:
  type: chain
  transforms:
    {% include "first.yaml" %}
    - type: AssertEqual
      config:
        elements:
        {% for one in words.split(";") %}
          - {word: {{ one | upper }}}
        {% endfor %}
"""


def test_all_that_a_template_asks_for_is_a_variable(tmp_path):
    """In a filter, a loop, with a default, or in what it includes."""
    (tmp_path / "first.yaml").write_text(
        "- {type: Create, config: {elements: [{word: {{ first | default('A') }}}, {word: B}]}}\n"
    )
    file = tmp_path / "pipeline.yaml"
    file.write_text(TEMPLATE)
    assert call("beam-yaml", str(file), "--words=a;b").code == 0
    assert call("beam-yaml", str(file), "--words=x;b", "--first=X").code == 0


@pytest.mark.parametrize(
    ("text", "flags", "said"),
    [
        ("", [], "holds nothing where settings are expected"),
        ("- a\n", [], "holds a list where settings are expected"),
        ("pipeline:\n  type: chain\n transforms: [\n", [], "while parsing a block mapping"),
        ("model: x\n", [], "'pipeline' is a required property"),
        ("pipeline: {type: {{ kind }}}\n", [], "'kind' is undefined; give --kind=..."),
        ("pipeline: {type: {{ project }}}\n", [], "give --jinja_variables='{\"project\": ...}'"),
        ("a: b\n{% if %}\n", [], "line 2: "),
        ("{% include 'none.yaml' %}\n", [], "includes none.yaml, which is not there"),
        ("a: {{ kind }}\n", ["--knid=x"], "--knid: no variable of the pipeline and no option of"),
        ("a: b\n", ["--nonsense=3"], "--nonsense: no variable of the pipeline"),
        ("a: b\n", ["--jinja_variables=3"], 'expected JSON, such as {"word": "rain"}'),
        ("a: b\n", ["--max_num_workers=x"], "--max_num_workers: invalid int value: 'x'"),
    ],
)
def test_a_file_that_is_no_pipeline_or_a_flag_that_is_none_of_it(text, flags, said, tmp_path):
    file = tmp_path / "pipeline.yaml"
    file.write_text(text)
    answer = call("beam-yaml", str(file), *flags)
    assert answer.code == 2
    assert said in answer.error
    assert "please report" not in answer.error
    assert answer.error.count("\n") <= 1
