"""How long a run takes on a fleet of encoders, what it costs, and what holds it up first.

Nothing is measured here: the corpus is told from a sample, the encoders' speed is given, and the
rest goes at the rates of ``embedkit.engines.measured_rates``.
"""

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

from embedkit.config import EncoderRange, JobConfig
from embedkit.corpus.many_files import FILES_AT_ONCE
from embedkit.dataset.stores import READERS
from embedkit.encoders.fitting import Fitting, workers_on_cluster, workers_on_machine
from embedkit.encoders.host_cores import HostCores, HostWork
from embedkit.engines import measured_rates as rates
from embedkit.engines.store_requests import (
    Requests,
    examining_gets,
    finishing_requests,
    gets_to_plan,
    hash_gets,
    input_requests,
    output_requests,
)
from embedkit.engines.workload import Workload
from embedkit.errors import ConfigError
from embedkit.flow.examine import MOST_BLOCKS
from embedkit.flow.gather import PARTS_AT_ONCE, processes_for
from embedkit.flow.report import EXAMINED_AT_ONCE
from embedkit.reports.phrasing import size

REQUEST_SECONDS: Final = 0.1
"""Assumed of a store: what it takes to answer. The benchmark of ids waits as long for a split."""

_ROOM = 1 << 20
"""CPUs of a cluster that has as many as there is something to do for."""

_HOUR = 3600.0
_LEAST_HOURS = 0.001
"""Less of them is not worth a figure."""

_WHOLE_FROM = 100
"""A cost without its cents."""


@dataclass(frozen=True)
class SizingOptions:
    """What a plan is told of the run that it is to size.

    Attributes:
        documents: Records of the corpus, of which the inputs are a sample; those of the inputs
            unless given.
        tokens_per_second: What one encoder encodes; it is guessed unless given.
        price_per_hour: What one encoder costs, its share of a machine and its cores included, in
            any currency.

    Raises:
        ConfigError: One of them is out of range.
    """

    documents: int | None = None
    tokens_per_second: float | None = None
    price_per_hour: float | None = None

    def __post_init__(self) -> None:
        if self.documents is not None and self.documents < 1:
            raise ConfigError(f"documents = {self.documents}: expected a number of at least 1")
        speed, price = self.tokens_per_second, self.price_per_hour
        if speed is not None and not 0 < speed < math.inf:
            raise ConfigError(
                f"tokens_per_second = {speed:g}: expected a number above 0, such as "
                "400000, what one encoder was measured to do"
            )
        if price is not None and not 0 <= price < math.inf:
            raise ConfigError(
                f"price_per_hour = {price:g}: expected a number of at least 0, such as 2.5, "
                "what one encoder costs for an hour"
            )

    @property
    def given(self) -> bool:
        """Whether anything is to be sized."""
        return self != SizingOptions()


@dataclass(frozen=True)
class Fleet:
    """What a run is to have.

    Attributes:
        encoders: How many encoders.
        tokens_per_second: What one of them encodes.
        given: Whether that was given, not guessed.
        host: What cores do beside them.
        workers: Processes or threads that read, tokenize and write, for each of which there is a
            core.
        processes: Whether they are processes, and not threads of one.
        driver_cores: Cores of the machine that completes the version.
        workers_given: Whether the job says how many workers there are.
    """

    encoders: int
    tokens_per_second: float
    given: bool
    host: HostWork
    workers: int
    processes: bool
    driver_cores: int
    workers_given: bool

    @classmethod
    def of(
        cls,
        config: JobConfig,
        encoders: int,
        speed: float,
        given: bool,
        host: HostWork,
        driver_cores: int,
    ) -> "Fleet":
        """Returns the fleet that a job asks for, with CPUs for as many workers as it would have.

        Args:
            config: The job.
            encoders: How many encoders it takes.
            speed: Tokens per second of one of them.
            given: Whether that was given.
            host: What cores do beside them.
            driver_cores: Cores of the machine that completes the version.
        """
        core = host.tokens_per_second
        cores = HostCores(0.0, host.process_tokens_per_second / core, speed / core)
        fitting = Fitting(EncoderRange(encoders, encoders), 1.0, 0.0, None, 0)
        if config.engine == "ray":
            workers = workers_on_cluster(config, fitting, encoders, _ROOM, cores)
        elif config.engine == "local":
            workers = workers_on_machine(config, fitting, cores, _ROOM)
        else:
            workers = 1
        several = config.engine == "ray"
        told = config.workers is not None or config.engine == "plain"
        return cls(encoders, speed, given, host, workers, several, driver_cores, told)

    @property
    def cores_per_encoder(self) -> float:
        """Cores that keep one encoder busy."""
        return self.tokens_per_second / self.host.tokens_per_second

    @property
    def encoded(self) -> float:
        """Tokens per second of all encoders."""
        return self.encoders * self.tokens_per_second

    @property
    def passed(self) -> float:
        """Tokens per second that the workers let through."""
        by_cores = self.workers * self.host.tokens_per_second
        return by_cores if self.processes else min(by_cores, self.host.process_tokens_per_second)


