"""What every family keeps, whoever wrote it: the generic suite over the registry.

A family enters through its record alone (`get_family(name).tiny_config()`): nothing here knows an architecture, and a new
file under `ganzoo/families/` is covered without a change. `pytest tests/test_families.py -k my-gan` runs one family's part.
"""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Iterator
from contextlib import nullcontext

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from synthetic_data import BATCH, SYNTHETIC_DATA
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from training_helpers import fitted_processor

import ganzoo
from ganzoo.errors import UserError
from ganzoo.hub.metadata import check_card
from ganzoo.losses.penalties import zero_centred_penalty
from ganzoo.networks.audio import Vocoder
from ganzoo.networks.base import ClassifierOutput, Discriminator, DiscriminatorOutput, GANModel, Generator
from ganzoo.networks.config import GANConfig
from ganzoo.nn import pack
from ganzoo.objectives import Batch, StepContext, build_objective
from ganzoo.objectives.gumbel import relaxed_sequences
from ganzoo.objectives.likelihood import LikelihoodConfig
from ganzoo.pipelines import GANPipeline, pipeline_class
from ganzoo.pipelines.generation import Samples
from ganzoo.recipe.names import list_recipes
from ganzoo.recipe.reading import load_recipe
from ganzoo.recipe.recipe import Recipe
from ganzoo.registry import family_modality, get_family, list_families
from ganzoo.training.trainer import sum_terms

FAMILIES = list_families(kind="all")
RECIPES = list_recipes()
# A GAN is tried without classes and with three, as far as its config allows; a classifier as its tiny config is.
GAN_CASES = [
    pytest.param((name, {"num_classes": number}), id=f"{name}-{variant}")
    for name in list_families(kind="gan")
    for variant, number in (("unconditional", None), ("conditional", 3))
]
# And with everything switched on that keeps a discriminator steady, as far as its family has it.
STABILISED = {"discriminator_norm": "spectral", "minibatch_discrimination": 2, "minibatch_std": True}
for name in list_families(kind="gan"):
    if switched := {field: on for field, on in STABILISED.items() if field in get_family(name).config.model_fields}:
        GAN_CASES.append(pytest.param((name, switched), id=f"{name}-stabilised"))
TEXT_CASES = [case for case in GAN_CASES if family_modality(case.values[0][0]) == "text"]
CASES = [*GAN_CASES, *(pytest.param((name, {}), id=name) for name in list_families(kind="classifier"))]


@pytest.fixture(autouse=True)
def fixed_seed() -> None:
    torch.manual_seed(0)


@pytest.fixture(params=CASES)
def config(request: pytest.FixtureRequest) -> GANConfig:
    """The tiny config of every family, in each variant."""
    return _tiny(*request.param)


@pytest.fixture(params=GAN_CASES)
def gan_config(request: pytest.FixtureRequest) -> GANConfig:
    """The tiny config of every GAN, in each variant."""
    return _tiny(*request.param)


@pytest.fixture(params=TEXT_CASES)
def text_config(request: pytest.FixtureRequest) -> GANConfig:
    """The tiny config of every GAN that writes text, in each variant."""
    return _tiny(*request.param)


def _tiny(name: str, changes: dict) -> GANConfig:
    try:
        return get_family(name).tiny_config(**changes)
    except UserError as error:
        if "num_classes" not in str(error):
            raise
        pytest.skip(str(error))


def build(config: GANConfig) -> dict[str, GANModel]:
    """Role -> freshly initialised network."""
    return {role: network(config) for role, network in get_family(config.family).networks.items()}


def used(config: GANConfig) -> dict[str, GANModel]:
    """Networks whose every tensor differs from its initial value, as after some training.

    Parameters get noise (a branch that starts at zero would otherwise count as dead); statistics come from a few batches.
    """
    networks = build(config)
    with torch.no_grad():
        for network in networks.values():
            for parameter in network.parameters():
                parameter.add_(torch.randn_like(parameter), alpha=0.05)
            for _ in range(3):
                network.train().replay(**inputs(network))
    return networks


