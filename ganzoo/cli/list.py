"""`ganzoo list`: from names and files alone, without importing a family."""

from __future__ import annotations

import json

import click


@click.command(name="list")
@click.option("--modality", default=None, help="Only this modality: image, audio, text, points, ...")
@click.option("--json", "as_json", is_flag=True, help="Machine-readable.")
def command(modality: str | None, as_json: bool) -> None:
    """List pretrained models, families and recipes."""
    from ganzoo.checkpoints.catalogue import catalogue
    from ganzoo.recipe.names import recipe_files
    from ganzoo.registry import family_modality, family_summary, list_families

    models = [entry for entry in catalogue().values() if modality in (None, entry.modality)]
    families = [
        {"name": name, "modality": family_modality(name), "summary": family_summary(name)}
        for name in list_families(modality=modality, kind="all")
    ]
    recipes = [{"name": name, "modality": file.parent.name} for name, file in recipe_files(modality).items()]
    if as_json:
        from dataclasses import asdict

        listing = {
            "models": [asdict(entry) | {"repo_id": entry.repo_id} for entry in models],
            "families": families,
            "recipes": recipes,
        }
        click.echo(json.dumps(listing, indent=2))
        return
    _table("Pretrained models", [(m.name, f"{m.parameters / 1e6:.1f} M", m.summary) for m in models])
    _table("Families", [(f["name"], f["modality"], f["summary"]) for f in families])
    _table("Recipes", [(r["name"], r["modality"]) for r in recipes])


def _table(title: str, rows: list[tuple[str, ...]]) -> None:
    click.secho(title, bold=True)
    if not rows:
        click.echo("  none")
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))] if rows else []
    for row in rows:
        click.echo("  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
