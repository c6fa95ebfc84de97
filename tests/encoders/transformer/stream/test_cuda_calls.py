"""What is asked of torch.cuda, by its own signatures, as far as that shows without a GPU."""

from unittest.mock import create_autospec

import pytest
import torch

from embedkit.encoders.transformer.stream.device import CpuDevice, CudaDevice, device_of

NAMES = (
    "CUDAGraph",
    "Event",
    "Stream",
    "current_device",
    "current_stream",
    "empty_cache",
    "get_device_name",
    "graph",
    "graph_pool_handle",
    "max_memory_reserved",
    "mem_get_info",
    "memory_reserved",
    "reset_peak_memory_stats",
    "stream",
    "synchronize",
)


@pytest.fixture
def cuda(monkeypatch):
    """``torch.cuda`` with the functions above in name only; the second device is current."""
    for name in NAMES:
        monkeypatch.setattr(torch.cuda, name, create_autospec(getattr(torch.cuda, name)))
    torch.cuda.current_device.return_value = 1
    torch.cuda.graph_pool_handle.side_effect = iter("abc")
    return torch.cuda


@pytest.mark.parametrize(("asked", "index"), [("cuda", 1), ("cuda:0", 0)])
def test_the_device_is_the_one_asked_for_or_else_the_current_one(asked, index, cuda):
    device = device_of(asked)
    assert isinstance(device, CudaDevice)
    device.synchronize()
    cuda.synchronize.assert_called_once_with(torch.device("cuda", index))
    assert device.name is cuda.get_device_name.return_value
    assert isinstance(device_of("cpu"), CpuDevice)


def test_queues_begin_behind_what_was_begun_and_events_let_the_host_sleep(cuda):
    device = device_of("cuda")
    queue = device.queue()
    queue.wait_stream.assert_called_once_with(cuda.current_stream.return_value)
    assert device.on(queue) is cuda.stream.return_value
    for timed in (False, True):
        device.event(timed)
        cuda.Event.assert_called_with(enable_timing=timed, blocking=True)


def test_graphs_share_memory_until_they_are_gone_and_leave_other_threads_alone(cuda):
    device, done = device_of("cuda"), []
    queue = device.queue()
    for pool in "aab":
        if pool == "b":
            device.free_memory()
        replay = device.capture(
            lambda: done.append(cuda.graph.return_value.__enter__.called), queue
        )
        graph = cuda.CUDAGraph.return_value
        cuda.graph.assert_called_with(
            graph, pool=pool, stream=queue, capture_error_mode="thread_local"
        )
        assert replay is graph.replay
    assert done == [True] * 3


@pytest.mark.parametrize(("free", "has_room"), [(150, True), (149, False)])
def test_the_largest_stream_fits_twice_and_leaves_a_sixteenth(free, has_room, cuda):
    reserved = 400
    cuda.memory_reserved.side_effect = lambda device: reserved
    cuda.max_memory_reserved.side_effect = lambda device: 450
    cuda.mem_get_info.return_value = (free, 1_600)

    def work() -> None:
        nonlocal reserved
        cuda.empty_cache.assert_called_once()
        cuda.reset_peak_memory_stats.assert_called_once()
        reserved = 450

    assert device_of("cuda").has_room(work) == has_room
