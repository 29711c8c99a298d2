"""`ganzoo verify`."""

from __future__ import annotations

import click

from ganzoo.errors import CheckpointError


@click.command(name="verify")
@click.argument("model")
@click.option("--revision", default=None, help="Branch, tag or commit on the Hub.")
def command(model: str, revision: str | None) -> None:
    """Check MODEL: files, checksums, strict loading, replay of its golden outputs, metrics, card."""
    from ganzoo.hub.verification import verify

    checks = verify(model, revision=revision)
    for check in checks:
        mark = click.style("ok  ", fg="green") if check.passed else click.style("FAIL", fg="red")
        click.echo(f"{mark} {check.name}: {check.message}")
    failed = [check.name for check in checks if not check.passed]
    if failed:
        raise CheckpointError(f"{model} did not pass: {', '.join(failed)}")