def inputs(network: GANModel, count: int = BATCH) -> dict[str, Tensor]:
    """Named arguments for the `replay` of a network of any role: latents, samples or tokens, labels, prompts."""
    return network.example_inputs(count, torch.default_generator)


def conditions(arguments: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value for name, value in arguments.items() if name in ("labels", "condition")}


def ingredients(generator: Generator, count: int) -> dict[str, Tensor]:
    """Named arguments that make samples: random numbers, labels, prompts; of a vocoder, the spectrograms of sound."""
    if isinstance(generator, Vocoder):
        return {"condition": generator.spectrogram(torch.rand(count, 1, generator.config.length) * 2 - 1)}
    return {"latents": generator.sample_latents(count), **conditions(inputs(generator, count))}


def generate(generator: Generator, count: int = BATCH) -> Tensor:
    """Samples; relaxed ones where the network draws tokens, so that gradients flow."""
    asked = ingredients(generator, count)
    samples = generator(**asked)
    if samples.is_floating_point():
        return samples
    return relaxed_sequences(generator, count, 1.0, **conditions(asked))


def differentiable(samples: Tensor, config: GANConfig) -> Tensor:
    """Real samples; tokens as one-hot vectors."""
    return samples if samples.is_floating_point() else F.one_hot(samples, config.vocab_size).float()


def probe(output: Tensor) -> Tensor:
    """A number that depends on every element of the output, each with a weight of its own."""
    return (output.float() * torch.randn(output.shape)).sum()


def at_every_level(*networks: GANModel) -> Iterator[None]:
    """Sets networks that grow to each of their levels in turn, because each uses layers of its own; others: once."""
    growing = [network for network in networks if hasattr(network, "set_level")]
    for level in range(growing[0].top_level + 1 if growing else 1):
        for network in growing:
            network.set_level(level)
        yield


def assert_gradients(network: nn.Module) -> None:
    broken = [
        name
        for name, parameter in network.named_parameters()
        if parameter.grad is None or not parameter.grad.isfinite().all() or not parameter.grad.any()
    ]
    assert not broken, f"no gradient, or one of only zeros or NaN: {broken}"


# --------------------------------------------------------------------------------------------------- record and config


@pytest.mark.parametrize("name", FAMILIES)
def test_tiny_config_is_valid_and_tiny(name):
    config = get_family(name).tiny_config()
    assert config.family == name
    for network in build(config).values():
        assert sum(parameter.numel() for parameter in network.parameters()) < 1_000_000


@pytest.mark.parametrize("name", FAMILIES)
def test_every_field_is_described_and_bounded(name):
    """The bounds are what keeps a hostile config.json from asking for all of the machine's memory."""
    schema = get_family(name).config.model_json_schema()
    for field, entry in schema["properties"].items():
        assert entry.get("description"), f"{field} has no description"
        for kind in entry.get("anyOf", [entry]):
            if kind.get("type") in ("integer", "number"):
                assert {"minimum", "exclusiveMinimum"} & set(kind), f"{field} has no lower bound"
                assert {"maximum", "exclusiveMaximum"} & set(kind), f"{field} has no upper bound"
            if kind.get("type") == "array":
                assert "maxItems" in kind, f"{field} has no largest length"
            if kind.get("type") == "string":
                assert {"enum", "const", "maxLength"} & set(kind), f"{field} has no largest length"


@pytest.mark.parametrize("name", FAMILIES)
def test_docstring_tells_what_it_is_and_links_the_paper(name):
    family = get_family(name)
    docstring = sys.modules[family.networks[family.main_role].__module__].__doc__ or ""
    assert family.summary and docstring.strip().startswith(family.summary)
    assert family.paper in docstring


def test_config_survives_json(config):
    for role in get_family(config.family).networks:
        values = json.loads(config.to_json(role=role))
        assert (values.pop("model_type"), values.pop("family"), values.pop("role")) == ("ganzoo", config.family, role)
        assert values.pop("ganzoo_version") == ganzoo.__version__
        assert type(config).from_dict(values) == config


@pytest.mark.parametrize("name", FAMILIES)
def test_config_refuses_unknown_keys(name):
    with pytest.raises(UserError, match="unknown key 'reslution'"):
        get_family(name).tiny_config(reslution=8)


