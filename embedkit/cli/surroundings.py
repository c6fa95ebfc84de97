"""Checks what surrounds a process: streams, working directory, proxies."""

import os
import re
import resource
import sys

from embedkit.errors import ConfigError

_LEAST_MAPPED = 1 << 30
_NUMBERS_OF_THREADS = re.compile(r"\s*[1-9][0-9]{0,4}\s*(,\s*[1-9][0-9]{0,4}\s*)*")
_THREADS = ("OMP_NUM_THREADS", "OMP_THREAD_LIMIT")
_THIS_MACHINE = ("localhost", "127.0.0.1", "::1")
_PROXIES = ("http_proxy", "https_proxy", "all_proxy", "grpc_proxy")
_EXCEPTIONS = ("no_proxy", "NO_PROXY", "no_grpc_proxy")


def mend_streams() -> None:
    """Opens standard streams that are closed, and lets them take any text whatever their encoding.

    The next file to be opened would else have a closed one's number, and get what libraries print.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(number, "w" if number else "r", closefd=False))
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")


def check_surroundings() -> None:
    """Checks what everything needs.

    Raises:
        ConfigError: The working directory was removed, or may not be seen; Python leaves out
            docstrings; libraries end a process that may not have as much memory as they map.
    """
    most, _ = resource.getrlimit(resource.RLIMIT_AS)
    if most != resource.RLIM_INFINITY and most < _LEAST_MAPPED:
        raise ConfigError(
            f"'ulimit -v' allows {most >> 20} MB of address space, which the libraries only map; "
            f"allow {_LEAST_MAPPED >> 20} MB at least, and limit memory by a cgroup"
        )
    if sys.flags.optimize > 1:
        raise ConfigError(
            "Python runs without docstrings (-OO, or PYTHONOPTIMIZE=2), which transformers needs; "
            "use PYTHONOPTIMIZE=1 or none"
        )
    try:
        os.getcwd()
    except OSError as error:
        raise ConfigError(
            f"the working directory cannot be used ({error.strerror}); change to one that exists "
            "and run the command again"
        ) from error


def threads_that_are_numbers() -> None:
    """Takes away what OpenMP would pass over as no number of threads, with lines on stderr."""
    for name in _THREADS:
        if not _NUMBERS_OF_THREADS.fullmatch(os.environ.get(name, "1")):
            del os.environ[name]


def this_machine_without_proxy() -> None:
    """Takes this machine's own addresses from what goes through a proxy, if anything does."""
    names = {name.lower() for name, value in os.environ.items() if value}
    if names.isdisjoint(_PROXIES):
        return
    # Where both spellings are set, libraries differ in which they heed.
    listed = os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or ""
    for name in _EXCEPTIONS:
        hosts = [host.strip() for host in os.environ.get(name, listed).split(",") if host.strip()]
        missing = [host for host in _THIS_MACHINE if host not in hosts]
        if "*" not in hosts:
            os.environ[name] = ",".join([*hosts, *missing])
