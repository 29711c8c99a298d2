"""What `ganzoo.data` offers."""

from ganzoo.augmentation.transforms import random_crop as random_crop
from ganzoo.augmentation.transforms import random_flip as random_flip
from ganzoo.augmentation.transforms import random_segment as random_segment
from ganzoo.data.cache import build_cache as build_cache
from ganzoo.data.dataset import ArrayDataset as ArrayDataset
from ganzoo.data.dataset import load_data as load_data
from ganzoo.data.left_out import LeftOut as LeftOut
from ganzoo.data.sampler import batch_indices as batch_indices
from ganzoo.data.source import Source as Source
from ganzoo.data.sources import open_source as open_source
from ganzoo.recipe.data import DataConfig as DataConfig
