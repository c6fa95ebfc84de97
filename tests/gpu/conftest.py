"""Tests of this folder's ``test_cuda*.py`` need a CUDA device, and skip where there is none."""

import pytest
import torch


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks every test that needs a device, and skips it without one."""
    for item in items:
        if "tests/gpu/test_cuda" in item.path.as_posix():
            item.add_marker(pytest.mark.gpu)
            if not torch.cuda.is_available():
                item.add_marker(pytest.mark.skip(reason="torch finds no CUDA device here"))
