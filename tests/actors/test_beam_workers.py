"""Any Beam pipeline on Ray actors, and workers that die in every kind of stage."""

import os
import threading
import time
from pathlib import Path

import apache_beam as beam
import grpc
import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.portability.api import (
    beam_artifact_api_pb2,
    beam_artifact_api_pb2_grpc,
    beam_runner_api_pb2,
)
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.runners.portability.fn_api_runner.worker_handlers import GrpcServer, StateServicer
from apache_beam.testing.util import assert_that, equal_to

from embedkit.actors.beam_runner import RayBeamRunner
from embedkit.engines.beam import run_to_end
from embedkit.errors import InputError, ResumableError, WorkerLostError

SMALL = {"num_cpus": 0.1}


def pipeline(workers: int = 2, **settings) -> beam.Pipeline:
    runner = RayBeamRunner(workers, settings.pop("actor_options", SMALL), **settings)
    return beam.Pipeline(runner=runner, options=PipelineOptions(flags=[]))


def test_a_pipeline_with_all_kinds_of_stages(ray_session):
    driver = os.getpid()

    def with_pid(number):
        import os

        return os.getpid(), number

    with pipeline() as p:
        numbers = p | beam.Create(range(20)) | beam.Reshuffle()
        # Sums in one environment, looked up as a side input in another stage.
        total = numbers | "Sum" >> beam.CombineGlobally(sum)
        grouped = numbers | "Key" >> beam.Map(lambda n: (n % 3, n)) | beam.GroupByKey()
        shares = grouped | beam.Map(
            lambda pair, whole: (pair[0], sum(pair[1]) / whole), beam.pvalue.AsSingleton(total)
        )
        assert_that(shares, equal_to([(0, 63 / 190), (1, 70 / 190), (2, 57 / 190)]))
        pids = numbers | "Pid" >> beam.Map(with_pid) | beam.Keys() | beam.Distinct()

        def two_others(found):
            assert len(found) == 2
            assert driver not in found

        assert_that(pids, two_others, label="Pids")


def test_the_drivers_files_are_handed_to_nobody(tmp_path):
    """Beam's control port is open to the cluster, and serves any file unless told otherwise."""
    secret = tmp_path / "secret"
    secret.write_text("content")
    payload = beam_runner_api_pb2.ArtifactFilePayload(path=str(secret)).SerializeToString()
    request = beam_artifact_api_pb2.GetArtifactRequest(
        artifact=beam_runner_api_pb2.ArtifactInformation(
            type_urn="beam:artifact:type:file:v1", type_payload=payload
        )
    )

    def ask(runner: FnApiRunner) -> bytes:
        server = GrpcServer(StateServicer(), runner._provision_info, None)
        try:
            with grpc.insecure_channel(f"127.0.0.1:{server.control_port}") as channel:
                stub = beam_artifact_api_pb2_grpc.ArtifactRetrievalServiceStub(channel)
                return b"".join(one.data for one in stub.GetArtifact(request, timeout=60))
        finally:
            server.close()

    assert ask(FnApiRunner()) == b"content"
    with pytest.raises(grpc.RpcError) as raised:
        ask(RayBeamRunner())
    assert raised.value.code() == grpc.StatusCode.UNIMPLEMENTED


def _doomed(p: beam.Pipeline, folder: str) -> beam.PCollection:
    """Eight elements, one of which kills its worker; the others leave a file."""

    def work(number, folder):
        import os
        import pathlib
        import time

        if number == 3:
            os.kill(os.getpid(), 9)
        time.sleep(0.3)
        pathlib.Path(folder, str(number)).touch()
        return number

    return p | beam.Create(range(8)) | beam.Reshuffle() | beam.Map(work, folder)


STAGES = {
    "nothing comes out": lambda doomed: doomed,
    "elements come out": lambda doomed: doomed | "Again" >> beam.Reshuffle() | beam.Map(len),
    "groups come out": lambda doomed: doomed | beam.Map(lambda n: (1, n)) | beam.GroupByKey(),
    "a side input comes out": lambda doomed: (
        doomed.pipeline
        | "One" >> beam.Create([1])
        | beam.Map(lambda one, rest: len(rest), beam.pvalue.AsList(doomed))
    ),
}


@pytest.mark.parametrize(
    "stage",
    [
        "groups come out",
        *(
            pytest.param(one, marks=pytest.mark.soak)
            for one in STAGES
            if not one.startswith("groups")
        ),
    ],
)
def test_a_lost_worker_is_noticed_and_the_others_finish(ray_session, stage, tmp_path):
    p = pipeline()
    STAGES[stage](_doomed(p, str(tmp_path)))
    with pytest.raises(WorkerLostError, match=r"a Beam worker was lost: .*process has died"):
        run_to_end(p)
    # The lost one had half of the elements; the other finished all of its own before the end.
    done = sorted(int(file.name) for file in tmp_path.iterdir())
    assert len(done) >= 4
    assert 3 not in done


def test_a_worker_that_loses_its_last_element_leaves_nothing_waiting(ray_session):
    """The loss comes after the bundle's outputs, in the stage's very end."""

    class DiesAtTheEnd(beam.DoFn):
        def process(self, element):
            yield element

        def finish_bundle(self):
            import os

            os.kill(os.getpid(), 9)

    p = pipeline(workers=1)
    _ = p | beam.Create([1]) | beam.ParDo(DiesAtTheEnd()) | beam.Reshuffle() | beam.Map(print)
    with pytest.raises(WorkerLostError, match="a Beam worker was lost"):
        run_to_end(p)


def test_an_error_of_a_step_comes_out_as_itself(ray_session):
    def refuse(number):
        from embedkit.errors import InputError

        raise InputError(f"record {number}: cannot be used; leave it out")

    p = pipeline(workers=1)
    _ = p | beam.Create([7]) | beam.Map(refuse)
    with pytest.raises(InputError, match=r"^record 7: cannot be used; leave it out$"):
        run_to_end(p)


def test_a_fault_of_a_step_says_that_the_run_can_be_resumed(ray_session):
    p = pipeline(workers=1)
    _ = p | beam.Create([0]) | beam.Map(lambda zero: 1 / zero)
    with pytest.raises(ResumableError, match="ZeroDivisionError"):
        run_to_end(p)


def test_workers_that_cannot_be_placed_end_the_run(ray_session):
    p = pipeline(actor_options={"num_cpus": 1000}, placement_timeout=2.0)
    _ = p | beam.Create([1]) | beam.Map(print)
    start = time.monotonic()
    with pytest.raises(WorkerLostError, match="could not place a Beam worker in 2 s"):
        run_to_end(p)
    assert time.monotonic() - start < 60


def test_a_run_ends_when_its_workers_are_given_up(ray_session, tmp_path: Path):
    def wait(_, folder):
        import pathlib
        import time

        pathlib.Path(folder, "begun").touch()
        time.sleep(600)

    runner = RayBeamRunner(1, SMALL)
    p = beam.Pipeline(runner=runner, options=PipelineOptions(flags=[]))
    _ = p | beam.Create([1]) | beam.Map(wait, str(tmp_path))

    def give_up():
        while not (tmp_path / "begun").exists():
            time.sleep(0.1)
        runner.lose_workers("enough")

    threading.Thread(target=give_up, daemon=True).start()
    with pytest.raises(WorkerLostError, match=r"^enough$"):
        run_to_end(p)
    assert len(runner.worker_nodes) == 1
