"""Batches of Ray Data to the same batches with their vectors."""

from typing import Any

import pyarrow as pa

from embedkit.flow.embed_batches import BatchEmbedder, with_columns


class EmbedBatches(BatchEmbedder):
    """Embeds a dataset of Ray Data: a class for ``map_batches``, whose actors load the model once.

    A text that cannot be embedded has null for a vector and the reason in the column ``reject``;
    ``part_rejects`` parts the two, and gives the vectors as lists of a fixed size.

        >>> from os.path import abspath
        >>> import ray
        >>> from embedkit import EmbedBatches, part_rejects
        >>> documents = ray.data.from_items([{"text": "one text"}, {"text": ""}])
        >>> dataset = documents.map_batches(
        ...     EmbedBatches,
        ...     fn_constructor_kwargs={"model": abspath("model")},
        ...     batch_format="pyarrow",
        ...     batch_size=4096,
        ...     compute=ray.data.ActorPoolStrategy(size=1),
        ... )
        >>> embedded, rejects = part_rejects(dataset)
        >>> [len(row["embedding"]) for row in embedded.take_all()]
        [8]
        >>> rejects.take_all()
        [{'text': '', 'reject': 'empty_text'}]

    It takes batches of every format and returns tables of Arrow; of the formats, ``pyarrow`` alone
    leaves nulls of other columns as they are, and whole numbers beside them whole, as a template
    over numbers wants them. The model's directory must be on every node.
    ``num_gpus=1`` gives each actor a GPU; on CPUs give ``encoder_threads``, the cores of a machine
    divided by the actors on it.
    """

    name = "EmbedBatches"
    # So that an actor is ready, or fails, before it gets rows.
    loads_at_once = True

    def __call__(self, batch: Any) -> pa.Table:
        """Returns a batch with its vectors.

        Args:
            batch: Of any ``batch_format``.

        Raises:
            ConfigError: The batch lacks a column of the text, or has one of the new ones already.
            EncoderError: No encoder answered.
        """
        columns = self.new_columns(batch)
        if not isinstance(batch, pa.Table):
            # Where this runs, Ray Data has been imported long since; elsewhere it takes seconds.
            from ray.data.block import BlockAccessor, BlockType

            batch = BlockAccessor.batch_to_block(batch, BlockType.ARROW)
        return with_columns(batch, columns)
