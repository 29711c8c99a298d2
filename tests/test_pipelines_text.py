"""Text pipelines: what a seed, a prompt and a temperature mean, what is refused, what a checkpoint and its card say."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import ganzoo
from ganzoo.checkpoints.golden import replay_golden
from ganzoo.cli import run
from ganzoo.errors import CheckpointError, UserError
from ganzoo.hub.card import CardData, render_card
from ganzoo.hub.metadata import check_card, split_card
from ganzoo.metrics import MetricResult
from ganzoo.networks.text import TextGenerator
from ganzoo.pipelines import GANPipeline, TextPipeline, pipeline_class
from ganzoo.processors import TextProcessor, fit_text_processor
from ganzoo.training import load_recipe
from ganzoo.utils.files import load_tensors, save_tensors

SENTENCES = [
    "a man riding a wave on a surfboard .",
    "a woman riding a horse on the beach .",
    "two dogs on a sofa .",
    "a cat sitting on a red car .",
    "the man sitting near a window .",
]
LENGTH = 10
DIALOGUE = [("how are you ?", "i am fine ."), ("who is there ?", "a friend of yours ."), ("where ?", "at the door .")]
PROMPT_LENGTH, REPLY_LENGTH = 6, 7
BOUNDS = ("vocab_size", "max_length", "max_prompt_length", "bos_token_id", "eos_token_id", "pad_token_id")


def networks(family: str, processor, **config):
    """Freshly initialised networks, the same ones every time, whose predictions are far from uniform."""
    torch.manual_seed(0)
    own = {name: getattr(processor, name) for name in BOUNDS}
    generator, discriminator = ganzoo.create(family, **{**ganzoo.get_family(family).tiny, **own, **config})
    for parameter in generator.parameters():
        torch.nn.init.normal_(parameter, std=0.7)
    return generator, discriminator


def build(**config) -> TextPipeline:
    processor = fit_text_processor(SENTENCES, max_length=LENGTH)
    generator, discriminator = networks("seqgan", processor, **config)
    return TextPipeline(generator, processor, discriminator=discriminator)


@pytest.fixture(scope="module")
def pipe() -> TextPipeline:
    return build()


@pytest.fixture(scope="module")
def conditional() -> TextPipeline:
    return build(num_classes=3)


@pytest.fixture(scope="module")
def dialogue() -> TextPipeline:
    processor = fit_text_processor(DIALOGUE, max_length=REPLY_LENGTH, max_prompt_length=PROMPT_LENGTH)
    generator, discriminator = networks("seq2seq", processor)
    pipeline = TextPipeline(generator, processor, discriminator=discriminator)
    pipeline.example_prompts = ["how are you ?", "where  ?"]
    return pipeline


def ids(pipeline: TextPipeline, *args, **kwargs) -> torch.Tensor:
    return pipeline(*args, output_type="pt", **kwargs).texts


# ---------------------------------------------------------------------------------------------------------- what comes out


def test_output_types(pipe):
    drawn = pipe(num_samples=7, seed=0)
    assert len(drawn.texts) == 7 and all(isinstance(text, str) for text in drawn.texts)
    assert drawn.tokens.shape == drawn.latents.shape == (7, LENGTH) and drawn.tokens.dtype == torch.int64
    assert drawn.labels is None and drawn.texts == pipe.processor.decode(drawn.tokens, "text")
    assert torch.equal(ids(pipe, num_samples=7, seed=0), drawn.tokens)
    assert {len(row) for row in pipe(num_samples=7, seed=0, output_type="ids").texts} != {0}
    with pytest.raises(UserError, match="unknown output_type 'pil'"):
        pipe(num_samples=1, output_type="pil")


def test_five_sentences_are_the_default(pipe):
    assert len(pipe().texts) == len(pipe("a man").texts) == 5
    assert len(pipe(["a man", "two dogs"]).texts) == 2


def test_generate_is_the_call(pipe):
    how = {"max_length": 7, "temperature": 0.8, "top_k": 9, "top_p": 0.9, "seed": 4}
    assert pipe.generate("a man", 3, **how).texts == pipe("a man", 3, **how).texts
    assert pipe.generate(num_samples=2, seed=1).texts == pipe(num_samples=2, seed=1).texts


def slow(pipeline: TextPipeline, uniforms, label=None, begin=(), temperature=1.0, top_k=None, top_p=None) -> list[int]:
    """One sample by the definition: at every step sort, cut, and walk along the distribution function."""
    config, tokens = pipeline.config, list(begin)
    labels = None if label is None else torch.tensor([label])
    while len(tokens) < config.max_length:
        if config.eos_token_id in tokens:
            tokens.append(config.pad_token_id)
            continue
        padded = torch.tensor([[*tokens, *[0] * (config.max_length - len(tokens))]])
        with torch.no_grad():
            logits = pipeline.network.predict(padded, labels)[0, len(tokens)].double() / temperature
        probabilities = (logits.exp() / logits.exp().sum()).tolist()
        order = sorted(range(len(probabilities)), key=lambda token: -probabilities[token])[:top_k]
        kept, reached = [], 0.0
        total = sum(probabilities[token] for token in order)
        for token in order:
            if top_p is None or reached < top_p:
                kept.append(token)
            reached += probabilities[token] / total
        mass = sum(probabilities[token] for token in kept)
        target, walked = float(uniforms[len(tokens)]) * mass, 0.0
        for token in sorted(kept):
            walked += probabilities[token]
            if walked > target:
                break
        tokens.append(token)
    return tokens


@pytest.mark.parametrize(
    "how", [{}, {"temperature": 0.6}, {"top_k": 3}, {"top_p": 0.7}, {"temperature": 1.3, "top_k": 8, "top_p": 0.8}]
)
def test_samples_are_those_of_the_definition(conditional, how):
    drawn = conditional(num_samples=12, seed=100, **how)
    for tokens, uniforms, label in zip(drawn.tokens, drawn.latents, drawn.labels, strict=True):
        assert tokens.tolist() == slow(conditional, uniforms, int(label), **how)


def test_temperature_zero_takes_the_best_token(pipe):
    drawn = pipe(num_samples=4, seed=0, temperature=0).tokens
    assert (drawn == drawn[0]).all()
    best = pipe.network.predict(drawn[:1])[0].argmax(dim=1)
    end = drawn[0].tolist().index(pipe.config.eos_token_id) if pipe.config.eos_token_id in drawn[0] else LENGTH - 1
    assert torch.equal(best[: end + 1], drawn[0, : end + 1])
    assert torch.equal(pipe(num_samples=1, seed=9, top_k=1).tokens, drawn[:1])


# -------------------------------------------------------------------------------------------------------------------- seeds


def test_sample_i_has_seed_plus_i(conditional):
    together = conditional(num_samples=6, seed=40)
    for index in range(6):
        alone = conditional(num_samples=1, seed=40 + index)
        assert torch.equal(alone.tokens[0], together.tokens[index]) and alone.labels[0] == together.labels[index]
        assert torch.equal(alone.latents[0], together.latents[index])
    assert len(set(together.texts)) > 1


@pytest.mark.parametrize("batch_size", [1, 4, 100])
def test_batch_size_changes_nothing(conditional, batch_size):
    prompts = ["a man", "", "two dogs on", "the"]
    for prompt in (None, prompts):
        expected = conditional(prompt, num_samples=9, seed=1)
        found = conditional(prompt, num_samples=9, seed=1, batch_size=batch_size)
        assert torch.equal(found.tokens, expected.tokens) and torch.equal(found.labels, expected.labels)


def test_generators_and_latents(pipe):
    expected = pipe(num_samples=3, seed=10)
    sources = [torch.Generator().manual_seed(10 + index) for index in range(3)]
    assert pipe(generator=sources).texts == expected.texts
    assert pipe(latents=expected.latents).texts == expected.texts
    generator = torch.Generator().manual_seed(10)
    first, second = pipe(num_samples=2, generator=generator), pipe(num_samples=2, generator=generator)
    assert first.texts[0] == expected.texts[0]
    whole = pipe(num_samples=4, generator=torch.Generator().manual_seed(10))
    assert torch.equal(torch.cat([first.latents, second.latents]), whole.latents)
    assert whole.texts == first.texts + second.texts


def test_the_global_random_state_is_never_touched(pipe):
    before = torch.get_rng_state()
    assert not torch.equal(pipe(num_samples=3).latents, pipe("a man", num_samples=3).latents)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    ("latents", "message"),
    [
        (torch.zeros(2, LENGTH - 1), r"latents must have the shape \(2, 10\)"),
        (torch.full((2, LENGTH), 1.0), "numbers from 0 up to, not including, 1"),
        (torch.full((2, LENGTH), -0.1), "numbers from 0 up to, not including, 1"),
        (torch.full((2, LENGTH), torch.nan), "numbers from 0 up to, not including, 1"),
    ],
)
def test_latents_that_are_none(pipe, latents, message):
    with pytest.raises(UserError, match=message):
        pipe(num_samples=2, latents=latents)


def test_half_precision_keeps_the_uniform_numbers(tmp_path):
    """The largest uniform is 1 in bfloat16, beyond the distribution function's end."""
    build().save_pretrained(tmp_path)
    half = ganzoo.from_pretrained(tmp_path, dtype=torch.bfloat16)
    drawn = half(latents=torch.full((2, LENGTH), 1 - 2**-24))
    assert half.network.dtype == torch.bfloat16 and drawn.latents.dtype == torch.float32
    assert (drawn.tokens < half.config.vocab_size).all()


