"""Running a Beam pipeline to its end, with errors that cross it kept whole."""

import apache_beam as beam

from embedkit.errors import EmbedkitError, ResumableError, error_in_traceback


def run_to_end(pipeline: beam.Pipeline) -> None:
    """Runs a pipeline and waits for its end.

    Args:
        pipeline: The pipeline, with its runner.

    Raises:
        EmbedkitError: What stopped it, as raised inside the pipeline.
    """
    try:
        pipeline.run().wait_until_finish()
    except EmbedkitError:
        raise
    except RuntimeError as error:
        # Beam carries an exception of a step as the text of its traceback.
        known = error_in_traceback(str(error))
        if known is None:
            raise ResumableError(
                f"the pipeline stopped: {str(error).strip().splitlines()[-1]}; "
                "run the same command again to resume"
            ) from error
        raise known from error
