"""A checkpoint opened as a value, and networks to files: strict, without pickle, without remote code."""

from __future__ import annotations

import re
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from torch import nn

from ganzoo.checkpoints.options import PLACE, Loading, read_loading
from ganzoo.checkpoints.repository import LocalRepository, open_repository
from ganzoo.checkpoints.weights import Loaded, Network, cast, load_weights, plain_state_dict, stored_dtype
from ganzoo.errors import CheckpointError, NotFoundError, UserError
from ganzoo.processors import Processor, processor_from_json
from ganzoo.registry import get_family
from ganzoo.utils.files import PICKLED, Files, TensorFile, read_json, save_tensors, write_text
from ganzoo.utils.layout import CONFIG_FILE, DISCRIMINATOR_FOLDER, MODEL_TYPE, PROCESSOR_FILE, WEIGHTS_FILE
from ganzoo.version import __version__, install_command

if TYPE_CHECKING:
    from typing_extensions import Self


# What other libraries write in place of `model.safetensors`, looked for only where that is missing.
OTHER_WEIGHTS = {
    f"{WEIGHTS_FILE}.index.json": "weights in several files, and ganzoo reads one: save them with a larger max_shard_size",
    **dict.fromkeys(
        ("pytorch_model.bin", *(f"model.{ending}" for ending in ("bin", "pt", "pth", "ckpt", "pkl"))), PICKLED
    ),
}


class Description(NamedTuple):
    """What a `config.json` says of its network."""

    family: str
    role: str
    config: Any

    @property
    def network_class(self) -> type[nn.Module]:
        return get_family(self.family).networks[self.role]


class Checkpoint:
    """A checkpoint, opened once: every file is read when it is asked for, and at most once.

    Args:
        files: Where its files are.
        loading: How its networks are loaded.
        main: The main network, where it is loaded already.
    """

    def __init__(self, files: Files, loading: Loading | None = None, *, main: Network | None = None) -> None:
        self.files, self.loading = files, loading or Loading()
        known = {} if main is None else {"": Description(main.family, main.role, main.config)}
        self._descriptions: dict[str, Description] = known
        self._networks: dict[str, nn.Module] = {} if main is None else {"": main}

    @classmethod
    def open(cls, source: str | Path, **options: Any) -> Self:
        """Opens a folder, a name of the catalogue, or `org/name[@revision]`.

        Args:
            **options: Those of `open_repository` and of `read_loading`.

        Raises:
            UserError: An option that does not exist, or cannot be.
            NotFoundError: There is no such checkpoint.
        """
        place = {name: options.pop(name) for name in PLACE if name in options}
        loading = read_loading(**options)
        return cls(open_repository(source, **place), loading)

    @property
    def name(self) -> str:
        return self.files.name

    @property
    def family(self) -> str:
        return self.describe().family

    @property
    def config(self) -> Any:
        """The config of the main network."""
        return self.describe().config

    @cached_property
    def processor(self) -> Processor:
        """What `processor_config.json` says, with the tokenizer's files where it has one.

        Raises:
            CheckpointError: Unknown type, malformed values, samples of another kind than the network's, or a tokenizer that
                is missing, damaged, or does not fit.
            NotFoundError: There is no `processor_config.json`.
        """
        path = self.files.file(PROCESSOR_FILE)
        where = f"{self.name}: {path.name}"
        processor = processor_from_json(read_json(path), where=where)
        expected = self.config.processor()
        if processor.processor_type != expected.processor_type and processor.network_shape != expected.network_shape:
            raise CheckpointError(f"{where} is for {processor.modality}, the network is for {expected.modality}")
        if difference := processor.difference(expected):
            raise CheckpointError(f"{where} {difference}")
        return processor.with_files(self.files)

    @property
    def discriminator(self) -> nn.Module | None:
        """The discriminator beside the main network, None where there is none."""
        return self.network(DISCRIMINATOR_FOLDER) if self.holds(DISCRIMINATOR_FOLDER) else None

    def holds(self, subfolder: str) -> bool:
        """Whether there is a network in this folder of the checkpoint."""
        return subfolder in self._descriptions or self.files.find(_inside(subfolder, CONFIG_FILE)) is not None

    def describe(self, subfolder: str = "") -> Description:
        """What the config of a network says; "" is the main one.

        Raises:
            CheckpointError: It is not a ganzoo config, its values are wrong, or the network does not belong to the main one.
            NotFoundError: The file or the family does not exist.
        """
        if subfolder not in self._descriptions:
            description = _read_description(self.files, subfolder)
            if subfolder == DISCRIMINATOR_FOLDER and self.holds(""):
                self._check_belongs(description)
            self._descriptions[subfolder] = description
        return self._descriptions[subfolder]

    def weights(self, subfolder: str = "") -> TensorFile:
        """The weights of a network, not yet in memory.

        Raises:
            CheckpointError: They are there in another format, which is named, or damaged.
            NotFoundError: There are none.
        """
        name = _inside(subfolder, WEIGHTS_FILE)
        if self.files.find(name) is None:
            for other, what in OTHER_WEIGHTS.items():
                if self.files.find(_inside(subfolder, other)) is not None:
                    raise CheckpointError(f"{self.name} has no {name}, but {what} ({other})")
        return TensorFile(self.files.file(name))

    def network(self, subfolder: str = "", expected: type[Loaded] = nn.Module) -> Loaded:
        """One network, in `eval()` mode; "" is the main one.

        Raises:
            CheckpointError: Its files are damaged or not those of a ganzoo checkpoint.
            NotFoundError: There are none, or none of this machine's families.
            UserError: It is not what was expected.
        """
        family, role, config = self.describe(subfolder)
        network_class = self.describe(subfolder).network_class
        if not issubclass(network_class, expected):
            raise UserError(f"{self.name} holds the {role} of {family!r}, not a {expected.__name__}")
        if subfolder not in self._networks:
            self._check_expected(config)
            weights, dtype = self.weights(subfolder), self.loading.dtype
            network = load_weights(network_class, config, weights, device=self.loading.device)
            if dtype is not None:
                cast(network, stored_dtype(weights) if dtype == "auto" else dtype)
            self._networks[subfolder] = network.eval()
        return self._networks[subfolder]

    def folder_of(self, expected: type[nn.Module]) -> str:
        """The folder in which a network of such a class is to be sought: a discriminator's own, if there is one."""
        beside = getattr(expected, "role", "") == "discriminator" and self.holds(DISCRIMINATOR_FOLDER)
        return DISCRIMINATOR_FOLDER if beside else ""

    def _check_expected(self, config: Any) -> None:
        wanted = self.loading.config
        if wanted is None or wanted == config:
            return
        if type(wanted) is not type(config):
            raise UserError(f"config= is a {type(wanted).__name__}, and {self.name} has a {type(config).__name__}")
        own = config.model_dump()
        keys = [key for key, value in wanted.model_dump().items() if value != own[key]]
        raise UserError(
            f"config= differs from the config of {self.name} in {', '.join(keys)}; the weights fit their own: leave config= out"
        )

    def _check_belongs(self, other: Description) -> None:
        main = self.describe()
        if other.family != main.family:
            difference = f"is of the family {other.family!r}, and the {main.role} of {main.family!r}"
        elif keys := main.config.differences(other.config):
            difference = f"has another config than the {main.role} ({', '.join(keys)})"
        else:
            return
        raise CheckpointError(
            f"{self.name}: the network in {DISCRIMINATOR_FOLDER}/ {difference}; it is left from another checkpoint, delete "
            "that folder"
        )


