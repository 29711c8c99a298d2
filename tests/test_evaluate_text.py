"""Text measured: likelihoods against slow sums, and whole evaluations of tiny models on real lines."""

import itertools
import json
import math
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn

import ganzoo
from ganzoo.cli import run
from ganzoo.data import open_source
from ganzoo.data.sets.oracle import Oracle
from ganzoo.errors import UserError
from ganzoo.evaluation.text import DEFAULT_METRICS, ORACLE_METRICS
from ganzoo.metrics.records import MetricResult
from ganzoo.metrics.text import evaluate_texts
from ganzoo.metrics.text.likelihood import Likelihood, entropy, nll, nll_oracle
from ganzoo.pipelines import TextPipeline
from ganzoo.processors import TextProcessor, fit_text_processor
from ganzoo.recipe.data import DataConfig
from ganzoo.utils.files import save_tensors

VOCAB, EOS, PAD = 6, 1, 0
ORACLE_FILE = Path(__file__).parents[2] / "shared" / "data" / "seqgan-oracle" / "oracle.safetensors"


class Bigrams(nn.Module):
    """A language model in a table: the next token depends on the last one, and on a label's table of its own."""

    def __init__(self, eos=EOS, tables=1, seed=0):
        super().__init__()
        self.logits = nn.Parameter(torch.randn(tables, VOCAB, VOCAB, generator=torch.Generator().manual_seed(seed)))
        self.config = SimpleNamespace(eos_token_id=eos, vocab_size=VOCAB)
        self.batches, self.dropout = [], nn.Dropout(0.5)

    def log_probs(self, tokens, labels=None, prompts=None, *, temperature=1.0):
        assert not torch.is_grad_enabled()
        self.batches.append(len(tokens))
        before = torch.cat([torch.zeros_like(tokens[:, :1]), tokens[:, :-1]], dim=1)
        if prompts is not None:
            before[:, 0] = prompts[:, -1]
        table = self.logits[torch.zeros(len(tokens), dtype=torch.long) if labels is None else labels]
        logits = self.dropout(table[torch.arange(len(tokens))[:, None], before]) / temperature
        return logits.log_softmax(dim=2).gather(2, tokens[..., None])[..., 0]

    def sample_latents(self, num_samples, *, generator=None):
        return torch.rand(num_samples, 4, generator=generator)

    def forward(self, latents, labels=None, prompts=None, *, temperature=1.0):
        tables = (self.logits / temperature).softmax(dim=2)
        rows = []
        for index, uniforms in enumerate(latents.tolist()):
            last, row = 0 if prompts is None else int(prompts[index, -1]), []
            for uniform in uniforms:
                distribution = tables[0 if labels is None else int(labels[index]), last].cumsum(dim=0)
                last = min(int((distribution <= uniform).sum()), VOCAB - 1)
                row.append(last)
            rows.append(row)
        return torch.tensor(rows)


def slow_nlls(model, rows, table=0, first=0, temperature=1.0):
    """(sum, count) of every sequence, token by token."""
    found = []
    for row in rows.tolist():
        total, count, last = 0.0, 0, first
        for token in row:
            weights = [math.exp(value / temperature) for value in model.logits[table, last].tolist()]
            total, count, last = total - math.log(weights[token] / sum(weights)), count + 1, token
            if token == model.config.eos_token_id:
                break
        found.append((total, count))
    return found


def sequences(count=50, length=7, seed=3):
    return torch.randint(VOCAB, (count, length), generator=torch.Generator().manual_seed(seed))