@dataclass(frozen=True)
class Hours:
    """How long a run takes, in hours; all of it is estimated.

    Attributes:
        start: Until the first call to an encoder, planning left out.
        planning: Listing and looking at the input files, and at ids.
        encoders: What the encoders take for all tokens.
        host: What the workers take for them, at the same time.
        near_duplicates: Looking for near duplicates, a part of finishing.
        finishing: From the last commit to the complete version.
    """

    start: float
    planning: float
    encoders: float
    host: float
    near_duplicates: float
    finishing: float

    @property
    def encoding(self) -> float:
        """The longer of what encoders and workers take."""
        return max(self.encoders, self.host)

    @property
    def total(self) -> float:
        """All of the run."""
        return self.start + self.planning + self.encoding + self.finishing

    @property
    def bottleneck(self) -> str:
        """What takes longest: ``encoders``, ``host``, ``planning`` or ``finishing``."""
        names = ("encoders", "host", "planning", "finishing")
        return max(names, key=lambda name: float(getattr(self, name)))


@dataclass(frozen=True)
class Sizing:
    """A run on a fleet.

    Attributes:
        work: What it has to do.
        fleet: What it has.
        hours: How long it takes.
        price_per_hour: What one encoder costs; None where that was not said.
        input_requests: What the store of the inputs is asked, were they on one.
        output_requests: What that of the version is asked.
        scaled: Whether the inputs are a sample of what it is to embed.
    """

    work: Workload
    fleet: Fleet
    hours: Hours
    price_per_hour: float | None
    input_requests: Requests
    output_requests: Requests
    scaled: bool

    @property
    def encoder_hours(self) -> float:
        """Hours of all encoders; they are paid while a run is planned and finished, too."""
        return self.fleet.encoders * self.hours.total

    @property
    def cost(self) -> float | None:
        """What the encoders cost, in the currency of the price."""
        return None if self.price_per_hour is None else self.encoder_hours * self.price_per_hour

    @property
    def remedy(self) -> str:
        """What shortens the run most, for a person."""
        return {
            "encoders": self._more_encoders,
            "host": self._more_cores,
            "planning": self._faster_planning,
            "finishing": self._faster_finishing,
        }[self.hours.bottleneck]()

    def _more_encoders(self) -> str:
        most, following = min(self._limits())
        return (
            f"more encoders, or faster ones; from some {round_to(most, 2):,} of them on "
            f"{following} takes longer"
        )

    def _limits(self) -> Iterator[tuple[float, str]]:
        """Yields how many encoders take as long as something else, and what that is."""
        work, fleet, hours = self.work, self.fleet, self.hours
        spared = {"planning": 0.0, "finishing": 0.0}
        if fleet.workers_given or not fleet.processes:
            yield fleet.encoders * hours.encoders / hours.host, "the host side"
        else:
            # More encoders come with more workers, which do more than tokenize.
            many = replace(fleet, workers=_ROOM)
            ids = planning_seconds(work, fleet) - planning_seconds(work, many)
            spared = {"planning": ids / _HOUR, "finishing": hours.near_duplicates}
        for name, shared in spared.items():
            alone = max(getattr(hours, name) - shared, _LEAST_HOURS)
            yield fleet.encoders * (hours.encoders - shared) / alone, name

    def _more_cores(self) -> str:
        fleet = self.fleet
        rate = f"{round_to(fleet.passed, 2):,} tokens/s through"
        if not fleet.processes and fleet.passed < fleet.workers * fleet.host.tokens_per_second:
            return f"--engine ray, which has several processes; one lets about {rate}"
        needed = math.ceil(fleet.encoders * fleet.cores_per_encoder)
        return (
            f"more host cores: {fleet.workers:,} let about {rate}, and some {needed:,} keep the "
            "encoders busy (--workers)"
        )

    def _faster_planning(self) -> str:
        by_ids = id_seconds(self.work, self.fleet) if self.work.looks_at_ids else 0.0
        if by_ids > self.hours.planning * _HOUR / 2:
            return "more workers, which look for repeated ids, or no --id-column"
        return f"fewer and larger input files than {round_to(self.work.files, 2):,}"

    def _faster_finishing(self) -> str:
        if self.hours.near_duplicates > self.hours.finishing / 2:
            return "more workers, which look for near duplicates, or --near-duplicates off"
        return (
            "a driver with more cores, or blocks that are fewer and larger (--block-rows, "
            "--block-bytes)"
        )

    @property
    def assumed(self) -> tuple[str, ...]:
        """What is taken for granted, a line each."""
        fleet, work = self.fleet, self.work
        speed = "as given" if fleet.given else "guessed from the model and the hardware"
        near = f"near duplicates: {rates.NEAR_SECONDS_PER_ROW * 1e6:.0f} us of a core per row, as "
        remote = {"inputs": work.remote_inputs, "output": work.remote_output}
        places = " and ".join(name for name, one in remote.items() if one)
        return (
            f"encoders: {fleet.tokens_per_second:,.0f} tokens/s each, {speed}",
            f"workers: {fleet.workers:,}, each with a core as fast as one here",
            "planning and finishing: as measured on two cores, see RESULTS.md; a driver of "
            f"{fleet.driver_cores}",
            *([f"{near}measured among 100,000 rows"] if work.compared else []),
            f"stores: {places} answer in {REQUEST_SECONDS:g} s"
            if places
            else "stores: none, as inputs and output are on this machine",
            "losses, reuse and equal texts: none; metadata columns: nothing stored",
        )

    def to_dict(self) -> dict[str, Any]:
        """Returns the sizing as JSON values."""
        work, fleet, hours = self.work, self.fleet, self.hours
        return {
            "documents": work.documents,
            "scaled": self.scaled,
            "files": work.files,
            "splits": work.splits,
            "blocks": work.blocks,
            "rows": work.rows,
            "tokens": work.tokens,
            "vectors": work.vectors,
            "input_bytes": work.input_bytes,
            "stored_bytes": work.stored_bytes,
            "encoders": fleet.encoders,
            "tokens_per_second": fleet.tokens_per_second,
            "tokens_per_second_given": fleet.given,
            "workers": fleet.workers,
            "cores_per_encoder": fleet.cores_per_encoder,
            "host_tokens_per_second": fleet.passed,
            "hours": asdict(hours) | {"encoding": hours.encoding, "total": hours.total},
            "encoder_hours": self.encoder_hours,
            "price_per_hour": self.price_per_hour,
            "cost": self.cost,
            "requests": {
                "inputs": asdict(self.input_requests),
                "output": asdict(self.output_requests),
            },
            "bottleneck": hours.bottleneck,
            "remedy": self.remedy,
            "assumed": list(self.assumed),
        }

    def to_text(self) -> list[str]:
        """Returns the lines for a person."""
        work, fleet, hours = self.work, self.fleet, self.hours
        asked = self.input_requests + self.output_requests
        written, read = round_to(asked.put + asked.list, 2), round_to(asked.get, 2)
        name = "host side" if hours.bottleneck == "host" else hours.bottleneck
        first, *others = self.assumed
        return [
            f"sized for  {work.documents:,} documents{' like these' if self.scaled else ''}, about "
            f"{round_to(work.tokens, 3):,} tokens",
            f"encoders   {fleet.encoders:,} of {fleet.tokens_per_second:,.0f} tokens/s each; about "
            f"{fleet.cores_per_encoder:.2g} cores read, tokenize and write for one",
            self._hours_text(),
            *self._cost_text(),
            f"storage    about {size(work.stored_bytes)}, {round_to(work.blocks, 2):,} parts",
            f"requests   about {written:,} PUT and LIST, {read:,} GET, where all is on a store",
            f"bottleneck {name}, {_hours(getattr(hours, hours.bottleneck))} hours; shorter by "
            f"{self.remedy}",
            f"assumed    {first}",
            *(f"           {one}" for one in others),
        ]

    def _hours_text(self) -> str:
        hours, near = self.hours, self.hours.near_duplicates
        of_it = f", {_hours(near)} of it near duplicates" if near >= hours.finishing / 10 else ""
        return (
            f"hours      about {_hours(hours.total)}: planning {_hours(hours.planning)}, encoding "
            f"{_hours(hours.encoding)}, finishing {_hours(hours.finishing)}{of_it if near else ''}"
        )

    def _cost_text(self) -> list[str]:
        if self.cost is None:
            return []
        cost = f"{self.cost:,.0f}" if self.cost >= _WHOLE_FROM else f"{self.cost:,.2f}"
        hours = f"{self.encoder_hours:,.1f} hours of encoders at {self.price_per_hour:g}"
        return [f"cost       about {cost}: {hours}, planning and finishing included"]


