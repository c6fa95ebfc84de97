"""Slow: kills at random moments, the driver's memory, and nodes with addresses of their own."""

import os
import random
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import psutil
import pytest
from processes import alive, wait_until
from raylets import ROWS, STORE_BYTES, Cluster, Run, by_encoder, check_equal
from running import Dataset, embedkit_command, flags

from embedkit.config import JobConfig

pytestmark = [pytest.mark.soak, pytest.mark.timeout(5400)]

VICTIMS = ("worker", "encoder", "raylet", "driver")
KILLS = 10


class Killer:
    """Kills one of what a run consists of, at a random moment."""

    def __init__(
        self,
        cluster: Cluster,
        choose: random.Random,
        seconds: float,
        blocks: int,
        done: Callable[[Path], int],
    ) -> None:
        self._cluster = cluster
        self._choose = choose
        self._seconds = seconds
        self._blocks = blocks
        self._done = done

    def wait(self, run: Run) -> None:
        """Waits for a moment: by the clock, so while the run starts as well, or by its blocks."""
        if self._choose.random() < 0.5:
            moment = time.monotonic() + self._choose.random() * self._seconds
            wait_until(lambda: time.monotonic() > moment or run.process.poll() is not None)
        else:
            blocks = self._choose.randrange(self._blocks)
            wait_until(lambda: self._done(run.root) >= blocks or run.process.poll() is not None)

    def kill(self, victim: str, run: Run) -> bool:
        """Kills; tells whether the run had not ended before."""
        if victim == "driver":
            return run.process.poll() is None and run.kill() == -9
        if victim == "raylet":
            self._cluster.remove(self._choose.choice(self._cluster.nodes))
            return run.process.poll() is None
        kind = {"worker": "BeamWorker", "encoder": "EncoderActor"}[victim]
        found: list[psutil.Process] = []

        def there() -> bool:
            found[:] = self._cluster.workers(kind)
            return bool(found) or run.process.poll() is not None

        wait_until(there)
        if found:
            self._choose.choice(found).kill()
        return run.process.poll() is None


def timed(start_run, job: JobConfig) -> float:
    start = time.monotonic()
    start_run(job).end()
    return time.monotonic() - start


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("what", ["full", "update"])
def test_ten_kills_at_random_moments(
    request, cluster, many_blocks, start_run, tmp_path, what, seed
):
    """Of runs that begin with nothing, or take over what they can from the version before."""
    earlier: Dataset = request.getfixturevalue("undisturbed")
    wanted: Dataset = earlier if what == "full" else request.getfixturevalue("undisturbed_update")

    def job(name: str) -> JobConfig:
        root = tmp_path / name
        settings = {"ray_address": cluster.address, "encoders": "1..2", "workers": 2}
        if what == "update":
            shutil.copytree(earlier.folder.parent, root)
            settings["inputs"] = request.getfixturevalue("changed_corpus")
        return many_blocks(root, **settings)

    def done(root: Path) -> int:
        before = earlier.folder.name if what == "update" else ""
        return sum(path.parts[-4] != before for path in root.glob("*/_meta/commits/*.json"))

    print("\n| victim | blocks done | seconds | lost |\n|---|---|---|---|")
    choose = random.Random(f"{what}-{seed}")
    kills: list[tuple[str, float]] = []
    tries = 0
    while len(kills) < KILLS:
        victim = VICTIMS[len(kills) % len(VICTIMS)]
        cluster.resize(2)
        if not kills:
            # Anew for every seed, as the machine does other things as well.
            whole = timed(start_run, job(f"whole-{tries}"))
            print(f"| nobody | {len(wanted.parts)} | {whole:.1f} | |", flush=True)
        killer = Killer(cluster, choose, whole, len(wanted.parts), done)
        output = job(f"run-{(tries := tries + 1)}")
        start = time.monotonic()
        run = start_run(output)
        killer.wait(run)
        blocks = done(run.root)
        in_time = killer.kill(victim, run)
        if in_time and victim == "driver":
            wait_until(lambda: not cluster.actors())
            run = start_run(output)
        result = run.end()
        seconds = time.monotonic() - start
        check_equal(run.root, wanted)
        assert (result["rows"], result["rejects"]) == (ROWS, 0)
        wait_until(lambda: not cluster.actors())
        shutil.rmtree(run.root)
        if in_time:
            kills.append((victim, seconds - whole))
            print(f"| {victim} | {blocks} | {seconds:.1f} | {seconds - whole:.1f} |", flush=True)
    for victim in VICTIMS:
        lost = [seconds for name, seconds in kills if name == victim]
        print(f"{victim}: {sum(lost) / len(lost):.1f} s lost per kill, {max(lost):.1f} at most")
    assert tries < 3 * KILLS


