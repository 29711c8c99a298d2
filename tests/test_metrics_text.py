"""Text metrics against nltk, against slow computations from the definitions, and by hand."""

from __future__ import annotations

import json
import math
import random
import sys
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pytest

from ganzoo.errors import UserError
from ganzoo.metrics.records import MetricResult
from ganzoo.metrics.text import (
    TEXT_METRICS,
    NGramModel,
    TextMetric,
    bleu,
    copied_share,
    distinct_ngrams,
    distinct_sentences,
    evaluate_texts,
    forward_nll,
    reverse_nll,
    self_bleu,
    tokenize,
)

CAPTIONS = Path(__file__).parents[2] / "shared" / "data" / "coco-captions"

OF_SENTENCES = [name for name, metric in TEXT_METRICS.all().items() if isinstance(metric, TextMetric)]


def random_corpus(rng: random.Random, *, least: int = 1, most: int = 9, longest: int = 9) -> list[list[str]]:
    """Few words, so that n-grams repeat; empty, short and repeated sentences, with every length in between."""
    words = "abcdefgh"[: rng.randint(1, 8)]
    corpus = [rng.choices(words, k=rng.randint(0, longest)) for _ in range(rng.randint(least, most))]
    if rng.random() < 0.3:
        corpus.append(list(rng.choice(corpus)))
    return corpus


class TestTokenize:
    def test_nltk(self):
        pytest.importorskip("nltk")
        assert tokenize(["A man's dog, isn't it.", "", " \0"]) == [
            ["a", "man", "'s", "dog", ",", "is", "n't", "it", "."],
            [],
            ["\0"],
        ]

    def test_whitespace_and_case(self):
        assert tokenize(["A  man.\n"], "whitespace") == [["a", "man."]]
        assert tokenize(["A man."], "whitespace", lowercase=False) == [["A", "man."]]

    def test_errors(self):
        with pytest.raises(UserError, match="no tokenizer 'ntlk'. Did you mean 'nltk'.*whitespace"):
            tokenize(["a"], "ntlk")
        with pytest.raises(UserError, match="not one string"):
            tokenize("a man", "whitespace")
        with pytest.raises(UserError, match="a sentence must be a string, not None"):
            tokenize(["a", None], "whitespace")


class TestBleuAgainstNltk:
    @staticmethod
    def by_nltk(references, hypothesis, orders):
        score = pytest.importorskip("nltk.translate.bleu_score")
        smoothing = score.SmoothingFunction().method1
        return [
            score.sentence_bleu(references, hypothesis, weights=[1 / n] * n, smoothing_function=smoothing)
            for n in orders
        ]

    @pytest.mark.parametrize("seed", range(150))
    def test_bleu(self, seed):
        rng = random.Random(seed)
        hypotheses, references, orders = random_corpus(rng), random_corpus(rng), (1, 2, 3, 4, 5)
        found = bleu(hypotheses, references, orders=orders)
        expected = [self.by_nltk(references, hypothesis, orders) for hypothesis in hypotheses]
        np.testing.assert_allclose(np.stack([found[n] for n in orders], axis=1), expected, rtol=0, atol=1e-9)

    @pytest.mark.parametrize("seed", range(150))
    def test_self_bleu(self, seed):
        rng = random.Random(1000 + seed)
        samples, orders = random_corpus(rng, least=2), (2, 3, 4, 5)
        found = self_bleu(samples)
        expected = [self.by_nltk(samples[:i] + samples[i + 1 :], sample, orders) for i, sample in enumerate(samples)]
        np.testing.assert_allclose(np.stack([found[n] for n in orders], axis=1), expected, rtol=0, atol=1e-9)

    def test_captions(self):
        words = tokenize(captions("test")[:300])
        samples, references = words[:40], words[40:]
        for found, others in (
            (bleu(samples, references), lambda i: references),
            (self_bleu(samples), lambda i: samples[:i] + samples[i + 1 :]),
        ):
            expected = [self.by_nltk(others(i), sample, (2, 3, 4, 5)) for i, sample in enumerate(samples)]
            np.testing.assert_allclose(np.stack(list(found.values()), axis=1), expected, rtol=0, atol=1e-9)