def test_labels_decide_the_sentence(conditional):
    drawn = [conditional(num_samples=8, seed=0, labels=label) for label in range(3)]
    assert torch.equal(drawn[0].latents, drawn[1].latents) and drawn[0].texts != drawn[1].texts
    assert conditional(num_samples=4, labels=[0, 2], seed=0).labels.tolist() == [0, 2, 0, 2]
    with pytest.raises(UserError, match="labels must lie between 0 and 2"):
        conditional(num_samples=2, labels=3)


# ------------------------------------------------------------------------------------------------------------------ prompts


def test_sentences_begin_with_the_prompt(pipe):
    texts = pipe("a man riding", num_samples=20, seed=0).texts
    assert all(text.startswith("a man riding") for text in texts) and len(set(texts)) > 1


def test_a_sample_prompted_with_its_own_beginning_stays_itself(pipe):
    """Token t is drawn with uniform number t, whether those before it were drawn or given."""
    drawn = pipe(num_samples=30, seed=0)
    found = 0
    for index, (text, tokens) in enumerate(zip(drawn.texts, drawn.tokens, strict=True)):
        beginning = " ".join(text.split()[:3])
        # Untrained, it also writes tokens that no text has, such as padding in the middle.
        if "<unk>" not in beginning and pipe.processor.encode_prompt(beginning) == tokens[:3].tolist():
            found += 1
            assert torch.equal(pipe(beginning, num_samples=1, seed=index).tokens[0], tokens)
    assert found > 5


