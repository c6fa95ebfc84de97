r"""A job on Dataflow, from the command line or as a Flex Template: what ``embedkit dataflow`` does.

    python -m pipelines.dataflow --inputs 'gs://bucket/docs/*.parquet' --model /models/NAME \
        --output gs://bucket/embeddings \
        --accelerator 'type:nvidia-l4;count:1;install-nvidia-driver' --min_ram 16GB \
        --project P --region R --temp_location gs://bucket/tmp --sdk_container_image IMAGE

Every setting of a job is a flag, with hyphens or underscores; lists are joined by commas. All other
flags are Beam's own. `--write_metadata FILE` writes the template's metadata instead.
"""

import json
import sys

from embedkit.cli.exits import run_to_exit
from embedkit.cli.logs import set_up_logs
from embedkit.engines.dataflow_flags import send_to_dataflow


def main() -> None:
    """Sends a job to Dataflow, or writes the template's metadata."""
    set_up_logs("text")
    print(json.dumps(send_to_dataflow(sys.argv[1:])))


if __name__ == "__main__":
    run_to_exit(main)
