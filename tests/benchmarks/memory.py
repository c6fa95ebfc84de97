"""Peak memory of a run over few and over many records: it must not grow with the corpus."""

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

import psutil
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers import models as modules
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from tests.benchmarks.machine import describe_machine, watched

_INTERVAL = 0.2
_PROMISED = 0.15
_DIMENSION = 384
_RAY = ("gcs_server", "raylet", "ray::", "ray/_private", "ray/dashboard", "log_monitor")
_WORDS = [first + last for first in "bdfghklmnprstvwz" for last in ("an", "el", "ir", "os", "um")]


def write_corpus(folder: Path, records: int) -> Path:
    """Writes records of 6 to 12 words as four JSONL shards; equal for equal arguments."""
    folder.mkdir(parents=True)
    chosen = random.Random(records)
    for shard in range(4):
        with (folder / f"shard-{shard}.jsonl").open("w") as file:
            for _ in range(shard, records, 4):
                text = " ".join(chosen.choices(_WORDS, k=chosen.randint(6, 12)))
                file.write(json.dumps({"text": text}) + "\n")
    return folder


def save_tiny_model(folder: Path) -> str:
    """Saves a BERT of one layer and 32 units, widened to vectors of a usual size, from a seed."""
    torch.manual_seed(0)
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    vocabulary = {word: number for number, word in enumerate([*special, *_WORDS])}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=64,
    )
    plain = str(folder / "transformer")
    BertModel(config).save_pretrained(plain)
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", model_max_length=64
    ).save_pretrained(plain)
    transformer = modules.Transformer(plain, max_seq_length=64)
    layers = [transformer, modules.Pooling(32), modules.Dense(32, _DIMENSION), modules.Normalize()]
    SentenceTransformer(modules=layers, device="cpu").save(str(folder / "model"))
    return str(folder / "model")


def memory_of(processes: list[psutil.Process]) -> dict[str, float]:
    """Returns MiB by role; a page that n processes share counts 1/n in each of them."""
    sizes: Counter[str] = Counter()
    for process in processes:
        try:
            command = " ".join(process.cmdline())
            size = process.memory_full_info().pss
        except psutil.Error:
            continue
        sizes[_role(command)] += size / 2**20
    sizes["driver and workers"] = sizes["driver"] + sizes["workers"]
    sizes["all but the encoder"] = sizes["driver and workers"] + sizes["Ray's services"]
    return dict(sizes)


def _role(command: str) -> str:
    if "EncoderActor" in command:
        return "encoder"
    if command.startswith("ray::"):
        return "workers"
    return "Ray's services" if any(name in command for name in _RAY) else "driver"


def peak_memory(records: int, folder: Path, model: str) -> dict[str, float]:
    """Runs embedkit over a corpus of short records; returns peaks in MiB by role, and seconds."""
    corpus = write_corpus(folder / f"corpus-{records}", records)
    command = [str(Path(sys.executable).parent / "embedkit"), "run", str(corpus)]
    command += ["--model", model, "--output", str(folder / f"output-{records}")]
    process = subprocess.Popen(
        [*command, "--json", "--progress", "none"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=os.environ | {"HF_HUB_OFFLINE": "1"},
    )
    with watched(process.pid, _INTERVAL, memory_of) as usage:
        printed, _ = process.communicate()
    if process.returncode:
        raise RuntimeError(f"embedkit ended with {process.returncode} over {records} records")
    rows = json.loads(printed)["rows"]
    if rows != records:
        raise RuntimeError(f"{rows} rows came of {records} records")
    return {**usage.peaks, "seconds": usage.seconds}


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds this benchmark's options."""
    parser.add_argument(
        "--records", type=int, nargs=2, default=[10_000, 1_000_000], metavar=("FEW", "MANY")
    )


def main(options: argparse.Namespace) -> None:
    """Measures and prints."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = save_tiny_model(folder)
        few, many = (peak_memory(records, folder, model) for records in options.records)
    print("\nPeak memory in MiB, pages shared by several processes counted once")
    print(f"| | {options.records[0]:,} records | {options.records[1]:,} records | grows by |")
    print("|---|---|---|---|")
    for role in sorted({*few, *many} - {"seconds"}):
        before, after = few.get(role, 0.0), many.get(role, 0.0)
        growth = f"{after / before - 1:+.1%}" if before else ""
        print(f"| {role} | {before:,.0f} | {after:,.0f} | {growth} |")
    print(f"The runs took {few['seconds']:.0f} and {many['seconds']:.0f} s.")
    print(f"Promised: 'driver and workers' grows by less than {_PROMISED:.0%}.")


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__)
    add_options(arguments)
    print(describe_machine())
    main(arguments.parse_args())
