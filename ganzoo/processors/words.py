"""What cards, hints and the command line say of a modality. A processor holds it, so that no table of modalities is needed."""

from __future__ import annotations

from dataclasses import dataclass

FLOOR_NOTE = "The floor is what real data scores against other real data under the same protocol."


@dataclass(frozen=True)
class Words:
    """What is said of a modality's samples.

    Attributes:
        noun: One of them, `"picture"`.
        given: What stands for a few of them in a line of code, `"pictures"`.
        drawn: Lines of code that draw some from `pipe`; in them `{name}` is the checkpoint's name.
        imports: What these lines import besides ganzoo.
        hub_task: The Hub's task of making them from nothing; None where it has none, and cards go by their tags.
        tags: Tags of every card.
        drawn_tags: Further tags where they are made from nothing.
        floor: Head of the metrics' column for what real data scores.
        protocol: Head of the column for what the number hangs on.
        floor_note: What is said below the table of the first.
        lists_settings: Whether that second column also holds the metric's settings, such as the temperature.
    """

    noun: str = "sample"
    given: str = "samples"
    drawn: tuple[str, ...] = ("output = pipe(num_samples=4, seed=0)",)
    imports: tuple[str, ...] = ()
    hub_task: str | None = None
    tags: tuple[str, ...] = ()
    drawn_tags: tuple[str, ...] = ()
    floor: str = "Floor"
    protocol: str = "Embedder"
    floor_note: str = FLOOR_NOTE
    lists_settings: bool = False
