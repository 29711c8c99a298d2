"""Where the repository and the real data beside it are."""

from pathlib import Path

ROOT = Path(__file__).parent.parent
# On the machines that have it; what needs it skips without.
SHARED_DATA = ROOT.parent / "shared" / "data"
