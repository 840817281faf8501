"""``harness doctor``: what is here, what is missing, and what to type."""

from __future__ import annotations

import click

from harness.agent.load import agent_names, read_agent_definition
from harness.cli.names import echo_json
from harness.provenance import file_digest
from harness.world.doctor import CORE, ENGINES, Check, Engine, Finding, examine, machine_checks

__all__ = ["doctor"]


@click.command()
@click.option("--for", "engine", type=click.Choice(ENGINES), help="Also take what this engine needs for needed.")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
@click.pass_context
def doctor(ctx: click.Context, engine: Engine | None, as_json: bool) -> None:
    """Check what this machine has: Python, PyTorch, GPU, Java, display, ports, disk, engines, weights.

    Exit code 1 when something that is needed is missing.
    """
    wanted = (CORE,) if engine is None else (CORE, engine)
    checks = (*machine_checks(engine), Check("bundled weights", (CORE,), _weights))
    rows, n_problems = [], 0
    width = max(len(check.name) for check in checks)
    for check in checks:
        finding = examine(check)
        status = check.status(finding, wanted)
        n_problems += status == "problem"
        advice = "" if finding.good else finding.advice
        rows.append({"name": check.name, "status": status, "found": finding.words, "type": advice,
                     "needed_by": list(check.needed_by)})
        if not as_json:
            click.echo(f"{status:<20}  {check.name:<{width}}  {finding.words}")
            if advice:
                click.echo(f"{'':<20}  {'':<{width}}  -> {advice}")
    if as_json:
        echo_json({"for": list(wanted), "good": not n_problems, "checks": rows})
    ctx.exit(1 if n_problems else 0)


def _weights() -> Finding:
    """Whether every bundled agent's weights are those that its file names."""
    definitions = [read_agent_definition(name) for name in agent_names()]
    with_weights = [d for d in definitions if d.weights is not None and d.sha256 is not None]
    wrong = [d.name for d in with_weights
             if d.weights is not None and (not d.weights.is_file() or file_digest(d.weights) != d.sha256)]
    if wrong:
        return Finding(False, f"not as they were sealed: {', '.join(wrong)}", "install harness again")
    return Finding(True, f"{len(with_weights)} files as they were sealed")
