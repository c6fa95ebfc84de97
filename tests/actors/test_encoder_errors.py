"""What is said of an encoder that failed, from what Ray says."""

import pytest
import ray
from ray.exceptions import ActorDiedError, RayError
from running import one_line

from embedkit.actors.encoder_errors import cause, encoder_error
from embedkit.errors import ConfigError, EmbedkitError, EncoderError, InputError


def from_ray(error: Exception) -> RayError:
    """What Ray says where an actor's constructor raises an error."""

    # Made here, it travels whole: workers do not import from the tests' folders.
    class Raises:
        def __init__(self, error: Exception) -> None:
            raise error

        def answer(self) -> None:
            """Never."""

    actor = ray.remote(Raises).options(num_cpus=0, max_restarts=-1).remote(error)
    with pytest.raises(RayError) as raised:
        ray.get(actor.answer.remote(), timeout=120)
    return raised.value


@pytest.mark.usefixtures("ray_session")
@pytest.mark.parametrize(
    ("raised", "kind", "said"),
    [
        (OSError("the driver is\ntoo old"), ConfigError, "(OSError: the driver is too old); it"),
        (KeyError("x"), ConfigError, "(KeyError: 'x'); it would fail again"),
        (RuntimeError("CUDA out of memory. Tried"), EncoderError, "fewer --encoders"),
        (InputError("m: gone"), InputError, "m: gone"),
    ],
)
def test_a_creation_error_says_its_cause_and_whether_another_try_can_help(raised, kind, said):
    error = encoder_error(from_ray(raised))
    assert type(error) is kind
    assert isinstance(error, EmbedkitError)
    line = one_line(str(error))
    assert said in line
    assert "\x1b" not in line
    assert ("run the same command again" in line) == (kind is EncoderError)


def test_the_cause_is_below_the_frames():
    text = (
        "The actor died because of an error raised in its creation task, "
        "\x1b[36mray::Encoder.__init__()\x1b[39m (pid=1, ip=127.0.0.1)\n"
        "ValueError: the first\n\nDuring handling of the above exception, another exception "
        "occurred:\n\n\x1b[36mray::Encoder.__init__()\x1b[39m (pid=1)\n"
        '  File "/a/b.py", line 3, in __init__\n    self.x = load(y)\n'
        '  File "/a/c.py", line 4, in load\n    raise torch.cuda.Bad(text)\n'
        "torch.cuda.Bad: the \x1b[31mdevice\x1b[0m\nis busy"
    )
    assert cause(text) == "torch.cuda.Bad: the device is busy"


def test_an_encoder_that_was_lost_is_another_matter():
    error = encoder_error(ActorDiedError())
    assert isinstance(error, EncoderError)
    assert "was lost: The actor" in str(error)