def test_prompted_samples_are_those_of_the_definition(pipe):
    begin = pipe.processor.encode_prompt("two dogs on")
    drawn = pipe("two dogs on", num_samples=8, seed=3, temperature=0.9)
    for tokens, uniforms in zip(drawn.tokens, drawn.latents, strict=True):
        assert tokens.tolist() == slow(pipe, uniforms, begin=begin, temperature=0.9)


def test_a_list_of_prompts_has_one_for_each(pipe):
    prompts = ["a man", "", "two dogs on a", "the cat"]
    together = pipe(prompts, num_samples=6, seed=5)
    for index in range(6):
        assert pipe(prompts[index % 4], num_samples=1, seed=5 + index).texts == [together.texts[index]]


def test_words_that_the_model_does_not_know(pipe):
    unknown = pipe.processor.encode_prompt("a zebra")[1]
    drawn = pipe("a zebra", num_samples=3, seed=0)
    assert (drawn.tokens[:, 1] == unknown).all() and drawn.texts[0].startswith("a <unk>")
    with pytest.raises(UserError, match="knows none of the words of the prompt 'zebra xylophone'"):
        pipe("zebra xylophone", num_samples=3)


def test_a_model_of_ids_continues_ids():
    ids_only = TextProcessor(vocab_size=20, max_length=6, eos_token_id=1, pad_token_id=2)
    pipe = TextPipeline(networks("seqgan", ids_only)[0], ids_only)
    assert all(text.startswith("7 19 ") for text in pipe("7 19", num_samples=4, seed=0, top_k=3).texts)
    for prompt, message in (("7 2 9", "at or after the end"), ("7 20", "20"), ("a", "no list")):
        with pytest.raises(UserError, match=message):
            pipe(prompt)