class TestLikelihood:
    @pytest.mark.parametrize("temperature", [1.0, 0.4, 1.7])
    @pytest.mark.parametrize("eos", [EOS, None])
    def test_against_a_slow_sum(self, eos, temperature):
        model, rows = Bigrams(eos).eval(), sequences()
        found = nll(model, rows, temperature=temperature, batch_size=16)
        slow = slow_nlls(model, rows, temperature=temperature)
        total, count = (sum(values) for values in zip(*slow, strict=True))
        assert found.mean == pytest.approx(total / count, rel=1e-5)
        assert (found.tokens, found.sequences) == (count, 50)
        assert (count == 350) == (eos is None), "the end must cut something off for this test to say anything"

    def test_what_stands_behind_the_end_says_nothing(self):
        model, rows = Bigrams().eval(), sequences()
        rows[:, 3] = EOS
        changed = torch.cat([rows[:, :4], rows[:, 4:].flip(1)], dim=1)
        assert not torch.equal(rows, changed)
        assert nll(model, rows) == nll(model, changed)

    def test_the_end_itself_counts(self):
        model = Bigrams().eval()
        found = nll(model, torch.tensor([[EOS, PAD, PAD]]))
        assert found.tokens == 1
        assert found.mean == pytest.approx(-model.logits.detach()[0, 0].log_softmax(dim=0)[EOS].item())

    def test_standard_error_is_that_of_repeated_draws(self):
        model = Bigrams().eval()
        rows = sequences(4000, seed=9)
        parts = [nll(model, part) for part in rows.split(40)]
        spread = torch.tensor([part.mean for part in parts]).std()
        assert parts[0].standard_error == pytest.approx(float(spread), rel=0.35)
        assert nll(model, rows).standard_error == pytest.approx(float(spread) / 10, rel=0.25)
        fixed = nll(Bigrams(None).eval(), rows[:40])
        means = torch.tensor([total / count for total, count in slow_nlls(Bigrams(None), rows[:40])])
        assert fixed.standard_error == pytest.approx(float(means.std()) / 40**0.5, rel=1e-4)

    def test_labels_and_prompts_go_with_their_rows(self):
        model, rows = Bigrams(tables=2).eval(), sequences(9)
        labels = torch.arange(9) % 2
        slow = [slow_nlls(model, rows[i : i + 1], table=i % 2)[0] for i in range(9)]
        total, count = (sum(values) for values in zip(*slow, strict=True))
        assert nll(model, rows, labels=labels, batch_size=4).mean == pytest.approx(total / count, rel=1e-5)
        prompts = torch.arange(9)[:, None] % VOCAB
        slow = [slow_nlls(model, rows[i : i + 1], first=i % VOCAB)[0] for i in range(9)]
        total, count = (sum(values) for values in zip(*slow, strict=True))
        assert nll(model, rows, prompts=prompts, batch_size=4).mean == pytest.approx(total / count, rel=1e-5)

    def test_dropout_is_off_and_comes_back(self):
        model, rows = Bigrams().train(), sequences()
        assert nll(model, rows) == nll(Bigrams().eval(), rows)
        assert model.training and torch.is_grad_enabled()

    def test_stored_ids_and_batches_do_not_matter(self):
        model, rows = Bigrams().eval(), sequences()
        assert nll(model, rows.int(), batch_size=7) == pytest.approx(nll(model, rows))
        model.config.vocab_size, model.batches[:] = 2**22, []
        nll(model, rows)
        assert max(model.batches) <= 2**26 // (2**22 * rows.shape[1])

    def test_a_plain_function_of_tokens_is_enough(self):
        uniform = SimpleNamespace(log_probs=lambda tokens, *_, temperature: torch.full(tokens.shape, -math.log(5)))
        found = nll_oracle(uniform, sequences(3, 4))
        assert found == (pytest.approx(math.log(5)), pytest.approx(0, abs=1e-7), 12, 3)

    def test_mistakes(self):
        model = Bigrams()
        for temperature in (0.0, -1.0, math.nan, math.inf):
            with pytest.raises(UserError, match="temperature above 0"):
                nll(model, sequences(), temperature=temperature)
        for tokens in (torch.zeros(0, 4).long(), torch.zeros(4).long(), torch.zeros(2, 3)):
            with pytest.raises(UserError, match=r"ids of shape \(N, T\)"):
                nll(model, tokens)
        with pytest.raises(UserError, match="3 labels for 50 sequences"):
            nll(model, sequences(), labels=torch.zeros(3).long())
        with pytest.raises(UserError, match="num_samples"):
            entropy(model, 0)


