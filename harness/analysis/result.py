"""What every analysis gives back: numbers, and where they come from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from harness.provenance import digest
from harness.recording.recording import Recording

__all__ = ["Result", "result_provenance"]


@dataclass(frozen=True)
class Result:
    """A result of an analysis.

    Attributes:
        provenance: Recording, digest of its header, agent, analysis and its arguments. JSON values.
    """

    provenance: Mapping[str, Any]


def result_provenance(analysis: str, recording: Recording, **arguments: Any) -> dict[str, Any]:
    """The provenance of a result made from one recording."""
    return {"analysis": analysis, "arguments": arguments, "recording": recording.path.name,
            "header_digest": digest(recording.header), "status": recording.status,
            "agent": recording.agent_description}
