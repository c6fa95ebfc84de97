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


@pytest.mark.parametrize(
    ("device", "whole", "share"),
    [
        ("NVIDIA A100-SXM4-40GB MIG 1g.5gb", "A100", 1 / 7),
        ("NVIDIA A100-SXM4-80GB MIG 1g.10gb+me", "A100", 1 / 7),
        ("NVIDIA H100 80GB HBM3 MIG 3g.40gb", "H100", 3 / 7),
        ("NVIDIA H200 MIG 7g.141gb", "H200", 1.0),
        ("NVIDIA H200", "H200", 1.0),
    ],
)
def test_a_part_of_a_gpu_does_a_part_of_the_work(device, whole, share):
    found, all_of_it = published_rates(device), published_rates(whole)
    assert found.name == all_of_it.name == whole
    assert found.half == pytest.approx(share * all_of_it.half)
    assert found.single == pytest.approx(share * all_of_it.single)
    assert found.memory == pytest.approx(share * all_of_it.memory)
