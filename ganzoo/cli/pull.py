"""`ganzoo pull`."""

from __future__ import annotations

from pathlib import Path

import click


@click.command(name="pull")
@click.argument("repo_id", metavar="ORG/NAME[@REVISION]")
@click.option("--revision", default=None, help="Branch, tag or commit.")
@click.option("--output", type=click.Path(path_type=Path), default=None, help="Folder; by default the Hub's cache.")
def command(repo_id: str, revision: str | None, output: Path | None) -> None:
    """Download a whole checkpoint; prints the folder."""
    from ganzoo.hub.transfer import pull

    click.echo(str(pull(repo_id, revision=revision, output=output)))
