"""A report for continuous integration: JUnit's XML, as Jenkins and GitLab read it."""

from __future__ import annotations

import re
from xml.etree import ElementTree

from harness.batch.summary import Summary
from harness.batch.verdicts import shortened

__all__ = ["junit_xml"]

_NO_XML = re.compile("[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""What XML 1.0 has no way to write."""


def junit_xml(report: Summary) -> bytes:
    """One test case for each verdict and each failed trial, and one for whether all trials are finished.

    A claim that does not hold is a failure, one that is undecided is skipped; what could not be played is an error.
    """
    cases = [_all_played(report), *_verdicts(report), *_failed(report)]
    counts = {"tests": str(len(cases)), **{f"{name}s" if name != "skipped" else name: str(
        sum(case.find(name) is not None for case in cases)) for name in ("failure", "error", "skipped")}}
    seconds = sum(outcome.seconds for row in report.rows for outcome in row.outcomes.values())
    attributes = {"name": _text(report.suite), **counts, "time": f"{seconds:.3f}"}
    root = ElementTree.Element("testsuites", attributes)
    suite = ElementTree.SubElement(root, "testsuite", attributes)
    suite.extend(cases)
    ElementTree.indent(root)
    return bytes(ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)) + b"\n"


def _case(report: Summary, kind: str, name: str, seconds: float = 0.0) -> ElementTree.Element:
    return ElementTree.Element("testcase", {"classname": _text(f"{report.suite}.{kind}"), "name": _text(name),
                                            "time": f"{seconds:.3f}"})


def _said(case: ElementTree.Element, tag: str, kind: str, message: str, text: str = "") -> None:
    attributes = {"message": _text(message), **({} if tag == "skipped" else {"type": _text(kind)})}
    ElementTree.SubElement(case, tag, attributes).text = _text(text) or None


def _all_played(report: Summary) -> ElementTree.Element:
    case = _case(report, "trials", "every trial is finished")
    if report.missing:
        _said(case, "error", "missing", f"{report.missing} of {report.n_trials} trials are not finished")
    return case


def _verdicts(report: Summary) -> list[ElementTree.Element]:
    cases = []
    for verdict in report.verdicts:
        case = _case(report, "claims", verdict.claim)
        message = verdict.reason or verdict.numbers or verdict.word
        if verdict.passed is False:
            flipped = f"seeds that came out differently: {shortened(verdict.flipped)}" if verdict.flipped else ""
            replay = f"to look at one: {verdict.replay}" if verdict.replay else ""
            lines = (verdict.claim, verdict.reason, verdict.numbers, verdict.note, flipped, replay)
            _said(case, "failure", "claim", message, "\n".join(filter(None, lines)))
        elif verdict.passed is None:
            _said(case, "skipped", "", f"undecided: {message}")
        cases.append(case)
    return cases


def _failed(report: Summary) -> list[ElementTree.Element]:
    cases = []
    for failure in report.failures:
        case = _case(report, "trials", f"{failure.title}, seed {failure.outcome.seed}", failure.outcome.seconds)
        first, *_ = failure.outcome.problem.strip().splitlines() or [failure.outcome.status]
        _said(case, "error", failure.outcome.status, first, failure.outcome.problem)
        cases.append(case)
    return cases


def _text(words: str) -> str:
    return _NO_XML.sub("\N{REPLACEMENT CHARACTER}", words)
