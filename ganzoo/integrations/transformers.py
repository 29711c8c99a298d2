"""After `import ganzoo.integrations.transformers`, `transformers.AutoModel.from_pretrained` opens ganzoo checkpoints.

`AutoModel` accepts any class with a `config_class` and a `from_pretrained`; the checkpoints' `config.json` says
`"model_type": "ganzoo"`, which leads it here. What comes back is the plain generator (or classifier) of `ganzoo`.
"""

from __future__ import annotations

from typing import Any

from transformers import AutoConfig, AutoModel, PretrainedConfig

from ganzoo.networks.base import GANModel
from ganzoo.utils.layout import MODEL_TYPE


class GanzooConfig(PretrainedConfig):
    """What transformers reads of a ganzoo `config.json`; the validated config is that of the loaded network."""

    model_type = MODEL_TYPE


class GanzooAutoModel:
    """What `AutoModel` calls: hands over to `ganzoo.networks.base.GANModel.from_pretrained`."""

    config_class = GanzooConfig

    @classmethod
    def from_pretrained(cls, source: str, *args: Any, **options: Any) -> GANModel:
        """Loads the main network; the options are those of `GANModel.from_pretrained`."""
        return GANModel.from_pretrained(source, **options)


AutoConfig.register(MODEL_TYPE, GanzooConfig, exist_ok=True)
AutoModel.register(GanzooConfig, GanzooAutoModel, exist_ok=True)
