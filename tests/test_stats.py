"""StatsCollector: right means, float32 sums, no graph, no waiting."""

import math
import weakref

import pytest
import torch

from ganzoo.training.stats import StatsCollector


def test_means_since_the_last_read():
    stats = StatsCollector()
    for value in (1.0, 2.0, 6.0):
        stats.add({"loss": torch.tensor(value), "rate": value * 10})
    assert stats.read() == {"loss": 3.0, "rate": 30.0}
    assert stats.read() == {}
    stats.add({"loss": torch.tensor(5.0)})
    assert stats.read() == {"loss": 5.0}


def test_a_name_that_comes_only_sometimes_is_averaged_over_the_steps_that_had_it():
    stats = StatsCollector()
    for step in range(32):
        values = {"loss": torch.tensor(float(step))}
        if step % 16 == 0:
            values["penalty"] = torch.tensor(step + 4.0)
        stats.add(values)
    assert stats.read() == {"loss": 15.5, "penalty": 12.0}


def test_a_name_may_be_a_number_in_one_step_and_a_tensor_in_another():
    stats = StatsCollector()
    stats.add({"x": 1.0})
    stats.add({"x": torch.tensor(3)})
    assert stats.read() == {"x": 2.0}


def test_names_keep_the_order_they_came_in():
    stats = StatsCollector()
    stats.add({"b": torch.tensor(1.0), "z": 2.0, "a": torch.tensor(1.0)})
    assert list(stats.read()) == ["b", "z", "a"]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_values_are_summed_in_float32(dtype):
    # 1 + 2^-7 a thousand times: a bfloat16 sum stops growing at 512 or less, a float16 one loses the last bits.
    stats = StatsCollector()
    value = torch.tensor(1.0078125, dtype=dtype)
    for _ in range(1000):
        stats.add({"loss": value, "other": torch.tensor(2.0)})
    assert stats.read() == {"loss": 1.0078125, "other": 2.0}


def test_no_graph_is_kept_and_inputs_are_copied():
    class Saved:
        def __init__(self, tensor):
            self.tensor = tensor

    stats, watchers = StatsCollector(), []

    def pack(tensor):
        saved = Saved(tensor)
        watchers.append(weakref.ref(saved))
        return saved

    weight = torch.full((3,), 2.0, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda saved: saved.tensor):
        stats.add({"loss": (weight**2).sum()})
    assert watchers and all(watcher() is None for watcher in watchers), "the graph of the step is still alive"
    reused = torch.tensor(4.0)
    stats.add({"reused": reused})
    reused.fill_(100.0)
    assert stats.read() == {"loss": 12.0, "reused": 4.0}


def test_add_never_reads_a_value():
    # A meta tensor has no value: whatever would wait for one (item, tolist, float, a branch on it) raises.
    stats = StatsCollector()
    for _ in range(3):
        stats.add({"a": torch.zeros((), device="meta"), "b": torch.zeros((), device="meta", dtype=torch.bfloat16)})
    with pytest.raises((NotImplementedError, RuntimeError)):
        stats.read()


def test_nan_is_reported_not_hidden():
    stats = StatsCollector()
    stats.add({"loss": torch.tensor(1.0)})
    stats.add({"loss": torch.tensor(math.nan)})
    assert math.isnan(stats.read()["loss"])


def test_a_vector_is_refused_by_name():
    with pytest.raises(ValueError, match=r"'logits' must be a 0-dim tensor.*\(4,\)"):
        StatsCollector().add({"logits": torch.zeros(4)})


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_cuda_add_does_not_synchronise_and_devices_may_be_mixed():
    stats = StatsCollector()
    loss = torch.tensor(2.0, device="cuda")
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(3):
            stats.add({"loss": loss, "host": torch.tensor(1.0), "number": 3.0})
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert stats.read() == {"loss": 2.0, "host": 1.0, "number": 3.0}
