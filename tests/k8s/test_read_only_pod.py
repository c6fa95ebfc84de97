"""A run with no more of the file system, the user and the rights than the manifests give it."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from manifests import K8S, Document, pods, render

PORT = 6391

SCRIPT = """
set -eu
mount --make-rprivate /
# An interpreter in a home folder that is closed to others: the same interpreter, the folder open.
mkdir -p {scratch}/python
mount --bind {interpreter} {scratch}/python
mount -t tmpfs -o mode=755 tmpfs {home}
mkdir -p {interpreter}
mount --bind {scratch}/python {interpreter}
cp {scratch}/pod.sh {scratch}/job.yaml {scratch}/corpus.jsonl {home}
chmod -R a+rX {home}/*
for place in {places}; do
    mkdir -p $place
    mount -t tmpfs -o mode=1777 tmpfs $place
done
mount -o remount,ro,bind {home}
mount --bind / /
mount -o remount,ro,bind /
exec setpriv --reuid {user} --regid {user} --clear-groups --no-new-privs \\
    --bounding-set -all --inh-caps -all bash {home}/pod.sh
"""

POD = """
set -eu
export PATH={bin}:/usr/bin:/bin {env}
export RAY_AUTH_MODE=token RAY_AUTH_TOKEN={token}
if touch /anywhere 2>/dev/null; then echo the root file system can be written; exit 1; fi
store=--object-store-memory=100000000
ray start --head --port={port} --num-cpus=0 --include-dashboard=false $store >/tmp/head 2>&1
ray start --address=127.0.0.1:{port} --num-cpus=2 $store >/tmp/worker 2>&1
embedkit run {home}/job.yaml --engine ray --ray-address 127.0.0.1:{port} --workers 1 \\
    --encoders 1..1 --progress none
RAY_ADDRESS=127.0.0.1:{port} {drain}
ray stop >/tmp/stop 2>&1
cat /tmp/out/LATEST
"""


def can_isolate() -> bool:
    if shutil.which("unshare") is None or shutil.which("setpriv") is None or os.geteuid() != 0:
        return False
    probe = ["unshare", "--mount", "--pid", "--fork", "mount", "--make-rprivate", "/"]
    return subprocess.run(probe, capture_output=True).returncode == 0


def drain_command(worker: Document) -> str:
    """The first part of the hook that runs when a pod is taken away."""
    hook = worker["spec"]["containers"][0]["lifecycle"]["preStop"]["exec"]["command"][-1]
    return str(hook).split("&&")[0].replace("timeout 20", "timeout 120")


@pytest.mark.soak
def test_ray_and_embedkit_write_only_where_the_pod_may(tmp_path: Path, minilm: str) -> None:
    if not can_isolate():
        pytest.skip("needs root and namespaces for a read-only file system of its own")
    hidden = (Path("/tmp"), Path.home())
    if any(Path(sys.executable).is_relative_to(folder) for folder in hidden):
        pytest.skip("the checkout lies in a folder that the pod's own volumes would hide")
    worker = pods(render("overlays/cpu-smoke"))["cpu"]
    container = worker["spec"]["containers"][0]
    empty = {one["name"] for one in worker["spec"]["volumes"] if "emptyDir" in one}
    mounts = {one["mountPath"] for one in container["volumeMounts"] if one["name"] in empty}
    assert "/tmp" in mounts
    fill = {
        "scratch": tmp_path,
        "interpreter": Path(sys.base_prefix),
        "home": Path.home(),
        # Outer folders first; /tmp last of all, for it hides this test's own folder.
        "places": " ".join([*sorted(mounts - {"/tmp", "/tmp/ray"}), "/tmp"]),
        "user": worker["spec"]["securityContext"]["runAsUser"],
        "bin": Path(sys.executable).parent,
        "env": " ".join(f"{one['name']}={one['value']}" for one in container["env"]),
        "token": "0123456789abcdef" * 4,
        "port": PORT,
        "drain": drain_command(worker),
    }
    shutil.copy(K8S / "overlays" / "cpu-smoke" / "corpus.jsonl", tmp_path)
    (tmp_path / "job.yaml").write_text(
        f"inputs: [{fill['home']}/corpus.jsonl]\nid_column: id\nmodel: {minilm}\noutput: /tmp/out\n"
    )
    (tmp_path / "pod.sh").write_text(POD.format(**fill))
    (tmp_path / "outer.sh").write_text(SCRIPT.format(**fill))
    isolate = ["unshare", "--mount", "--pid", "--fork", "--mount-proc", "bash"]
    done = subprocess.run(
        [*isolate, str(tmp_path / "outer.sh")], capture_output=True, text=True, timeout=900
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "12 documents -> 12 rows, 0 rejects" in done.stdout
