"""The CronJob's pod: how it starts a run, waits for it, and what it exits with."""

import datetime
import ipaddress
import json
import signal
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from manifests import K8S, only, render

from embedkit.errors import ConfigError, RejectsExceededError, ResumableError
from pipelines.submit_rayjob import LONGEST_NAME, exit_code, main, run_manifest, run_name

JOB = K8S / "base" / "job.yaml"
PATH = "/apis/ray.io/v1/namespaces/embedkit/rayjobs"
FAILED = "Job entrypoint command failed with exit code {}, last available logs:\nexit code 7"


class ApiServer:
    """Stands in for the Kubernetes API: keeps RayJobs and plays a script of their states."""

    def __init__(self) -> None:
        self.rayjobs: dict[str, Any] = {"embedkit": only(render("overlays/gpu"), "RayJob")}
        self.script: list[dict[str, str]] = [{"jobDeploymentStatus": "Complete"}]
        self.refusals: list[int] = []
        self.requests: list[tuple[str, str, str]] = []
        self.lose_next_answer = False
        self.before: dict[int, Callable[[], object]] = {}
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.answer(self, "GET")

            def do_POST(self) -> None:
                outer.answer(self, "POST")

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def use_tls(self, certificate: Path, key: Path) -> None:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(certificate, key)
        self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        self.url = self.url.replace("http:", "https:")

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def answer(self, handler: BaseHTTPRequestHandler, method: str) -> None:
        token = handler.headers["Authorization"]
        self.requests.append((method, handler.path, token))
        self.before.pop(len(self.requests), int)()
        body = json.loads(
            handler.rfile.read(int(handler.headers.get("Content-Length") or 0)) or b"{}"
        )
        refusal = self.refusals.pop(0) if self.refusals else 0
        code, said = (refusal, {}) if refusal else self._handle(method, handler.path, body)
        if self.lose_next_answer and method == "POST":
            self.lose_next_answer = False
            handler.connection.close()
            return
        text = json.dumps(said if said else {"message": "not now"}).encode()
        handler.send_response(code)
        handler.send_header("Content-Length", str(len(text)))
        handler.end_headers()
        handler.wfile.write(text)

    def _handle(self, method: str, path: str, body: Any) -> tuple[int, dict[str, Any]]:
        if method == "POST" and path == f"{PATH}?fieldValidation=Strict":
            name = body["metadata"]["name"]
            if name in self.rayjobs:
                return 409, {"message": f"{name} already exists"}
            self.rayjobs[name] = body
            return 201, body
        name = path.removeprefix(f"{PATH}/")
        if method != "GET" or name not in self.rayjobs:
            return 404, {"message": f"{path} not found"}
        rayjob = dict(self.rayjobs[name])
        if name != "embedkit":
            rayjob["status"] = self.script.pop(0) if len(self.script) > 1 else self.script[0]
        return 200, rayjob