@pytest.mark.parametrize("nothing", [None, "", "  \n"])
def test_an_empty_prompt_is_none(pipe, nothing):
    assert pipe(nothing, num_samples=3, seed=0).texts == pipe(num_samples=3, seed=0).texts


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        ("a man " * 20, "has 40 tokens; here it can have 9 at most"),
        (7, "prompt must be a text or a list of texts, not 7"),
        (["a man", 7], "prompt must be a text or a list of texts"),
        (["a"] * 4, "4 prompts for 3 samples"),
        ([], "0 prompts for 3 samples"),
        (b"a man", "prompt must be a text or a list of texts"),
    ],
)
def test_prompts_that_are_refused(pipe, prompt, message):
    with pytest.raises(UserError, match=message):
        pipe(prompt, num_samples=3)


def test_the_prompt_leaves_room_within_max_length(pipe):
    assert pipe("a man riding", num_samples=1, seed=0, max_length=4).tokens.shape == (1, 4)
    with pytest.raises(UserError, match="the prompt 'a man riding' has 3 tokens; here it can have 2 at most"):
        pipe("a man riding", num_samples=1, max_length=3)


def test_max_length_cuts_and_does_nothing_else(pipe):
    whole = pipe(num_samples=10, seed=0).tokens
    for length in (1, 4, LENGTH):
        assert torch.equal(pipe(num_samples=10, seed=0, max_length=length).tokens, whole[:, :length])


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"temperature": -0.1}, "temperature must be a number from 0"),
        ({"temperature": float("nan")}, "temperature must be a number from 0"),
        ({"temperature": float("inf")}, "temperature must be a number from 0"),
        ({"temperature": "1"}, "temperature must be a number from 0"),
        ({"temperature": True}, "temperature must be a number from 0"),
        ({"top_k": 0}, "top_k must be a positive integer, not 0"),
        ({"top_k": 2.0}, "top_k must be a positive integer, not 2.0"),
        ({"top_p": 0}, "top_p must be a number above 0 and at most 1, not 0"),
        ({"top_p": 1.01}, "top_p must be a number above 0 and at most 1"),
        ({"max_length": 0}, "max_length must be a positive integer"),
        ({"max_length": LENGTH + 1}, "max_length=11 is more than the 10 tokens"),
        ({"batch_size": 0}, "batch_size must be a positive integer"),
        ({"num_samples": 0}, "num_samples must be a positive integer"),
        ({"seed": -1}, "seed must be an integer from 0"),
        ({"seed": 0, "generator": torch.Generator()}, "give one of seed, generator and latents"),
        ({"labels": 0}, "unconditional: it takes no labels"),
    ],
)
def test_values_out_of_bounds(pipe, how, message):
    with pytest.raises(UserError, match=message):
        pipe(**how)


def test_bounds_that_are_allowed(pipe):
    free = pipe(num_samples=6, seed=0).texts
    assert pipe(num_samples=6, seed=0, top_p=1.0, top_k=10**9, temperature=1).texts == free
    for temperature in (1e-30, 1e-6):
        assert pipe(num_samples=6, seed=0, temperature=temperature).texts == pipe(num_samples=6, temperature=0).texts
    assert len(pipe(num_samples=2, seed=0, temperature=1e30).texts) == 2


