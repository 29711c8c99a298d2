"""ganzoo: a zoo of generative adversarial networks for images, audio and text.

    import ganzoo
    pipe = ganzoo.from_pretrained("dcgan-mnist")
    pipe(num_samples=16, seed=0).images

Everything below is imported when it is first touched (PEP 562): `import ganzoo` costs milliseconds and no torch.
"""

from __future__ import annotations

from ganzoo.utils import moved
from ganzoo.utils.lazy import lazy_package

moved.install()

__getattr__, __dir__, __all__ = lazy_package(__name__, __file__)
