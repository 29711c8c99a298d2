"""The classifier of sound: its front end against a slow one, what training hides, and that it learns."""

import math
import sys

import numpy as np
import pytest
import torch

import ganzoo
from ganzoo.errors import MissingPackageError, UserError
from ganzoo.families.audio.audio_classifier import AudioClassifier, AudioClassifierConfig, disturb, hide_bands

TINY = {"length": 512, "n_mels": 8, "n_fft": 64, "hop_length": 16, "width": 4, "num_classes": 3, "feature_dim": 8}


def classifier(**changes):
    torch.manual_seed(0)
    return AudioClassifier(AudioClassifierConfig(**{**TINY, **changes})).eval()


def noise(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def test_defaults_are_the_recipes_size():
    config = AudioClassifierConfig()
    network = AudioClassifier(config)
    assert (config.length, config.sampling_rate, config.num_classes) == (8192, 8000, 10)
    assert network.front_end(torch.zeros(1, 1, 8192)).shape == (1, 1, 40, 128)
    # Norm of the input; convolutions 1-16-16-32-32-64-64 with norms; 64 x 5 bands -> 128 -> 10; the filters are no parameters.
    convolutions = 9 * (16 + 16 * 16 + 16 * 32 + 32 * 32 + 32 * 64 + 64 * 64) + 2 * (2 * 16 + 2 * 32 + 2 * 64)
    assert sum(p.numel() for p in network.parameters()) == 2 + convolutions + 320 * 128 + 128 + 128 * 10 + 10


def test_front_end_against_a_slow_one():
    network = classifier(channels=2, f_min=100.0, f_max=3000.0)
    waveforms = noise(2, 2, 512)
    found = network.front_end(waveforms)
    filters = network.front_end.filters.double().numpy()
    window = np.array([0.5 - 0.5 * math.cos(2 * math.pi * n / 64) for n in range(64)])
    assert found.shape == (2, 2, 8, 32)
    for clip, channel in [(0, 0), (1, 1)]:
        padded = np.pad(waveforms[clip, channel].double().numpy(), 24, mode="reflect")
        for frame in (0, 7, 31):
            spectrum = np.abs(np.fft.rfft(padded[16 * frame : 16 * frame + 64] * window))
            expected = np.log(spectrum @ filters + 1e-4)
            np.testing.assert_allclose(found[clip, channel, :, frame], expected, rtol=1e-4, atol=1e-4)


def test_filters_cover_the_bands_that_are_asked_for():
    filters = classifier(f_min=1000.0, f_max=3000.0).front_end.filters
    frequencies = torch.arange(33) * 8000 / 64
    assert filters.shape == (33, 8)
    assert not filters[(frequencies <= 1000) | (frequencies >= 3000)].any()
    # Each is a triangle of area 1: its bins, 125 Hz apart, add up to about that.
    wide = classifier(n_fft=512).front_end.filters
    torch.testing.assert_close(wide.sum(dim=0) * 8000 / 512, torch.ones(8), rtol=0.05, atol=0)


def test_a_checkpoint_needs_no_torchaudio(tmp_path, monkeypatch):
    network, waveforms = classifier(f_min=123.0), noise(3, 1, 512)
    network.save_pretrained(tmp_path)
    monkeypatch.setitem(sys.modules, "torchaudio", None)
    loaded = AudioClassifier.from_pretrained(tmp_path)
    assert torch.equal(loaded.front_end.filters, network.front_end.filters)
    assert torch.equal(loaded(waveforms).logits, network(waveforms).logits)
    with pytest.raises(MissingPackageError, match="torchaudio"):
        classifier(f_min=124.0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"f_max": 5000.0}, r"f_max=5000 <= sampling_rate / 2 = 4000"),
        ({"f_min": 4000.0}, r"f_min=4000 < f_max=4000"),
        ({"hop_length": 128}, "hop_length=128, win_length=64 and n_fft=64 must not decrease"),
        ({"n_fft": 1024}, "length=512 must be at least 1024"),
        ({"num_classes": None}, "num_classes"),
        ({"n_mels": 4}, "n_mels=4"),
    ],
)
def test_impossible_configs_are_one_clear_error(changes, message):
    with pytest.raises(UserError, match=message):
        ganzoo.create("audio-classifier", **{**TINY, **changes})


