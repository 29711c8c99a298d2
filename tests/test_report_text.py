"""What a text run shows: sentences through time, rewards and likelihoods by phase, and warnings of its own."""

import itertools
import json
import math
import re

import pytest
import torch
from test_report import HOSTILE, log, page_of

import ganzoo
from ganzoo.objectives.diversity import distinct_shares, diversity, diversity_stats
from ganzoo.training.diagnostics import Diagnostics
from ganzoo.training.report.curves import charts_of, draw


def save_sheet(run_dir, step, sentences):
    (run_dir / "samples").mkdir(exist_ok=True)
    name = f"samples/step-{step:08d}.txt"
    (run_dir / name).write_text("\n".join(sentences) + "\n", encoding="utf-8", errors="replace")
    log(run_dir, {"event": "samples", "step": step, "file": name})


def rows_of(html):
    body = re.search(r'<table class="sentences">.*?<tbody>(.*?)</tbody>', html, re.DOTALL)[1]
    return [re.findall(r"<td>(.*?)</td>", row) for row in re.findall(r"<tr>(.*?)</tr>", body)]


class TestSentences:
    def test_sheets_in_a_player_and_the_same_samples_side_by_side(self, tmp_path):
        for step in (10, 20, 30, 40, 50):
            save_sheet(tmp_path, step, [f"sentence {row} of {step}" for row in range(3)])
        page = page_of(tmp_path)
        html = (tmp_path / "report.html").read_text()
        assert page.values("data-step") == [f"step {step}" for step in (10, 20, 30, 40, 50)]
        assert page.values("max") == ["4"] and page.tags.count("ol") == 5
        assert page.attributes.count(("hidden", None)) == 4, "the last sheet is shown before any script runs"
        assert html.rindex('data-step="step 50">') > html.rindex("hidden>")
        assert re.findall("<th>(.*?)</th>", html) == ["Step 10", "Step 30", "Step 50"]
        assert rows_of(html) == [[f"<bdi>sentence {row} of {step}</bdi>" for step in (10, 30, 50)] for row in range(3)]

    def test_one_sheet_is_a_list_without_controls(self, tmp_path):
        save_sheet(tmp_path, 7, ["a man rides", "a cat"])
        page = page_of(tmp_path)
        assert "a man rides a cat step 7" in page.text
        assert page.scripts == [] and "table" not in page.tags and page.tags.count("li") == 2

    def test_empty_sentences_keep_their_place(self, tmp_path):
        save_sheet(tmp_path, 1, ["", "b", " "])
        save_sheet(tmp_path, 2, ["a", "", "c"])
        page_of(tmp_path)
        cells = [
            [re.sub("<.*?>", "", cell) for cell in row] for row in rows_of((tmp_path / "report.html").read_text())
        ]
        assert cells == [["(empty)", "a"], ["b", "(empty)"], ["(empty)", "c"]]

    def test_hostile_sentences_stay_text(self, tmp_path):
        nasty = [HOSTILE, "</bdi></li><script>alert(1)</script>", "a\0b\x1b[31mc\rd", "\u202egnitirw", "x" * 10_000]
        for step in (1, 2):
            save_sheet(tmp_path, step, nasty)
        page = page_of(tmp_path)
        html = (tmp_path / "report.html").read_text(encoding="utf-8")
        assert "alert" not in "".join(page.scripts) and "img" not in page.tags
        assert page.text.count("</bdi></li><script>alert(1)</script>") == 4
        assert "a\ufffdb\ufffd[31mc\ufffdd" in html and not re.search("[\0\x1b\r]", html)
        assert "<bdi>\u202egnitirw</bdi>" in html, "a change of direction ends with its sentence"
        assert "x" * 400 + " …" in html and "x" * 401 not in html

    def test_large_sheets_are_cut(self, tmp_path):
        for step in (1, 2):
            save_sheet(tmp_path, step, [f"s{row}" for row in range(1000)])
        page = page_of(tmp_path)
        assert page.tags.count("li") == 2 * 64 and "and 936 more" in page.text
        assert len(rows_of((tmp_path / "report.html").read_text())) == 16

    def test_sheets_of_different_lengths_and_broken_ones(self, tmp_path):
        save_sheet(tmp_path, 1, ["a", "b", "c"])
        save_sheet(tmp_path, 2, ["d"])
        (tmp_path / "samples" / "bad.txt").write_bytes(b"\xff\xfe\x00")
        (tmp_path / "samples" / "none.txt").write_bytes(b"")
        log(tmp_path, *({"event": "samples", "step": 3, "file": f"samples/{name}.txt"} for name in ("bad", "none")))
        page = page_of(tmp_path)
        assert page.values("data-step") == ["step 1", "step 2", "step 3"]
        assert len(rows_of((tmp_path / "report.html").read_text())) == 1


