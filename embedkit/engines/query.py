"""A text to the rows nearest to it."""

from embedkit.config import ModelConfig
from embedkit.dataset.manifest import read_manifest
from embedkit.dataset.search import Hit, search
from embedkit.dataset.version import open_version
from embedkit.encoders.local_client import LocalConnection
from embedkit.encoders.model_files import read_model
from embedkit.errors import ConfigError
from embedkit.records import TokenBatch
from embedkit.tokens.tokenization import load_tokenizer


def search_text(
    root: str,
    text: str,
    k: int,
    model: str | None = None,
    prompt_name: str | None = None,
    prompt: str | None = None,
) -> list[Hit]:
    """Finds the rows of a dataset nearest to a text.

    The text is encoded by the dataset's model, in float32, with the prompt that the model has for
    queries, if it has one.

    Args:
        root: The dataset's root, or one version of it.
        text: What to look for.
        k: Number of rows.
        model: The model's directory, where it is no longer where the run found it.
        prompt_name: Name of another prompt of the model's.
        prompt: The prompt itself.

    Raises:
        ConfigError: The text is empty, there is no such dataset or model, or the model is another
            one.
    """
    if not text.strip():
        raise ConfigError("the text to look for is empty; give some words")
    if prompt is not None and prompt_name is not None:
        raise ConfigError("both prompt and prompt_name are given; take one of them")
    version = open_version(root)
    described = read_manifest(version).description
    config = ModelConfig(
        model=model or described["model"],
        max_tokens=described["max_tokens"],
        pooling=described["pooling"],
        normalize=described["normalized"],
        dimensions=described["dimension"],
        device="cpu",
        backend="torch",
        precision="float32",
        prompt="",
    )
    try:
        spec = read_model(config)
    except ConfigError as error:
        if model is not None:
            raise
        raise ConfigError(
            f"{error}; {version.url} was made with it: give its place now as --model"
        ) from error
    # A directory may hold another model by now, under the same name.
    if spec.weights_hash != described["weights_hash"]:
        raise ConfigError(
            f"{config.model}: its weights are not those that {version.url} was made with "
            f"({spec.weights_hash[:12]}, expected {described['weights_hash'][:12]}); "
            "give the right --model"
        )
    if prompt_name is not None or (prompt is None and dict(spec.prompts).get("query")):
        chosen = {"prompt": None, "prompt_name": prompt_name or "query"}
        spec = read_model(config.model_copy(update=chosen))
    elif prompt:
        spec = read_model(config.model_copy(update={"prompt": prompt}))
    ids, offsets, _ = load_tokenizer(spec.tokenizer).encode([text])
    vectors = next(LocalConnection(spec)().encode_all([TokenBatch(ids, offsets)]))
    return search(version, vectors, k)[0]