class TestBleuByHand:
    def test_matches_are_clipped_at_the_best_single_reference(self):
        # "a" is matched twice, not three times: 2/4. Bigrams "a a" x 2, "a b": one "a a" and "a b" are known: 2/3.
        found = bleu([list("aaab")], [list("aaxyz"), list("azab")[:4]], orders=(1, 2))
        assert found[1] == pytest.approx([3 / 4])
        assert found[2] == pytest.approx([math.sqrt(3 / 4 * 2 / 3)])

    def test_an_order_without_a_match_and_a_brevity_penalty(self):
        # Unigrams 2/2, bigrams 0.1/1; the closest reference is one word longer.
        assert bleu([list("ba")], [list("axb"), list("abcdefg")], orders=[2])[2] == pytest.approx(
            [math.exp(1 - 3 / 2) * math.sqrt(0.1)]
        )

    def test_of_two_closest_references_the_shorter_counts(self):
        assert bleu([list("aa")], [list("aaa"), list("a")], orders=[1])[1] == pytest.approx([1.0])

    def test_zero_for_nothing_known(self):
        assert not bleu([[], ["x"]], [["a", "b"], []])[2].any()

    def test_a_repeated_sample_has_full_self_bleu(self):
        found = self_bleu([list("abcdef"), list("uvwxyz"), list("abcdef")])[5]
        assert found == pytest.approx([1, 0, 1])

    def test_any_hashable_token(self):
        assert bleu([[1, 2, 3]], [[1, 2, 3]], orders=[2])[2] == pytest.approx([1])

    def test_errors(self):
        with pytest.raises(UserError, match="at least one sentence among the references"):
            bleu([["a"]], [])
        with pytest.raises(UserError, match="at least one sentence among the hypotheses"):
            bleu([], [["a"]])
        with pytest.raises(UserError, match="at least 2"):
            self_bleu([["a"]])
        with pytest.raises(UserError, match="call tokenize"):
            bleu(["a man"], [["a", "man"]])
        for orders in ((), (0,), (2, 1.5)):
            with pytest.raises(UserError, match="orders must be positive integers"):
                bleu([["a"]], [["a"]], orders=orders)


class TestDiversity:
    samples = [["a", "b"], ["a", "b"], ["b", "a", "b"], []]

    def test_distinct_sentences(self):
        assert distinct_sentences(self.samples) == 3
        assert distinct_sentences([["a b"], ["a", "b"]]) == 2

    def test_copied_share(self):
        assert copied_share(self.samples, [["a", "b"], ["b"], []]) == 0.75
        assert copied_share(self.samples, []) == 0

    def test_distinct_ngrams(self):
        assert distinct_ngrams(self.samples, 1) == 2 / 7
        assert distinct_ngrams(self.samples, 2) == 2 / 4
        assert distinct_ngrams(self.samples, 3) == 1
        assert distinct_ngrams(self.samples, 4) == distinct_ngrams([], 1) == 0

    def test_errors(self):
        for function in (distinct_sentences, lambda x: distinct_ngrams(x, 1), lambda x: copied_share(x, [])):
            with pytest.raises(UserError, match="call tokenize"):
                function(["a man"])
        with pytest.raises(UserError, match="no samples"):
            copied_share([], [["a"]])
        with pytest.raises(UserError, match="at least 1"):
            distinct_ngrams(self.samples, 0)


