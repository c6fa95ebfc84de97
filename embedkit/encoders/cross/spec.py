"""All that an encoder needs to know of a cross-encoder before it reads the weights."""

from dataclasses import dataclass
from typing import ClassVar

from embedkit.encoders.spec import ModelSpec


@dataclass(frozen=True)
class CrossSpec(ModelSpec):
    """A transformer with a classification head, and an activation.

    Its vectors are the scores of a pair, a component for each label.

    Attributes:
        architecture: The transformer's ``model_type``.
        pad_id: Id that fills up the shorter rows of a batch.
        activation: Name of a class in ``torch.nn`` that makes scores of what the head gives.
        labels: Names of the labels, in the order of the scores.
        ignored_code: Classes that the directory names for itself, in whose place the library's
            run, as ``AutoModel=module.Class``.
    """

    kind: ClassVar[str] = "cross"
    architecture: str
    pad_id: int
    activation: str
    labels: tuple[str, ...]
    ignored_code: tuple[str, ...] = ()

    @property
    def libraries(self) -> tuple[str, ...]:
        """Distributions that have a part in its scores, for the manifest."""
        return ("tokenizers", "transformers", self.placement.backend)

    def description(self) -> dict[str, str]:
        """Returns what only this kind says of its scores, for the manifest and the parts."""
        ignored = {"ignored_code": " ".join(self.ignored_code)} if self.ignored_code else {}
        return {"activation": self.activation, "labels": ", ".join(self.labels), **ignored}

    def own_ingredients(self) -> dict[str, str | int | bool]:
        """Returns what only this kind knows of all that changes a score, by name."""
        assert self.tokenizer.pairs is not None, "its rows are pairs"
        ingredients: dict[str, str | int | bool] = {
            "kind": self.kind,
            "activation": self.activation,
            "token_types": self.tokenizer.pairs.typed,
        }
        if self.ignored_code:
            ingredients["ignored_code"] = " ".join(self.ignored_code)
        return ingredients
