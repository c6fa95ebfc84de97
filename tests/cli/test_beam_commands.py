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
    with pytest.raises(Exception, match=r"unexpected elements .*vectors"):
        call("beam-yaml", str(file), "--word=vectors")
