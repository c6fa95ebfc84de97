"""What is published of GPUs, from which an encoder's speed on one is guessed."""

import re
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class GpuRates:
    """The most that a GPU does, by its datasheet.

    Attributes:
        name: Its name among those of other GPUs.
        half: Operations per second of matrix products in bfloat16 or float16, without sparsity.
        single: The same in float32.
        memory: Bytes per second of its memory.
    """

    name: str
    half: float
    single: float
    memory: float


_PUBLISHED = {
    rates.name: rates
    for rates in (
        GpuRates("V100", 125e12, 15.7e12, 0.9e12),
        GpuRates("T4", 65e12, 8.1e12, 0.32e12),
        GpuRates("A10", 125e12, 31.2e12, 0.6e12),
        GpuRates("A10G", 70e12, 31.5e12, 0.6e12),
        GpuRates("A30", 165e12, 10.3e12, 0.93e12),
        GpuRates("A40", 150e12, 37.4e12, 0.7e12),
        GpuRates("A100", 312e12, 19.5e12, 1.94e12),
        GpuRates("L4", 121e12, 30.3e12, 0.3e12),
        GpuRates("L40", 181e12, 90.5e12, 0.86e12),
        GpuRates("L40S", 362e12, 91.6e12, 0.86e12),
        GpuRates("H20", 148e12, 44e12, 4.0e12),
        GpuRates("H100", 989e12, 67e12, 3.35e12),
        GpuRates("H200", 989e12, 67e12, 4.8e12),
        GpuRates("B200", 2250e12, 75e12, 7.7e12),
    )
}
_TAKEN_FOR = "A100"
_PART = re.compile(r"MIG (\d)G\.")
_PARTS = 7


def published_rates(device: str) -> GpuRates:
    """Returns the rates of a GPU; those of an A100 where its name is not known.

    Args:
        device: The device's name, such as ``NVIDIA A100-SXM4-80GB`` or ``nvidia-l4``; of a part of
            one, as Multi-Instance GPU makes them, such as ``NVIDIA A100-SXM4-80GB MIG 3g.40gb``.
    """
    name = device.upper()
    words = re.split(r"[^A-Z0-9]+", name)
    rates = next((_PUBLISHED[word] for word in words if word in _PUBLISHED), _PUBLISHED[_TAKEN_FOR])
    part = _PART.search(name)
    share = int(part[1]) / _PARTS if part else 1.0
    return replace(
        rates, half=share * rates.half, single=share * rates.single, memory=share * rates.memory
    )
