"""Which vectors a text gets."""

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, PositiveInt

from embedkit.config.settings import Settings, comma_separated


class TokenizerConfig(Settings):
    """Which tokenizer a model's texts go through, if not its own."""

    tokenizer: str | None = Field(
        None,
        description="Directory or hub id of another tokenizer for the model; its own unless given.",
    )
    allow_tokenizer_mismatch: bool = Field(
        False,
        description="Whether a tokenizer is taken that does not belong to the model, so that its "
        "vectors may mean little.",
    )


class ModelConfig(TokenizerConfig):
    """Which vectors a text gets."""

    model: str = Field(description="Model directory, or a hub id, as NAME or NAME@REVISION.")
    prompt: str | None = Field(
        None, description="Text put before every document, such as 'passage: '."
    )
    prompt_name: str | None = Field(
        None, description="Name of a prompt in the model's own configuration."
    )
    route: str | None = Field(
        None,
        description="Route of the documents in a model that takes queries another way (a Router of "
        "sentence-transformers); the one named document unless given.",
    )
    max_tokens: PositiveInt | None = Field(
        None, description="Tokens of a text that the model sees; the model's maximum unless given."
    )
    pooling: str | None = Field(
        None,
        description="Pooling of a model that names none: cls, mean, max, mean_sqrt_len_tokens, "
        "weightedmean, lasttoken, or several joined by '+'; of static vectors: mean, idf or sif, "
        "with -pc behind without their first component.",
    )
    normalize: bool | None = Field(
        None,
        description="Whether vectors get length 1; as the model says unless given, and those of "
        "words and tokens not.",
    )
    dimensions: PositiveInt | None = Field(
        None, description="Keep this many leading components (Matryoshka) and normalize again."
    )
    granularity: Literal["document", "chunk", "word", "token"] | None = Field(
        None,
        description="What gets a vector: each document, each chunk (with chunk), or, in lists, "
        "each word or token of them; document or chunk, as chunk says, unless given.",
    )
    word_pooling: Literal["first", "mean", "last", "max"] = Field(
        "mean", description="How the tokens of a word become its vector."
    )
    word_pattern: str | None = Field(
        None,
        description="Regular expression whose matches are the words, such as '[A-Za-z]+'; the "
        "tokenizer's own words unless given.",
    )
    words: Annotated[tuple[str, ...], BeforeValidator(comma_separated)] = Field(
        (), description="Keep the vectors of these words alone, given as a,b,c."
    )
    special_tokens: bool = Field(
        False, description="Whether special tokens, such as [CLS], get vectors of their own."
    )
    layers: str = Field(
        "-1",
        description="Hidden layers that vectors are made of: one, such as -2 or 0 (the embedding "
        "layer), or several, such as -4..-1:sum or -4..-1:concat.",
    )
    backend: Literal["auto", "torch", "openvino", "onnx"] = Field(
        "auto",
        description="What runs the model; auto takes openvino on CPUs where installed. onnx runs "
        "the ONNX file in the model's directory, by onnxruntime on CPUs.",
    )
    onnx_file: str | None = Field(
        None,
        description="ONNX file of backend onnx, as a path in the model's directory; "
        "onnx/model.onnx unless given.",
    )
    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto", description="Where the model runs; auto takes a GPU when there is one."
    )
    precision: Literal["auto", "float32", "bfloat16", "float16", "float8", "int8"] = Field(
        "auto",
        description="Arithmetic of the model; auto takes bfloat16 where the hardware has it. "
        "float8 is the linear layers', on newer GPUs; int8 is theirs on CPUs, by openvino.",
    )
    ignore_auto_map: bool = Field(
        False,
        description="Run the library's classes where the model's directory names its own, whose "
        "code never runs; vectors may be others than the authors'.",
    )
    batch_tokens: PositiveInt | None = Field(
        None, description="Most tokens of a padded batch; a good value for the device unless given."
    )
    encoder_threads: PositiveInt | None = Field(
        None, description="CPU threads of one encoder; its share of the machine unless given."
    )