def text_rows():
    """Rows of a SeqGAN run: likelihood, warm-up of the discriminator, adversarial; validations in between."""
    rows = []
    for step in range(10, 110, 10):
        loss = 5 - step / 50
        rows.append(
            {"event": "train", "step": step, "phase": "likelihood", "generator/loss": loss}
            | {"generator/loss_likelihood": loss, "generator/perplexity": math.exp(loss)}
        )
        if step % 20 == 0:
            held = {"validation/loss": loss + 0.5, "validation/best": loss + 0.5}
            rows.append({"event": "validation", "step": step, "phase": "likelihood", **held})
    rows.append({"event": "early stop", "step": 100, "phase": "likelihood", "validation/best": 3.5})
    rows += [
        {"event": "train", "step": step, "phase": "warm-up", "discriminator/loss": 0.6} for step in range(110, 160, 10)
    ]
    for step in range(160, 260, 10):
        policy = {"generator/loss": -0.3, "generator/reward": step / 1000, "generator/nll_own": 2.5}
        shares = {"generator/distinct_tokens": 0.5, "real/distinct_tokens": 0.6}
        rows.append({"event": "train", "step": step, "phase": "adversarial", **policy, **shares})
    return rows


class TestCurves:
    def test_text_has_charts_of_its_own(self):
        charts = {chart.title: chart for chart in charts_of(text_rows())}
        labels = {title: [series.label for series in chart.series] for title, chart in charts.items()}
        assert labels["Negative log-likelihood"] == ["training text", "held-out text", "own samples"]
        assert labels["Reward"] == ["mean reward"]
        assert labels["Distinct tokens and sentences"] == ["tokens, real", "tokens, generated"]
        assert labels["Perplexity"] == ["training text"] and charts["Perplexity"].scale == "log"
        assert "Held-out data" not in labels, "the best validation so far is no curve"

    def test_what_is_logged_now_and_then_is_a_line(self):
        series = next(chart for chart in charts_of(text_rows()) if chart.title == "Negative log-likelihood").series
        assert series[1].steps.tolist() == [20, 40, 60, 80, 100]
        assert series[1].values.tolist() == pytest.approx([5.1, 4.7, 4.3, 3.9, 3.5])

    def test_phases_are_not_joined(self):
        series = next(chart for chart in charts_of(text_rows()) if chart.title == "Losses").series
        generator = next(one for one in series if one.label == "generator")
        values = generator.values.tolist()
        assert math.isnan(values[10]) and len(values) == 21 and not any(map(math.isnan, values[:10] + values[11:]))
        assert (values[9], values[11]) == (3.0, -0.3)
        assert math.isnan(generator.steps[10])

    def test_each_phase_is_drawn_by_itself(self):
        pytest.importorskip("matplotlib")
        rows = [
            {"step": step, "phase": phase, "loss": value}
            for phase, first, value in (("a", 0, 1.0), ("b", 200, 9.0))
            for step in range(first, first + 200)
        ]
        (chart,) = charts_of(rows)
        svg = draw(chart, last_step=400, boundaries=[200])
        lines = re.findall(r'd="([^"]*)"[^>]*stroke: var\(--series-0\)', svg)
        assert len(lines) == 4, "as logged and smoothed, of two phases"
        heights = [{y for _, y in re.findall(r"([\d.]+) ([\d.]+)", line)} for line in lines]
        assert all(len(height) == 1 for height in heights), "the average of one phase knows nothing of the other"
        assert len(set.union(*heights)) == 2

    def test_the_page(self, tmp_path):
        pytest.importorskip("matplotlib")
        log(tmp_path, *text_rows())
        page = page_of(tmp_path)
        assert "Dashed: warm-up from step 110, adversarial from step 160." in page.text
        assert "Stopped early: likelihood, at step 100, best held-out loss 3.5." in page.text
        assert f"held-out text {math.exp(3.5):.4g}" in page.text, "the perplexity of held-out text"
        for title in ("Reward", "Negative log likelihood", "Perplexity", "Distinct tokens and sentences"):
            assert page.values("aria-label").count(title) == 1

    def test_settings_stand_in_the_table(self, tmp_path):
        metric = {
            "name": "nll_test",
            "value": 3.25,
            "parameters": {"temperature": 0.8},
            "embedder": "the model itself",
        }
        log(tmp_path, {"event": "evaluation", "step": 3, "metrics": [metric]})
        page = page_of(tmp_path)
        assert "Embedder Settings nll test 3.25 the model itself temperature 0.8" in page.text


