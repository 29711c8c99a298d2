"""Captions of COCO photographs, and other data sets that are files on the web and nowhere on the Hub."""

from __future__ import annotations

from functools import partial

from ganzoo.data.downloads import Download, fetch
from ganzoo.data.readers.texts import open_texts
from ganzoo.data.sets.base import DataSet
from ganzoo.data.source import Source, no_split
from ganzoo.recipe.data import DataConfig

_TEXYGEN = "https://raw.githubusercontent.com/geek-ai/Texygen/3104e22ac75f3cc2070da2bf5e2da6d2bef149ad"


# Data set -> split -> file.
DOWNLOADS: dict[str, dict[str, Download]] = {
    # 10,000 + 10,000 captions of COCO photographs: the benchmark of the text-GAN papers (Zhu et al., 2018). CC BY 4.0.
    "coco-captions": {
        "train": Download(
            f"{_TEXYGEN}/data/image_coco.txt",
            "2c0fd1f0f43aac6a9dc3926a535516ccf395de535e15ac1fd17cd569420736f5",
            546_442,
        ),
        "test": Download(
            f"{_TEXYGEN}/data/testdata/test_coco.txt",
            "72e25c9fb4d2cd43182ac602c92f6ffc377762147f9709572943b0b09174bcae",
            536_184,
        ),
    },
}


def open_download(name: str, config: DataConfig, split: str) -> Source:
    """Opens a split of a data set of `DOWNLOADS`, fetching it the first time.

    Raises:
        NotFoundError: No such split, or the file cannot be fetched.
        GanzooError: What came is not the file that was expected, or the cache cannot be written.
    """
    splits = DOWNLOADS[name]
    if split not in splits:
        raise no_split(f"The data set '{name}'", split, splits)
    file = fetch(splits[split], hint=f"data.path=FOLDER_WITH_{split}.txt")
    return open_texts(config, name, {split: [(file, None)]}, split)


DATASET = DataSet(partial(open_download, "coco-captions"))