# --------------------------------------------------------------------------------------------------------- the modules


class _Allocations(TorchDispatchMode):
    """Notes every operation whose result lies in memory."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        if any(isinstance(leaf, Tensor) and leaf.device.type != "meta" for leaf in tree_leaves(result)):
            self.found.append(str(function))
        return result


def test_networks_build_without_memory(config):
    """The loader builds on the meta device first and compares with the file, before it allocates anything."""
    with _Allocations() as allocations, torch.device("meta"):
        networks = build(config)
    assert not allocations.found
    for network in networks.values():
        assert {tensor.device.type for tensor in network.state_dict().values()} == {"meta"}


def test_every_buffer_is_saved(config):
    for network in build(config).values():
        hidden = [name for module in network.modules() for name in module._non_persistent_buffers_set]
        assert not hidden, f"register_buffer(..., persistent=False) is not allowed: {hidden}"


def test_generator_fills_the_space_of_its_processor(gan_config):
    networks = used(gan_config)
    generator = networks["generator"].eval()
    for count in (BATCH, 1):
        samples = generator(**ingredients(generator, count))
        real = inputs(networks["discriminator"], count)["samples"]
        assert samples.dtype == real.dtype and samples.shape == real.shape
        assert samples.isfinite().all() and samples.float().std() > 0
        many = inputs(networks["discriminator"], 64)["samples"]
        assert many.min() <= samples.min() and samples.max() <= many.max()
        processor = fitted_processor(gan_config)
        assert processor.to_stored(samples).shape in (samples.shape, (count, *processor.sample_shape))


def test_discriminator_returns_a_list_of_logits_and_features(gan_config):
    discriminator = build(gan_config)["discriminator"]
    for count in (BATCH, 2):
        outputs = discriminator(**inputs(discriminator, count))
        assert isinstance(outputs, list) and outputs
        for output in outputs:
            assert isinstance(output, DiscriminatorOutput)
            assert len(output.logits) == count and output.logits.isfinite().all()
            assert output.features and all(len(feature) == count for feature in output.features)


@pytest.mark.parametrize("name", list_families(kind="classifier"))
def test_classifier_returns_logits_and_features(name):
    config = get_family(name).tiny_config()
    classifier = build(config)["classifier"]
    output = classifier(**inputs(classifier))
    assert isinstance(output, ClassifierOutput)
    assert output.logits.shape == (BATCH, config.num_classes) and output.logits.isfinite().all()
    assert output.features.ndim == 2 and len(output.features) == BATCH


def test_labels_are_asked_for_or_refused(gan_config):
    for network in build(gan_config).values():
        arguments = inputs(network)
        labels = arguments.pop("labels", None)
        wrong = [torch.zeros(BATCH, dtype=torch.long)] if labels is None else [None, labels[:3], labels.float()]
        for value in wrong:
            with pytest.raises(UserError):
                network.replay(**arguments, labels=value)


# ----------------------------------------------------------------------------------------------- gradients and training


def test_every_parameter_gets_a_gradient(config):
    for network in used(config).values():
        network.train().zero_grad()
        for _ in at_every_level(network):
            probe(network.replay(**inputs(network))).backward()
        assert_gradients(network)


def test_gradients_reach_the_generator_through_the_discriminator(gan_config):
    networks = used(gan_config)
    discriminator = networks["discriminator"]
    asked = conditions(inputs(discriminator))
    for _ in at_every_level(*networks.values()):
        probe(discriminator.replay(samples=generate(networks["generator"]), **asked)).backward()
    assert_gradients(networks["generator"])


def test_r1_differentiates_twice(gan_config):
    discriminator = used(gan_config)["discriminator"].train()
    arguments = inputs(discriminator)
    samples, labels = differentiable(arguments.pop("samples"), gan_config), arguments.pop("labels", None)

    def judge(samples: Tensor, labels: Tensor | None) -> list[DiscriminatorOutput]:
        return discriminator(samples, labels, **arguments)

    for _ in at_every_level(discriminator):
        penalty = zero_centred_penalty(judge, samples, labels)
        assert penalty.isfinite() and penalty > 0
        penalty.backward()
    gradients = {name: p.grad for name, p in discriminator.named_parameters() if p.grad is not None}
    assert all(gradient.isfinite().all() for gradient in gradients.values())
    # Additive parameters, such as biases and (where nothing multiplies them) label vectors, fall out of the derivative;
    # matrices and kernels multiply it.
    looked_up = {
        f"{name}.weight" for name, module in discriminator.named_modules() if isinstance(module, nn.Embedding)
    }
    weights = [
        name for name, parameter in discriminator.named_parameters() if parameter.ndim > 1 and name not in looked_up
    ]
    assert not [name for name in weights if name not in gradients or not gradients[name].any()]


def real_batch(config: GANConfig) -> Batch:
    """As the trainer makes it."""
    family = get_family(config.family)
    arguments = inputs(family.networks[[*family.networks][-1]](config))
    labels = None if config.num_classes is None else torch.arange(BATCH) % config.num_classes
    batch = Batch(arguments["samples"], labels, arguments.get("condition"))
    return batch._replace(condition=family.networks[family.main_role](config).condition(batch))


def test_one_step_of_each_network_reduces_its_own_loss(config):
    """Of a generator of tokens, the likelihood: the policy's loss is one on samples, which change with it."""
    family = get_family(config.family)
    recipe = {"name": "test", "model": {"family": family.name}, "training": {"steps": 1}}
    objective = build_objective(Recipe.from_dict({**recipe, "objective": family.objective}).objective)
    networks, batch = build(config), real_batch(config)
    objective.prepare(networks)
    objectives = {role: objective for role in networks}
    if not batch.samples.is_floating_point():
        objectives["generator"] = build_objective(LikelihoodConfig())

    def loss(role: str) -> Tensor:
        torch.manual_seed(1)  # the same latents, noise and dropout each time
        context = StepContext(0, 0.0, lambda network, count: network.sample_latents(count), nullcontext)
        return sum_terms(getattr(objectives[role], f"{role}_loss")(networks, batch, context).terms)

    for role, network in networks.items():
        optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
        before = loss(role)
        optimizer.zero_grad()
        before.backward()
        optimizer.step()
        assert loss(role) < before, role


