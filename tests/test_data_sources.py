"""Every way to name data, on real files, and every way to get it wrong."""

import io
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from PIL import Image
from places import ROOT, SHARED_DATA
from pydantic import ValidationError

from ganzoo.data import open_source
from ganzoo.errors import MissingPackageError, NotFoundError, UserError
from ganzoo.recipe.data import DataConfig
from ganzoo.version import DISTRIBUTION

FEATURES = {"image": {"_type": "Image"}, "label": {"names": ["cat", "dog", "owl"], "_type": "ClassLabel"}}


def png(value, size=8):
    """A grey picture as the bytes of a PNG file."""
    stream = io.BytesIO()
    Image.fromarray(np.full((size, size), value, dtype=np.uint8)).save(stream, "png")
    return stream.getvalue()


def write_parquet(path, values, labels=None, *, image="image", label="label", features=None):
    """A parquet file as the Hub has them: pictures as {bytes, path}, features in the metadata (or not)."""
    columns = {image: [{"bytes": png(value), "path": f"{value}.png"} for value in values]}
    if labels is not None:
        columns[label] = labels
    metadata = {"huggingface": json.dumps({"info": {"features": features}})} if features else None
    table = pyarrow.table(columns).replace_schema_metadata(metadata)
    path.parent.mkdir(parents=True, exist_ok=True)
    pyarrow.parquet.write_table(table, path)
    return path


def values(source):
    """The grey values of a source's pictures, which identify them, with their labels."""
    found = []
    for raw, label in source.iterate():
        if isinstance(raw, dict):
            raw = io.BytesIO(raw["bytes"])
        found.append((Image.open(raw).getpixel((0, 0)), label))
    assert len(found) == source.length
    return found


def open_at(path, split=None, **options):
    return open_source(DataConfig(path=str(path), **options), split)


# ------------------------------------------------------------------------------------------------------ configuration


@pytest.mark.parametrize(
    "wrong", [{"flips": 0.5}, {"flip": 1.5}, {"flip": float("nan")}, {"crop_padding": -1}, {"limit": 0}, {"split": ""}]
)
def test_config_refuses_what_makes_no_sense(wrong):
    with pytest.raises(ValidationError):
        DataConfig(**wrong)


def test_config_fields_are_described_and_frozen():
    assert all(field.description for field in DataConfig.model_fields.values())
    assert DataConfig(**json.loads(DataConfig(flip=0.5).model_dump_json())) == DataConfig(flip=0.5)
    with pytest.raises(ValidationError):
        DataConfig().split = "test"


def test_reading_a_config_imports_no_torch():
    code = "import sys; from ganzoo.data import DataConfig, open_source, batch_indices, build_cache; DataConfig()"
    code += "; assert not {'torch', 'datasets', 'sklearn', 'pyarrow'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


# ------------------------------------------------------------------------------------------------------------ digits


def test_digits_are_the_real_ones_split_once_and_for_all():
    from sklearn.datasets import load_digits

    train, test = open_source(DataConfig()), open_source(DataConfig(split="test"))
    assert (train.length, test.length, train.description, test.split) == (1437, 360, "digits", "test")
    assert train.class_names == tuple("0123456789")
    assert train.fingerprint != test.fingerprint

    pairs = [*train.iterate(), *test.iterate()]
    assert all(image.dtype == np.uint8 and image.shape == (8, 8) for image, _ in pairs)
    ours = sorted((image.tobytes(), label) for image, label in pairs)
    real = load_digits()
    scaled = np.rint(real.images * 255 / 16).astype(np.uint8)
    assert ours == sorted((image.tobytes(), int(label)) for image, label in zip(scaled, real.target, strict=True))
    assert min(image.min() for image, _ in pairs) == 0 and max(image.max() for image, _ in pairs) == 255
    # The order is fixed: published numbers depend on which digits are the test set.
    assert [label for _, label in test.iterate()][:10] == [7, 9, 4, 7, 0, 2, 6, 1, 3, 1]


def test_digits_have_two_splits():
    with pytest.raises(NotFoundError, match="'digits' has no split 'validation'; there is test, train"):
        open_source(DataConfig(), "validation")