class TestEntropy:
    @pytest.mark.parametrize("temperature", [1.0, 0.5])
    def test_against_all_sequences(self, temperature):
        """Of four tokens that never end: minus the sum of p log p over all 6^4 of them, by the chain rule."""
        model = Bigrams(None)
        table = (model.logits[0].detach().double() / temperature).softmax(dim=1)
        state, exact = torch.eye(VOCAB, dtype=torch.float64)[0], 0.0
        for _ in range(4):
            exact += float(state @ -(table * table.log()).sum(dim=1)) / 4
            state = state @ table
        found = entropy(model, 3000, temperature=temperature, seed=1)
        assert isinstance(found, Likelihood) and found.sequences == 3000
        assert abs(found.mean - exact) < 4 * found.standard_error < 0.1

    def test_a_seed_is_a_draw(self):
        model = Bigrams(tables=2)
        first, again, other = (entropy(model, 40, seed=seed, batch_size=9) for seed in (1, 1, 2))
        assert first == again != other
        labels = torch.arange(40) % 2
        assert entropy(model, 40, seed=1, labels=labels, batch_size=9) != first

    def test_lower_temperature_says_less(self):
        values = [entropy(Bigrams(), 500, temperature=temperature).mean for temperature in (1.5, 1.0, 0.5, 0.2)]
        assert values == sorted(values, reverse=True) and values[-1] < 0.7 * values[0]


TRAIN = [
    "A man riding a wave on a surfboard.",
    "A woman riding a horse on the beach.",
    "Two dogs on a sofa.",
    "A cat sitting on a red car.",
    "The man's dog is sitting near a window.",
]
TEST = ["A man on a horse.", "Two zebras grazing quietly together.", "Two dogs on a sofa."]
PAIRS = [("how are you ?", "i am fine ."), ("who is there ?", "a friend of yours ."), ("where ?", "at the door .")]
SPECIAL = ("vocab_size", "max_length", "max_prompt_length", "bos_token_id", "eos_token_id", "pad_token_id")


def build(processor, family="seqgan", **config):
    """A pipeline of freshly initialised networks whose predictions are far from uniform."""
    torch.manual_seed(0)
    given = {name: getattr(processor, name) for name in SPECIAL}
    networks = ganzoo.create(family, **{**ganzoo.get_family(family).tiny, **given, **config})
    for parameter in networks[0].parameters():
        nn.init.normal_(parameter, std=0.7)
    return TextPipeline(networks[0], processor)


@pytest.fixture
def pipe():
    return build(fit_text_processor(TRAIN, max_length=10))


@pytest.fixture
def captions(tmp_path):
    for name, lines in (("train", TRAIN), ("test", TEST)):
        (tmp_path / f"{name}.txt").write_text("\n".join(lines))
    return {"path": str(tmp_path), "dataset": "my/captions"}


def by_name(results):
    return {result.name: result for result in results}


