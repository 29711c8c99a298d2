"""After `import ganzoo.integrations.transformers`, `transformers.AutoModel.from_pretrained` opens ganzoo checkpoints.

`AutoModel` accepts any class with a `config_class` and a `from_pretrained`; the checkpoints' `config.json` says
`"model_type": "ganzoo"`, which leads it here. What comes back is the plain generator (or classifier) of `ganzoo`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from transformers import AutoConfig, AutoModel, PretrainedConfig

from ganzoo.checkpoints.options import read_dtype
from ganzoo.checkpoints.weights import cast
from ganzoo.errors import UserError
from ganzoo.networks.base import GANModel
from ganzoo.networks.config import GANConfig
from ganzoo.registry import get_family
from ganzoo.utils.layout import MODEL_TYPE

# What AutoModel adds of its own, and what cannot make a difference: nothing here is remote code or an adapter.
_OF_AUTOMODEL = {"_from_auto", "adapter_kwargs", "code_revision", "commit_hash", "_commit_hash", "trust_remote_code"}


class GanzooConfig(PretrainedConfig):
    """What transformers reads of a ganzoo `config.json`: its keys as attributes, not validated."""

    model_type = MODEL_TYPE

    def validated(self) -> GANConfig:
        """The config of the family.

        Raises:
            UserError: There is no family in it, or the values are wrong.
        """
        family = getattr(self, "family", None)
        if not isinstance(family, str):
            raise UserError("a GanzooConfig needs family='dcgan' or another; see 'ganzoo list'")
        config = get_family(family).config
        values = {name: getattr(self, name) for name in config.model_fields if hasattr(self, name)}
        return config.from_dict(values, where=f"config of {family!r}")


class GanzooAutoModel:
    """What `AutoModel` calls: hands over to `ganzoo.networks.base.GANModel`."""

    config_class = GanzooConfig

    @classmethod
    def from_pretrained(cls, source: str, *, config: Any = None, **options: Any) -> GANModel:
        """Loads the main network; the options are those of `GANModel.from_pretrained`."""
        options = {name: value for name, value in _ours(options).items() if value is not None}
        wanted = config.validated() if isinstance(config, GanzooConfig) else config
        return GANModel.from_pretrained(source, config=wanted, **options)

    @classmethod
    def _from_config(
        cls, config: GanzooConfig, *, dtype: Any = None, torch_dtype: Any = None, **options: Any
    ) -> GANModel:
        """A network with new weights: the one of the config's role, by default the family's main one."""
        if unknown := _ours(options).keys():
            raise UserError(f"from_config of a ganzoo model has no argument {', '.join(sorted(unknown))}")
        validated = config.validated()
        family = get_family(config.family)
        network = family.networks[getattr(config, "role", family.main_role)](validated)
        chosen = read_dtype(torch_dtype if dtype is None else dtype)
        if chosen not in (None, "auto"):
            cast(network, chosen)
        return network


def _ours(options: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if name not in _OF_AUTOMODEL}


AutoConfig.register(MODEL_TYPE, GanzooConfig, exist_ok=True)
AutoModel.register(GanzooConfig, GanzooAutoModel, exist_ok=True)
