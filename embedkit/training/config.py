"""What a training is: every setting once, with its type, default and sentence."""

from typing import Annotated, Literal, Self

from pydantic import Field, PositiveInt, model_validator

from embedkit.config import CorpusConfig, Settings


class Word2VecConfig(CorpusConfig):
    """How word vectors are trained on a corpus, each document a sentence."""

    output: str = Field(description="Directory that the model is written to; it must not exist.")
    algorithm: Literal["skipgram", "cbow"] = Field(
        "skipgram", description="Whether words predict their neighbours, or neighbours a word."
    )
    dimensions: PositiveInt = Field(100, description="Components of a vector.")
    window: PositiveInt = Field(
        5, description="Most words between a word and the neighbours that it is trained with."
    )
    min_count: PositiveInt = Field(5, description="Rarer words get no vector.")
    negative: PositiveInt = Field(5, description="Noise words drawn for each pair of neighbours.")
    subsample: Annotated[float, Field(ge=0, lt=1)] = Field(
        1e-3, description="Share of all words above which a word is left out at random; 0 for none."
    )
    epochs: PositiveInt = Field(5, description="Times that the corpus is read for training.")
    learning_rate: Annotated[float, Field(gt=0)] = Field(
        0.025, description="Learning rate at the beginning; it falls to 0.0001."
    )
    seed: Annotated[int, Field(ge=0, lt=1 << 32)] = Field(
        1, description="Seed of the first vectors and of what is left out and drawn."
    )
    workers: PositiveInt = Field(
        1, description="Threads that train; with one alone the same corpus gives the same vectors."
    )
    lowercase: bool = Field(True, description="Whether texts are put into small letters first.")

    @model_validator(mode="after")
    def _whole_documents(self) -> Self:
        if self.chunk != "none":
            raise ValueError("chunk: only a model's tokenizer can count the tokens of chunks")
        return self


class DistillConfig(Settings):
    """How a sentence model becomes static vectors."""

    model: str = Field(description="Model directory, or a hub id, as NAME or NAME@REVISION.")
    output: str = Field(description="Directory that the model is written to; it must not exist.")
    vocabulary_size: PositiveInt = Field(
        30_000, description="Most words of the corpus that get vectors of their own."
    )
    dimensions: Annotated[int, Field(ge=0)] = Field(
        256, description="Components that are kept, by PCA; 0 for the model's own, without PCA."
    )
    sif_coefficient: Annotated[float, Field(gt=0, lt=1)] = Field(
        1e-4, description="How much less frequent tokens count in a mean; less the smaller it is."
    )
