"""Puts ``tests/`` on the path, so that every room's tests can use ``fakes``, and offers the two fakes by name."""

from __future__ import annotations

import pytest

from harness import registry


@pytest.fixture
def fake_backend(monkeypatch: pytest.MonkeyPatch) -> str:
    """Register ``FakeWorld`` as the backend "fake"."""
    monkeypatch.setitem(registry.TABLES["harness.worlds"], "fake", "fakes:FakeWorld")
    return "fake"


@pytest.fixture
def fake_agent(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Register ``FakeAgent`` as a kind of agent; the path of an agent file of that kind."""
    monkeypatch.setitem(registry.TABLES["harness.agents"], "fake", "fakes:FakeAgent")
    path = tmp_path_factory.mktemp("agents") / "fake.yaml"
    path.write_text("kind: fake\ndescription: a softmax, random weights (seed 0)\n")
    return str(path)