def test_discriminator_judges_packs_or_says_why_not(config):
    """What `objective.packing` does to any family (PacGAN): several samples are one with more channels."""
    family = get_family(config.family)
    if "discriminator" not in family.networks:
        pytest.skip("has no discriminator")
    makes_no_variety = issubclass(family.networks[family.main_role], Vocoder)
    cannot = config._packed_field() is None  # by what its config says
    if cannot or config.num_classes is not None or makes_no_variety:
        with pytest.raises(UserError, match="objective.packing=2"):
            config.packed(2)
        return
    discriminator = family.networks["discriminator"](config.packed(2))
    samples = pack(real_batch(config).samples, 2).requires_grad_()
    outputs = discriminator(samples)
    assert all(len(output.logits) == BATCH // 2 for output in outputs)
    probe(outputs[0].logits).backward()
    assert samples.grad.flatten(2).any(dim=2).all(), "every sample of a pack counts"


def test_bfloat16_arithmetic_is_finite(config):
    for network in used(config).values():
        network.train().zero_grad()
        for _ in at_every_level(network):
            with torch.autocast("cpu", torch.bfloat16):
                output = network.replay(**inputs(network))
            assert output.isfinite().all()
            probe(output).backward()
        assert_gradients(network)


# ------------------------------------------------------------------------------------------- reproducible and portable


def test_logits_where_asked_are_those_of_the_whole_prediction(text_config):
    generator = used(text_config)["generator"].eval()
    arguments = inputs(generator)
    mask = torch.rand(arguments["tokens"].shape) < 0.5
    whole = generator.predict(**arguments)
    torch.testing.assert_close(generator.predict_where(mask, **arguments), whole[mask])


def test_reading_step_by_step_is_reading_at_once(text_config):
    generator = used(text_config)["generator"].eval()
    arguments = inputs(generator)
    tokens = arguments.pop("tokens")
    whole = generator.predict(tokens, **arguments)
    state = generator.begin(BATCH, arguments.get("labels"), arguments.get("condition"))
    last = torch.full((BATCH,), text_config.bos_token_id)
    for position in range(tokens.shape[1]):
        logits, state = generator.step(last, state)
        torch.testing.assert_close(logits, whole[:, position], rtol=1e-4, atol=1e-5)
        last = tokens[:, position]


def test_ids_are_judged_as_their_one_hot_vectors(text_config):
    discriminator = used(text_config)["discriminator"].eval()
    arguments = inputs(discriminator)
    ids = discriminator.replay(**arguments)
    arguments["samples"] = differentiable(arguments["samples"], text_config)
    torch.testing.assert_close(discriminator.replay(**arguments), ids, rtol=1e-4, atol=1e-5)


def test_seed_decides_networks_and_outputs(config):
    def once(seed: int) -> list[Tensor]:
        torch.manual_seed(seed)
        networks = build(config)
        outputs = [network.replay(**inputs(network)) for network in networks.values()]
        return [*outputs, *(tensor for network in networks.values() for tensor in network.state_dict().values())]

    first, second, other = once(1), once(1), once(2)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert not torch.equal(first[0], other[0])


def test_save_and_load_change_no_bit(config, tmp_path):
    for role, network in used(config).items():
        network.eval().save_pretrained(tmp_path / role)
        loaded = type(network).from_pretrained(tmp_path / role)
        assert not loaded.training
        assert loaded.config == config
        state, loaded_state = network.state_dict(), loaded.state_dict()
        assert list(state) == list(loaded_state)
        assert all(torch.equal(tensor, loaded_state[name]) for name, tensor in state.items())
        arguments = inputs(network)
        assert torch.equal(network.replay(**arguments), loaded.replay(**arguments))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=["float16", "bfloat16"])