class TestShares:
    def test_against_sets(self):
        tokens = torch.randint(9, (30, 3), generator=torch.Generator().manual_seed(0))
        mask = torch.rand(30, 3, generator=torch.Generator().manual_seed(1)) > 0.3
        rows = [
            [token for token, counts in zip(*pair, strict=True) if counts]
            for pair in zip(tokens.tolist(), mask, strict=True)
        ]
        masked = distinct_shares(tokens, mask)
        flat = [token for row in rows for token in row]
        assert masked["distinct_tokens"].item() == pytest.approx(len(set(flat)) / len(flat))
        whole = distinct_shares(tokens)
        assert whole["distinct_sentences"].item() == pytest.approx(len(set(map(tuple, tokens.tolist()))) / 30)
        assert 0 < whole["distinct_sentences"].item() < 1

    def test_what_stands_behind_the_end_makes_no_difference(self):
        tokens = torch.tensor([[1, 2, 7], [1, 2, 8], [3, 2, 9]])
        mask = torch.tensor([[True, True, False]] * 3)
        shares = distinct_shares(tokens, mask)
        assert shares["distinct_sentences"].item() == pytest.approx(2 / 3)
        assert shares["distinct_tokens"].item() == pytest.approx(3 / 6)

    def test_edges(self):
        copies = distinct_shares(torch.full((8, 5), 3))
        assert copies["distinct_tokens"].item() == pytest.approx(1 / 40)
        assert copies["distinct_sentences"].item() == pytest.approx(1 / 8)
        nothing = distinct_shares(torch.zeros(2, 3).long(), torch.zeros(2, 3).bool())
        assert nothing["distinct_tokens"].item() == 0
        assert distinct_shares(torch.zeros(0, 3).long())["distinct_sentences"].item() == 0
        first = torch.arange(64 * 2).view(64, 2)
        many = torch.cat([first, first])
        assert distinct_shares(many)["distinct_sentences"].item() == 1, "the first 64 only"

    def test_chosen_by_the_type(self):
        ids, pictures = torch.arange(6).view(2, 3), torch.rand(2, 3)
        assert diversity(ids) == distinct_shares(ids)["distinct_tokens"] == 1
        assert set(diversity_stats(pictures, pictures)) == {"generator/diversity", "real/diversity"}
        stats = diversity_stats(ids, torch.zeros_like(ids))
        assert set(stats) == {
            f"{who}/distinct_{what}" for who in ("generator", "real") for what in ("tokens", "sentences")
        }
        assert (stats["generator/distinct_sentences"], stats["real/distinct_sentences"]) == (1, 0.5)

    def test_nothing_waits_for_the_device(self):
        tokens, mask = torch.zeros(4, 3, device="meta").long(), torch.ones(4, 3, device="meta").bool()
        assert distinct_shares(tokens, mask)["distinct_tokens"].shape == (), "a meta tensor has no value to wait for"


HEALTHY = {
    "event": "train",
    "phase": "adversarial",
    "discriminator/real_accuracy": 0.7,
    "discriminator/fake_accuracy": 0.75,
    "discriminator/grad_norm": 2.0,
    "generator/grad_norm": 1.0,
    "generator/distinct_tokens": 0.3,
    "real/distinct_tokens": 0.32,
    "generator/distinct_sentences": 0.99,
    "real/distinct_sentences": 1.0,
}


def warnings_of(diagnostics, changes, rows, reward=lambda index: 0.3 + 0.01 * index):
    return [
        found
        for index in range(rows)
        for found in diagnostics.check({**HEALTHY, "step": index, "generator/reward": reward(index), **changes})
    ]


