"""How a process ends, each way in a real one."""

import getpass
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from processes import alive, wait_until
from running import one_line

PROGRAM = """
import sys, time
from embedkit import errors
from embedkit.cli.exits import run_to_exit
from embedkit.cli.logs import set_up_logs

def command():
    {body}

run_to_exit(command)
"""


def run(body: str) -> subprocess.CompletedProcess:
    program = PROGRAM.format(body=body.replace("\n", "\n    "))
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)


@pytest.mark.parametrize(
    ("body", "code", "out", "err"),
    [
        ("print('done')", 0, "done\n", ""),
        ("return 4", 4, "", ""),
        (
            "print('half')\nraise errors.ConfigError('a.yaml: wrong;\\nmend it')",
            2,
            "half\n",
            "embedkit: a.yaml: wrong;\\nmend it\n",
        ),
        ("raise errors.InputError('a: gone')", 2, "", "embedkit: a: gone\n"),
        ("raise errors.RejectsExceededError('too many')", 3, "", "embedkit: too many\n"),
        ("raise errors.GatesFailedError('gate a>0')", 5, "", "embedkit: gate a>0\n"),
        ("raise errors.EncoderError('lost')", 4, "", "embedkit: lost\n"),
        ("raise errors.IntegrityError('torn')", 4, "", "embedkit: torn\n"),
    ],
)
def test_each_end_has_its_code_and_its_line(body, code, out, err):
    done = run(body)
    assert (done.returncode, done.stdout, done.stderr) == (code, out, err)


def test_an_error_among_json_logs_is_json():
    done = run("set_up_logs('json')\nraise errors.InputError('a: gone')")
    assert done.returncode == 2
    assert json.loads(done.stderr)["message"] == "a: gone"


def test_what_nobody_foresaw_is_a_line_that_names_its_traceback():
    done = run("return 1 // 0")
    assert done.returncode == 4
    said = re.fullmatch(
        "embedkit: unexpected error: ZeroDivisionError: integer division or modulo by zero; "
        "please report it, its traceback is in (/.*)\n",
        done.stderr,
    )
    kept = Path(said[1])
    assert (kept.stat().st_mode & 0o777, kept.owner()) == (0o600, getpass.getuser())
    assert kept.read_text().splitlines()[-1].startswith("ZeroDivisionError: integer division")
    kept.unlink()


def test_the_traceback_of_what_nobody_foresaw_is_shown_where_that_is_asked_for(monkeypatch):
    monkeypatch.setenv("EMBEDKIT_TRACEBACK", "1")
    done = run("return 1 // 0")
    assert done.returncode == 4
    assert "ZeroDivisionError: integer division or modulo by zero\nembedkit: " in done.stderr


@pytest.mark.parametrize(
    ("raised", "code", "said"),
    [
        ("MemoryError()", 4, "too little memory; free some, or give smaller --block-rows"),
        (
            "ModuleNotFoundError(\"No module named 'pandas'\")",
            2,
            "'pandas'; install embedkit-batch again",
        ),
        ('RuntimeError("can\'t start new thread")', 2, "'ulimit -u'"),
        ('RuntimeError("[CPU] Transpose node can\'t alloc")', 4, "too little memory"),
        ("FileNotFoundError(2, 'No usable temporary directory found in [...]')", 2, "set TMPDIR"),
        ("BlockingIOError(11, 'Resource temporarily unavailable')", 2, "'ulimit -u'"),
        ("OSError(24, 'Too many open files', 'a')", 2, "a: Too many open files; allow more"),
        ("OSError(28, 'No space left on device', 'a')", 4, "a: No space left on device; make room"),
        ("OSError(12, 'Cannot allocate memory')", 4, "Cannot allocate memory; free memory"),
        ("PermissionError(13, 'Permission denied', 'a')", 2, "a: Permission denied; give"),
        (
            "type('PanicException', (BaseException,), {})('Onig: retry-limit-in-match over')",
            2,
            "the tokenizer gave up on a text (Onig: retry-limit-in-match over); take a model",
        ),
        ("Exception('Unk token `u` not found')", 2, "the tokenizer gave up on a text"),
        ("KeyboardInterrupt", 4, "stopped by SIGINT; run the same command again"),
    ],
)
def test_what_the_machine_refuses_is_said_with_its_remedy(raised, code, said):
    done = run(f"raise {raised}")
    assert done.returncode == code
    assert done.stderr.startswith("embedkit: ")
    assert said in one_line(done.stderr)