def test_half_precision_weights_load_and_compute(config, dtype, tmp_path):
    network = used(config)[get_family(config.family).main_role].eval()
    network.save_pretrained(tmp_path)
    config.processor().save_pretrained(tmp_path)
    pipeline = ganzoo.from_pretrained(tmp_path, dtype=dtype)
    assert dtype in {parameter.dtype for parameter in pipeline.network.parameters()}
    arguments = inputs(network)
    with torch.inference_mode():
        exact = network.replay(**arguments)
        half = {name: value.to(dtype) if value.is_floating_point() else value for name, value in arguments.items()}
        found = pipeline.network.replay(**half)
    # bfloat16 has three bits less, and processors that lack it round more often.
    tolerance = 0.05 if dtype == torch.float16 else 0.1
    assert (exact - found.float()).abs().max() <= tolerance * exact.abs().max()
    if isinstance(pipeline, GANPipeline):
        assert draw(pipeline, 2, seed=0).samples.isfinite().all()


def pipeline_of(config: GANConfig) -> GANPipeline:
    generator = used(config)["generator"]
    if isinstance(generator, Vocoder):
        pytest.skip("a vocoder draws nothing: its samples are those of its input")
    return pipeline_class(generator)(generator, config.processor())


def draw(pipeline: GANPipeline, count: int = 1, **how: object) -> Samples:
    """Samples; of a model that answers, all to one prompt."""
    prompts = inputs(pipeline.network, 1).get("condition")
    asked = {} if prompts is None else {"prompt": torch.ones_like(prompts).repeat(count, 1)}
    return pipeline.sample(count, **asked, **how)


def test_sample_depends_on_its_own_seed_alone(gan_config):
    pipeline = pipeline_of(gan_config)
    together = draw(pipeline, 4, seed=0)
    for batch_size in (1, 3):
        apart = draw(pipeline, 4, seed=0, batch_size=batch_size)
        torch.testing.assert_close(apart.samples, together.samples, rtol=1e-4, atol=1e-5)
    alone = draw(pipeline, seed=3)
    torch.testing.assert_close(alone.samples[0], together.samples[3], rtol=1e-4, atol=1e-5)
    if gan_config.num_classes:
        assert alone.labels[0] == together.labels[3]
    assert torch.equal(draw(pipeline, 4, seed=0).samples, together.samples)
    assert not torch.equal(together.samples[0], together.samples[1])


