"""Model cards: accepted by the Hub's rules for every modality, and never written over what a person wrote."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from huggingface_hub import ModelCard
from places import ROOT

from ganzoo.errors import UserError
from ganzoo.hub.card import CardData, _signed, address_card, render_card, write_card
from ganzoo.hub.metadata import PIPELINE_TAGS, check_card, split_card
from ganzoo.pipelines import PIPELINES, ClassifierPipeline, GANPipeline, Pipeline, TextPipeline, VocoderPipeline
from ganzoo.processors import ImageProcessor, Processor, TextProcessor, WaveformProcessor
from ganzoo.recipe.licences import LICENSES
from ganzoo.utils.modalities import PROCESSORS
from ganzoo.version import DISTRIBUTION

PICTURES = GANPipeline.card_words(ImageProcessor)
SOUND = GANPipeline.card_words(WaveformProcessor)
TEXT = TextPipeline.card_words(TextProcessor)
VOCODED = VocoderPipeline.card_words(WaveformProcessor)
JUDGED = ClassifierPipeline.card_words(ImageProcessor)
METRIC = {
    "name": "frechet_distance",
    "value": 1.2345,
    "num_real": 10_000,
    "num_generated": 10_000,
    "embedder": "digit-classifier",
    "dataset": "ylecun/mnist",
    "split": "test",
    "seed": 1234,
    "parameters": {"features": 128},
    "floor": 0.4,
    "ganzoo_version": "0.1.0",
    "torch_version": "2.11.0",
}


def card_data(**changes) -> CardData:
    values = {
        "name": "dcgan-mnist",
        "repo_id": "ganzoo/dcgan-mnist",
        "summary": "Draws handwritten digits, 32x32 grey.",
        "family": "dcgan",
        "words": PICTURES,
        "paper_title": "Unsupervised Representation Learning with DCGANs",
        "paper": "https://arxiv.org/abs/1511.06434",
        "license": "apache-2.0",
        "datasets": ["ylecun/mnist"],
        "tags": ["mnist"],
        "metrics": [METRIC],
        "parameters": {"generator": 3_576_704, "discriminator": 2_765_568},
        "samples": ["samples/grid.png"],
        "training": {"steps": 20_000, "batch_size": 64, "minutes": 42.5, "machine": "2 CPU cores"},
        "recipe": "dcgan-mnist",
        "limitations": ["It knows nothing but digits."],
    }
    return CardData(**{**values, **changes})


MODALITIES = {
    "image": ({"words": PICTURES, "num_classes": 10}, "unconditional-image-generation", "class-conditional"),
    "audio": ({"words": SOUND, "samples": ["samples/0.wav"]}, None, "unconditional-audio-generation"),
    "text": ({"words": TEXT, "samples": ["samples/samples.txt"]}, "text-generation", "gan"),
    "classifier": ({"words": JUDGED, "num_classes": 10}, "image-classification", "classifier"),
}


@pytest.mark.parametrize("changes, task, tag", MODALITIES.values(), ids=MODALITIES)
def test_card_of_every_modality_is_accepted(changes, task, tag):
    text = render_card(card_data(**changes))
    assert check_card(text) == []
    metadata, body = split_card(text)
    assert metadata["library_name"] == "ganzoo"
    assert metadata.get("pipeline_tag") == task
    assert tag in metadata["tags"]
    assert '("ganzoo/dcgan-mnist")' in body and "$" not in body


def test_least_card_is_accepted():
    data = CardData(name="mine", summary="Mine.", family="dcgan", words=PICTURES, license="unknown")
    text = render_card(data)
    assert check_card(text) == []
    assert "Not measured." in text and "model-index" not in text and '("mine")' in text


def test_round_trip_through_the_hubs_own_card():
    card = ModelCard(render_card(card_data()))
    assert (card.data.license, card.data.library_name, card.data.datasets) == (
        "apache-2.0",
        "ganzoo",
        ["ylecun/mnist"],
    )
    [result] = card.data.eval_results
    assert (result.metric_type, result.metric_value) == ("frechet_distance", 1.2345)
    assert (result.dataset_type, result.dataset_split) == ("ylecun/mnist", "test")
    assert (result.metric_args["num_real"], result.metric_args["features"]) == (10_000, 128)
    assert card.data.model_name == "dcgan-mnist"
    assert check_card(str(card)) == []


def test_the_numbers_stand_in_the_text_with_their_protocol():
    body = split_card(render_card(card_data()))[1]
    row = next(line for line in body.splitlines() if line.startswith("| frechet_distance"))
    expected = [
        "frechet_distance",
        "1.234",
        "0.4",
        "10,000",
        "10,000",
        "digit-classifier",
        "ylecun/mnist",
        "test",
        "1234",
    ]
    assert [cell.strip() for cell in row.strip("|").split("|")] == expected
    for fact in ("3,576,704", "2,765,568", "20,000 steps of batch size 64, 42.5 minutes on 2 CPU cores", "1511.06434"):
        assert fact in body
    assert "![Samples of dcgan-mnist](samples/grid.png)" in body


def test_players_have_absolute_addresses_when_the_repository_is_known():
    sound = {"words": SOUND, "samples": ["samples/0.wav"]}
    assert 'src="https://huggingface.co/ganzoo/dcgan-mnist/resolve/main/samples/0.wav"' in render_card(
        card_data(**sound)
    )
    assert 'src="samples/0.wav"' in render_card(card_data(**sound, repo_id=None))


def test_pushed_card_names_its_repository():
    sound = {"words": SOUND, "samples": ["samples/0.wav"]}
    here = render_card(card_data(**sound, name="mine", repo_id=None))
    there = address_card(here, "me/mine")
    assert there == render_card(card_data(**sound, name="mine", repo_id="me/mine")) != here
    edited = here.replace("It knows nothing but", "It knows")
    assert address_card(edited, "me/mine") == edited


@pytest.mark.parametrize(("words", "extra"), [(PICTURES, ""), (VOCODED, "[audio]")], ids=["plain", "audio"])
def test_pushed_card_of_former_days_installs_the_right_package(words, extra):
    today = render_card(card_data(words=words, repo_id="me/mine"))
    metadata, _, body = today.rpartition("---\n\n")
    text = body[: body.index("<!--")].replace(f"{DISTRIBUTION}{extra}", f"ganzoo{extra}")
    assert f"ganzoo{extra}" in text and DISTRIBUTION not in text
    former = f"{metadata}---\n\n{_signed(text)}"
    assert address_card(former, "me/mine") == today


def test_metric_that_is_not_a_number_stays_out_of_the_metadata():
    text = render_card(card_data(metrics=[{**METRIC, "value": float("nan")}]))
    assert check_card(text) == [] and "model-index" not in text
    assert "| frechet_distance | nan |" in text


BROKEN = {
    "unknown licence": ({"license": "MIT-ish"}, "license: 'MIT-ish' is no licence identifier"),
    "licence in capitals": ({"license": "MIT"}, "Did you mean 'mit'"),
    "unnamed licence": ({"license": "other"}, "needs license_name and license_link"),
    "no licence": ({"license": None}, "license"),
    "unknown task": ({"pipeline_tag": "unconditional-images"}, "pipeline_tag: 'unconditional-images' is no task"),
    "no library": ({"library_name": ...}, "missing key 'library_name'"),
    "another library": ({"library_name": "transformers"}, "library_name: must be 'ganzoo'"),
    "tag that is a number": ({"tags": ["gan", 3]}, "tags.1"),
    "tags that are no list": ({"tags": "gan"}, "tags"),
    "data set that is no id": ({"datasets": ["my data/x"]}, "'my data/x' is no data set id"),
    "no results": ({"model-index": [{"name": "x", "results": []}]}, "model-index.0.results"),
}


def broken(**changes) -> str:
    metadata, body = split_card(render_card(card_data()))
    metadata = {key: value for key, value in {**metadata, **changes}.items() if value is not ...}
    return f"---\n{yaml.safe_dump(metadata)}---\n{body}"


@pytest.mark.parametrize("changes, problem", BROKEN.values(), ids=BROKEN)
def test_broken_metadata_is_found(changes, problem):
    [found] = check_card(broken(**changes))
    assert problem in found


@pytest.mark.parametrize("value", [..., None, "1.2", float("nan"), True])
def test_metric_without_a_number_is_found(value):
    metadata, _ = split_card(render_card(card_data()))
    index = metadata["model-index"]
    metric = index[0]["results"][0]["metrics"][0]
    metric["value"] = value
    if value is ...:
        del metric["value"]
    [found] = check_card(broken(**{"model-index": index}))
    assert "model-index.0.results.0.metrics.0.value" in found


@pytest.mark.parametrize(
    "text, problem",
    [
        ("# A card\n", "no metadata block"),
        ("---\nlicense: [\n---\n# A card\n", "not valid YAML"),
        ("---\n- license\n---\n# A card\n", "not a list"),
        ("---\nlicense: mit\nlibrary_name: ganzoo\ntags: [gan]\n---\n\n", "no text below"),
    ],
)
def test_text_that_is_no_card_is_found(text, problem):
    [found] = check_card(text)
    assert problem in found


def test_unknown_licence_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(UserError, match="no licence identifier"):
        write_card(tmp_path, card_data(license="GPL3"))
    assert list(tmp_path.iterdir()) == []


def test_other_licence_is_named_and_linked():
    text = render_card(card_data(license="other", license_name="my-licence", license_link="LICENSE"))
    assert check_card(text) == []
    assert "[my-licence](LICENSE)" in text


def test_untouched_card_is_renewed(tmp_path):
    path = write_card(tmp_path, card_data())
    write_card(tmp_path, card_data(metrics=[], summary="Draws better digits."))
    assert path.read_text() == render_card(card_data(metrics=[], summary="Draws better digits."))


def test_other_line_ends_are_no_edit(tmp_path):
    path = write_card(tmp_path, card_data())
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    write_card(tmp_path, card_data(summary="Draws better digits."))
    assert path.read_text() == render_card(card_data(summary="Draws better digits."))


def test_edited_text_survives_and_metadata_is_renewed(tmp_path):
    path = write_card(tmp_path, card_data())
    path.write_text(path.read_text().replace("It knows nothing but digits.", "Sevens lean to the left."))
    edited_body = split_card(path.read_text())[1]
    write_card(tmp_path, card_data(license="mit", metrics=[{**METRIC, "value": 0.9}], summary="Draws better digits."))
    metadata, body = split_card(path.read_text())
    assert body == edited_body and "Sevens lean to the left." in body and "better digits" not in body
    assert metadata["license"] == "mit"
    assert metadata["model-index"][0]["results"][0]["metrics"][0]["value"] == 0.9
    assert check_card(path.read_text()) == []


def test_card_written_by_hand_survives(tmp_path):
    path = tmp_path / "README.md"
    path.write_text(
        "---\nlicense: mit\nlanguage: en\ntags: [digits]\npipeline_tag: text-to-image\n---\n# Mine\n\nHello.\n"
    )
    write_card(tmp_path, card_data())
    metadata, body = split_card(path.read_text())
    assert body.strip() == "# Mine\n\nHello."
    assert (metadata["license"], metadata["language"]) == ("apache-2.0", "en")
    assert {"digits", "gan", "dcgan"} <= set(metadata["tags"])
    assert metadata["pipeline_tag"] == "unconditional-image-generation"
    once = path.read_text()
    write_card(tmp_path, card_data())
    assert path.read_text() == once


def test_unreadable_metadata_of_a_card_is_left_alone(tmp_path):
    path: Path = tmp_path / "README.md"
    path.write_text("---\nlicense: [\n---\n# Mine\n")
    with pytest.raises(UserError, match="README.md: the metadata block is not valid YAML"):
        write_card(tmp_path, card_data())
    assert path.read_text() == "---\nlicense: [\n---\n# Mine\n"


def test_tables_hold_what_the_library_uses():
    assert {"apache-2.0", "mit", "cc-by-4.0", "other"} <= LICENSES
    words = [
        task.card_words(processor) for task in PIPELINES.all().values() for processor in PROCESSORS.all().values()
    ]
    assert {said.hub_task for said in words} - {None} <= PIPELINE_TAGS


def test_a_task_says_what_its_card_shows():
    """By modality where the modality makes the difference; what nobody says has a plain default."""

    class Repair(Pipeline):
        @classmethod
        def card_words(cls, processor):
            return replace(super().card_words(processor), tag="repair", hub_task="image-to-image", extra="train")

    class Table(Processor):
        modality = "table"

    text = render_card(card_data(words=Repair.card_words(Table), metrics=[], samples=[]))
    metadata, body = split_card(text)
    assert check_card(text) == [] and metadata["pipeline_tag"] == "image-to-image"
    assert metadata["tags"] == ["repair", "dcgan", "safetensors", "mnist"]
    assert "| Modality | table |" in body and "[train]" in body and "Classes to ask for" not in body
    assert 'pipe = ganzoo.from_pretrained("ganzoo/dcgan-mnist")' in body
    assert GANPipeline.card_words(Table).usage[1:] == ("output = pipe(num_samples=4, seed=0)",)
    assert ClassifierPipeline.card_words(Table).hub_task is None  # the Hub has tabular-classification, no such task
    assert (JUDGED.tag, VOCODED.extra) == ("classifier", "audio")


def test_importing_cards_imports_no_torch():
    code = "import sys, ganzoo.hub.card; sys.exit('torch' in sys.modules or 'huggingface_hub' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0
