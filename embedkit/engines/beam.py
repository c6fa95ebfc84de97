"""Running a Beam pipeline to its end, with errors that cross it kept whole."""

import apache_beam as beam

from embedkit.transforms.errors import one_line_errors


def run_to_end(pipeline: beam.Pipeline) -> None:
    """Runs a pipeline and waits for its end.

    Args:
        pipeline: The pipeline, with its runner.

    Raises:
        EmbedkitError: What stopped it, as raised inside the pipeline.
    """
    with one_line_errors():
        pipeline.run().wait_until_finish()