def test_sampling_leaves_the_global_random_state_alone(gan_config):
    pipeline = pipeline_of(gan_config)
    draw(pipeline, 1, seed=0)
    before = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].copy()
    asked = {"prompt": torch.ones(2, gan_config.max_prompt_length, dtype=torch.long)} if _answers(gan_config) else {}
    first, second = (pipeline.sample(2, **asked).samples for _ in range(2))
    assert not torch.equal(first, second), "without a seed every call draws anew"
    pipeline.sample(2, seed=0, **asked)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert random.getstate() == before[1]
    assert np.array_equal(np.random.get_state()[1], before[2])


def _answers(config: GANConfig) -> bool:
    return getattr(config, "max_prompt_length", 0) > 0


# --------------------------------------------------------------------------------------------------------------- recipes


@pytest.mark.parametrize("name", FAMILIES)
def test_family_has_a_recipe(name):
    if not get_family(name).config.__module__.startswith("ganzoo."):
        pytest.skip("an installed package keeps its recipes itself")
    assert name in {load_recipe(recipe).model["family"] for recipe in RECIPES}, f"recipes/*/ has none for {name}"


@pytest.mark.parametrize("recipe", RECIPES)
def test_recipe_describes_a_model_that_can_be_built(recipe):
    loaded = load_recipe(recipe)
    assert loaded.name == recipe, "a recipe's file has the recipe's name"
    values = dict(loaded.model)
    if get_family(values["family"]).modality == "text":  # learned from the data
        values = {"vocab_size": 1000, "max_length": 20, **values}
    with torch.device("meta"):
        build(get_family(values.pop("family")).config.from_dict(values))


def shortened(recipe: Recipe, top_level: int) -> dict[str, object]:
    """Overrides that leave one step of every phase, with one update of each network, at most at the top level of the tiny
    networks; two steps without phases."""
    phases = [
        {
            **phase,
            "steps": 1,
            "stop": None,
            "updates": dict.fromkeys(phase["updates"], 1),
            "level": phase["level"] and min(phase["level"], top_level),
        }
        for phase in recipe.model_dump(mode="json")["phases"]
    ]
    return {"phases": phases, "training.steps": len(phases) if len(phases) > 1 else 2} | (
        {"phases": [{**phases[0], "steps": 2}]} if len(phases) == 1 else {}
    )


@pytest.mark.parametrize("recipe", RECIPES)
def test_recipe_trains_and_publishes(recipe, tmp_path):
    """A few steps of every recipe, with its own objectives and optimisers but tiny networks and synthetic data."""
    loaded = load_recipe(recipe)
    family = get_family(loaded.model["family"])
    changes = {key: value for key, value in loaded.model.items() if key == "num_classes"}
    splits = {loaded.data.split, loaded.evaluation.split or "test"}
    model = SYNTHETIC_DATA[family.modality](tmp_path / "data", family, changes, splits)
    top_level = getattr(build(family.tiny_config(**changes))[family.main_role], "top_level", 0)
    overrides = {
        "model": {"family": family.name, **model},
        "data.dataset": "synthetic",  # some data sets are made of what the path holds
        "data.path": str(tmp_path / "data"),
        "data.segment": loaded.data.segment and model["length"] // 2,
        "training.batch_size": 4,
        "training.precision": "fp32",
        "training.log_every": 1,
        "training.num_preview_samples": 4,
        "evaluation.metrics": [],
        "evaluation.every": None,
        **shortened(loaded, top_level),
    }
    run = ganzoo.train(recipe, output=tmp_path / "run", quiet=True, **overrides)
    assert run.finished and run.step == overrides["training.steps"]
    published = tmp_path / "run" / "pipeline"
    assert check_card((published / "README.md").read_text(encoding="utf-8")) == []
    assert [check for check in ganzoo.verify(published) if not check.passed] == []
    if any("discriminator" in phase.updates for phase in loaded.phases) or (family.is_gan and not loaded.phases):
        assert isinstance(ganzoo.Discriminator.from_pretrained(published), Discriminator)
