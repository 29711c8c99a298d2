"""What is found by its file's name: names by listing a folder, text read without importing, import on use.

A kind of thing has a folder, and each file there says by one assignment at its top level what it holds:

    OBJECTIVE = GumbelObjective                    # objectives/gumbel.py: one thing, named as its file, "gumbel"
    METRICS = {"precision": ..., "recall": ...}    # metrics/manifold.py: several, named by their keys

A file without it is a helper. Another package adds things through the entry-point group of the folder's dotted name
(`ganzoo.objectives`): the entry point's name is the thing's, its value the module.
"""

from __future__ import annotations

import ast
import importlib
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.machinery import PathFinder
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

from ganzoo.errors import NotFoundError, UserError, did_you_mean


@dataclass(frozen=True)
class Kind:
    """A kind of thing that is found by its file's name.

    Attributes:
        noun: What one is called in a sentence, `"objective"`.
        package: The package whose files hold them, `"ganzoo.objectives"`.
        attribute: The name that a file assigns one thing to, `"OBJECTIVE"`; its plural is that of a dictionary of several.
        group: The entry-point group of others'; the package, unless that holds several kinds.
        joint: What stands in a name where its file has an underscore.
    """

    noun: str
    package: str
    attribute: str
    group: str = ""
    joint: str = "-"

    @property
    def several(self) -> str:
        """METRIC -> METRICS, LOSS -> LOSSES, PENALTY -> PENALTIES."""
        if self.attribute.endswith("Y"):
            return f"{self.attribute[:-1]}IES"
        return f"{self.attribute}{'ES' if self.attribute.endswith('S') else 'S'}"

    def names(self) -> list[str]:
        """All names, sorted; nothing is imported.

        Raises:
            UserError: Two modules claim one name.
        """
        return sorted(_modules(self))

    def get(self, name: str) -> Any:
        """The thing of a name; its module is imported now.

        Raises:
            NotFoundError: There is none; says which names are close.
            UserError: Another package's module cannot be imported, or does not hold what its entry point says.
        """
        module = import_module(self.noun, name, self.module(name), self.package)
        several = getattr(module, self.several, {})
        if name in several:
            return several[name]
        if not hasattr(module, self.attribute):
            raise UserError(f"{self.noun} {name!r}: {module.__name__} assigns nothing to {self.attribute}")
        return getattr(module, self.attribute)

    def all(self) -> dict[str, Any]:
        """Every thing by its name; imports all of their modules."""
        return {name: self.get(name) for name in self.names()}

    def module(self, name: str) -> str:
        """The module that defines a thing, without importing it.

        Raises:
            NotFoundError: There is none; says which names are close.
        """
        modules = _modules(self)
        if name not in modules:
            known = sorted(modules)
            raise NotFoundError(
                f"unknown {self.noun} {name!r}.{did_you_mean(name, known)} It is one of {', '.join(known)}"
            )
        return modules[name]


def things(kind: Kind, modules: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """(name, module) of what the files of `kind` define.

    Args:
        modules: Module -> its source.
    """
    one = re.compile(rf"^{kind.attribute}\b[^=\n]*=", re.MULTILINE)
    several = re.compile(rf"^{kind.several}\b[^=\n]*= \{{", re.MULTILINE)
    for module, source in modules.items():
        if one.search(source):
            yield module.rpartition(".")[2].replace("_", kind.joint), module
        elif found := several.search(source):
            yield from ((name, module) for name in _keys(source, found.start(), kind.several))


def file_of(module: str) -> Path | None:
    """The file of a module, without importing it or the packages around it."""
    top, *inner = module.split(".")
    spec = find_spec(top)
    for part in inner:
        if spec is None or spec.submodule_search_locations is None:
            return None
        try:
            spec = PathFinder.find_spec(f"{spec.name}.{part}", spec.submodule_search_locations)
        except KeyError:  # a folder without __init__.py, in a package that is not imported yet
            return None
    return Path(spec.origin) if spec is not None and spec.origin and spec.has_location else None


def source_of(module: str) -> str:
    """The source of a module that is not imported for it; empty where there is none to read."""
    file = file_of(module)
    try:
        return file.read_text(encoding="utf-8") if file else ""
    except (OSError, ValueError):
        return ""


def sources(package: str) -> dict[str, str]:
    """Module -> source of the files directly in a package, without importing them; of a package of another library, whose things
    are all entry points, none."""
    if not package.startswith("ganzoo."):
        return {}
    (folder,) = find_spec(package).submodule_search_locations
    return {
        f"{package}.{path.stem}": path.read_text(encoding="utf-8")
        for path in sorted(Path(folder).glob("*.py"))
        if path.stem != "__init__"
    }


@cache
def _modules(kind: Kind) -> dict[str, str]:
    """Name -> module of everything of a kind, built in or of an installed package."""
    return with_others(kind.noun, kind.group or kind.package, things(kind, sources(kind.package)))


def with_others(noun: str, package: str, own: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Name -> module of a package's own things, and of those that other packages add to it by entry points.

    Raises:
        UserError: Two modules claim one name.
    """
    found: dict[str, str] = {}
    others = ((point.name, point.module) for point in entry_points(group=package))
    for name, module in (*own, *others):
        if found.setdefault(name, module) != module:
            raise UserError(
                f"{noun} {name!r} is defined by {found[name]} and by {module}; uninstall one of the two, or rename it"
            )
    return found


def import_module(noun: str, name: str, module: str, package: str) -> ModuleType:
    """Imports the module of a thing; what fails in another package than `package` is one sentence.

    Raises:
        UserError: Loading another package's module failed.
    """
    try:
        return importlib.import_module(module)
    except Exception as error:
        if module.startswith(f"{package}.") or isinstance(error, UserError):
            raise
        raise UserError(f"{noun} {name!r}: loading {module} failed: {error}") from error


def _keys(source: str, start: int, attribute: str) -> list[str]:
    """The keys of the dictionary that `attribute` is assigned at `start` of a source. Only this statement is parsed, where it
    is the file's last: Python takes 5 ms for a whole file."""
    for text in (source[start:], source):
        try:
            tree = ast.parse(text)
        except SyntaxError:
            continue
        for node in tree.body:
            targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
            if any(isinstance(target, ast.Name) and target.id == attribute for target in targets):
                return [ast.literal_eval(key) for key in node.value.keys if key is not None]
    return []