def save_network(network: Network, folder: Path) -> None:
    """Writes `config.json` and `model.safetensors`, the weights as those of a network that is not being trained."""
    save_tensors(folder / WEIGHTS_FILE, plain_state_dict(network))
    write_text(folder / CONFIG_FILE, network.config.to_json(role=network.role))


def _inside(subfolder: str, file: str) -> str:
    return f"{subfolder}/{file}" if subfolder else file


def _read_description(files: Files, subfolder: str) -> Description:
    path = files.file(_inside(subfolder, CONFIG_FILE))
    where = f"{files.name}: {path.name}"
    values = read_json(path)
    if values.pop("model_type", None) != MODEL_TYPE:
        raise CheckpointError(f"{where} is not of a ganzoo checkpoint (its model_type is not '{MODEL_TYPE}')")
    family, role, version = (values.pop(key, None) for key in ("family", "role", "ganzoo_version"))
    if not isinstance(family, str) or not isinstance(role, str):
        raise CheckpointError(f"{where} lacks the family or the role of its network")
    try:
        record = get_family(family)
    except NotFoundError as error:
        way_out = _newer(version) or ". If another package provides it, install that package"
        raise NotFoundError(f"{where}: {error}{way_out}") from None
    if role not in record.networks:
        raise CheckpointError(f"{where}: family {family!r} has no {role!r}; it has {', '.join(record.networks)}")
    try:
        return Description(family, role, record.config.from_dict(values, where=where))
    except UserError as error:
        raise CheckpointError(f"{error}{_newer(version)}") from None


def _newer(version: Any) -> str:
    """What is said of a file that a newer ganzoo wrote, of others nothing."""
    if not isinstance(version, str) or _numbers(version) <= _numbers(__version__):
        return ""
    return f" (it was written by ganzoo {version}, and this is {__version__}: update it with '{install_command(upgrade=True)}')"


def _numbers(version: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d{1,9}", version)[:3]]


def check_folder(folder: Path) -> None:
    """Checks a checkpoint folder without loading it into memory: configs, headers, checksums, processor.

    Raises:
        CheckpointError: What is wrong.
    """
    checkpoint = Checkpoint(LocalRepository(folder))
    for subfolder in ("", *(child.name for child in folder.iterdir() if child.is_dir())):
        if not subfolder or checkpoint.holds(subfolder):
            checkpoint.describe(subfolder)
            checkpoint.weights(subfolder).load()
    checkpoint.processor  # noqa: B018 - read and checked
