"""The only place that knows which families exist.

A family is found in one of three ways: as a file `ganzoo/families/<modality>/<name>.py`, through the entry-point group
`ganzoo.families` of an installed package (entry-point name = family name, value = the module that registers it), or
because a script called `@register_family` itself. Listing reads names only: nothing is imported until a family is used,
so that `ganzoo list` needs no torch.
"""

from __future__ import annotations

import ast
import importlib
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from ganzoo.errors import NotFoundError, UserError, did_you_mean

if TYPE_CHECKING:
    from ganzoo.config import GANConfig
    from ganzoo.modeling import GANModel

MODALITIES = ("image", "audio", "text")
ENTRY_POINT_GROUP = "ganzoo.families"
FAMILIES_FOLDER = Path(__file__).parent / "families"

# A family's networks by role, main network first: a GAN is {"generator", "discriminator"}, an embedder {"classifier"}.
ROLES = ("generator", "discriminator", "classifier")


@dataclass(frozen=True)
class Family:
    """What the library knows of one architecture.

    Attributes:
        name: Lower-case name with hyphens, `"dcgan"`.
        modality: `"image"`, `"audio"` or `"text"`.
        config: The config class; one config describes all networks of the family.
        networks: Role -> network class. The first is the main network: the one that users load and that EMA follows.
        paper: Link to the paper.
        objective: The recipe's `objective` section when it leaves it out.
        tiny: Arguments of a config small enough for tests (a forward and backward pass in milliseconds).
        summary: First line of the defining module's docstring.
    """

    name: str
    modality: str
    config: type[GANConfig]
    networks: dict[str, type[GANModel]]
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

    def tiny_config(self, **overrides: Any) -> GANConfig:
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
    if not re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", name):
        raise UserError(
            f"family name {name!r} must be lower-case letters and digits joined by hyphens, as in 'my-gan'"
        )
    if modality not in MODALITIES:
        raise UserError(f"family {name!r}: modality {modality!r} is none of {', '.join(MODALITIES)}")
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


def get_family(name: str) -> Family:
    """Returns the family record, importing the file that defines it.

    Raises:
        NotFoundError: No such family; says which names are close.
    """
    if name not in _registered:
        module = _builtin_modules().get(name)
        if module is not None:
            importlib.import_module(module)
        elif name in _entry_points():
            _load_entry_point(_entry_points()[name])
    if name not in _registered:
        known = _known_names()
        raise NotFoundError(f"unknown family {name!r}.{did_you_mean(name, known)} Known families: {', '.join(known)}")
    return _registered[name]


def list_families(*, modality: str | None = None, kind: str = "gan") -> list[str]:
    """Lists family names, sorted.

    Args:
        modality: Only `"image"`, `"audio"` or `"text"`.
        kind: `"gan"`, `"classifier"` (the metrics' embedders), or `"all"`.

    Raises:
        UserError: Unknown modality or kind.
    """
    if modality is not None and modality not in MODALITIES:
        raise UserError(f"unknown modality {modality!r}; it is one of {', '.join(MODALITIES)}")
    if kind not in ("gan", "classifier", "all"):
        raise UserError(f"unknown kind {kind!r}; it is one of gan, classifier, all")
    return [
        name
        for name in _known_names()
        if (modality is None or family_modality(name) == modality)
        and (kind == "all" or _is_classifier(name) == (kind == "classifier"))
    ]


def family_modality(name: str) -> str:
    """The modality of a family: for built-in ones the folder says it, without an import."""
    if name in _builtin_modules():
        return _builtin_modules()[name].split(".")[-2]
    return get_family(name).modality


def family_summary(name: str) -> str:
    """The first line of the family's docstring, without importing a built-in one."""
    if name in _registered:
        return _registered[name].summary
    module = _builtin_modules().get(name)
    if module is None:
        return get_family(name).summary
    docstring = ast.get_docstring(ast.parse(_module_file(module).read_text(encoding="utf-8"))) or name
    return docstring.splitlines()[0]


def _is_classifier(name: str) -> bool:
    # A naming rule instead of an import: the file of an embedder is called `*_classifier.py`.
    return name.endswith("-classifier") if name in _builtin_modules() else not get_family(name).is_gan


def _known_names() -> list[str]:
    return sorted({*_builtin_modules(), *_entry_points(), *_registered})


@cache
def _builtin_modules() -> dict[str, str]:
    """Family name -> module, from the file names."""
    return {
        path.stem.replace("_", "-"): f"ganzoo.families.{path.parent.name}.{path.stem}"
        for path in sorted(FAMILIES_FOLDER.glob("*/*.py"))
        if not path.stem.startswith("_")
    }


def _module_file(module: str) -> Path:
    return FAMILIES_FOLDER.joinpath(*module.split(".")[2:]).with_suffix(".py")


@cache
def _entry_points() -> dict[str, EntryPoint]:
    found: dict[str, EntryPoint] = {}
    for point in entry_points(group=ENTRY_POINT_GROUP):
        if point.name in _builtin_modules() or (point.name in found and found[point.name].value != point.value):
            raise UserError(
                f"the package that provides {point.value} registers family {point.name!r}, which exists already; "
                "uninstall one of the two or rename its entry point"
            )
        found[point.name] = point
    return found


def _load_entry_point(point: EntryPoint) -> None:
    try:
        point.load()
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"family {point.name!r}: loading {point.value} failed: {error}") from error
    if point.name not in _registered:
        raise UserError(f"family {point.name!r}: {point.value} was loaded but registers no family of that name")


def _refuse_clash(name: str, record: type) -> None:
    """Two definitions of one name are an error; the same module loaded again (a notebook, a reload) is not."""
    module = record.__module__
    present = _registered.get(name)
    owner = present.config.__module__ if present else _builtin_modules().get(name)
    if owner is not None and owner != module:
        raise UserError(f"family {name!r} is already registered by {owner}; choose another name")
    point = _entry_points().get(name)
    # An entry point may name a package whose submodule defines the family.
    if point is not None and module.partition(".")[0] != point.module.partition(".")[0]:
        raise UserError(f"family {name!r} already comes from the installed module {point.module}; choose another name")
