"""What tests of runs on a Ray cluster share: raylets on this machine, and what runs show."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from processes import alive, command, commits, kill_all, wait_until
from running import Dataset

from embedkit.dataset.committed import CommitRecord, committed
from embedkit.dataset.version import Version

ROWS = 1200
STORE_BYTES = 100 << 20
_QUICK = {"health_check_period_ms": 1000}
"""Ray looks after a node every 3 s, and believes the fifth failure."""
KINDS = ("BeamWorker", "EncoderActor", "SplitQueue")


class Cluster:
    """Raylets on this machine: a head that offers no CPU, and nodes of one CPU each.

    This process starts them but is no driver of theirs: whatever is known of them is known from
    their processes.
    """

    def __init__(self) -> None:
        from ray.cluster_utils import Cluster as Raylets

        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        head = {"num_cpus": 0, "object_store_memory": STORE_BYTES, "_system_config": _QUICK}
        self._raylets = Raylets(initialize_head=True, head_node_args=head)
        self.nodes: list[Any] = []

    @property
    def address(self) -> str:
        return self._raylets.address

    @property
    def metrics(self) -> list[str]:
        """Where the metrics of each living node are."""
        return [
            f"{node['NodeManagerAddress']}:{node['MetricsExportPort']}"
            for node in self._raylets.global_state.node_table()
            if node["Alive"]
        ]

    def add(self) -> Any:
        """Adds a node of one CPU, and waits until the cluster knows it."""
        self.nodes.append(self._raylets.add_node(num_cpus=1, object_store_memory=STORE_BYTES))
        return self.nodes[-1]

    def remove(self, node: Any) -> None:
        """Kills a node and all that runs on it, without a word to anybody."""
        self.nodes.remove(node)
        left = _below(node)
        psutil.Process(_raylet(node)).kill()
        kill_all(left)
        self._raylets.remove_node(node, allow_graceful=False)

    @contextmanager
    def nodes_with(self, **environment: str) -> Iterator[None]:
        """Nodes that are added in the body, and all processes on them, have these variables."""
        before = {name: os.environ.get(name) for name in environment}
        os.environ.update(environment)
        try:
            yield
        finally:
            for name, value in before.items():
                if value is None:
                    del os.environ[name]
                else:
                    os.environ[name] = value

    def resize(self, count: int) -> "Cluster":
        """Adds or removes nodes until there are so many."""
        while len(self.nodes) < count:
            self.add()
        while len(self.nodes) > count:
            self._raylets.remove_node(self.nodes.pop(), allow_graceful=True)
        self._raylets.wait_for_nodes(120)
        return self

    def workers(self, kind: str, node: Any = None) -> list[psutil.Process]:
        """The processes of Ray actors of a class, on all nodes or on one."""
        nodes = [node] if node else [self._raylets.head_node, *self.nodes]
        return [
            one
            for each in nodes
            for one in _below(each)
            if command(one).startswith(f"ray::{kind}") and alive(one)
        ]

    def actors(self) -> list[psutil.Process]:
        """The processes of whatever a run starts."""
        return [one for kind in KINDS for one in self.workers(kind)]

    def shutdown(self) -> None:
        self._raylets.shutdown()


def _raylet(node: Any) -> int:
    return node.all_processes["raylet"][0].process.pid


def _below(node: Any) -> list[psutil.Process]:
    try:
        return psutil.Process(_raylet(node)).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


@dataclass
class Run:
    """`embedkit run` as a process, its log readable while it goes on."""

    process: subprocess.Popen
    root: Path
    log_file: Path

    @property
    def log(self) -> list[dict[str, Any]]:
        lines = self.log_file.read_text().splitlines(keepends=True)
        return [json.loads(line) for line in lines if line.endswith("\n")]

    @property
    def messages(self) -> list[str]:
        return [line["message"] for line in self.log]

    def wait_for_commits(self, count: int) -> None:
        self.wait_until(lambda: len(commits(self.root)) >= count)

    def wait_until(self, condition: Callable[[], bool]) -> None:
        try:
            wait_until(condition, self.process)
        except AssertionError as error:
            raise AssertionError(f"{error}; the log:\n{self.log_file.read_text()}") from error

    def kill(self, number: int = signal.SIGKILL) -> int:
        """Sends a signal to the driver; returns its exit code."""
        self.process.send_signal(number)
        return self.process.wait(120)

    def end(self, code: int = 0) -> dict[str, Any]:
        """Waits for the end; returns what it printed, if it printed its result."""
        out, _ = self.process.communicate(timeout=600)
        assert self.process.returncode == code, self.log_file.read_text()
        return json.loads(out) if out else {}


def check_equal(root: Path, undisturbed: Dataset, rows: int = ROWS) -> Dataset:
    """The same part files, and so no id lost or doubled."""
    dataset = Dataset.latest(root)
    assert dataset.part_hashes == undisturbed.part_hashes
    assert dataset.table.equals(undisturbed.table)
    dataset.check_accounts(rows)
    return dataset


def by_encoder(dataset: Dataset) -> dict[str, int]:
    """Rows that each encoder encoded, as the report says."""
    report = json.loads((dataset.folder / "report" / "report.json").read_text())
    return {one["encoder"]: one["rows"] for one in report["run"]["by_encoder"]}


def documents_told(run: Run) -> int:
    """Documents of the version by the last line of progress, which counts what workers told."""
    return [line["progress"]["documents"] for line in run.log if "progress" in line][-1]


def losses(run: Run) -> list[str]:
    """What a run says of lost workers."""
    return [message for message in run.messages if " was lost " in message]


def one(processes: list[psutil.Process]) -> psutil.Process:
    assert len(processes) == 1, processes
    return processes[0]


def wait_until_still(run: Run, seconds: float = 3.0) -> None:
    """Waits until nothing has been committed for a while."""
    seen, since = -1, time.monotonic()

    def still() -> bool:
        nonlocal seen, since
        found = len(commits(run.root))
        if found != seen:
            seen, since = found, time.monotonic()
        return time.monotonic() - since > seconds

    run.wait_until(still)


def committed_below(root: Path) -> dict[str, CommitRecord]:
    """The blocks of the one version below a root, which is not complete."""
    assert not (root / "LATEST").exists()
    (folder,) = [path for path in root.iterdir() if path.name != ".tmp"]
    return committed(Version(str(root), folder.name))
