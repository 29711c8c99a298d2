"""The only place that knows which families exist.

A family is found in one of three ways: as a file `ganzoo/families/<modality>/<name>.py`, through the entry-point group
`ganzoo.families` of an installed package (entry-point name = family name, value = the module that registers it), or
because a script called `@register_family` itself. Listing reads names and source text: nothing is imported until a family
is used, so that `ganzoo list` needs no torch.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from ganzoo.errors import NotFoundError, UserError, did_you_mean
from ganzoo.utils.finding import import_module, source_of, with_others
from ganzoo.utils.modalities import check_modality, modalities

if TYPE_CHECKING:
    from pydantic import BaseModel
    from torch import nn

FAMILIES = "ganzoo.families"  # the package, and the entry-point group of others' families
FAMILIES_FOLDER = Path(__file__).parent / "families"

# A family's networks by role, main network first: a GAN is {"generator", "discriminator"}, an embedder {"classifier"}.
ROLES = ("generator", "discriminator", "classifier")


@dataclass(frozen=True)
class Family:
    """What the library knows of one architecture.

    Attributes:
        name: Lower-case name with hyphens, `"dcgan"`.
        modality: What its samples are, one of `ganzoo.utils.modalities.modalities()`.
        config: The config class; one config describes all networks of the family.
        networks: Role -> network class. The first is the main network: the one that users load and that EMA follows.
        paper: Link to the paper.
        objective: The recipe's `objective` section when it leaves it out.
        tiny: Arguments of a config small enough for tests (a forward and backward pass in milliseconds).
        summary: First line of the defining module's docstring.
    """

    name: str
    modality: str
    config: type[BaseModel]
    networks: dict[str, type[nn.Module]]
    paper: str
    objective: dict[str, Any]
    tiny: dict[str, Any]
    summary: str

    @property
    def main_role(self) -> str:
        return next(iter(self.networks))

    @property
    def is_gan(self) -> bool:
        return "generator" in self.networks

    def tiny_config(self, **overrides: Any) -> BaseModel:
        return self.config.from_dict({**self.tiny, **overrides})


_registered: dict[str, Family] = {}
Record = TypeVar("Record", bound=type)


def register_family(name: str, *, modality: str, paper: str) -> Callable[[Record], Record]:
    """Decorates a class that lists the parts of a family, and registers it.

    The class has the attributes `config` (a subclass of `GANConfig`), `generator` and `discriminator` (or `classifier`
    alone), `tiny` (arguments of a test-sized config) and optionally `objective`:

        @register_family("my-gan", modality="image", paper="https://arxiv.org/abs/...")
        class MyGAN:
            config = MyGANConfig
            generator = MyGANGenerator
            discriminator = MyGANDiscriminator
            tiny = {"resolution": 8, "width": 4}

    Raises:
        UserError: The name is malformed or taken, the modality unknown, or the record incomplete.
    """
    check_family_name(name)
    if modality not in modalities():
        raise UserError(f"family {name!r}: modality {modality!r} is none of {', '.join(modalities())}")
    if not paper.startswith("https://"):
        raise UserError(f"family {name!r}: paper must be an https:// link, not {paper!r}")

    def decorate(record: Record) -> Record:
        networks = {role: getattr(record, role) for role in ROLES if hasattr(record, role)}
        if set(networks) not in ({"generator", "discriminator"}, {"classifier"}):
            raise UserError(f"family {name!r} must have a generator and a discriminator, or a classifier alone")
        missing = [attribute for attribute in ("config", "tiny") if not hasattr(record, attribute)]
        if missing:
            raise UserError(f"family {name!r} lacks the attribute {' and '.join(missing)}")
        _refuse_clash(name, record)
        record.config.family = name
        for role, network in networks.items():
            network.family, network.role, network.config_class = name, role, record.config
        docstring = sys.modules[record.__module__].__doc__ or record.__doc__ or name
        _registered[name] = Family(
            name=name,
            modality=modality,
            config=record.config,
            networks=networks,
            paper=paper,
            objective=getattr(record, "objective", {}),
            tiny=record.tiny,
            summary=docstring.strip().splitlines()[0],
        )
        return record

    return decorate


def check_family_name(name: str) -> None:
    """Refuses names that are not lower-case letters and digits joined by hyphens, at most 60 characters.

    Raises:
        UserError: What a name looks like.
    """
    if not re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", name) or len(name) > 60:
        raise UserError(
            f"family name {name!r} must be lower-case letters and digits joined by hyphens, at most 60 in all, "
            "as in 'my-gan'"
        )


def get_family(name: str) -> Family:
    """Returns the family record, importing the file that defines it.

    Raises:
        NotFoundError: No such family; says which names are close.
    """
    if name not in _registered:
        if module := _modules().get(name):
            import_module("family", name, module, FAMILIES)
            if name not in _registered:
                raise UserError(f"family {name!r}: {module} was loaded but registers no family of that name")
    if name not in _registered:
        known = _known_names()
        raise NotFoundError(f"unknown family {name!r}.{did_you_mean(name, known)} Known families: {', '.join(known)}")
    return _registered[name]


def list_families(*, modality: str | None = None, kind: str = "gan") -> list[str]:
    """Lists family names, sorted.

    Args:
        modality: Only this one: `"image"`, `"audio"`, `"text"`, `"points"`, ...
        kind: `"gan"`, `"classifier"` (the metrics' embedders), or `"all"`.

    Raises:
        UserError: Unknown modality or kind.
    """
    if modality is not None:
        check_modality(modality)
    if kind not in ("gan", "classifier", "all"):
        raise UserError(f"unknown kind {kind!r}; it is one of gan, classifier, all")
    return [
        name
        for name in _known_names()
        if (modality is None or family_modality(name) == modality)
        and (kind == "all" or _outline(name).is_gan == (kind == "gan"))
    ]


def family_modality(name: str) -> str:
    """The modality of a family, without importing it."""
    return _outline(name).modality


def family_summary(name: str) -> str:
    """The first line of the family's docstring, without importing it."""
    return _outline(name).summary


@dataclass(frozen=True)
class Outline:
    """What a list shows of a family; its source says it, so that nothing has to be imported."""

    modality: str
    is_gan: bool
    summary: str


def _outline(name: str) -> Outline:
    """Raises NotFoundError for an unknown name, like `get_family`."""
    outline = None
    if name not in _registered:
        module = _modules().get(name)
        outline = _read_outline(name, module) if module else None
    if outline is not None:
        return outline
    # Registered by a script, or written in a way that only running it can tell.
    family = get_family(name)
    return Outline(family.modality, family.is_gan, family.summary)


@cache
def _read_outline(name: str, module: str) -> Outline | None:
    """Finds `@register_family("<name>", modality="...")` over a class in the module's source."""
    source = source_of(module)
    # Python takes 5 ms to parse a whole family: with all of them a list would not answer at once.
    return _outline_in(name, _ends(source)) or _outline_in(name, source)


def _ends(source: str) -> str:
    """Docstring and registration, with nothing between them."""
    docstring, first_import, _ = source.partition("\nfrom __future__ ")
    _, decorator, registration = source.partition("\n@register_family(")
    return docstring + decorator + registration if first_import and decorator else ""


def _outline_in(name: str, source: str) -> Outline | None:
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return None
    for record in tree.body:
        for call in record.decorator_list if isinstance(record, ast.ClassDef) else ():
            words = _constants(call)
            if words.get("name") != name or "modality" not in words:
                continue
            docstring = ast.get_docstring(tree) or ast.get_docstring(record) or name
            return Outline(words["modality"], not _assigns(record, "classifier"), docstring.strip().splitlines()[0])
    return None


def _assigns(record: ast.ClassDef, attribute: str) -> bool:
    targets = [target for line in record.body if isinstance(line, ast.Assign) for target in line.targets]
    return any(isinstance(target, ast.Name) and target.id == attribute for target in targets)


def _constants(call: ast.expr) -> dict[str, Any]:
    """The literal arguments of a call by name; the first positional one counts as `name`."""
    if not isinstance(call, ast.Call):
        return {}
    positional = [("name", argument) for argument in call.args[:1]]
    given = positional + [(keyword.arg, keyword.value) for keyword in call.keywords]
    return {name: value.value for name, value in given if name and isinstance(value, ast.Constant)}


def _known_names() -> list[str]:
    return sorted({*_modules(), *_registered})


@cache
def _modules() -> dict[str, str]:
    """Family name -> module, of the files here and of other packages."""
    own = (
        (path.stem.replace("_", "-"), f"{FAMILIES}.{path.parent.name}.{path.stem}")
        for path in sorted(FAMILIES_FOLDER.glob("*/*.py"))
        if not path.stem.startswith("_")
    )
    return with_others("family", FAMILIES, own)


def _refuse_clash(name: str, record: type) -> None:
    """Two definitions of one name are an error; the same module loaded again (a notebook, a reload) is not."""
    module = record.__module__
    present = _registered.get(name)
    owner = present.config.__module__ if present else _modules().get(name)
    # An entry point may name a package whose submodule defines the family.
    if owner is not None and owner != module and not module.startswith(f"{owner}."):
        raise UserError(f"family {name!r} is already registered by {owner}; choose another name")
