"""Beam's own options on a command line that has others beside them."""

import argparse
import difflib
from collections.abc import Iterable, Sequence
from typing import NoReturn

from apache_beam.options.pipeline_options import PipelineOptions

from embedkit.errors import ConfigError


def _refuse(message: str) -> NoReturn:
    """Says what is wrong with an option, in the place of its parser, which prints all its usage."""
    raise ConfigError(f"{message.removeprefix('argument ')}; correct this option of Beam's")


def check_beam_flags(arguments: Sequence[str], others: Iterable[str], unknown: str) -> None:
    """Refuses flags that are none of Beam's, which it would drop in silence, and wrong values.

    Args:
        arguments: Flags and their values, without those that are not Beam's.
        others: Flags that these are besides, of which one may be meant.
        unknown: What to say of a flag that nobody knows, such as ``no option of Beam's``.

    Raises:
        ConfigError: A flag is unknown, or the value of one cannot be used.
    """
    parsers: list[argparse.ArgumentParser] = []
    PipelineOptions([]).get_all_options(add_extra_args_fn=parsers.append)
    beams = parsers[0]
    vars(beams)["error"] = _refuse
    _, left = beams.parse_known_args(list(arguments))
    flags = [*others, *(flag for action in beams._actions for flag in action.option_strings)]
    problems: list[str] = []
    for name in (one.partition("=")[0] for one in left):
        like = difflib.get_close_matches(name, flags, n=1)
        # What stands alone is the value of the flag before it, or of none.
        if name.startswith("-") or not problems:
            problems.append(f"{name}: {unknown}" + (f", did you mean {like[0]}?" if like else ""))
    if problems:
        raise ConfigError("; ".join(problems))


def beam_option_names() -> frozenset[str]:
    """Returns the names of Beam's options, with underscores."""
    return frozenset(PipelineOptions([]).get_all_options())
