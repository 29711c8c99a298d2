"""Which losses, penalties and feature matchings there are: found by name, here and in other packages."""

from __future__ import annotations

from ganzoo.utils.finding import Kind

ADVERSARIAL_LOSSES = Kind("adversarial loss", "ganzoo.losses", "LOSS")
PENALTIES = Kind("penalty", "ganzoo.losses", "PENALTY", group="ganzoo.penalties")
MATCHINGS = Kind("feature matching", "ganzoo.losses", "MATCHING", group="ganzoo.matchings")
