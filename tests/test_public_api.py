"""The front door: light to open, and everything it names is there."""

from __future__ import annotations

import subprocess
import sys

import harness

HEAVY = ("torch", "numba", "cv2", "av", "scipy")


def test_every_name_of_the_front_door_opens() -> None:
    for name in harness.__all__:
        assert getattr(harness, name) is not None, name
    assert set(harness.__all__) <= set(dir(harness))


def _loaded(program: str) -> set[str]:
    program += f"\nimport sys; print(' '.join(m for m in {HEAVY!r} if m in sys.modules))"
    output = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True, timeout=120)
    return set(output.stdout.split())


def test_import_is_light() -> None:
    assert _loaded("import harness") == set()


def test_help_is_light() -> None:
    program = (
        "import harness.cli\n"
        "from click.testing import CliRunner\n"
        "assert CliRunner().invoke(harness.cli.cli, ['--help']).exit_code == 0\n"
        "assert CliRunner().invoke(harness.cli.cli, ['run', '--help']).exit_code == 0"
    )
    assert _loaded(program) == set()