def _hours(value: float) -> str:
    return f"{value:,.1f}" if value >= 1 else f"{value:.2g}" if value >= _LEAST_HOURS else "0"


def round_to(value: float, figures: int) -> int:
    """Returns a value to so many figures, as more of an estimate say nothing."""
    return int(float(f"{value:.{figures}g}"))


def size_run(
    work: Workload,
    fleet: Fleet,
    options: SizingOptions,
    start_seconds: float = 0.0,
) -> Sizing:
    """Sizes a run.

    Args:
        work: What it has to do.
        fleet: What it has.
        options: What was asked for.
        start_seconds: Until the first call to an encoder, planning left out.
    """
    near = near_seconds(work, fleet)
    hours = Hours(
        start=start_seconds / _HOUR,
        planning=planning_seconds(work, fleet) / _HOUR,
        encoders=work.tokens / fleet.encoded / _HOUR,
        host=work.tokens / fleet.passed / _HOUR,
        near_duplicates=near / _HOUR,
        finishing=(near + completing_seconds(work, fleet)) / _HOUR,
    )
    return Sizing(
        work,
        fleet,
        hours,
        options.price_per_hour,
        input_requests(work),
        output_requests(work, hours.total * _HOUR),
        scaled=options.documents is not None,
    )


def planning_seconds(work: Workload, fleet: Fleet) -> float:
    """Returns what passes before encoders could begin."""
    files = work.files * rates.PLAN_SECONDS_PER_FILE
    if work.remote_inputs:
        files += gets_to_plan(work) * REQUEST_SECONDS / FILES_AT_ONCE
    return files + (id_seconds(work, fleet) if work.looks_at_ids else 0.0)


