"""Records that kill the process that touches them: where this folder leads the Python path.

One text kills whoever tokenizes it, the other whoever reads it; an id kills the first who looks at
it, which a file with the name of the rest of the id then tells. Python runs this file at the start
of every process; it changes the functions when their modules are first imported.
"""

import importlib.abc
import importlib.machinery
import os
import signal
import sys

KILLS_ITS_TOKENIZER = "this text kills its tokenizer"
KILLS_ITS_READER = "this text kills its reader"
KILLS_ONCE = "kills-once:"


def _die_of(text, block):
    if any(text in found for found in block.rows.column("text").to_pylist()):
        os.kill(os.getpid(), signal.SIGKILL)


def _poison_tokenization(module):
    tokenize = module.tokenize_text

    def tokenize_text(block, tokenizer):
        _die_of(KILLS_ITS_TOKENIZER, block)
        return tokenize(block, tokenizer)

    module.tokenize_text = tokenize_text


def _poison_reading(module):
    read = module.read_split

    def read_split(*arguments):
        for block in read(*arguments):
            _die_of(KILLS_ITS_READER, block)
            yield block

    module.read_split = read_split


def _poison_ids(module):
    hashes = module._hashes

    def _hashes(ids):
        for one in ids:
            if one.startswith(KILLS_ONCE) and not os.path.exists(one.removeprefix(KILLS_ONCE)):
                open(one.removeprefix(KILLS_ONCE), "w").close()
                os.kill(os.getpid(), signal.SIGKILL)
        return hashes(ids)

    module._hashes = _hashes


_POISONS = {
    "embedkit.corpus.duplicates": _poison_ids,
    "embedkit.tokens.tokenization": _poison_tokenization,
    "embedkit.corpus.formats": _poison_reading,
}


class _Poisoner(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        poison = _POISONS.get(name)
        if poison is None:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        execute = spec.loader.exec_module

        def exec_module(module):
            execute(module)
            poison(module)

        spec.loader.exec_module = exec_module
        return spec


sys.meta_path.insert(0, _Poisoner())