class SlowKneserNey:
    """The same model from its definition, with dictionaries and recursion."""

    def __init__(self, sentences, vocabulary, order):
        self.vocabulary, self.order = {*vocabulary, "</s>", "<unk>"}, order
        sequences = [("<s>", *map(self.known, sentence), "</s>") for sentence in sentences]
        occurs = {
            n: Counter(line[i : i + n] for line in sequences for i in range(len(line) - n + 1))
            for n in range(1, order + 1)
        }
        occurs[1].pop(("<s>",))
        self.levels = {}
        for n, raw in occurs.items():
            preceding = defaultdict(set)
            for longer in occurs.get(n + 1, ()):
                preceding[longer[1:]].add(longer[0])
            counts = raw if n == order or not occurs[n + 1] else {g: len(preceding[g]) or raw[g] for g in raw}
            following = defaultdict(dict)
            for gram, count in counts.items():
                following[gram[:-1]][gram[-1]] = count
            self.levels[n] = following, self.discounts([*counts.values()])

    @staticmethod
    def discounts(counts):
        n = [counts.count(k) for k in range(5)]
        if n[1] and n[2] and n[3]:
            y = n[1] / (n[1] + 2 * n[2])
            found = [0, *(k - (k + 1) * y * n[k + 1] / n[k] for k in (1, 2, 3))]
            if min(found[1:]) > 0:
                return found
        return [0, 0.5, 1.0, 1.5]

    def known(self, word):
        return word if word in self.vocabulary else "<unk>"

    def probability(self, word, context):
        if len(context) + 1 > self.order:
            context = context[1:]
        below = self.probability(word, context[1:]) if context else 1 / len(self.vocabulary)
        following, discounts = self.levels[len(context) + 1]
        counts = following.get(context)
        if not counts:
            return below
        total, count = sum(counts.values()), counts.get(word, 0)
        left = sum(discounts[min(other, 3)] for other in counts.values())
        return (count - discounts[min(count, 3)] + left * below) / total

    def log_probabilities(self, sentences):
        found = []
        for sentence in sentences:
            line = ("<s>", *map(self.known, sentence), "</s>")
            found += [
                math.log(self.probability(line[i], line[max(0, i - self.order + 1) : i])) for i in range(1, len(line))
            ]
        return found


