"""Two recordings of the fakes, of one scenario and seed: a control, and one without attacks from step 12 on."""

from __future__ import annotations

import pytest
from viewer_fakes import N, heat_maps, play

from harness import intervention
from harness.recording.recording import Recording
from harness.viewer.heat import HeatLayer


@pytest.fixture(scope="session")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Recording:
    return play(tmp_path_factory.mktemp("control"))


@pytest.fixture(scope="session")
def treated(tmp_path_factory: pytest.TempPathFactory) -> Recording:
    calm = intervention.ActionOverride(keys={"attack": 0}, schedule=intervention.Schedule(between=(12, N - 1)))
    return play(tmp_path_factory.mktemp("treated"), [calm])


@pytest.fixture(scope="session")
def layer() -> HeatLayer:
    return HeatLayer.of("wander", heat_maps())
