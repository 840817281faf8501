"""Training tests run on one torch thread, and share an agent file with a very small recipe."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tiny_runs import tiny_file, write_agent


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    """The agent file."""
    return write_agent(tmp_path, tiny_file())