class TestLanguageModel:
    @pytest.mark.parametrize("order", [1, 2, 3, 4])
    @pytest.mark.parametrize("seed", range(25))
    def test_against_the_definition(self, order, seed):
        rng = random.Random(seed)
        # With 60 sentences, discounts are estimated; with few, they are the fallback.
        training, text = random_corpus(rng, most=rng.choice([3, 60])), random_corpus(rng)
        vocabulary = "abcxy"
        slow = SlowKneserNey(training, vocabulary, order)
        found = NGramModel(training, vocabulary=vocabulary, order=order).log_probabilities(text)
        np.testing.assert_allclose(found, slow.log_probabilities(text), rtol=0, atol=1e-10)

    @pytest.mark.parametrize("order", [1, 2, 3, 5])
    def test_probabilities_sum_to_one(self, order):
        rng = random.Random(order)
        training, vocabulary = random_corpus(rng, least=60, most=60), [*"abcdxyz"]
        model = NGramModel(training, vocabulary=vocabulary, order=order)
        for context in [[], ["z"], ["h"], *random_corpus(rng, least=40, most=40), *training[:20]]:
            # The token after the context: each word, an unknown one, and the end of the sentence.
            after = [model.log_probabilities([[*context, word]])[len(context)] for word in [*vocabulary, "not a word"]]
            after.append(model.log_probabilities([context])[-1])
            assert np.exp(after).sum() == pytest.approx(1, abs=1e-12)

    def test_by_hand(self):
        # One bigram each of (<s> a), (a </s>): discount 0.5 (fallback). Unigrams a and </s> with one context each:
        # (1 - 0.5) / 2, and (0.5 + 0.5) / 2 shared by a, </s>, <unk>.
        unigram = 0.25 + 0.5 / 3
        model = NGramModel([["a"]], vocabulary="a", order=2)
        assert np.exp(model.log_probabilities([["a"]])) == pytest.approx([0.5 + 0.5 * unigram] * 2)
        # b is unknown, after <s>; nothing is known of what follows it.
        assert np.exp(model.log_probabilities([["b"]])) == pytest.approx([0.5 * 0.5 / 3, unigram])
        assert model.nll([["a"], ["a"]]) == pytest.approx(-math.log(0.5 + 0.5 * unigram))

    def test_sentences_do_not_reach_into_each_other(self):
        rng = random.Random(0)
        training, text = random_corpus(rng, least=40, most=40), random_corpus(rng, least=9)
        model = NGramModel(training, vocabulary="abcdefgh")
        apart = np.concatenate([model.log_probabilities([sentence]) for sentence in text])
        np.testing.assert_array_equal(model.log_probabilities(text), apart)

    def test_empty_sentences(self):
        model = NGramModel([[], []], vocabulary="a")
        assert model.log_probabilities([]).shape == (0,)
        assert model.nll([[]]) < model.nll([["a"]])

    def test_forward_asks_for_quality_and_reverse_for_variety(self):
        rng = random.Random(0)
        chain = {"<": "ab", "a": "bcd", "b": "cde", "c": "def", "d": "efa", "e": "fab"}

        def sentence():
            words, word = [], "<"
            while word != "f" and len(words) < 12:
                word = rng.choice(chain[word])
                words.append(word)
            return words

        train, test, good = ([sentence() for _ in range(500)] for _ in range(3))
        repeated = [good[0]] * 500
        shuffled = [rng.sample(words, len(words)) for words in good]
        forward = {name: forward_nll(text, train) for name, text in (("good", good), ("shuffled", shuffled))}
        reverse = {
            name: reverse_nll(text, test) for name, text in (("good", good), ("shuffled", shuffled), ("one", repeated))
        }
        assert forward["good"] < 1.2 < forward["shuffled"]
        assert reverse["good"] < 1.2 < reverse["shuffled"] < reverse["one"]

    def test_few_words_gain_nothing(self):
        test = [list("abcdefgh")] * 3
        assert reverse_nll([["a"]] * 9, test) > reverse_nll([["a"], ["b"], ["c"]] * 3, test)

    def test_errors(self):
        with pytest.raises(UserError, match="at least one sentence to learn from"):
            NGramModel([], vocabulary="a")
        with pytest.raises(UserError, match="order must be at least 1"):
            NGramModel([["a"]], vocabulary="a", order=0)
        with pytest.raises(UserError, match="likelihood of no sentences"):
            forward_nll([], [["a"]])
        with pytest.raises(UserError, match="call tokenize"):
            reverse_nll([["a"]], "a man")