def test_a_failure_is_an_object_too_where_json_is_asked_for():
    done = run("sys.argv.append('--json')\nraise errors.InputError('a:\\ngone')")
    assert json.loads(one_line(done.stdout)) == {"error": r"a:\ngone", "exit_code": 2}
    assert done.stderr == "embedkit: a:\\ngone\n"
    for kind, code in (("RejectsExceededError", 3), ("GatesFailedError", 5)):
        done = run(f"sys.argv.append('--json')\nprint('{{}}')\nraise errors.{kind}('many')")
        assert (done.stdout, done.returncode) == ("{}\n", code)


def test_a_thread_that_never_ends_does_not_hold_up_an_error():
    body = (
        "import threading\n"
        "threading.Thread(target=time.sleep, args=(600,)).start()\n"
        "raise errors.EncoderError('lost')"
    )
    assert run(body).returncode == 4


# What a library may do around a long call: catch all that goes wrong, and go on.
PATIENT = """\
try:
    print("begun", flush=True)
    while True:
        try:
            time.sleep(600)
        except Exception:
            pass
finally:
    print("cleaned up", flush=True)
    {after}
"""


def started(after: str, *arguments: str) -> subprocess.Popen:
    body = PATIENT.format(after=after).replace("\n", "\n    ")
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM.format(body=body), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "begun\n"
    return process


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_unwinds_and_exits_as_resumable(number):
    process = started("pass")
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (4, "cleaned up\n")
    assert err == (
        f"embedkit: stopped by {number.name}; run the same command again to resume from what is "
        "committed\n"
    )


@pytest.mark.parametrize("command", ["train", "convert"])
def test_what_commits_nothing_on_the_way_begins_again(command):
    process = started("pass", command)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 4
    assert err == (
        "embedkit: stopped by SIGINT; nothing was written, the same command begins again\n"
    )


def test_a_second_signal_does_not_wait_for_the_cleaning():
    process = started("try:\n        time.sleep(600)\n    finally:\n        time.sleep(600)")
    process.send_signal(signal.SIGTERM)
    assert process.stdout.readline() == "cleaned up\n"
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 4
    process.communicate()


STOPPED = (
    "embedkit: stopped by SIGTERM; run the same command again to resume from what is committed\n"
)


@pytest.mark.parametrize(
    "body",
    [
        # Ray takes SIGTERM for itself while it starts.
        "import signal\nsignal.signal(signal.SIGTERM, lambda *_: sys.exit(15))\n{ready}\n"
        "time.sleep(600)",
        # A C function that has a Python one called, and makes another error of what that raises.
        "{ready}\ntry:\n    time.sleep(600)\nexcept BaseException:\n"
        "    raise SystemError('returned a result with an exception set') from None",
        # A library that takes it for its own failure.
        "{ready}\ntry:\n    time.sleep(600)\nexcept BaseException:\n"
        "    raise errors.ConfigError('no network') from None",
        # A finalizer: what is raised there is written to stderr and forgotten.
        "class Finalized:\n    def __del__(self):\n        {ready}\n        time.sleep(600)\n"
        "Finalized()\ntime.sleep(600)",
        # Others speak while it is stopped.
        "import logging\n{ready}\ntry:\n    time.sleep(600)\nfinally:\n"
        "    time.sleep(0.5)\n    logging.error('lost the connection')",
    ],
    ids=["handler", "system-error", "own-error", "finalizer", "logs"],
)
@pytest.mark.few(2)
def test_a_signal_is_one_line_whatever_a_library_makes_of_it(body):
    process = begun(body)
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, err, out) == (4, STOPPED, "")


