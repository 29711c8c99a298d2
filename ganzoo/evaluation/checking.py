"""What a recipe's `evaluation` section asks for, checked before the training that it is to measure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ganzoo.data import open_source
from ganzoo.embedders.opening import check_embedder
from ganzoo.errors import NotFoundError, UserError
from ganzoo.evaluation.base import EVALUATIONS, evaluation_of
from ganzoo.metrics.metric import choose
from ganzoo.registry import get_family

if TYPE_CHECKING:
    from ganzoo.processors import Processor
    from ganzoo.recipe.data import DataConfig
    from ganzoo.recipe.recipe import Recipe


def check_evaluation(recipe: Recipe, processor: Processor | None = None) -> None:
    """Refuses metrics, an embedder or a split that there are not.

    Args:
        processor: That of the samples, which says for sure which metrics they have. Without it, before any data is looked at,
            a name must be known for something, and the split is not looked for.

    Raises:
        UserError: What is wrong, and what there is.
    """
    settings = recipe.evaluation
    check_embedder(settings.embedder)
    family = get_family(recipe.model["family"])
    task = family.networks[family.main_role].task
    if not settings.metrics:
        return
    if processor is not None:
        choose(evaluation_of(task, processor.modality).kinds, settings.metrics)
        if settings.split is not None:
            _check_split(recipe.data, settings.split)
    elif task in EVALUATIONS.names():
        choose(EVALUATIONS.get(task).kinds, settings.metrics)
    else:
        kinds = [kind for evaluation in EVALUATIONS.all().values() for kind in evaluation.kinds]
        try:
            choose(kinds, settings.metrics)
        except UserError as error:
            raise UserError(f"evaluation.metrics: {error}") from None


def _check_split(data: DataConfig, split: str) -> None:
    try:
        open_source(data, split)
    except NotFoundError as error:
        raise NotFoundError(
            f"evaluation.split: {error} Name one of these, leave it to the data (evaluation.split=null), or keep some back "
            "(data.holdout=0.1)"
        ) from None
