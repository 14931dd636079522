"""Train many small models of one size at once on a GPU: those of an LDS, or of a comparison.

One small network leaves a GPU idle: its kernels end before the next is launched. Here M networks of one architecture
are one: their weights are stacked (M, ...), the forward pass is mapped over them (torch.func.vmap; convolutions become
products of matrices, products.py), and a step of all is recorded once as a CUDA graph and replayed. Each model keeps
its own pictures, order, noise, timesteps, clipping and optimiser, by the same random numbers as alone (training.py): it
is the model of its settings, but for the order of sums. LoRA weights on a small base are trained so too: what is frozen
is there once, and sees the pictures of all models as one batch.
"""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel

from dtrak_core import store
from dtrak_core.datasets.catalogue import Dataset
from dtrak_core.errors import DataError, out_of_memory
from dtrak_core.models import bases, devices, networks, text_calls, text_families
from dtrak_core.models.denoiser import Condition, tracked_parameters
from dtrak_core.models.settings import LoraSettings, TrainSettings
from dtrak_core.progress import Progress, quiet
from dtrak_core.settings import key_of
from dtrak_core.training import products, training, training_run
from dtrak_core.training.feeding import Batch, Feed
from dtrak_core.training.training_run import Run

AT_ONCE = 64  # models; fewer where the memory does not hold them
LARGEST = 8_000_000  # parameters of a network that leaves a GPU idle
SAID_EVERY = 20  # steps between two looks at the losses, for which the GPU is waited for


def worthwhile() -> bool:
    """Say whether models are better trained together here: on a GPU. A CPU has no time to spare beside one."""
    return devices.device().type == "cuda"


def groups(dataset: Dataset, wanted: Sequence[TrainSettings]) -> list[list[TrainSettings]]:
    """Return what of the trainings can be done together: not begun, of one size and recipe, two at least."""
    alike: dict[TrainSettings, list[TrainSettings]] = {}
    able = bool(wanted) and _able(wanted[0], dataset.settings.resolution)
    for one in dict.fromkeys(wanted):
        key = key_of("retrained", one)
        if store.find("retrained", key) is None and not store.begun("retrained", key) and able:
            size = len(dataset.train.images) if one.indices is None else len(set(one.indices))
            shared = one.model_copy(update={"indices": tuple(range(size)), "train_seed": 0})
            alike.setdefault(shared, []).append(one)
    return [each[i : i + AT_ONCE] for each in alike.values() for i in range(0, len(each), AT_ONCE) if len(each) > 1]


def _able(settings: TrainSettings, resolution: int) -> bool:
    model = settings.model
    if model.dropout:
        return False
    if isinstance(model, LoraSettings):
        return _small_base(model)
    if model.classes:
        return False
    with torch.device("meta"):
        network = networks.build_unet(model, resolution)
    size: int = sum(p.numel() for p in network.parameters())
    return size <= LARGEST


def _small_base(model: LoraSettings) -> bool:
    """Say whether LoRA weights are on a small Stable Diffusion, by the bytes of its denoiser's files."""
    base = bases.by_digest(model.base)
    family = text_families.of(base.folder, base.name)
    held = sum(path.stat().st_size for path in (base.folder / family.part).iterdir())
    return family.call is text_calls.called_hidden and model.frozen == "stored" and held <= 4 * LARGEST


def train(dataset: Dataset, wanted: Sequence[TrainSettings], on_progress: Progress) -> list[store.Artifact]:
    """Train a group and publish each of its models as `retrained`, as `training.train` does.

    Args:
        dataset: Must have the digest that the settings name.
        wanted: A group (`groups`): equal but for indices, of one number, and training seed.
        on_progress: Called with unit "training steps", of all models together.

    Returns:
        The artifacts, in order, but of models that diverged: their own training (`training.train`) goes on from the
        state that is kept, its end, and says so.

    Raises:
        Cancelled: If `on_progress` raises it; each model's state is kept, from which it goes on by itself.
    """
    with contextlib.ExitStack() as held:
        keys = [key_of("retrained", one) for one in wanted]
        lacking: list[TrainSettings] = []
        for one, key in sorted(zip(wanted, keys, strict=True), key=lambda pair: pair[1]):  # in one order everywhere
            if held.enter_context(store.computing("retrained", key, on_progress)) is None:
                lacking.append(one)
        if lacking:
            _split(dataset, lacking, on_progress)
    found = [store.find("retrained", key) for key in keys]
    return [run for run in found if run is not None]