class TestCaptions:
    def test_the_records(self, pipe, captions):
        results = ganzoo.evaluate(pipe, data=captions, num_samples=30, temperature=0.8, seed=5)
        assert tuple(result.name for result in results) == DEFAULT_METRICS
        found = by_name(results)
        for result in results:
            assert MetricResult(**json.loads(json.dumps(result.to_dict(), allow_nan=False))) == result
            assert (result.dataset, result.seed, result.parameters["temperature"]) == ("my/captions", 5, 0.8)
            assert "temperature 0.8" in str(result) and result.torch_version == torch.__version__
        counts = {name: (result.num_real, result.num_generated, result.split) for name, result in found.items()}
        assert counts["bleu_2"] == (3, 30, "test") and counts["self_bleu_3"] == (0, 30, "test")
        assert counts["copied_share"] == (5, 30, "train")
        assert counts["nll_test"] == (3, 0, "test") and counts["entropy"] == (0, 30, "test")
        assert "nltk words, lower case" in found["bleu_5"].embedder
        assert found["nll_test"].embedder == "the model itself"
        assert {name for name, result in found.items() if result.floor is None} == {"nll_test", "entropy"}

    def test_the_sentences_are_those_of_the_pipeline_against_the_lines_as_written(self, pipe, captions):
        names = ["bleu_2", "bleu_train_3", "self_bleu_2", "copied_share", "reverse_nll", "distinct_sentences"]
        results = ganzoo.evaluate(pipe, data=captions, metrics=names, num_samples=12, temperature=0.7, seed=3)
        texts = pipe(num_samples=12, seed=3, temperature=0.7).texts
        expected = evaluate_texts(texts, TEST, train=TRAIN, metrics=names, seed=3)
        assert [(r.name, r.value, r.floor) for r in results] == [(r.name, r.value, r.floor) for r in expected]

    def test_real_text_is_the_floor(self, pipe, captions):
        found = by_name(ganzoo.evaluate(pipe, data=captions, num_samples=50, metrics=["copied_share", "bleu_2"]))
        assert found["copied_share"].floor == pytest.approx(1 / 3), "one test line is also a training line"
        assert found["bleu_2"].floor > found["bleu_2"].value
        bare = ganzoo.evaluate(pipe, data=captions, num_samples=50, metrics=["copied_share", "bleu_2"], floor=False)
        assert [result.floor for result in bare] == [None, None]
        assert [result.value for result in bare] == [found["copied_share"].value, found["bleu_2"].value]

    def test_unknown_words_do_not_match(self, pipe, captions):
        """A generator that only says <unk> shares no word with test lines of words that it does not know."""
        unknown = pipe.processor.backend.token_to_id("<unk>")
        with torch.no_grad():
            for parameter in pipe.network.parameters():
                parameter.zero_()
            pipe.network.model.output.bias[unknown] = 50.0
        assert pipe(num_samples=1, seed=0, output_type="ids").texts == [[unknown] * 10]
        names = ["distinct_1", "bleu_2", "nll_test"]
        diversity, bleu, likelihood = ganzoo.evaluate(pipe, data=captions, num_samples=4, metrics=names)
        assert bleu.value < 0.05
        # zebras, grazing, quietly, together of 21 tokens with the ends
        assert likelihood.details["unknown_share"] == pytest.approx(4 / 21)
        assert likelihood.value == pytest.approx(50 * 17 / 21, rel=0.01)

    @pytest.mark.parametrize("temperature", [1.0, 0.6])
    def test_likelihoods_against_single_steps(self, pipe, captions, temperature):
        names = ["nll_test", "entropy"]
        how = {"data": captions, "num_samples": 9, "seed": 2, "temperature": temperature}
        found = by_name(ganzoo.evaluate(pipe, metrics=names, **how))
        test = [pipe.processor.encode(line).tolist() for line in TEST]
        own = pipe(num_samples=9, seed=2, temperature=temperature).tokens.tolist()
        for name, rows in (("nll_test", test), ("entropy", own)):
            total, count = self.walk(pipe, rows, temperature)
            assert found[name].value == pytest.approx(total / count, rel=1e-4)
            assert found[name].details["tokens"] == count
            assert found[name].details["perplexity"] == pytest.approx(math.exp(total / count), rel=1e-3)

    @staticmethod
    @torch.no_grad()
    def walk(pipe, rows, temperature):
        config, total, count = pipe.config, 0.0, 0
        for row in rows:
            state, last = pipe.network.begin(1), config.bos_token_id
            for token in row:
                logits, state = pipe.network.step(torch.tensor([last]), state)
                total -= float((logits[0] / temperature).log_softmax(dim=0)[token])
                count, last = count + 1, token
                if token == config.eos_token_id:
                    break
        return total, count

    def test_without_a_test_split_the_training_split_and_no_floor(self, pipe, captions, tmp_path):
        (tmp_path / "test.txt").unlink()
        found = by_name(ganzoo.evaluate(pipe, data=captions, num_samples=5, metrics=["bleu_2", "nll_test"]))
        assert all((result.split, result.num_real, result.floor) == ("train", 5, None) for result in found.values())
        with pytest.raises(UserError, match="no split 'test'"):
            ganzoo.evaluate(pipe, data=captions, num_samples=5, split="test")

    def test_limit_and_holdout(self, pipe, captions):
        held = {**captions, "holdout": 0.4}
        (result,) = ganzoo.evaluate(pipe, data=held, split="holdout", num_samples=4, metrics=["bleu_train_2"])
        assert (result.num_real, result.split) == (3, "train"), "two of five are held out"
        (result,) = ganzoo.evaluate(pipe, data={**captions, "limit": 2}, num_samples=4, metrics=["bleu_2"])
        assert result.num_real == 2

    def test_mistakes(self, pipe, captions):
        with pytest.raises(UserError, match="no text metric 'bleu_7'.*bleu_2, .*nll_test"):
            ganzoo.evaluate(pipe, data=captions, metrics=["bleu_7"])
        with pytest.raises(UserError, match="no text metric 'frechet_distance'"):
            ganzoo.evaluate(pipe, data=captions, metrics="frechet_distance")
        with pytest.raises(UserError, match="nll_oracle needs data that an oracle made.*my/captions"):
            ganzoo.evaluate(pipe, data=captions, metrics=["nll_oracle"], num_samples=2)
        with pytest.raises(UserError, match="no recipe that names its data"):
            ganzoo.evaluate(pipe)

    def test_the_command(self, pipe, captions, tmp_path, capsys):
        pipe.save_pretrained(tmp_path / "model")
        arguments = ["--data", captions["path"], "--num-samples", "6", "--metrics", "bleu_2,nll_test", "--seed", "1"]
        assert run(["evaluate", str(tmp_path / "model"), *arguments, "--temperature", "0.5"]) == 0
        lines = capsys.readouterr().out.splitlines()
        data = {"path": captions["path"]}
        same = ganzoo.evaluate(pipe, data=data, num_samples=6, metrics=["bleu_2", "nll_test"], temperature=0.5, seed=1)
        assert lines == [str(result) for result in same]
        assert run(["evaluate", str(tmp_path / "model"), *arguments, "--temperature", "0"]) == 2