def id_seconds(work: Workload, fleet: Fleet) -> float:
    """Returns what looking for repeated ids takes."""
    reading = work.documents * rates.ID_SECONDS_PER_RECORD
    if work.remote_inputs:
        reading += work.splits * REQUEST_SECONDS
    merging = work.documents * rates.ID_MERGE_SECONDS_PER_RECORD
    return rates.ID_START_SECONDS + reading / min(fleet.workers, work.splits) + merging


def near_seconds(work: Workload, fleet: Fleet) -> float:
    """Returns what looking for near duplicates among all rows takes."""
    return work.rows * rates.NEAR_SECONDS_PER_ROW / fleet.workers if work.compared else 0.0


def completing_seconds(work: Workload, fleet: Fleet) -> float:
    """Returns what completing a version takes when near duplicates are known."""
    cores = fleet.driver_cores
    examined = work.rows * min(1.0, MOST_BLOCKS / work.blocks)
    seconds = rates.MAP_SECONDS * min(1.0, work.rows / rates.MAP_ROWS)
    seconds += work.blocks * rates.FINISH_SECONDS_PER_BLOCK
    seconds += work.rows * rates.FINISH_SECONDS_PER_ROW / cores
    seconds += examined * rates.EXAMINE_SECONDS_PER_ROW / min(cores, EXAMINED_AT_ONCE)
    if work.remote_output:
        seconds += _waiting_seconds(work, cores if processes_for(work.blocks) > 1 else 1)
    return seconds


def _waiting_seconds(work: Workload, processes: int) -> float:
    hashes, examined = hash_gets(work), examining_gets(work)
    asked = finishing_requests(work)
    turns = (asked.get - hashes - examined) / READERS / processes
    turns += hashes / PARTS_AT_ONCE / processes + examined / EXAMINED_AT_ONCE + asked.list
    return turns * REQUEST_SECONDS