def peak_of_driver(run: Run) -> int:
    """Peak resident bytes of a run's driver, which is waited for."""
    peak = 0
    status = Path(f"/proc/{run.process.pid}/status")
    while run.process.poll() is None:
        lines = status.read_text().splitlines()
        peaks = [int(line.split()[1]) for line in lines if line.startswith("VmHWM:")]
        peak = max([peak, *peaks])
        time.sleep(0.2)
    run.end()
    return peak << 10


def test_the_drivers_memory_does_not_grow_with_the_rows(cluster, start_run, tmp_path):
    from tests.benchmarks.memory import save_tiny_model, write_corpus

    few, many = 10_000, 100_000
    model = save_tiny_model(tmp_path)
    cluster.resize(2)
    peaks = {}
    for count in (few, many):
        job = JobConfig(
            inputs=(str(write_corpus(tmp_path / f"corpus-{count}", count)),),
            model=model,
            output=str(tmp_path / f"out-{count}"),
            engine="ray",
            ray_address=cluster.address,
            encoders="2",
            encoder_threads=1,
            backend="torch",
            split_bytes=1 << 20,
        )
        peaks[count] = peak_of_driver(start_run(job))
    vectors = (many - few) * 384 * 4
    growth = peaks[many] / peaks[few] - 1
    print(
        f"\ndriver {peaks[few] / 2**20:.0f} and {peaks[many] / 2**20:.0f} MiB for {few:,} and "
        f"{many:,} rows: {growth:+.1%}; their vectors are {vectors / 2**20:.0f} MiB more"
    )
    assert growth < 0.15
    # Else vectors could pass through the driver and nobody would see it here.
    assert vectors > 0.2 * peaks[few]


@pytest.fixture
def namespaces() -> Iterator[dict[str, str]]:
    """Three network namespaces on one bridge, and the address of each."""
    names = [f"embedkit{number}" for number in range(3)]
    addresses = {name: f"10.213.77.{number}" for number, name in enumerate(names, 1)}
    with ExitStack() as stack:

        def ip(*arguments: str) -> None:
            done = subprocess.run(["ip", *arguments], capture_output=True, text=True)
            if done.returncode:
                pytest.skip(f"no network namespaces here: ip {' '.join(arguments)}: {done.stderr}")

        def undo(*arguments: str) -> None:
            stack.callback(subprocess.run, ["ip", *arguments], check=False)

        if shutil.which("ip") is None:
            pytest.skip("no network namespaces here: the command ip is not installed")
        ip("link", "add", "embedkitbr", "type", "bridge")
        undo("link", "del", "embedkitbr")
        ip("link", "set", "embedkitbr", "up")
        for number, (name, address) in enumerate(addresses.items()):
            ip("netns", "add", name)
            undo("netns", "del", name)
            ip("link", "add", f"ekout{number}", "type", "veth", "peer", "name", f"ekin{number}")
            ip("link", "set", f"ekout{number}", "master", "embedkitbr", "up")
            ip("link", "set", f"ekin{number}", "netns", name)
            ip("-n", name, "address", "add", f"{address}/24", "dev", f"ekin{number}")
            ip("-n", name, "link", "set", f"ekin{number}", "up")
            ip("-n", name, "link", "set", "lo", "up")
        yield addresses
        for name in names:
            found = subprocess.run(["ip", "netns", "pids", name], capture_output=True, text=True)
            left = [psutil.Process(int(pid)) for pid in found.stdout.split()]
            for process in left:
                process.kill()
            wait_until(lambda gone=left: not any(map(alive, gone)))


def inside(name: str, *arguments: str, **environment: str) -> None:
    """Runs Python in a namespace, to a good end."""
    done = subprocess.run(
        ["ip", "netns", "exec", name, sys.executable, *arguments],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_nodes_with_addresses_of_their_own(namespaces, many_blocks, undisturbed, tmp_path):
    """They ask each other for a token as well, as clusters on Kubernetes do."""
    (head, address), *others = namespaces.items()
    settings = {
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
    }

    def start_node(name: str, own: str, *arguments: str) -> None:
        start = ["-m", "ray.scripts.scripts", "start", "--node-ip-address", own]
        start += ["--object-store-memory", str(STORE_BYTES), *arguments]
        inside(name, *start, **settings)

    start_node(head, address, "--head", "--port", "6380", "--num-cpus", "0")
    for name, own in others:
        start_node(name, own, "--address", f"{address}:6380", "--num-cpus", "1")
    job = many_blocks(tmp_path / "out", ray_address=f"{address}:6380", encoders="2", workers=2)
    inside(head, *embedkit_command()[1:], "run", *flags(job), **settings)
    rows = by_encoder(check_equal(tmp_path / "out", undisturbed))
    assert set(rows) == {"encoder-0", "encoder-1"}
    assert sum(rows.values()) == ROWS