class TestEvaluateTexts:
    test = ["a man rides a horse", "a dog runs", "two cats sit on a mat"]
    train = ["a man rides a bicycle", "a dog runs", "a cat sits on a mat", "the end"]
    generated = ["a dog runs", "a man rides a horse", "a dog runs", ""]

    def evaluate(self, **changes):
        settings = {"train": self.train, "tokenizer": "whitespace", "dataset": "animals", "split": "test", **changes}
        return {result.name: result for result in evaluate_texts(self.generated, self.test, **settings)}

    def test_all_metrics(self):
        found = self.evaluate()
        assert [*found] == OF_SENTENCES
        words = {name: tokenize(getattr(self, name), "whitespace") for name in ("generated", "test", "train")}
        expected = {
            "bleu_3": bleu(words["generated"], words["test"])[3].mean(),
            "bleu_train_2": bleu(words["generated"], words["train"])[2].mean(),
            "self_bleu_4": self_bleu(words["generated"])[4].mean(),
            "distinct_sentences": 3,
            "copied_share": 0.5,
            "forward_nll": forward_nll(words["generated"], words["train"]),
            "reverse_nll": reverse_nll(words["generated"], words["test"]),
            "distinct_1": 6 / 11,
            "distinct_2": 6 / 8,
        }
        assert {name: found[name].value for name in expected} == pytest.approx(expected)

    def test_the_floor_is_the_row_of_real_text(self):
        found = self.evaluate()
        train, test = (tokenize(text, "whitespace") for text in (self.train, self.test))
        expected = {
            "bleu_2": bleu(train, test)[2].mean(),
            "bleu_train_2": bleu(test, train)[2].mean(),
            "self_bleu_2": self_bleu(train)[2].mean(),
            "distinct_sentences": 4,
            "copied_share": 1 / 3,
            "forward_nll": forward_nll(test, train),
            "reverse_nll": reverse_nll(train, test),
        }
        assert {name: found[name].floor for name in expected} == pytest.approx(expected)
        assert found["bleu_2"].details["num_reference"] == 4 and found["forward_nll"].details["num_reference"] == 3

    def test_real_text_is_thinned_to_the_number_of_samples(self):
        result = self.evaluate(train=[f"sentence {i}" for i in range(50)], metrics=["distinct_sentences"], seed=3)
        assert result["distinct_sentences"].floor == 4

    def test_protocol(self):
        found = self.evaluate(seed=7)
        assert found["bleu_2"].num_real == 3 and found["bleu_2"].split == "test"
        assert found["copied_share"].num_real == 4 and found["copied_share"].split == "train"
        assert found["self_bleu_2"].num_real == 0
        assert all(result.num_generated == 4 and result.seed == 7 for result in found.values())
        assert found["bleu_2"].embedder == "whitespace words, lower case, smoothing method1"
        assert "4 generated vs 3 real animals[test]" in str(found["reverse_nll"])
        assert "3-grams" in found["reverse_nll"].embedder
        records = json.loads(json.dumps([result.to_dict() for result in found.values()], allow_nan=False))
        assert [MetricResult(**record) for record in records] == [*found.values()]

    def test_without_training_text(self):
        found = self.evaluate(train=None)
        assert [*found] == [name for name in OF_SENTENCES if TEXT_METRICS.get(name).against != "train"]
        assert all(result.floor is None for result in found.values())
        with pytest.raises(UserError, match="copied_share compares with the training text"):
            self.evaluate(train=None, metrics=["bleu_2", "copied_share"])

    def test_shared_computations_run_once(self, monkeypatch):
        calls = []
        for name in ("bleu", "self_bleu"):
            function = globals()[name]
            spy = lambda *texts, name=name, function=function: calls.append(name) or function(*texts)  # noqa: E731
            monkeypatch.setattr(sys.modules["ganzoo.metrics.text.bleu"], name, spy)
        self.evaluate(train=None)
        assert calls == ["bleu", "self_bleu"]

    def test_order_and_a_single_name(self):
        assert [*self.evaluate(metrics=["distinct_2", "bleu_5"])] == ["distinct_2", "bleu_5"]
        assert [*self.evaluate(metrics="bleu_4")] == ["bleu_4"]

    def test_errors(self):
        with pytest.raises(UserError, match="no text metric 'self_blue_2'. Did you mean 'self_bleu_2'"):
            self.evaluate(metrics=["self_blue_2"])
        with pytest.raises(UserError, match="name at least one text metric of: bleu_2"):
            self.evaluate(metrics=[])
        with pytest.raises(UserError, match="the generated text has no sentences"):
            evaluate_texts([], self.test)
        with pytest.raises(UserError, match="not one string"):
            evaluate_texts("a dog", self.test)


def captions(split: str) -> list[str]:
    if not CAPTIONS.is_dir():
        pytest.skip("the COCO captions are not there")
    pytest.importorskip("nltk")
    return (CAPTIONS / f"{split}.txt").read_text(encoding="utf-8").split("\n")


def test_real_captions_score_what_is_published():
    """The row of real text under the rule of Texygen's table: 10,000 training captions against 10,000 test captions."""
    train, test = captions("train"), captions("test")
    names = [f"{kind}_{n}" for kind in ("bleu", "self_bleu") for n in (2, 3, 4, 5)]
    found = [result.value for result in evaluate_texts(train, test, metrics=[*names, "distinct_sentences"])]
    assert found[:4] == pytest.approx([0.740, 0.520, 0.337, 0.218], abs=0.001)
    assert found[4:8] == pytest.approx([0.892, 0.747, 0.574, 0.416], abs=0.001)
    assert found[8] == 9954
