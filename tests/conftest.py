"""Puts ``tests/`` on the path, so that every room's tests can use ``fakes``, and offers the two fakes by name."""

from __future__ import annotations

import pytest

from harness import registry


@pytest.fixture
def fake_backend(monkeypatch: pytest.MonkeyPatch) -> str:
    """Register ``FakeWorld`` as the backend "fake"."""
    monkeypatch.setitem(registry.TABLES["harness.worlds"], "fake", "fakes:FakeWorld")
    return "fake"