def _split(dataset: Dataset, wanted: Sequence[TrainSettings], on_progress: Progress) -> None:
    """Train in as many groups as the device's memory asks for; one model alone as any other, in parts of its batch."""
    if len(wanted) == 1:
        with contextlib.suppress(DataError):  # as of a group's
            training.held(dataset, wanted[0], "retrained", on_progress, "retrained")
    elif not _fitted(dataset, wanted, on_progress):
        devices.free_memory()  # here, where no error holds what did not fit any more
        for part in (wanted[: len(wanted) // 2], wanted[len(wanted) // 2 :]):
            _split(dataset, part, on_progress)


def _fitted(dataset: Dataset, wanted: Sequence[TrainSettings], on_progress: Progress) -> bool:
    """Train a group, and say whether the device's memory held it."""
    try:
        _trained(dataset, wanted, on_progress)
    except RuntimeError as error:
        if not out_of_memory(error):
            raise
        return False
    return True


def _trained(dataset: Dataset, wanted: Sequence[TrainSettings], on_progress: Progress) -> None:
    total = wanted[0].steps(len(dataset.train.images))
    group, feed = of(dataset, wanted)
    runs, step = group.runs, stepping(group, feed)
    losses = torch.zeros(total, len(runs), device=group.device)
    began, done = time.monotonic(), 0
    try:
        for number, batch in enumerate(feed.batches(total)):
            rate = training_run.learning_rate(wanted[0].learning_rate, wanted[0].warmup, number, total)
            losses[number].copy_(step(batch, rate))
            done = number + 1
            if done % SAID_EVERY == 0 or done == total:
                about = f"{len(runs)} models at once. Loss {float(losses[max(0, done - 100) : done].mean()):.4f}"
                on_progress(done * len(runs), total * len(runs), "training steps", about)
    finally:
        group.hand_back(losses[:done].cpu().numpy(), (time.monotonic() - began) / len(runs))
        if 0 < done < total:
            for one, run in zip(wanted, runs, strict=True):
                training_run.write(run, store.partial("retrained", key_of("retrained", one)))
    for one, run in zip(wanted, runs, strict=True):
        with contextlib.suppress(DataError):  # it diverged: whoever asks for this one is told, and no neighbour suffers
            training.publish_last(dataset, run, one)


def of(dataset: Dataset, wanted: Sequence[TrainSettings]) -> tuple[Group, Feed]:
    """Return models that have not begun, stacked, with what they are fed."""
    runs = [training.start(one, dataset.settings.resolution) for one in wanted]
    if isinstance(model := wanted[0].model, LoraSettings):
        runs[0].latents = training.latents_of(dataset, model.base, quiet)
    return Group(runs, wanted[0]), Feed(dataset, wanted, runs[0])


def stepping(group: Group, feed: Feed) -> Callable[[Batch, float], Tensor]:
    """Return what takes one step of all models on a batch at a rate, and returns their losses (M,) before it."""
    return _Recorded(group, feed) if group.device.type == "cuda" else functools.partial(group.step, feed)


class Group:
    """The stacked weights of M models with their optimiser and averages, and one step of all."""

    def __init__(self, runs: Sequence[Run], settings: TrainSettings) -> None:
        self.runs, self.settings, self.device = runs, settings, runs[0].denoiser.weight.device
        self.denoiser = runs[0].denoiser
        if self.denoiser.text is not None:
            network = self.denoiser.network
            network.disable_gradient_checkpointing()  # type: ignore[operator]  # small, and recorded
            for parameter in network.parameters():  # group norms mapped over models ask for float32
                parameter.data = parameter.data.float()
        self.names = [name for name, _ in tracked_parameters(self.denoiser.network)]
        self.weights = [
            torch.stack([p.detach() for p in each]).requires_grad_()
            for each in zip(*(run.weights for run in runs), strict=True)
        ]
        on_gpu = self.device.type == "cuda"
        self.rate = torch.zeros((), device=self.device)
        self.optimizer = torch.optim.AdamW(
            self.weights,
            lr=self.rate if on_gpu else 0.0,
            betas=settings.betas,
            weight_decay=settings.weight_decay,
            eps=1e-8,
            fused=True,
            capturable=on_gpu,
        )
        self.average = [w.detach().clone() for w in self.weights] if settings.ema_decay else None

    def losses(self, batch: Batch, feed: Feed) -> Tensor:
        """Return each model's mean loss (M,) of its own batch."""
        process, called = self.denoiser.process, self.denoiser.call
        noise, t = batch.noise[feed.seed_of], batch.t[feed.seed_of]
        x0 = feed.clean(batch)
        shape = x0.shape[:2]
        flat = x0.flatten(0, 1), noise.flatten(0, 1), t.flatten()
        x_t, target = process.noised(*flat).unflatten(0, shape), process.target(*flat).unflatten(0, shape)

        def one(weights: dict[str, Tensor], x: Tensor, time: Tensor, told: dict[str, Tensor]) -> Tensor:
            def call(network: nn.Module, *given: Any) -> Tensor:
                return called(lambda *x, **told: functional_call(network, weights, x, told), *given)  # type: ignore[arg-type]

            return replace(self.denoiser, call=call).predict(x, time, Condition(told))

        with products.mapped(), sdpa_kernel(SDPBackend.MATH):  # the others are not mapped over models
            weights = dict(zip(self.names, self.weights, strict=True))
            output: Tensor = vmap(one)(weights, x_t, t, feed.conditions(batch))
        error = (output - target).square().flatten(2).mean(2)
        weight = process.loss_weights(flat[2]).unflatten(0, shape)
        mean: Tensor = (weight * error * batch.counted).sum(1)
        return mean

    def step(self, feed: Feed, batch: Batch, rate: float) -> Tensor:
        """Take one step of all models; return their losses (M,) before it."""
        self.optimizer.param_groups[0]["lr"] = rate
        return self.update(Batch(*(one.to(self.device) for one in batch.tensors())), feed)

    def update(self, batch: Batch, feed: Feed) -> Tensor:
        """Take a step at the rate that is set: all of it runs on the device."""
        losses = self.losses(batch, feed)
        grads = torch.autograd.grad(losses.sum(), self.weights)
        norms = torch.stack([grad.flatten(1).norm(dim=1) for grad in grads]).norm(dim=0)
        share = (self.settings.clip_norm / (norms + 1e-6)).clamp(max=1.0)
        for weight, grad in zip(self.weights, grads, strict=True):
            # In the weight's order of memory, which the fused optimiser takes for granted: a linear layer's is turned.
            weight.grad = (grad * share.reshape(-1, *[1] * (grad.dim() - 1))).contiguous()
        self.optimizer.step()
        if self.average is not None:
            with torch.no_grad():
                torch._foreach_lerp_(self.average, list(self.weights), 1 - self.settings.ema_decay)
        return losses.detach()

    def hand_back(self, losses: np.ndarray, seconds: float) -> None:
        """Give each model's weights, averages, optimiser state and losses (S, M) to its run, with its share of time."""
        for m, run in enumerate(self.runs):
            with torch.no_grad():
                for i, parameter in enumerate(run.weights):
                    parameter.copy_(self.weights[i][m])
                    state = self.optimizer.state.get(self.weights[i], {})
                    run.optimizer.state[parameter] = {
                        name: value[m].clone() if value.dim() else value.cpu().clone() for name, value in state.items()
                    }
            if self.average is not None:
                run.average = [one[m].clone() for one in self.average]
            run.losses, run.step, run.seconds = losses[:, m].tolist(), len(losses), seconds


class _Recorded:
    """A group's step as a CUDA graph: inputs are copied into the places with which it was recorded."""

    def __init__(self, group: Group, feed: Feed) -> None:
        self.group, self.feed = group, feed
        self.graph = torch.cuda.CUDAGraph()
        self.batch: Batch | None = None
        self.losses = torch.empty(0)

    def __call__(self, batch: Batch, rate: float) -> Tensor:
        """Take one step of all models; return their losses (M,), which the next step overwrites."""
        self.group.rate.fill_(rate)
        if self.batch is None:
            self._record(batch)
        assert self.batch is not None
        for place, value in zip(self.batch.tensors(), batch.tensors(), strict=True):
            place.copy_(value, non_blocking=True)
        self.graph.replay()
        return self.losses

    def _record(self, batch: Batch) -> None:
        """Record a step; what the steps of warming up have changed is put back."""
        self.batch = Batch(*(one.to(self.group.device) for one in batch.tensors()))
        kept = [w.detach().clone() for w in self.group.weights]
        averaged = [a.clone() for a in self.group.average or []]
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(3):
                self.group.update(self.batch, self.feed)
        torch.cuda.current_stream().wait_stream(side)
        with torch.cuda.graph(self.graph):
            self.losses = self.group.update(self.batch, self.feed)
        with torch.no_grad():
            for weight, value in zip(self.group.weights, kept, strict=True):
                weight.copy_(value)
                for moment in self.group.optimizer.state[weight].values():
                    moment.zero_()
            for average, value in zip(self.group.average or [], averaged, strict=True):
                average.copy_(value)