def test_labels_of_the_data_and_of_the_samples(tmp_path):
    for label, name in enumerate(("cats", "dogs")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "train.txt").write_text("\n".join(TRAIN[label::2]))
        (tmp_path / name / "test.txt").write_text("\n".join(TEST[label::2]))
    pipe = build(fit_text_processor(TRAIN, max_length=10), num_classes=2)
    (test, own) = ganzoo.evaluate(pipe, data={"path": str(tmp_path)}, num_samples=8, metrics=["nll_test", "entropy"])
    drawn = pipe(num_samples=8, seed=0)
    assert set(drawn.labels.tolist()) == {0, 1}
    assert own.value == pytest.approx(nll(pipe.network, drawn.tokens, labels=drawn.labels).mean)
    rows = torch.stack([torch.from_numpy(pipe.processor.encode(line)) for line in (TEST[0], TEST[2], TEST[1])])
    assert test.value == pytest.approx(nll(pipe.network, rows, labels=torch.tensor([0, 0, 1])).mean)
    assert test.value != pytest.approx(nll(pipe.network, rows, labels=torch.tensor([1, 1, 0])).mean)


def test_a_model_that_answers_gets_the_prompts_of_the_split(tmp_path):
    for split in ("train", "test"):
        (tmp_path / f"{split}.tsv").write_text("\n".join("\t".join(pair) for pair in PAIRS))
    processor = fit_text_processor(PAIRS, max_length=7, max_prompt_length=6)
    pipe = build(processor, "seq2seq")
    names = ["bleu_2", "nll_test", "entropy"]
    bleu, test, own = ganzoo.evaluate(pipe, data={"path": str(tmp_path)}, num_samples=7, metrics=names)
    stored = torch.stack([torch.from_numpy(processor.encode(pair)) for pair in PAIRS]).long()
    prompts = stored[:, :6][torch.arange(7) % 3]
    assert test.value == pytest.approx(nll(pipe.network, stored[:, 6:], prompts=stored[:, :6]).mean)
    assert test.value != pytest.approx(nll(pipe.network, stored[:, 6:], prompts=stored[:, :6].flip(0)).mean)
    drawn = pipe(prompts, seed=0)
    assert own.value == pytest.approx(nll(pipe.network, drawn.tokens, prompts=prompts).mean)
    replies = [reply for _, reply in PAIRS]
    (expected,) = evaluate_texts(drawn.texts, replies, train=replies, metrics=["bleu_2"])
    assert (bleu.value, bleu.floor) == (expected.value, expected.floor)


@pytest.fixture(scope="module")
def oracle_file(tmp_path_factory):
    """A small oracle, in the arrays of the reference code."""
    source, size, width = torch.Generator().manual_seed(3), 60, 8
    shapes = {"embedding": (size, width), "Wo": (width, size), "bo": (size,)}
    for gate in ("i", "f", "og", "c"):
        shapes |= {f"W{gate}": (width, width), f"U{gate}": (width, width), f"b{gate}": (width,)}
    path = tmp_path_factory.mktemp("oracle") / "small.safetensors"
    save_tensors(path, {name: torch.randn(shape, generator=source) for name, shape in shapes.items()})
    return path