@pytest.mark.parametrize(
    "module, config, purpose",
    [
        ("sklearn.datasets", {}, "The built-in data set 'digits'"),
        ("datasets", {"dataset": "ylecun/mnist"}, "Reading data sets of the Hugging Face Hub"),
        ("pyarrow.parquet", {"path": "train.parquet"}, "Reading parquet files"),
    ],
)
def test_a_missing_package_is_named(module, config, purpose, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    Path("train.parquet").touch()
    monkeypatch.setitem(sys.modules, module, None)  # what Python itself does for "not there"
    with pytest.raises(MissingPackageError, match=rf'{purpose} needs .* pip install "{DISTRIBUTION}\[train\]"'):
        open_source(DataConfig(**config)).iterate()


# ----------------------------------------------------------------------------------------------------------- parquet


def test_parquet_folder_by_split_with_shards_in_order(tmp_path):
    write_parquet(tmp_path / "train-00001-of-00002.parquet", [3, 4], [0, 1])
    write_parquet(tmp_path / "train-00000-of-00002.parquet", [1, 2], [2, 0])
    write_parquet(tmp_path / "test.parquet", [9], [1])
    source = open_at(tmp_path)
    assert values(source) == [(1, 2), (2, 0), (3, 0), (4, 1)]
    assert values(source) == [(1, 2), (2, 0), (3, 0), (4, 1)]  # every pass starts anew
    assert (source.description, source.split, source.class_names) == (tmp_path.name, "train", None)
    assert values(open_at(tmp_path, "test")) == [(9, 1)]
    with pytest.raises(NotFoundError, match="has no split 'validation'; there is test, train"):
        open_at(tmp_path, "validation")


@pytest.mark.parametrize(
    "name, split",
    [
        ("train.parquet", "train"),
        ("train-00000-of-00001.parquet", "train"),
        ("test_0.parquet", "test"),
        ("validation-3.parquet", "validation"),
        ("0000.parquet", "train"),  # the Hub's own conversion: one folder a split
        ("cifar10.parquet", "cifar10"),
    ],
)
def test_split_of_a_file_name(name, split, tmp_path):
    write_parquet(tmp_path / name, [5])
    assert values(open_at(tmp_path, split)) == [(5, None)]


def test_single_parquet_file(tmp_path):
    plain = write_parquet(tmp_path / "zoo.parquet", [1, 2])
    assert values(open_at(plain)) == [(1, None), (2, None)]
    with pytest.raises(NotFoundError, match="has no split 'test'; there is train"):
        open_at(plain, "test")
    # A file that says that it is a test set is never taken for the training set.
    test = write_parquet(tmp_path / "test.parquet", [3])
    assert values(open_at(test, "test")) == [(3, None)]
    with pytest.raises(NotFoundError, match="has no split 'train'; there is test"):
        open_at(test)


def test_features_written_by_datasets_decide_on_columns_and_classes(tmp_path):
    import datasets

    features = datasets.Features(
        {
            "id": datasets.Value("int64"),
            "photo": datasets.Image(),
            "animal": datasets.ClassLabel(names=["cat", "dog"]),
        }
    )
    rows = {
        "id": [7, 8],
        "photo": [{"bytes": png(1), "path": None}, {"bytes": png(2), "path": None}],
        "animal": [1, 0],
    }
    datasets.Dataset.from_dict(rows, features=features).to_parquet(tmp_path / "train.parquet")
    source = open_at(tmp_path)
    assert values(source) == [(1, 1), (2, 0)]
    assert source.class_names == ("cat", "dog")
    assert values(open_at(tmp_path, label_column="id")) == [(1, 7), (2, 8)]


@pytest.mark.parametrize("image", ["image", "img", "picture"])
@pytest.mark.parametrize("label", ["label", "labels", "fine_label"])
def test_columns_are_found_by_name(image, label, tmp_path):
    write_parquet(tmp_path / "train.parquet", [1, 2], [5, 6], image=image, label=label)
    assert values(open_at(tmp_path)) == [(1, 5), (2, 6)]


def test_columns_are_chosen_by_name(tmp_path):
    write_parquet(tmp_path / "train.parquet", [1, 2], [5, 6], image="front", label="kind")
    assert values(open_at(tmp_path, sample_column="front")) == [(1, None), (2, None)]
    assert values(open_at(tmp_path, sample_column="front", label_column="kind")) == [(1, 5), (2, 6)]


@pytest.mark.parametrize(
    "options, message",
    [
        (
            {"sample_column": "imge"},
            r"no column 'imge' \(data.sample_column\); there is image, label. Did you mean 'image",
        ),
        ({"label_column": "class"}, r"no column 'class' \(data.label_column\); there is image, label\."),
        ({"label_column": "image"}, "column 'image' of .* does not hold integer labels"),
    ],
)
def test_wrong_columns(options, message, tmp_path):
    write_parquet(tmp_path / "train.parquet", [1], [0])
    with pytest.raises(UserError, match=message):
        open_at(tmp_path, **options)


def test_no_image_column(tmp_path):
    pyarrow.parquet.write_table(pyarrow.table({"words": ["a"], "n": [1]}), tmp_path / "train.parquet")
    with pytest.raises(UserError, match=r"has no image or text column; .* data\.sample_column \(there is words, n\)"):
        open_at(tmp_path)


def test_text_labels_are_not_taken_for_labels(tmp_path):
    write_parquet(tmp_path / "train.parquet", [1], ["cat"])
    assert values(open_at(tmp_path)) == [(1, None)]


def test_damaged_parquet_is_named(tmp_path):
    good = write_parquet(tmp_path / "train-0.parquet", range(50))
    bad = tmp_path / "train-1.parquet"
    bad.write_bytes(good.read_bytes()[:-100])
    with pytest.raises(UserError, match=rf"{re.escape(str(bad))} cannot be read"):
        open_at(tmp_path)
    content = bytearray(good.read_bytes())
    content[4:400] = bytes(396)  # the footer is whole, the data is not
    bad.write_bytes(content)
    with pytest.raises(UserError, match=rf"{re.escape(str(bad))} cannot be read"):
        list(open_at(tmp_path).iterate())


def test_shards_must_agree(tmp_path):
    write_parquet(tmp_path / "train-0.parquet", [1], [0])
    write_parquet(tmp_path / "train-1.parquet", [1])
    with pytest.raises(
        UserError, match="train-0.parquet and .*train-1.parquet of split 'train' have different columns"
    ):
        open_at(tmp_path)


def test_empty_parquet(tmp_path):
    table = pyarrow.table({"image": pyarrow.array([], pyarrow.struct({"bytes": pyarrow.binary()}))})
    pyarrow.parquet.write_table(table, tmp_path / "train.parquet")
    with pytest.raises(UserError, match="Split 'train' of .* holds no samples"):
        open_at(tmp_path)


def test_a_local_copy_keeps_the_public_name(tmp_path):
    write_parquet(tmp_path / "train.parquet", [1])
    assert open_at(tmp_path, dataset="ylecun/mnist").description == "ylecun/mnist"


def test_fingerprint_follows_content_names_and_columns(tmp_path):
    original = write_parquet(tmp_path / "a" / "train.parquet", [1, 2], [0, 1]).parent

    def changed(name, change):
        folder = shutil.copytree(original, tmp_path / name)
        change(folder / "train.parquet")
        return open_at(folder).fingerprint

    fingerprint = open_at(original).fingerprint
    assert changed("copy", lambda file: os.utime(file, (0, 0))) == fingerprint
    others = [
        changed("samples", lambda file: write_parquet(file, [1, 3], [0, 1])),
        changed("labels", lambda file: write_parquet(file, [1, 2], [1, 1])),
        changed("name", lambda file: file.rename(file.with_name("train-0.parquet"))),
        changed("more", lambda file: write_parquet(file.with_name("train-1.parquet"), [1], [0])),
        open_at(original, label_column="label", sample_column="label").fingerprint,
    ]
    assert len({fingerprint, *others}) == 6


# ---------------------------------------------------------------------------------------------------- image folders


def write_image(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((8, 8), value, dtype=np.uint8)).save(path)
    return path


def test_folder_of_images_without_classes(tmp_path):
    for name in ["b.png", "a.PNG", "c.bmp", "d.gif", "sub/e.jpeg", "sub/deeper/f.webp", "g.JPG"]:
        write_image(tmp_path / name, 0)
    (tmp_path / "notes.txt").write_text("not a picture")
    source = open_at(tmp_path)
    assert [label for _, label in source.iterate()] == [None] * 7
    assert source.class_names is None
    names = [file.relative_to(tmp_path).as_posix() for file, _ in source.iterate()]
    assert names == ["a.PNG", "b.png", "c.bmp", "d.gif", "g.JPG", "sub/e.jpeg", "sub/deeper/f.webp"]
    assert source.description == tmp_path.name  # it is published with the numbers: no path of this machine


def test_sub_folders_are_classes_if_every_image_lies_in_one(tmp_path):
    for value, name in enumerate(["owl/1.png", "cat/2.png", "cat/young/3.png", "dog/4.png"], start=1):
        write_image(tmp_path / name, value)
    source = open_at(tmp_path)
    assert source.class_names == ("cat", "dog", "owl")
    assert values(source) == [(2, 0), (3, 0), (4, 1), (1, 2)]
    write_image(tmp_path / "stray.png", 9)
    source = open_at(tmp_path)
    assert source.class_names is None
    assert {label for _, label in source.iterate()} == {None}


def test_sub_folders_named_by_split(tmp_path):
    write_image(tmp_path / "train" / "cat" / "1.png", 1)
    write_image(tmp_path / "train" / "dog" / "2.png", 2)
    write_image(tmp_path / "test" / "dog" / "3.png", 3)
    assert values(open_at(tmp_path)) == [(1, 0), (2, 1)]
    assert open_at(tmp_path, "test").length == 1
    with pytest.raises(NotFoundError, match="has no split 'dev'; there is test, train"):
        open_at(tmp_path, "dev")
    write_image(tmp_path / "car" / "4.png", 4)  # now they are things, one of which runs on rails
    assert open_at(tmp_path).class_names == ("car", "test", "train")


def test_a_folder_without_splits_is_the_training_set(tmp_path):
    write_image(tmp_path / "1.png", 1)
    with pytest.raises(NotFoundError, match="has no split 'test'; there is train"):
        open_at(tmp_path, "test")


def test_hidden_entries_are_skipped_and_links_followed_to_files_only(tmp_path):
    folder, elsewhere = tmp_path / "data", tmp_path / "elsewhere"
    write_image(folder / "1.png", 1)
    write_image(folder / ".2.png", 2)
    write_image(folder / ".thumbnails" / "3.png", 3)
    (folder / "4.png").symlink_to(write_image(elsewhere / "4.png", 4))
    (folder / "5.png").symlink_to(tmp_path / "nowhere.png")
    (folder / "loop").symlink_to(folder, target_is_directory=True)
    assert [value for value, _ in values(open_at(folder))] == [1, 4]


def test_image_folder_fingerprint(tmp_path):
    def fingerprint(name, **images):
        for file, value in images.items():
            write_image(tmp_path / name / f"{file.replace('_', '/')}.png", value)
        return open_at(tmp_path / name).fingerprint

    one = fingerprint("one", a_x=1, b_y=2)
    assert fingerprint("same", a_x=1, b_y=2) == one
    others = [
        fingerprint("pixel", a_x=1, b_y=3),
        fingerprint("class", a_x=1, c_y=2),
        fingerprint("more", a_x=1, b_y=2, b_z=1),
    ]
    assert len({one, *others}) == 4


def test_folder_without_images(tmp_path):
    with pytest.raises(UserError, match=r"none of what is read here: pictures \(.*\.png.*; found nothing\."):
        open_at(tmp_path)
    (tmp_path / "a.tiff").touch()
    (tmp_path / "README").touch()
    with pytest.raises(UserError, match=r"found \.tiff, files without a suffix\."):
        open_at(tmp_path)


def test_folder_whose_sub_folders_hold_parquet(tmp_path):
    write_parquet(tmp_path / "fine" / "train.parquet", [1])
    write_parquet(tmp_path / "coarse" / "train.parquet", [1])
    with pytest.raises(UserError, match=rf"name one with parquet files: {tmp_path}/coarse, {tmp_path}/fine\."):
        open_at(tmp_path)


def test_path_that_cannot_be_read():
    name = "x" * 300  # longer than a file system allows
    with pytest.raises(UserError, match=rf"data\.path={name} cannot be read \(.*File name too long"):
        open_at(name)


def test_path_that_is_not_there(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(NotFoundError, match=rf"data\.path=here does not exist \(looked for {tmp_path}/here\)"):
        open_at("here")
    Path("data.xls").touch()
    with pytest.raises(
        UserError, match=r"data\.path=data\.xls is neither a folder nor a file of a kind that is read here"
    ):
        open_at("data.xls")


def test_path_in_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    write_image(tmp_path / "pictures" / "1.png", 1)
    assert open_at("~/pictures").length == 1


# ------------------------------------------------------------------------------------------------------------ the Hub


def test_names_that_are_neither_built_in_nor_of_the_hub(tmp_path, monkeypatch):
    with pytest.raises(
        NotFoundError,
        match=r"no built-in data set 'digit' \(there is coco-captions, digits, .*\).* Did you mean 'digits'",
    ):
        open_source(DataConfig(dataset="digit"))
    monkeypatch.chdir(tmp_path)
    Path("pictures").mkdir()
    with pytest.raises(NotFoundError, match=r"A local copy is named by data\.path=pictures"):
        open_source(DataConfig(dataset="pictures"))


HUB_SCRIPT = """
import json, sys
from ganzoo.data import DataConfig, open_source
from ganzoo.errors import UserError

answers = []
for config in json.loads(sys.argv[1]):
    try:
        source = open_source(DataConfig(**config))
        rows = [[len(raw["bytes"]), label] for raw, label in source.iterate()]
        answers.append([source.description, source.fingerprint, source.length, rows, source.class_names])
    except UserError as error:
        answers.append(f"{type(error).__name__}: {error}")
print(json.dumps(answers))
"""


def ask_the_hub(configs, home, **environment):
    """What `open_source` answers in a fresh process (the Hub's client reads its settings when it is imported)."""
    variables = {**os.environ, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1", "NO_PROXY": "127.0.0.1", **environment}
    for name in ("HF_HUB_CACHE", "HF_DATASETS_CACHE", *({"HF_HUB_OFFLINE"} - set(environment))):
        variables.pop(name, None)
    command = [sys.executable, "-c", HUB_SCRIPT, json.dumps(configs)]
    done = subprocess.run(command, env=variables, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture
def dataset_hub(tmp_path):
    """A Hub on 127.0.0.1 with the data set alice/animals: the test server's model repositories, by another address."""
    from hub_server import Handler, HubServer
    from huggingface_hub import HfApi

    class DatasetHandler(Handler):
        def match(self):
            self.path = self.path.replace("/api/datasets/", "/api/models/", 1).replace("/datasets/", "/", 1)
            return super().match()

    with HubServer() as server:
        server.RequestHandlerClass = DatasetHandler
        api = HfApi(endpoint=server.endpoint, token="hf_alice")
        api.create_repo("alice/animals", repo_type="dataset")
        for split, labels in {"train": [2, 0, 1], "test": [1]}.items():
            file = write_parquet(tmp_path / "upload.parquet", range(len(labels)), labels, features=FEATURES)
            name = f"data/{split}-00000-of-00001.parquet"
            api.upload_file(path_or_fileobj=file, path_in_repo=name, repo_id="alice/animals", repo_type="dataset")
        yield server


def test_hub_data_set_through_the_real_client(dataset_hub, tmp_path):
    animals, home = {"dataset": "alice/animals"}, tmp_path / "home"
    wrong = [
        {**animals, "split": "dev"},
        {**animals, "revision": "nope"},
        {**animals, "name": "other"},
        {**animals, "label_column": "kind"},
        {"dataset": "alice/plants"},
    ]
    configs = [animals, {**animals, "split": "test"}, *wrong]
    train, test, *errors = ask_the_hub(configs, home, HF_ENDPOINT=dataset_hub.endpoint, HF_TOKEN="hf_alice")

    assert train[0] == "alice/animals" and train[2] == 3
    assert train[3] == [[len(png(value)), label] for value, label in enumerate([2, 0, 1])]
    assert train[4] == ["cat", "dog", "owl"]
    assert test[3] == [[len(png(0)), 1]]
    assert train[1] != test[1]

    assert errors[0] == "NotFoundError: The Hub data set 'alice/animals' has no split 'dev'; there is test, train."
    assert "has no revision 'nope'; check data.revision" in errors[1]
    assert (
        "cannot be loaded (BuilderConfig 'other' not found. Available: ['default']); check data.dataset" in errors[2]
    )
    assert "has no column 'kind' (data.label_column); there is image, label" in errors[3]
    assert (
        "The Hub has no data set 'alice/plants', or it is private" in errors[4] and "data.path=LOCAL_COPY" in errors[4]
    )

    # Loaded once, it opens without a network, as the same data.
    again, unknown = ask_the_hub([animals, {"dataset": "alice/plants"}], home, HF_HUB_OFFLINE="1")
    assert again == train
    assert unknown.startswith("NotFoundError: The Hub data set 'alice/plants' cannot be loaded (Couldn't reach")
    assert "data.path=LOCAL_COPY" in unknown


def test_hub_out_of_reach_is_one_sentence_at_once(tmp_path):
    (answer,) = ask_the_hub([{"dataset": "alice/animals"}], tmp_path, HF_ENDPOINT="http://127.0.0.1:9")
    assert re.fullmatch(
        r"NotFoundError: The data set 'alice/animals' cannot be looked up on the Hub \([^\n]*\); name a local copy: "
        r"data\.path=LOCAL_COPY \(sample and evaluate: --data LOCAL_COPY\), or set "
        r"HF_HUB_OFFLINE=1 if this machine has loaded it before\.",
        answer,
    )


# ------------------------------------------------------------------------------------------------- the real MNIST


MNIST = SHARED_DATA / "mnist"


@pytest.mark.skipif(not MNIST.is_dir(), reason="no local copy of MNIST beside the repository")
def test_mnist():
    source = open_at(MNIST, dataset="ylecun/mnist")
    assert (source.description, source.length) == ("ylecun/mnist", 60000)
    pairs = source.iterate()
    first = [next(pairs) for _ in range(10)]
    assert [label for _, label in first] == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]
    assert all(Image.open(io.BytesIO(raw["bytes"])).size == (28, 28) for raw, _ in first)