@pytest.fixture(autouse=True)
def same_signals() -> Iterator[None]:
    """What the program says of SIGTERM stays with the program."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.fixture
def api() -> Iterator[ApiServer]:
    server = ApiServer()
    yield server
    server.close()


@pytest.fixture
def account(tmp_path: Path) -> Path:
    """A service account as it is mounted."""
    (tmp_path / "token").write_text("first-token\n")
    (tmp_path / "namespace").write_text("embedkit")
    return tmp_path


def options(api: ApiServer, account: Path, **more: object) -> list[str]:
    settings: dict[str, object] = {
        "template": "embedkit",
        "job-file": JOB,
        "job-name": "embedkit-29384775",
        "job-uid": "4a11",
        "server": api.url,
        "account": account,
        "poll": 0.01,
        "patience": 20,
    }
    return [f"--{name}={value}" for name, value in (settings | more).items()]


def run(api: ApiServer, account: Path, **more: object) -> int | str | None:
    with pytest.raises(SystemExit) as stopped:
        main(options(api, account, **more))
    return stopped.value.code


def test_a_run_is_created_from_the_template_and_waited_for(
    api: ApiServer, account: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    api.script = [
        {},
        {"jobDeploymentStatus": "Initializing"},
        {"jobDeploymentStatus": "Running", "jobStatus": "RUNNING"},
        {"jobDeploymentStatus": "Retrying", "jobStatus": "FAILED"},
        {"jobDeploymentStatus": "Running", "jobStatus": "RUNNING"},
        {"jobDeploymentStatus": "Complete", "jobStatus": "SUCCEEDED"},
    ]
    assert run(api, account) == 0
    made = api.rayjobs["embedkit-29384775-run"]
    template = api.rayjobs["embedkit"]
    assert made["spec"] == {**template["spec"], "suspend": False}
    assert made["metadata"]["ownerReferences"] == [
        {"apiVersion": "batch/v1", "kind": "Job", "name": "embedkit-29384775", "uid": "4a11"}
    ]
    said = capsys.readouterr().out
    for state in ("New", "Initializing", "Running RUNNING", "Retrying FAILED", "Complete"):
        assert state in said
    assert {token for _, _, token in api.requests} == {"Bearer first-token"}
    assert template["spec"]["suspend"] is True


def test_a_second_pod_of_the_job_joins_its_run(api: ApiServer, account: Path) -> None:
    api.script = [{"jobDeploymentStatus": "Complete", "jobStatus": "SUCCEEDED"}]
    assert run(api, account) == 0
    first = dict(api.rayjobs)
    assert run(api, account) == 0
    assert api.rayjobs == first


def test_a_lost_answer_makes_no_second_run(api: ApiServer, account: Path) -> None:
    api.lose_next_answer = True
    api.script = [{"jobDeploymentStatus": "Complete", "jobStatus": "SUCCEEDED"}]
    assert run(api, account) == 0
    assert [method for method, _, _ in api.requests].count("POST") == 2
    assert set(api.rayjobs) == {"embedkit", "embedkit-29384775-run"}


def test_other_jobs_have_other_runs(api: ApiServer, account: Path) -> None:
    api.script = [{"jobDeploymentStatus": "Complete", "jobStatus": "SUCCEEDED"}]
    run(api, account)
    run(api, account, **{"job-name": "embedkit-29386215"})
    assert {"embedkit-29384775-run", "embedkit-29386215-run"} < set(api.rayjobs)


def own_certificate(folder: Path) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1 that is its own authority, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "kubernetes")])
    now = datetime.datetime.now(datetime.UTC)
    host = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(host, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    folder.mkdir()
    (folder / "tls.crt").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (folder / "tls.key").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return folder / "tls.crt", folder / "tls.key"


def test_only_the_clusters_own_authority_is_trusted(
    api: ApiServer, account: Path, tmp_path: Path
) -> None:
    certificate, key = own_certificate(tmp_path / "ours")
    stranger, _ = own_certificate(tmp_path / "strange")
    api.use_tls(certificate, key)
    api.script = [{"jobDeploymentStatus": "Complete", "jobStatus": "SUCCEEDED"}]
    (account / "ca.crt").write_bytes(stranger.read_bytes())
    assert "CERTIFICATE_VERIFY_FAILED" in str(run(api, account, patience=0))
    assert api.requests == []
    (account / "ca.crt").write_bytes(certificate.read_bytes())
    assert run(api, account) == 0


def test_an_api_that_is_away_is_waited_for(
    api: ApiServer, account: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    api.refusals = [503, 429, 500]
    api.script = [{"jobDeploymentStatus": "Complete", "jobStatus": "SUCCEEDED"}]
    assert run(api, account) == 0
    assert capsys.readouterr().out.count("trying again") == 3


def test_an_api_that_stays_away_asks_for_another_pod(api: ApiServer, account: Path) -> None:
    # Neither 2, 3 nor 4, which would end the Job while its run may go on.
    code = run(api, account, server="http://127.0.0.1:9", patience=0)
    assert str(code).startswith("gave up on the Kubernetes API")


@pytest.mark.parametrize(
    ("status", "code"),
    [
        ({"jobDeploymentStatus": "Failed", "message": FAILED.format(2)}, ConfigError.exit_code),
        (
            {"jobDeploymentStatus": "Failed", "message": FAILED.format(3)},
            RejectsExceededError.exit_code,
        ),
        ({"jobDeploymentStatus": "Failed", "message": FAILED.format(4)}, ResumableError.exit_code),
        ({"jobDeploymentStatus": "Failed", "message": FAILED.format(137)}, 4),
        ({"jobDeploymentStatus": "Failed", "reason": "DeadlineExceeded"}, 4),
        ({"jobDeploymentStatus": "Failed", "message": None}, 4),
        ({"jobDeploymentStatus": "ValidationFailed", "message": "no"}, ConfigError.exit_code),
        ({"jobDeploymentStatus": "Complete", "jobStatus": "SUCCEEDED"}, 0),
        ({"jobDeploymentStatus": "Complete", "jobStatus": "STOPPED"}, 4),
        ({"jobDeploymentStatus": "Running", "jobStatus": "FAILED"}, None),
        ({"jobDeploymentStatus": "Suspended"}, None),
        ({}, None),
    ],
)
def test_the_exit_code_is_the_runs_own(status: dict[str, Any], code: int | None) -> None:
    assert exit_code(status) == code


def test_a_failed_run_shows_its_last_lines(
    api: ApiServer, account: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    api.script = [{"jobDeploymentStatus": "Failed", "message": FAILED.format(3)}]
    assert run(api, account) == 3
    assert "last available logs" in capsys.readouterr().out


def test_a_bad_job_file_stops_before_a_cluster_is_asked_for(
    api: ApiServer, account: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = account / "job.yaml"
    bad.write_text(JOB.read_text().replace("chunk_overlap", "chunk_overlp"))
    assert run(api, account, **{"job-file": bad}) == ConfigError.exit_code
    assert "chunk_overlp" in capsys.readouterr().err
    assert api.requests == []


@pytest.mark.parametrize(("code", "said"), [(401, "401"), (403, "403"), (422, "422")])
def test_a_refusal_is_a_matter_of_configuration(
    api: ApiServer, account: Path, capsys: pytest.CaptureFixture[str], code: int, said: str
) -> None:
    api.refusals = [code]
    assert run(api, account) == ConfigError.exit_code
    assert said in capsys.readouterr().err


def test_a_missing_template_is_named(
    api: ApiServer, account: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(api, account, template="nightly") == ConfigError.exit_code
    assert "RayJob nightly: there is no such template" in capsys.readouterr().err


def test_a_template_that_would_run_by_itself_is_refused(api: ApiServer, account: Path) -> None:
    rayjob = api.rayjobs["embedkit"]
    api.rayjobs["embedkit"] = {**rayjob, "spec": {**rayjob["spec"], "suspend": False}}
    assert run(api, account) == ConfigError.exit_code
    assert set(api.rayjobs) == {"embedkit"}


def test_a_deleted_run_can_be_resumed(api: ApiServer, account: Path) -> None:
    api.script = [{"jobDeploymentStatus": "Running"}]
    api.before[5] = lambda: api.rayjobs.pop("embedkit-29384775-run")
    assert run(api, account) == ResumableError.exit_code


def test_a_token_that_was_replaced_is_read_again(api: ApiServer, account: Path) -> None:
    running = {"jobDeploymentStatus": "Running"}
    api.script = [running, running, {"jobDeploymentStatus": "Complete", "jobStatus": "SUCCEEDED"}]
    api.before[3] = lambda: (account / "token").write_text("second-token")
    assert run(api, account) == 0
    assert [token for _, _, token in api.requests][2:4] == [
        "Bearer first-token",
        "Bearer second-token",
    ]


def test_a_queue_decides_when_the_run_starts() -> None:
    template = only(render("overlays/gpu"), "RayJob")
    made = run_manifest(template, "embedkit-1", "4a11", "embedkit")
    assert made["spec"]["suspend"] is True
    assert made["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "embedkit"
    # A template with the label would be started by Kueue itself.
    assert "kueue.x-k8s.io/queue-name" not in template["metadata"]["labels"]


def test_the_run_is_named_unlike_its_job() -> None:
    # KubeRay's submitter Job has the RayJob's name.
    assert run_name("embedkit-29384775") != "embedkit-29384775"
    cronjob = only(render("base"), "CronJob")["metadata"]["name"]
    minutes_in_the_year_9999 = "4222222222"
    assert len(run_name(f"{cronjob}-{minutes_in_the_year_9999}")) <= LONGEST_NAME
    with pytest.raises(ConfigError, match="at most 47"):
        run_name("x" * 44)


def test_it_starts_small_and_stops_when_told(api: ApiServer, account: Path) -> None:
    api.script = [{"jobDeploymentStatus": "Running"}]
    watched = (
        "import sys; from pipelines import submit_rayjob as s; "
        "heavy = {'ray', 'torch', 'pyarrow', 'apache_beam'} & set(sys.modules); "
        "assert not heavy, heavy; s.main(sys.argv[1:])"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", watched, *options(api, account)],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert "created" in process.stdout.readline()
    process.terminate()
    process.communicate(timeout=60)
    assert process.returncode == 143
