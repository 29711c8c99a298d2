"""Old module paths that other packages import: they warn, and work as before."""

from __future__ import annotations

import importlib
import subprocess
import sys

import pytest

from ganzoo.utils.moved import MOVED

# What a family of another package imported before the modules moved, as `ganzoo new` wrote it then.
OLD = """
import warnings
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    from ganzoo.config import AudioGANConfig, GANConfig, ImageGANConfig, StabilisedConfig
    from ganzoo.language import TextDiscriminator, TextGANConfig, TextGenerator
    from ganzoo.modeling import Classifier, Discriminator, DiscriminatorOutput, Generator, Vocoder, create
    from ganzoo.nn import MinibatchLogit, check_labels, normalise
    from ganzoo.registry import register_family
    import ganzoo.modeling
import ganzoo
assert Generator is ganzoo.Generator and ImageGANConfig is ganzoo.ImageGANConfig and Vocoder is ganzoo.Vocoder
assert ganzoo.modeling.Generator is Generator
print("\\n".join(f"{w.category.__name__} {w.filename} {w.message}" for w in caught if "moved" in str(w.message)))
"""


def test_what_a_family_of_another_package_imported_is_still_there():
    shown = subprocess.run([sys.executable, "-c", OLD], capture_output=True, text=True, timeout=300)
    assert shown.returncode == 0, shown.stderr
    lines = shown.stdout.splitlines()
    assert len(lines) == 3, "one warning a module"
    assert all(line.startswith("FutureWarning ") for line in lines)
    assert "ganzoo.language has moved to ganzoo.networks.text" in lines[1]


@pytest.mark.parametrize("old, places", MOVED.items(), ids=MOVED)
def test_every_place_exists(old, places):
    assert all(importlib.import_module(place) for place in places)


def test_what_is_nowhere_is_said():
    with pytest.warns(FutureWarning, match="moved"):
        module = importlib.reload(importlib.import_module("ganzoo.language"))
    with pytest.raises(AttributeError, match="'ganzoo.language' has no attribute 'nothing'; see ganzoo.networks.text"):
        module.nothing  # noqa: B018
