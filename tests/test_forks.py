"""A process that was forked from one which computes with torch."""

import os
import subprocess
import sys

CODE = """
import multiprocessing, sys
import embedkit
import torch

def embed():
    embedder = embedkit.TextEmbedder(
        sys.argv[1], pooling="mean", backend="torch", encoder_threads=2)
    return embedder.embed(["rain " * 60, "a fox"] * 40).vectors

torch.set_num_threads(2)
torch.rand(1 << 22).exp()  # Begins threads for parallel loops, which no fork has.
fork = multiprocessing.get_context("fork")
answers = fork.SimpleQueue()
child = fork.Process(target=lambda: answers.put(embed()))
child.start()
child.join(60)
print("ended" if child.exitcode == 0 else f"exit code {child.exitcode}")
child.kill()
there = answers.get() if child.exitcode == 0 else None
print(abs(there - embed()).max() < 1e-6)
"""


def test_it_encodes_with_one_thread_and_says_so(tiny_model):
    # Who asks for the tokenizer's threads in all processes has them wait in forks as well.
    environment = {**os.environ, "TOKENIZERS_PARALLELISM": ""}
    done = subprocess.run(
        [sys.executable, "-c", CODE, tiny_model],
        capture_output=True,
        text=True,
        timeout=100,
        env=environment,
    )
    assert done.stdout.split("\n") == ["ended", "True", ""], done.stderr
    assert done.stderr.count("was forked from one that had imported torch") == 1
