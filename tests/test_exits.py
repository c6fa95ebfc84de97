"""How a process ends, each way in a real one."""

import json
import signal
import subprocess
import sys

import pytest

PROGRAM = """
import sys, time
from embedkit import errors
from embedkit.exits import run_to_exit
from embedkit.logs import set_up_logs

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
            "embedkit: a.yaml: wrong; mend it\n",
        ),
        ("raise errors.InputError('a: gone')", 2, "", "embedkit: a: gone\n"),
        ("raise errors.RejectsExceededError('too many')", 3, "", "embedkit: too many\n"),
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


def test_what_nobody_foresaw_keeps_its_traceback():
    done = run("return 1 // 0")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == "ZeroDivisionError: integer division or modulo by zero"


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


def started(after: str) -> subprocess.Popen:
    body = PATIENT.format(after=after).replace("\n", "\n    ")
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM.format(body=body)],
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


def test_a_second_signal_does_not_wait_for_the_cleaning():
    process = started("try:\n        time.sleep(600)\n    finally:\n        time.sleep(600)")
    process.send_signal(signal.SIGTERM)
    assert process.stdout.readline() == "cleaned up\n"
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 4
    process.communicate()
