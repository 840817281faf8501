"""Provenance and statistics: what other rooms stand on."""

from __future__ import annotations

import hashlib
import json
import math
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import harness
from harness import provenance
from harness.provenance import collect_provenance, digest, file_digest
from harness.statistics import wilson


def test_wilson_equals_published_figures() -> None:
    assert wilson(18, 20) == pytest.approx((0.69897, 0.97213), abs=1e-5)
    assert wilson(0, 0) == (0.0, 1.0)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 300), st.floats(0, 1))
def test_wilson_is_the_score_interval(trials: int, share: float) -> None:
    """Against Wilson's closed formula, with z of the 97.5th percentile."""
    successes = round(share * trials)
    z, p = 1.959963984540054, successes / trials
    middle = (p + z * z / (2 * trials)) / (1 + z * z / trials)
    half = z / (1 + z * z / trials) * math.sqrt(p * (1 - p) / trials + z * z / (4 * trials * trials))
    assert wilson(successes, trials) == pytest.approx((max(0, middle - half), min(1, middle + half)), abs=1e-9)


def test_wilson_refuses_what_cannot_be() -> None:
    with pytest.raises(ValueError, match="k"):
        wilson(3, 2)


def test_a_digest_ignores_the_order_of_keys_and_nothing_else(tmp_path: Path) -> None:
    assert digest({"a": 1, "b": [1, 2]}) == digest({"b": [1, 2], "a": 1})
    assert len({digest(v) for v in ({"a": 1}, {"a": 2}, {"b": 1}, {"a": [1]}, {"a": "1"}, {"a": None})}) == 6
    (tmp_path / "f").write_bytes(b"bytes")
    assert file_digest(tmp_path / "f") == hashlib.sha256(b"bytes").hexdigest()


def test_provenance_is_plain_and_names_no_folder() -> None:
    text = json.dumps(collect_provenance().as_dict())
    assert str(Path(harness.__file__).parent.parent) not in text and str(Path.home()) not in text
    assert json.loads(text)["harness"] == harness.__version__


def test_the_commit_and_its_changes_are_told(tmp_path: Path) -> None:
    def git(*words: str) -> str:
        identity = ("-c", "user.name=t", "-c", "user.email=t@example.org")
        return subprocess.run(["git", "-C", str(tmp_path), *identity, *words], check=True, capture_output=True,
                              text=True).stdout.strip()
    assert provenance._checkout(tmp_path) == (None, None)
    git("init", "-q")
    (tmp_path / "a").write_text("1")
    git("add", "a")
    git("commit", "-q", "-m", "first")
    assert provenance._checkout(tmp_path) == (git("rev-parse", "HEAD"), False)
    (tmp_path / "a").write_text("2")
    assert provenance._checkout(tmp_path)[1] is True