class TestDiagnostics:
    @pytest.mark.parametrize(
        ("name", "changes", "words"),
        [
            ("repeated-text", {"generator/distinct_sentences": 0.5}, ("50.0% of the sentences", "100.0%", "baseline")),
            ("repeated-text", {"generator/distinct_tokens": 0.1}, ("10.0% of the tokens", "32.0%", "mode collapse")),
            (
                "discriminator-guesses",
                {"discriminator/real_accuracy": 0.6, "discriminator/fake_accuracy": 0.41},
                ("60.0%", "41.0%", "noise", "longer"),
            ),
            (
                "discriminator-saturation",
                {"discriminator/real_accuracy": 1.0, "discriminator/fake_accuracy": 1.0},
                ("100.0%", "dropout", "held-out"),
            ),
        ],
    )
    def test_each_condition_is_named_once_with_its_numbers_and_advice(self, name, changes, words):
        diagnostics = Diagnostics()
        assert warnings_of(diagnostics, {}, 60) == []
        ((found, message),) = warnings_of(diagnostics, changes, 30, reward=lambda index: 0.9 + 0.01 * index)
        assert found == name
        for word in words:
            assert word in message, word

    def test_a_reward_that_stands_still(self):
        def still(index):
            return 0.3 + 0.02 * math.sin(index * 1.7)

        assert warnings_of(Diagnostics(), {}, 40, still) == []
        ((name, message),) = warnings_of(Diagnostics(), {}, 80, still)
        assert name == "reward-not-moving" and "0.3" in message and "larger batches" in message

    @pytest.mark.parametrize("reward", [lambda i: 0.3 + 0.002 * i, lambda i: 0.3 - 0.002 * i, lambda i: 0.5])
    def test_a_reward_that_moves_or_is_constant_by_design(self, reward):
        assert warnings_of(Diagnostics(), {}, 200, reward) == []

    def test_a_new_phase_is_given_time_again(self):
        diagnostics = Diagnostics()

        def still(index):
            return 0.3 + 0.02 * math.sin(index * 1.7)

        for phase in ("a", "b", "a"):
            assert warnings_of(diagnostics, {"phase": phase}, 40, still) == []

    def test_without_a_decision_boundary_accuracies_say_nothing(self):
        guesses = {"discriminator/real_accuracy": 0.5, "discriminator/fake_accuracy": 0.5}
        assert warnings_of(Diagnostics(has_decision_boundary=False), guesses, 30) == []
        assert warnings_of(Diagnostics(), guesses, 30) != []

    def test_pictures_are_judged_as_before(self):
        row = {key: value for key, value in HEALTHY.items() if "distinct" not in key}
        row |= {"discriminator/real_accuracy": 0.5, "discriminator/fake_accuracy": 0.5}
        diagnostics = Diagnostics()
        assert [found for _ in range(60) for found in diagnostics.check(row)] == []

    def test_rows_survive_json(self):
        row = json.loads(json.dumps({**HEALTHY, "generator/reward": "NaN"}))
        assert [found for _ in range(60) for found in Diagnostics().check(row)] == []


def test_a_real_run_of_two_phases(tmp_path):
    """Sentences, curves and measures of a run as the trainer writes them."""
    pytest.importorskip("matplotlib")
    words = itertools.product("red old big".split(), "cat dog cow".split(), "runs eats".split())
    lines = [f"the {colour} {animal} {verb}." for colour, animal, verb in words]
    (tmp_path / "train.txt").write_text("\n".join(lines))
    (tmp_path / "test.txt").write_text("\n".join(lines[::3]))
    learned = ("vocab_size", "max_length", "bos_token_id", "eos_token_id", "pad_token_id")
    sizes = {key: value for key, value in ganzoo.get_family("seqgan").tiny.items() if key not in learned}
    recipe = {
        "name": "tiny",
        "model": {"family": "seqgan", **sizes},
        "data": {"path": str(tmp_path)},
        "objective": {"type": "policy-gradient", "num_rollouts": 2},
        "phases": [
            {"name": "likelihood", "steps": 6, "objective": {"type": "likelihood"}, "updates": {"generator": 1}},
            {"name": "adversarial", "updates": {"generator": 1, "discriminator": 1}},
        ],
        "generator_optimizer": {"learning_rate": 0.01},
        "training": {"steps": 12, "batch_size": 8, "log_every": 2, "sample_every": 4, "num_preview_samples": 3},
        "evaluation": {"metrics": ["bleu_2", "copied_share", "nll_test"], "num_samples": 20, "every": 6},
    }
    run = ganzoo.train(recipe, output=tmp_path / "run", quiet=True)
    assert [metric["name"] for metric in run.metrics] == ["bleu_2", "copied_share", "nll_test"]
    page = page_of(run.folder)
    html = (run.folder / "report.html").read_text()
    assert page.values("data-step") == ["step 4", "step 8", "step 12"] and page.tags.count("ol") == 3
    latest = (run.folder / "samples" / "step-00000012.txt").read_text().splitlines()
    cells = [re.sub("<.*?>", "", row[2]).replace("&#x27;", "'") for row in rows_of(html)]
    assert cells == [line or "(empty)" for line in latest] and len(latest) == 3
    assert "Dashed: adversarial from step 8." in page.text
    assert {"Negative log likelihood", "Reward", "Perplexity", "Nll test"} <= set(page.values("aria-label"))
    assert "Earlier evaluations At step 6" in page.text and "nltk words, lower case" in page.text