@pytest.fixture(scope="module")
def results(oracle_file):
    pipe = build(TextProcessor(vocab_size=60, max_length=20))
    data = {"path": str(oracle_file), "limit": 200}
    return pipe, by_name(ganzoo.evaluate(pipe, data=data, num_samples=90, seed=4, temperature=0.9))


class TestOracle:
    """Data that an oracle made: token ids, and the exact likelihood of whatever is generated."""

    def test_the_metrics_of_ids(self, results):
        _, found = results
        assert tuple(found) == ORACLE_METRICS
        assert found["nll_oracle"].embedder == "the oracle" and found["nll_oracle"].num_generated == 90
        assert found["nll_test"].num_real == 200 and found["nll_test"].dataset == "small.safetensors"
        assert found["distinct_sentences"].embedder.startswith("whitespace words")

    def test_the_oracle_judges_at_its_own_temperature(self, results, oracle_file):
        pipe, found = results
        drawn = pipe(num_samples=90, seed=4, temperature=0.9).tokens.clone()
        log_probs = Oracle.from_file(oracle_file).log_probs(drawn)
        assert found["nll_oracle"].value == pytest.approx(-float(log_probs.double().mean()), rel=1e-5)
        own = pipe.network.log_probs(drawn, temperature=0.9)
        assert found["entropy"].value == pytest.approx(-float(own.detach().double().mean()), rel=1e-5)

    def test_the_floor_is_the_entropy_of_the_oracle(self, results, oracle_file):
        _, found = results
        (floor,) = {found[name].floor for name in ("nll_oracle", "nll_test", "entropy")}
        exact = entropy(Oracle.from_file(oracle_file), 2000, seed=11)
        assert abs(floor - exact.mean) < 5 * exact.standard_error * 10**0.5
        assert floor < min(found["nll_oracle"].value, found["nll_test"].value)

    def test_sentences_of_ids(self, oracle_file):
        pipe = build(TextProcessor(vocab_size=60, max_length=20))
        data = {"path": str(oracle_file), "limit": 50}
        names = ["bleu_2", "copied_share", "nll_oracle"]
        bleu, _, likelihood = ganzoo.evaluate(pipe, data=data, num_samples=5, metrics=names, split="train", seed=1)
        drawn = itertools.islice(open_source(DataConfig(path=str(oracle_file)), "train").iterate(), 50)
        lines = [" ".join(map(str, ids.tolist())) for ids, _ in drawn]
        texts = pipe(num_samples=5, seed=1).texts
        (expected,) = evaluate_texts(texts, lines, metrics=["bleu_2"], tokenizer="whitespace")
        assert bleu.value == expected.value and bleu.num_real == 50
        assert likelihood.floor is not None, "the oracle's own likelihood needs no second split"

    def test_a_fresh_oracle_by_its_seed(self):
        oracle = Oracle.from_seed(3)
        found = nll_oracle(oracle, oracle.sample(200, 5))
        assert abs(found.mean - 5.95) < 0.35 and 0.01 < found.standard_error < 0.1
        uniform = nll_oracle(oracle, torch.randint(5000, (200, 20), generator=torch.Generator().manual_seed(0)))
        assert 10.8 < uniform.mean < 11.5

    @pytest.mark.skipif(not ORACLE_FILE.exists(), reason="the oracle of the paper is not on this machine")
    def test_the_anchors_of_the_published_oracle(self):
        """Entropy 5.756, uniform tokens 11.436 (of 300 sequences known to about 0.03)."""
        oracle = Oracle.from_file(ORACLE_FILE)
        own = nll_oracle(oracle, oracle.sample(300, 1))
        assert abs(own.mean - 5.756) < 4 * own.standard_error and own.standard_error < 0.05
        uniform = nll_oracle(oracle, torch.randint(5000, (300, 20), generator=torch.Generator().manual_seed(1)))
        assert abs(uniform.mean - 11.436) < 4 * uniform.standard_error
