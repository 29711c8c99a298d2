"""What a card says of a task: a pipeline class gives it, for a processor (`Pipeline.card_words`)."""

from __future__ import annotations

from dataclasses import dataclass

from ganzoo.processors.words import Words
from ganzoo.version import install_command


@dataclass(frozen=True)
class CardWords:
    """What a card says of a task.

    Attributes:
        modality: What the model makes, or reads.
        samples: What is said of such samples.
        tag: The card's first tag, `"gan"`.
        hub_task: The Hub's task, None where it has no fitting one.
        tags: Tags besides those that every card has.
        extra: What must be installed besides, `"audio"`; None for nothing.
        usage: Lines of code, the one that loads the model first; in them `{source}` is what it is loaded from and `{name}` the
            checkpoint's name.
        imports: What these lines import besides ganzoo.
        asks_for_classes: Whether one can ask a conditional model for a class.
    """

    modality: str
    samples: Words
    tag: str = "gan"
    hub_task: str | None = None
    tags: tuple[str, ...] = ()
    extra: str | None = None
    usage: tuple[str, ...] = ('pipe = ganzoo.from_pretrained("{source}")',)
    imports: tuple[str, ...] = ()
    asks_for_classes: bool = False

    @property
    def install(self) -> str:
        """The line that installs what the usage needs."""
        return install_command(self.extra)