# ------------------------------------------------------------------------------------------------------------------- answers


def test_an_answering_model_reads_its_prompts(dialogue):
    prompts = ["how are you ?", "where ?"]
    drawn = dialogue(prompts, num_samples=5, seed=0)
    rows = []
    for text in prompts:
        tokens = [*dialogue.processor.encode_prompt(text), dialogue.config.eos_token_id]
        rows.append(tokens + [dialogue.config.pad_token_id] * (PROMPT_LENGTH - len(tokens)))
    separate = torch.tensor([rows[index % 2] for index in range(5)])
    expected = dialogue.network(drawn.latents, None, separate)
    assert torch.equal(drawn.tokens, expected) and drawn.tokens.shape == (5, REPLY_LENGTH)
    assert torch.equal(dialogue.sample(5, prompt=separate, seed=0).samples, expected)
    other = dialogue("where ?", num_samples=5, seed=0)
    assert other.texts[1] == drawn.texts[1] and other.texts[0::2] != drawn.texts[0::2]


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        (None, "this model answers; give it a prompt"),
        (" ", "give it a prompt that is not empty"),
        (["where ?", ""], "give it a prompt that is not empty"),
        ("how are you ? " * 2, "has 8 tokens; here it can have 5 at most"),
        (torch.zeros(2, PROMPT_LENGTH + 1, dtype=torch.int64), r"shape \(2, 6\)"),
        (torch.full((2, PROMPT_LENGTH), 10**6), "each below"),
    ],
)
def test_answers_need_a_prompt_that_fits(dialogue, prompt, message):
    with pytest.raises(UserError, match=message):
        dialogue(prompt, num_samples=2)


# ------------------------------------------------------------------------------------------------------------- checkpoints


def test_the_class_is_chosen_by_role_and_modality(pipe, dialogue):
    assert pipeline_class(pipe.network) is pipeline_class(dialogue.network) is TextPipeline
    image, discriminator = ganzoo.create("dcgan", resolution=8, channels=1, width=4)
    assert pipeline_class(image) is GANPipeline
    with pytest.raises(UserError, match="holds a discriminator alone"):
        pipeline_class(discriminator)


def test_a_checkpoint_writes_the_same_and_verifies(pipe, tmp_path):
    pipe.save_pretrained(tmp_path / "mine")
    loaded = ganzoo.from_pretrained(tmp_path / "mine")
    assert type(loaded) is TextPipeline and isinstance(loaded.generator, TextGenerator)
    assert loaded("a man", num_samples=5, seed=0).texts == pipe("a man", num_samples=5, seed=0).texts
    assert not [check for check in ganzoo.verify(tmp_path / "mine") if not check.passed]
    lines = (tmp_path / "mine" / "samples" / "samples.txt").read_text().splitlines()
    assert lines == pipe(num_samples=64, seed=0).texts
    loaded.save_pretrained(tmp_path / "again")
    for name in ("samples/samples.txt", "processor_config.json", "tokenizer.json", "config.json"):
        assert (tmp_path / "mine" / name).read_bytes() == (tmp_path / "again" / name).read_bytes(), name


def test_the_card_shows_sentences_and_how_to_get_them(pipe, tmp_path, monkeypatch):
    pipe.save_pretrained(tmp_path / "mine")
    text = (tmp_path / "mine" / "README.md").read_text()
    assert check_card(text) == [] and "pipeline_tag: text-generation" in text
    shown = re.search(r"```text\n(.*?)\n```", text, flags=re.DOTALL)[1].splitlines()
    assert shown == [line or "(empty)" for line in pipe(num_samples=16, seed=0).texts]
    assert "[samples/samples.txt](samples/samples.txt)" in text
    monkeypatch.chdir(tmp_path)
    (snippet,) = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    space: dict = {}
    exec(snippet, space)
    prompt = " ".join(next(line for line in shown if len(line.split()) > 2).split()[:2])
    assert f'pipe("{prompt}", num_samples=5, seed=0).texts' in snippet
    assert space["texts"] == pipe(prompt, num_samples=5, seed=0).texts


