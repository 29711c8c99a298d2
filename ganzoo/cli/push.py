"""`ganzoo push`."""

from __future__ import annotations

from pathlib import Path

import click


@click.command(name="push")
@click.argument("folder", type=click.Path(path_type=Path))
@click.argument("repo_id", metavar="ORG/NAME")
@click.option("--private", is_flag=True, help="A new repository is private.")
@click.option("--revision", default=None, help="Branch to commit to; made if it does not exist.")
@click.option("--create-pr", is_flag=True, help="Open a pull request instead of committing.")
@click.option("--message", default=None, help="Commit message.")
@click.option("--dry-run", is_flag=True, help="Check everything, show the files and the card, upload nothing.")
def command(
    folder: Path,
    repo_id: str,
    private: bool,
    revision: str | None,
    create_pr: bool,
    message: str | None,
    dry_run: bool,
) -> None:
    """Upload the checkpoint in FOLDER to ORG/NAME on the Hub, in one commit, in place of one that is there."""
    from ganzoo.hub.transfer import push_folder

    result = push_folder(
        folder,
        repo_id,
        private=private or None,
        revision=revision,
        create_pr=create_pr,
        commit_message=message,
        dry_run=dry_run,
    )
    for name, size in result.files:
        click.echo(f"{size:>12,}  {name}")
    for name in result.deleted:
        click.echo(f"{'deleted':>12}  {name}")
    if dry_run:
        click.echo(f"\n{result.card}\ndry run: nothing was uploaded")
    else:
        click.echo(result.url)