@pytest.mark.parametrize(
    "body",
    [
        "{ready}\nwhile True:\n    try:\n        time.sleep(600)\n    except BaseException:\n"
        "        pass",
        # The main thread heeds no handler, as inside a long call of C.
        "import signal\nsignal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])\n{ready}\n"
        "time.sleep(600)",
        # Logging holds its lock for a moment in which nothing would give it back.
        "import logging\nclass Lock:\n    def __init__(self, lock):\n        self.lock = lock\n"
        "        self.release = lock.release\n        self.begun = False\n"
        "    def acquire(self):\n        self.lock.acquire()\n"
        "        if not self.begun:\n            self.begun = True\n"
        "            {ready}\n            time.sleep(1)\n"
        "logging._lock = Lock(logging._lock)\nwhile True:\n    try:\n"
        "        logging.getLogger('a').isEnabledFor(1)\n        time.sleep(600)\n"
        "    except BaseException:\n        pass",
    ],
    ids=["swallowed", "inside-c", "lock"],
)
def test_unwinding_that_does_not_end_is_ended(body):
    process = begun("from embedkit.cli import stopping\n" + body, grace=1)
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, err, out) == (4, STOPPED, "")


def test_what_was_started_is_ended_though_its_parent_has_gone(tmp_path):
    """Ray's workers are the raylet's children, and nobody's once that has ended."""
    file = tmp_path / "pids"
    process = begun(
        "import subprocess\n"
        f"subprocess.Popen(['sh', '-c', 'sleep 600 & sleep 600 & echo $$ $! > {file}; wait'])\n"
        f"import os\nwhile not os.path.exists({str(file)!r}) or not os.path.getsize("
        f"{str(file)!r}): time.sleep(0.01)\n"
        "{ready}\ntime.sleep(600)"
    )
    started = psutil.Process(process.pid).children(recursive=True)
    assert len(started) == 3
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (4, STOPPED)
    wait_until(lambda: not any(map(alive, started)))


def test_nothing_is_raised_in_a_module_that_is_being_loaded(tmp_path, monkeypatch):
    """C++ that loads one aborts, with frames of Python on stderr."""
    (tmp_path / "slow_module.py").write_text(
        "import os, time\nos.write(9, b'.')\n"
        "try:\n    time.sleep(600)\nexcept BaseException:\n    os.abort()\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    process = begun("import slow_module")
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (4, STOPPED)


def test_a_signal_after_all_is_done_changes_nothing():
    """Libraries take a second or more to end; the version is complete by then."""
    process = begun(
        "import atexit\ndef late():\n    {ready}\n    time.sleep(600)\natexit.register(late)"
    )
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (0, "", "")


def test_a_signal_while_the_command_line_is_being_imported():
    """What is installed as the script hears of signals before it imports anything."""
    for delay in (0.1, 0.15, 0.2, 0.3):
        process = subprocess.Popen(
            [sys.executable, "-m", "embedkit", "info", "nowhere"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        wait_until(lambda one=process: threads(one.pid) > 1, process)
        time.sleep(delay - 0.1)
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=60)
        assert process.returncode in (2, 4)
        assert one_line(err).startswith("embedkit: ")


def threads(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/task"))


def begun(body: str, grace: float = 10) -> subprocess.Popen:
    """Starts a command that says so where its body has `{ready}`."""
    ready = "os.write(9, b'.')"
    body = "import os\n" + body.replace("{ready}", ready)
    program = PROGRAM.format(body=body.replace("\n", "\n    "))
    module = "embedkit.cli.stopping"
    program = f"import {module}\n{module}.GRACE_SECONDS = {grace}\n{program}"
    hears, tells = os.pipe()

    def number_nine() -> None:
        os.dup2(tells, 9)

    process = subprocess.Popen(
        [sys.executable, "-c", program],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        close_fds=False,
        preexec_fn=number_nine,
    )
    os.close(tells)
    assert os.read(hears, 1) == b"."
    os.close(hears)
    return process
