"""`ganzoo new`: the files of a new architecture that works, from the templates beside this module."""

from __future__ import annotations

from pathlib import Path
from string import Template

import click

from ganzoo.errors import UserError

TEMPLATES = Path(__file__).parent / "templates"
# To be replaced by the author; a link that leads nowhere, so that nobody takes it for the paper.
PLACEHOLDER_PAPER = "https://arxiv.org/abs/0000.00000"


@click.command(name="new")
@click.argument("family")
@click.option("--modality", required=True, help="What it generates: image, audio, text, ...")
@click.option("--package", type=click.Path(path_type=Path), default=None, help="Write a package into this new folder.")
def command(family: str, modality: str, package: Path | None) -> None:
    """Start the architecture FAMILY: a generator, a discriminator and a recipe that work, to be changed.

    In a checkout of ganzoo it becomes one of its families; elsewhere, or with --package, a pip-installable package of its
    own that ganzoo finds through the entry point `ganzoo.families`.

    \b
    ganzoo new my-gan --modality image
    ganzoo new my-gan --modality text --package ../my-gan
    """
    _check(family, modality)
    checkout = None if package else _checkout(Path.cwd())
    if checkout is not None:
        files, next_steps = _for_checkout(checkout, family, modality)
    else:
        files, next_steps = _for_package(package or Path(family), family, modality)
    _write(files)
    for path in files:
        click.echo(f"wrote {path}")
    click.echo(f"\nnext:\n{next_steps}")


def _check(family: str, modality: str) -> None:
    from ganzoo.recipe.names import list_recipes
    from ganzoo.registry import check_family_name, list_families
    from ganzoo.utils.modalities import check_modality

    check_family_name(family)
    check_modality(modality)
    _templates(modality)
    if family in list_families(kind="all"):
        raise UserError(f"family {family!r} exists already; choose another name ('ganzoo list' shows what is taken)")
    if family in list_recipes():
        raise UserError(f"a recipe {family!r} exists already; choose another name ('ganzoo list' shows what is taken)")


def _checkout(here: Path) -> Path | None:
    """The checkout of ganzoo around `here`, or None.

    Raises:
        UserError: It is another one than this ganzoo runs from, which would not see the new files.
    """
    running = Path(__file__).resolve().parents[2]
    for folder in (here, *here.parents):
        if (folder / "ganzoo" / "families").is_dir() and (folder / "recipes").is_dir():
            if folder.resolve() != running:
                raise UserError(
                    f"{folder} is a checkout of ganzoo, but this ganzoo runs from {running}: install the checkout "
                    "first (pip install -e .), or pass --package FOLDER for a package of its own"
                )
            return folder
    return None


def _for_checkout(root: Path, family: str, modality: str) -> tuple[dict[Path, str], str]:
    names = _names(family, modality, train=f"ganzoo train {family}")
    code = root / "ganzoo" / "families" / modality / f"{names['module']}.py"
    recipe = root / "recipes" / modality / f"{family}.yaml"
    package = code.parent / "__init__.py"  # of the first family of a modality
    files = {} if package.exists() else {package: f'"""Families of {modality}."""\n'}
    files |= {
        code: _fill(_templates(modality) / "family.py.template", names),
        recipe: _fill(_templates(modality) / "recipe.yaml.template", names),
    }
    steps = [
        ("edit both files", "CONTRIBUTING.md says what a family promises"),
        (f"pytest tests/test_families.py -k {family}", "every generic test, on the new family"),
        (names["train"], "writes samples, report.html and the model under runs/"),
        (f"ganzoo push runs/{family}/pipeline ME/{family} --dry-run", "the card, before it is published"),
    ]
    return files, _table(steps)


def _for_package(root: Path, family: str, modality: str) -> tuple[dict[Path, str], str]:
    if root.exists():
        raise UserError(f"{root} exists already; give a folder that does not, with --package FOLDER")
    names = _names(family, modality, train=f"ganzoo train recipes/{family}.yaml")
    package = root / "src" / names["package"]
    files = {
        root / "pyproject.toml": _render("pyproject.toml", names),
        root / "README.md": _render("README.md", names),
        package / "__init__.py": _render("init.py", names),
        package / f"{names['module']}.py": _fill(_templates(modality) / "family.py.template", names),
        root / "recipes" / f"{family}.yaml": _fill(_templates(modality) / "recipe.yaml.template", names),
    }
    steps = [
        (f"cd {root} && pip install -e .", "ganzoo finds the family through its entry point"),
        (names["train"], "writes samples, report.html and the model under runs/"),
        (f"ganzoo push runs/{family}/pipeline ME/{family} --dry-run", "the card, before it is published"),
    ]
    return files, _table(steps)


def _names(family: str, modality: str, *, train: str) -> dict[str, str]:
    """What the templates fill in, e.g. my-gan, MyGan, my_gan, ganzoo_my_gan."""
    from ganzoo.version import DISTRIBUTION, __version__

    module = family.replace("-", "_")
    class_name = "".join(part.capitalize() for part in family.split("-"))
    return {
        "name": family,
        "title": class_name,
        "class_name": class_name,
        "module": module,
        "package": f"ganzoo_{module}",
        "distribution": f"ganzoo-{family}",
        "modality": modality,
        "arguments": (_templates(modality) / "arguments.txt").read_text(encoding="utf-8").strip(),
        "paper": PLACEHOLDER_PAPER,
        "train": train,
        "ganzoo": DISTRIBUTION,
        "version": __version__,
    }


def _templates(modality: str) -> Path:
    """The folder of a modality's templates: family, recipe, and what the README creates the networks with. Those of another
    package's modality lie in `templates/<modality>` beside its processor.

    Raises:
        UserError: There are none.
    """
    from ganzoo.utils.finding import file_of
    from ganzoo.utils.modalities import PROCESSORS

    beside = {file_of(PROCESSORS.module(name)).parent / "templates" for name in PROCESSORS.names()}
    for folder in (TEMPLATES, *sorted(beside)):
        if (folder / modality / "family.py.template").is_file():
            return folder / modality
    known = sorted(path.parent.name for path in TEMPLATES.glob("*/family.py.template"))
    raise UserError(f"there are no templates for {modality}; there are for {', '.join(known)}")


def _render(template: str, names: dict[str, str]) -> str:
    return _fill(TEMPLATES / f"{template}.template", names)


def _fill(template: Path, names: dict[str, str]) -> str:
    return Template(template.read_text(encoding="utf-8")).substitute(names)


def _table(steps: list[tuple[str, str]]) -> str:
    width = max(len(step) for step, _ in steps)
    return "\n".join(f"  {step.ljust(width)}   {purpose}" for step, purpose in steps)


def _write(files: dict[Path, str]) -> None:
    """Writes all of the files or none.

    Raises:
        UserError: One of them exists.
        GanzooError: One of them cannot be written.
    """
    from ganzoo.utils.files import write_text

    present = [str(path) for path in files if path.exists()]
    if present:
        raise UserError(f"{', '.join(present)} exists already; choose another name")
    new_folders = {folder for path in files for folder in path.parents if not folder.exists()}
    written: list[Path] = []
    try:
        for path, content in files.items():
            write_text(path, content)
            written.append(path)
    except BaseException:
        for path in written:
            path.unlink()
        for folder in sorted(new_folders, reverse=True):  # the inner ones first
            if folder.is_dir():
                folder.rmdir()
        raise
