"""What `ganzoo.training` offers."""

from ganzoo.recipe.names import list_recipes as list_recipes
from ganzoo.recipe.reading import load_recipe as load_recipe
from ganzoo.recipe.recipe import Recipe as Recipe
from ganzoo.training.run import TrainingRun as TrainingRun
from ganzoo.training.run import train as train