def test_bands_narrower_than_a_bin_are_one_clear_error():
    with pytest.raises(UserError, match="use fewer n_mels or a longer n_fft"):
        classifier(n_mels=64)


def test_hidden_bands():
    torch.manual_seed(0)
    ones = torch.ones(500, 2, 40, 20)
    hidden = hide_bands(ones, 0.3)
    assert torch.equal(hidden[:, 0], hidden[:, 1]), "one stretch for all channels"
    rows = (hidden[:, 0] == 0).all(dim=2)
    columns = (hidden[:, 0] == 0).all(dim=1)
    crossed = rows[:, :, None] | columns[:, None, :]
    assert torch.equal(hidden[:, 0] == 0, crossed), "nothing but whole rows and whole columns"
    for lines, size in ((rows, 40), (columns, 20)):
        counts = lines.sum(dim=1)
        assert counts.max() <= math.ceil(0.3 * size) and counts.float().mean() == pytest.approx(0.15 * size, rel=0.1)
        jumps = (lines[:, 1:] != lines[:, :-1]).sum(dim=1)
        assert jumps.max() <= 2, "one stretch"
        assert lines.any(dim=0).all(), "anywhere"
    assert torch.equal(hide_bands(ones, 0.0), ones)


def test_disturbed_waveforms():
    torch.manual_seed(0)
    waveforms = noise(2000, 1, 64)
    assert torch.equal(disturb(waveforms, quietest=1.0, noise=0.0), waveforms)
    gains = (disturb(waveforms, quietest=0.2, noise=0.0) / waveforms).mean(dim=(1, 2))
    assert 0.2 <= gains.min() < 0.21 and 0.99 < gains.max() <= 1.0
    # Uniform in decibels: half of them below the geometric mean.
    assert (gains < 0.2**0.5).float().mean() == pytest.approx(0.5, abs=0.05)
    added = (disturb(waveforms, quietest=1.0, noise=0.1) - waveforms).std(dim=2)
    assert added.max() < 0.16 and (added < 0.025).float().mean() == pytest.approx(0.5, abs=0.05)


def test_only_training_is_random():
    network, waveforms = classifier(), noise(4, 1, 512)
    assert torch.equal(network(waveforms).logits, network(waveforms).logits)
    network.train()
    assert not torch.equal(network(waveforms).logits, network(waveforms).logits)
    plain = classifier(mask=0.0, quietest=1.0, noise=0.0, dropout=0.0).train()
    assert torch.equal(plain(waveforms).logits, plain(waveforms).logits)


def test_learns_to_tell_tones_from_noise():
    """Three classes of sound, tried on clips that were not trained on, quieter and later ones among them."""

    def sounds(count, seed, loudness):
        random = torch.Generator().manual_seed(seed)
        labels = torch.arange(count) % 3
        phase = torch.rand(count, 1, generator=random) * 6.28
        time = torch.arange(512) / 8000
        low, high = (torch.sin(2 * math.pi * pitch * time + phase) for pitch in (500, 1700))
        noisy = torch.randn(count, 512, generator=random)
        clips = torch.stack([low, high, noisy])[labels, torch.arange(count)]
        return (clips * loudness).clamp(-1, 1)[:, None], labels

    network = classifier(width=8).train()
    optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
    clips, labels = sounds(60, 1, 0.5)
    for _ in range(40):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(network(clips).logits, labels).backward()
        optimizer.step()
    for loudness in (0.5, 0.15):
        unseen, truth = sounds(30, 2, loudness)
        assert (network.eval()(unseen).logits.argmax(dim=1) == truth).float().mean() > 0.95
