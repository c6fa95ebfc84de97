"""Which GPU a device's name is of."""

import pytest

from embedkit.encoders.gpus import published_rates


@pytest.mark.parametrize(
    ("device", "name"),
    [
        ("NVIDIA H100 80GB HBM3", "H100"),
        ("NVIDIA H100 PCIe", "H100"),
        ("NVIDIA H200", "H200"),
        ("NVIDIA A100-SXM4-40GB", "A100"),
        ("NVIDIA A100 80GB PCIe", "A100"),
        ("NVIDIA A10G", "A10G"),
        ("NVIDIA A10", "A10"),
        ("NVIDIA L4", "L4"),
        ("NVIDIA L40S", "L40S"),
        ("Tesla T4", "T4"),
        ("Tesla V100-SXM2-16GB", "V100"),
        ("nvidia-l4", "L4"),
        ("nvidia-tesla-t4", "T4"),
    ],
)
def test_a_devices_name_tells_its_datasheet(device, name):
    assert published_rates(device).name == name


@pytest.mark.parametrize("device", ["", "cuda", "NVIDIA GeForce RTX 9999", "Quadro L400"])
def test_another_is_taken_for_an_a100(device):
    assert published_rates(device).name == "A100"