def test_the_card_of_an_answering_model(dialogue, tmp_path):
    first = dialogue.save_pretrained(tmp_path / "one")
    loaded = ganzoo.from_pretrained(first)
    assert loaded.example_prompts == dialogue.example_prompts == ["how are you ?", "where ?"]
    loaded.save_pretrained(tmp_path / "two")
    for name in ("samples/prompts.txt", "samples/samples.txt"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    text = (first / "README.md").read_text()
    assert 'pipe("how are you ?", num_samples=5, seed=0).texts  # answers' in text
    assert "pipe(num_samples" not in text
    reply = dialogue("where ?", num_samples=1, seed=1).texts[0]
    line = (first / "samples" / "samples.txt").read_text().splitlines()[1]
    assert line == f"where ? → {reply}" and f"\n{line}\n" in text
    assert not [check for check in ganzoo.verify(first) if not check.passed]
    new = TextPipeline(dialogue.network, dialogue.processor)
    assert "samples.txt" not in (new.save_pretrained(tmp_path / "three") / "README.md").read_text()


def test_hostile_sentences_stay_inside_their_block():
    data = CardData(
        name="mine",
        summary="Mine.",
        family="seqgan",
        words=TextPipeline.card_words(TextProcessor),
        license="unknown",
        sentences=["", "```", "a\n\n# b", "<!-- x", "$name", "`````", "x" * 10_000],
        prompt='say "{name}"',
    )
    body = split_card(render_card(data))[1]
    block = re.search(r"^(`{6})text\n(.*?)\n\1$", body, flags=re.DOTALL | re.MULTILINE)
    lines = block[2].splitlines()
    assert lines[:6] == ["(empty)", "```", "a  # b", "<!-- x", "$name", "`````"] and len(lines[6]) == 300
    assert r'pipe("say \"{name}\"", num_samples=5' in body


def test_metrics_of_text_name_their_protocol():
    metric = MetricResult(
        "bleu_2",
        0.7,
        10,
        9,
        "nltk words",
        dataset=None,
        split=None,
        seed=0,
        floor=0.74,
        parameters={"temperature": 0.9},
    )
    words = TextPipeline.card_words(TextProcessor)
    data = CardData(
        name="m", summary="M.", family="seqgan", words=words, license="unknown", metrics=[metric], recipe="m"
    )
    body = split_card(render_card(data))[1]
    assert "| Metric | Value | Real text | N real | N generated | Protocol | Data | Split | Seed |" in body
    assert "| bleu_2 | 0.7 | 0.74 | 10 | 9 | nltk words, temperature 0.9 | - | - | 0 |" in body
    assert "training sentences score" in body and "The floor" not in body


def test_the_recipe_says_the_default_temperature(pipe, tmp_path):
    recipe = load_recipe(
        {"name": "m", "model": {"family": "seqgan"}, "training": {"steps": 1}, "evaluation": {"temperature": 0.4}}
    )
    cool = TextPipeline(pipe.network, pipe.processor, recipe=recipe)
    expected = pipe(num_samples=8, seed=0, temperature=0.4).texts
    assert cool(num_samples=8, seed=0).texts == expected != pipe(num_samples=8, seed=0).texts
    assert cool(num_samples=8, seed=0, temperature=1.0).texts == pipe(num_samples=8, seed=0).texts
    cool.save_pretrained(tmp_path)
    assert ganzoo.from_pretrained(tmp_path)(num_samples=8, seed=0).texts == expected


def test_sampling_needs_no_recipe(pipe, tmp_path):
    """Nor its absence: an unreadable one is of no weight. New checkpoints hold the temperature in their processor."""
    pipe.save_pretrained(tmp_path / "old")
    told = pipe.processor.informed(class_names=None, temperature=0.4)
    TextPipeline(pipe.network, told).save_pretrained(tmp_path / "new")
    for name, temperature in (("old", 1.0), ("new", 0.4)):
        (tmp_path / name / "recipe.yaml").write_text("model: {family: of a newer version}\nnobody: knows\n")
        expected = pipe(num_samples=4, seed=0, temperature=temperature).texts
        assert ganzoo.from_pretrained(tmp_path / name)(num_samples=4, seed=0).texts == expected
    assert "default_temperature" not in (tmp_path / "old" / "processor_config.json").read_text()


@pytest.mark.parametrize("token", [-1, 10**9])
def test_a_golden_file_with_tokens_that_do_not_exist(pipe, tmp_path, token):
    pipe.save_pretrained(tmp_path)
    path = tmp_path / "test" / "golden.safetensors"
    tensors, _ = load_tensors(path)
    for column in (0, LENGTH - 1):  # the last one is looked up in no embedding
        tokens = tensors["tokens"].clone()
        tokens[0, column] = token
        save_tensors(path, {**tensors, "tokens": tokens})
        with pytest.raises(CheckpointError, match="holds labels or tokens that the network does not have"):
            replay_golden(pipe.network, path)


# --------------------------------------------------------------------------------------------------------- command line


@pytest.fixture(scope="module")
def checkpoint(pipe, tmp_path_factory) -> Path:
    return pipe.save_pretrained(tmp_path_factory.mktemp("models") / "mine")


def test_sample_prints_sentences(pipe, checkpoint, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    arguments = ["sample", str(checkpoint), "--num", "6", "--seed", "3"]
    assert run(arguments) == 0
    shown = capsys.readouterr()
    assert shown.out.splitlines() == pipe(num_samples=6, seed=3).texts and shown.err == ""
    assert list(tmp_path.iterdir()) == []
    how = ["--prompt", "a man", "--temperature", "0.8", "--top-k", "5", "--top-p", "0.9", "--max-length", "8"]
    assert run([*arguments, *how, "--output", "deep/out.txt"]) == 0
    shown = capsys.readouterr()
    expected = pipe("a man", 6, seed=3, temperature=0.8, top_k=5, top_p=0.9, max_length=8).texts
    assert shown.out.splitlines() == expected and shown.err == "deep/out.txt\n"
    assert Path("deep/out.txt").read_text().splitlines() == expected


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--truncation", "1"], "makes text, which has no --truncation"),
        (["--temperature", "-1"], "temperature must be a number from 0"),
        (["--top-p", "2"], "top_p must be a number above 0"),
        (["--top-k", "0"], "top_k must be a positive integer"),
        (["--max-length", "11"], "max_length=11 is more than the 10 tokens"),
        (["--prompt", "a man " * 9], "has 18 tokens; here it can have 9 at most"),
        (["--labels", "1"], "unconditional"),
        (["--output", "sheet.png"], ".txt"),
    ],
)
def test_sample_explains_mistakes(checkpoint, tmp_path, monkeypatch, capsys, arguments, said):
    monkeypatch.chdir(tmp_path)
    assert run(["sample", str(checkpoint), *arguments]) == 2
    message = capsys.readouterr().err
    assert message.startswith("ganzoo: ") and message.count("\n") == 1 and said in message
    assert list(tmp_path.iterdir()) == []


def test_pictures_have_no_prompt(tmp_path, capsys):
    generator, _ = ganzoo.create("dcgan", resolution=8, channels=1, width=4)
    GANPipeline(generator, generator.config.processor()).save_pretrained(tmp_path)
    assert run(["sample", str(tmp_path), "--prompt", "a man", "--top-k", "3"]) == 2
    assert "makes image, which has no --prompt and no --top-k" in capsys.readouterr().err


def test_help_and_writing_import_no_more_than_they_need(checkpoint):
    code = f"""
import sys
from ganzoo.cli import run
run(["sample", "--help"])
assert not {{"torch", "tokenizers", "numpy"}} & {{*sys.modules}}
import ganzoo
assert ganzoo.from_pretrained({str(checkpoint)!r})("a man", num_samples=2, seed=0).texts
assert not {{"transformers", "datasets", "nltk", "torch._dynamo", "matplotlib"}} & {{*sys.modules}}
"""
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
