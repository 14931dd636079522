"""What a GPU does with the paper's networks, beside the CPU and the authors' way, in one run.

    python benchmarks/gpu.py            some minutes on an H100; `make gpu` runs the GPU's tests before it
    python benchmarks/gpu.py --quick    a smoke test with small sizes, on the CPU where there is no GPU: its numbers
                                        mean nothing

Prints, and writes to benchmarks/results/gpu.json:

1. The card's ceilings: a large matrix product in bfloat16 and in float32 (TF32), a copy.
2. The shipped demo: features of its training set, and the scores of its generated pictures under them, against the same
   on this machine's CPU: error of a feature, rank correlation of scores.
3. A training step of the preset portraits: of one model by itself, and of 8, 32 and 64 that train together, a model.
4. The paper's CIFAR network (38.3 M parameters, 32 px, weights random, T = 100 draws, k = 32,768): training steps,
   features and projections in turns, in TF32 and under bfloat16's autocast; sampling; memory. Beside them the authors'
   way: torch.func's vmap of per-sample gradients, and traker's BasicProjector (dense, made anew at each call), of which
   some columns are timed and multiplied, since all cost the same.
5. LoRA weights of rank 128 on a Stable Diffusion 1.5 of random weights at 256 px: the same.
"""

from __future__ import annotations

import contextlib
import functools
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from scipy import stats
from torch import Tensor
from torch.func import functional_call, grad, vmap
from transformers import CLIPTextConfig, CLIPTextModel

from dtrak_core import files, store
from dtrak_core.datasets import catalogue
from dtrak_core.demo import text_base
from dtrak_core.features import features, gradients, kernel
from dtrak_core.features.gradients import per_example_gradients
from dtrak_core.features.projection import Projector, project
from dtrak_core.features.settings import FeatureSettings
from dtrak_core.models import bases, checkpoints, devices, networks, sampling, targets
from dtrak_core.models.denoiser import Denoiser
from dtrak_core.models.settings import LoraSettings, TrainSettings
from dtrak_core.training import presets, together, training, training_run
from dtrak_core.training.training_run import Run

QUICK = "--quick" in sys.argv
RESULTS = Path(__file__).resolve().parent / "results" / ("gpu-quick.json" if QUICK else "gpu.json")
ROUNDS = 2 if QUICK else 5
PROJ_DIM = 256 if QUICK else presets.PAPER_FEATURES["proj_dim"]
AUTHORS_COLUMNS = 100
SAMPLED, STEPS = (2, 3) if QUICK else (64, 50)


def main() -> None:
    where = devices.device()
    if where.type != "cuda" and not QUICK:
        sys.exit("torch finds no GPU here. `--quick` runs everything small on the CPU.")
    report: dict[str, Any] = {"date": time.strftime("%Y-%m-%d %H:%M"), "quick": QUICK, "card": card(where)}
    for name, part in (("demo", demo), ("together", trained_together), ("cifar", cifar), ("lora", lora_weights)):
        began = time.perf_counter()
        report[name] = part(where)
        report[name]["part_s"] = round(time.perf_counter() - began, 1)
        files.write_json(RESULTS, report)  # what is measured stays, whatever comes after
        _free()
    say(f"\nWritten to {RESULTS.relative_to(RESULTS.parent.parent.parent)}.")


def card(where: torch.device) -> dict[str, Any]:
    """Return what computes here, and how fast it multiplies and copies."""
    found: dict[str, Any] = {"processor": platform.processor(), "cores": os.cpu_count(), "versions": store.versions()}
    if where.type != "cuda":
        return found
    properties = torch.cuda.get_device_properties(where)
    found |= {
        "name": properties.name,
        "memory_gib": round(properties.total_memory / 2**30, 1),
        "cuda": torch.version.cuda,
    }
    for dtype, name in ((torch.bfloat16, "bfloat16_tflops"), (torch.float32, "tf32_tflops")):
        a, b = (torch.randn(8192, 8192, device=where, dtype=dtype) for _ in range(2))
        found[name] = round(2 * 8192**3 / timed(where, lambda a=a, b=b: a @ b) / 1e12)  # type: ignore[misc]
    a = torch.empty(2**30, device=where, dtype=torch.uint8)
    b = torch.empty_like(a)
    found["copy_tb_s"] = round(2 * 2**30 / timed(where, lambda: b.copy_(a)) / 1e12, 2)
    say(f"{found['name']}, torch {torch.__version__}: {found['bfloat16_tflops']} TFLOP/s in bfloat16, "
        f"{found['tf32_tflops']} in TF32, {found['copy_tb_s']} TB/s copied.")  # fmt: skip
    return found


def demo(where: torch.device) -> dict[str, Any]:
    """Compare features and scores of the shipped demo on this device with those of this machine's CPU."""
    dataset = catalogue.by_name("openmoji-people")
    checkpoint = checkpoints.by_name("demo", dataset.digest)
    wanted = FeatureSettings(dataset=dataset.digest, checkpoint=checkpoint.digest, num_timesteps=10, proj_dim=4096)
    count = 64 if QUICK else len(dataset.train.images)
    images, ids = np.asarray(dataset.train.images[:count]), [f"train:{i}" for i in range(count)]
    chosen = targets.samples(checkpoint.digest, targets.usual(checkpoint.digest))[: 4 if QUICK else 16]
    found: dict[str, Any] = {"pictures": count, "targets": len(chosen)}
    rows: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    for name, device, half in (("cpu", "cpu", False), ("tf32", str(where), False), ("bfloat16", str(where), True)):
        os.environ[devices.VARIABLE] = device
        denoiser = networks.load_denoiser(checkpoint)
        with autocast(where, half):
            began = time.perf_counter()
            trained = features.featurise(denoiser, images, ids, wanted, lambda done: None)
            found[f"{name}_s"] = round(time.perf_counter() - began, 2)
            own = features.featurise(
                denoiser, np.stack([t.image for t in chosen]), [t.id for t in chosen], wanted, lambda done: None
            )
        rows[name] = trained, own
    os.environ[devices.VARIABLE] = str(where)
    scores = {name: damped(*both) for name, both in rows.items()}
    for name in ("tf32", "bfloat16"):
        error = np.linalg.norm(rows[name][0] - rows["cpu"][0], axis=1) / np.linalg.norm(rows["cpu"][0], axis=1)
        ranks = [stats.spearmanr(a, b).statistic for a, b in zip(scores["cpu"], scores[name], strict=True)]
        found[name] = {
            "feature_error_median": float(np.median(error)), "feature_error_largest": float(error.max()),
            "score_rank_correlation_mean": float(np.mean(ranks)), "score_rank_correlation_least": float(np.min(ranks)),
        }  # fmt: skip
        say(f"Demo, {count} pictures, {name}: a feature's error {np.median(error):.1e} (largest {error.max():.1e}), "
            f"D-TRAK's ranks agree to {np.mean(ranks):.5f} (least {np.min(ranks):.5f}).")  # fmt: skip
    return found


def damped(trained: np.ndarray, own: np.ndarray) -> np.ndarray:
    """Return D-TRAK's scores (M, N) at an effective rank of a tenth of N."""
    exact = trained.astype(np.float64)
    found = kernel.in_memory(exact)
    damping = kernel.damping_for_rank(found.eigenvalues, len(trained) / 10)
    return kernel.damped_scores(found, own.astype(np.float64) @ exact.T, damping)


def trained_together(where: torch.device) -> dict[str, Any]:
    """Measure steps of small models by themselves and together, a model (training/together.py)."""
    model = presets.PRESETS["demo" if QUICK else "portraits"].model
    dataset = catalogue.by_name("openmoji-people")
    side = dataset.settings.resolution
    fold = 2 if side < 32 else 4
    own = TrainSettings(dataset=dataset.digest, model=model.model_copy(update={"fold": fold}), epochs=1000)
    found: dict[str, Any] = {"side": side, "batch_size": own.batch_size, "network": own.model.model_dump()}
    run = training.start(own, side)
    rows = np.arange(own.batch_size)

    def alone() -> None:
        training_run.step(run, dataset, own, rows, 10_000)

    found["alone_ms"] = 1000 * once(where, alone)
    found["alone_ms"] = 1000 * timed(where, alone)
    for count in (2,) if QUICK else (8, 32, 64):
        each = [own.model_copy(update={"train_seed": seed % 2}) for seed in range(count)]
        group, feed = together.of(dataset, each)
        step = together.stepping(group, feed)
        batches = feed.batches(40)
        step(next(batches), 1e-4)
        torch.cuda.synchronize() if where.type == "cuda" else None
        began = time.perf_counter()
        for batch in batches:
            step(batch, 1e-4)
        torch.cuda.synchronize() if where.type == "cuda" else None
        found[f"together_{count}_ms_a_model"] = 1000 * (time.perf_counter() - began) / 39 / count
        del group, feed, step, batches
        _free()
    most = min(value for name, value in found.items() if name.startswith("together"))
    say(f"Small models together: {found['alone_ms']:.2f} ms a step alone, {most:.3f} ms a model together, "
        f"{found['alone_ms'] / most:.0f} times as fast.")  # fmt: skip
    return found


def cifar(where: torch.device) -> dict[str, Any]:
    """Measure the paper's CIFAR network."""
    model, side = (presets.DEMO, 16) if QUICK else (presets.CIFAR, 32)
    torch.manual_seed(0)
    denoiser = networks.denoiser_of(networks.build_unet(model, side).eval(), model.fold)
    timesteps = 10 if QUICK else presets.PAPER_FEATURES["num_timesteps"]
    found = measured(where, denoiser, timesteps, 4 if QUICK else 128)
    found["cpu"] = against_cpu(where, denoiser, model, side)
    found["authors"] = authors(where, denoiser, found)
    return found


def measured(
    where: torch.device, denoiser: Denoiser, timesteps: int, batch: int, prompts: bool = False
) -> dict[str, Any]:
    """Time training steps, gradients and projections in turns, and sampling; in float32 (TF32) and bfloat16."""
    count = sum(p.numel() for p in denoiser.network.parameters() if p.requires_grad)
    wanted = FeatureSettings(
        dataset="0" * 16, checkpoint="0" * 16, num_timesteps=timesteps, proj_dim=PROJ_DIM, storage="float16"
    )
    projector = Projector("sparse", PROJ_DIM, 42, count)
    pictures = gradients.pictures_per_batch(denoiser, timesteps)
    x0 = torch.randn(pictures, *denoiser.shape, device=where)
    ids, memory = [f"train:{i}" for i in range(pictures)], torch.empty(pictures, count, device=where)
    told = denoiser.conditions(["a picture"] * pictures)
    more = denoiser.conditions(["a picture"] * batch)
    found: dict[str, Any] = {
        "parameters": count, "timesteps": timesteps, "proj_dim": PROJ_DIM, "pictures_at_once": pictures,
        "draws_at_once": gradients.draws_for(denoiser), "training_batch": batch,
    }  # fmt: skip
    for name in ("bfloat16",) if denoiser.half else ("tf32", "bfloat16"):
        _free()
        half = name == "bfloat16" and not denoiser.half
        optimiser = torch.optim.AdamW([p for p in denoiser.network.parameters() if p.requires_grad], lr=0.0, fused=True)
        run = Run(denoiser, optimiser, None)

        def train(run: Run = run) -> None:
            denoiser.network.train()
            if denoiser.text is not None and where.type == "cuda":  # as training.py does
                denoiser.network.enable_gradient_checkpointing()  # type: ignore[operator]
            clean = torch.randn(batch, *denoiser.shape, device=where)
            t = torch.randint(0, 1000, (batch,), device=where)
            training_run.backward(run, clean, torch.randn_like(clean), t, more)
            torch.nn.utils.clip_grad_norm_(run.weights, 1.0, foreach=True)
            run.optimizer.step()
            run.optimizer.zero_grad()
            if denoiser.text is not None:
                denoiser.network.disable_gradient_checkpointing()  # type: ignore[operator]
            denoiser.network.eval()

        make = functools.partial(per_example_gradients, denoiser, x0, ids, wanted, out=memory, condition=told)
        rounds = []
        with autocast(where, half):
            for _ in range(ROUNDS + 1):
                rounds.append(
                    [once(where, train) / batch, once(where, make) / (pictures * timesteps),
                     once(where, lambda: project(projector, memory)) / pictures]
                )  # fmt: skip
        denoiser.network.zero_grad(set_to_none=True)
        trained, made, projected = (statistics.median(column) for column in zip(*rounds[1:], strict=True))
        ratio = statistics.median((m + p / timesteps) / t for t, m, p in rounds[1:])
        share = projected / (projected + made * timesteps)
        found[name] = {
            "training_pictures_a_second": round(1 / trained, 1), "gradient_draws_a_second": round(1 / made, 1),
            "features_a_second": round(1 / (made * timesteps + projected), 3),
            "projection_ms_a_picture": round(1000 * projected, 3), "projection_share": round(share, 4),
            "feature_over_training_step": round(ratio, 3), "training_at_once": run.at_once or batch,
        }  # fmt: skip
        if where.type == "cuda":
            found[name]["peak_gib"] = round(torch.cuda.max_memory_allocated(where) / 2**30, 2)
        words = ["a picture"] * SAMPLED if prompts else []
        with autocast(where, half):
            drawn = functools.partial(
                sampling.generate, denoiser, list(range(SAMPLED)), "ddim", STEPS, 0.0, batch=SAMPLED, prompts=words
            )
            sampling.generate(denoiser, [0], "ddim", 1, 0.0, prompts=words[:1])
            found[name] |= {"sampled": SAMPLED, "sampling_steps": STEPS}
            found[name]["sampled_a_second"] = round(SAMPLED / once(where, drawn), 2)
        say(f"{count:,} parameters, {name}: {1 / trained:,.0f} pictures a second trained, {1 / made:,.0f} draws' "
            f"gradients, a feature {ratio:.2f} training steps, projection {share:.1%} of it; "
            f"{found[name]['sampled_a_second']} pictures a second of {STEPS} steps.")  # fmt: skip
    return found


def against_cpu(where: torch.device, denoiser: Denoiser, model: Any, side: int) -> dict[str, Any]:
    """Compare gradients and a picture with the CPU's, of the same random weights."""
    os.environ[devices.VARIABLE] = "cpu"
    own = networks.build_unet(model, side).eval()
    own.load_state_dict({name: value.cpu() for name, value in denoiser.network.state_dict().items()})
    other = networks.denoiser_of(own, model.fold)
    os.environ[devices.VARIABLE] = str(where)
    wanted = FeatureSettings(dataset="0" * 16, checkpoint="0" * 16, num_timesteps=4, proj_dim=256)
    x0, ids = torch.rand(2, *denoiser.shape) * 2 - 1, ["train:0", "train:1"]
    began = time.perf_counter()
    exact = per_example_gradients(other, x0, ids, wanted)
    found: dict[str, Any] = {"gradient_draws_a_second": round(8 / (time.perf_counter() - began), 2)}
    for name, half in (("tf32", False), ("bfloat16", True)):
        with autocast(where, half):
            there = per_example_gradients(denoiser, x0.to(where), ids, wanted).cpu()
        error = torch.linalg.vector_norm(there - exact, dim=1) / torch.linalg.vector_norm(exact, dim=1)
        found[f"{name}_gradient_error"] = [float(f"{value:.2e}") for value in error]
    pictures = [sampling.generate(one, [0], "ddim", 5, 0.0).astype(int) for one in (denoiser, other)]
    found["picture_grey_levels"] = round(float(np.abs(pictures[0] - pictures[1]).mean()), 3)
    say(f"Against the CPU: {found}.")
    return found


def authors(where: torch.device, denoiser: Denoiser, ours: dict[str, Any]) -> dict[str, Any]:
    """Time vmap's per-sample gradients and traker's projection."""
    weights = {name: value.detach() for name, value in denoiser.network.named_parameters()}

    def output(weights: dict[str, Tensor], x: Tensor, t: Tensor) -> Tensor:
        return functional_call(denoiser.network, weights, (x[None], t[None]), {"return_dict": False})[0].square().mean()

    per_sample = vmap(grad(output), in_dims=(None, 0, 0))
    batch, flat = (4 if QUICK else 32), torch.empty(0)
    x = torch.randn(batch, *denoiser.shape, device=where)
    t = torch.full((batch,), 500, device=where)

    def work() -> None:
        nonlocal flat
        flat = torch.cat([g.flatten(1) for g in per_sample(weights, x, t).values()], dim=1)

    work()
    made = min(once(where, work) for _ in range(3)) / batch
    found: dict[str, Any] = {"batch": batch, "gradient_draws_a_second": round(1 / made, 1)}
    try:
        from trak.projectors import BasicProjector, ProjectionType
    except ImportError:
        say("traker is not installed, so its projection was left out.")
        return found
    dense = BasicProjector(flat.shape[1], AUTHORS_COLUMNS, 42, ProjectionType.normal, where, block_size=AUTHORS_COLUMNS)
    dense.project(flat, model_id=0)
    a_picture = min(once(where, lambda: dense.project(flat, model_id=0)) for _ in range(2)) / batch
    a_picture *= PROJ_DIM / AUTHORS_COLUMNS
    timesteps = ours["timesteps"]
    found |= {
        "projection_ms_a_picture": round(1000 * a_picture, 1), "measured_columns": AUTHORS_COLUMNS,
        "features_a_second": 1 / (made * timesteps + a_picture),
    }  # fmt: skip
    for name in ("tf32", "bfloat16"):
        found[f"times_ours_{name}"] = round(ours[name]["features_a_second"] / found["features_a_second"], 1)
    say(f"The authors' way: {1 / made:,.0f} draws' gradients a second, {a_picture:.2f} s to project a picture to "
        f"{PROJ_DIM:,}: {found['times_ours_tf32']} times ours.")  # fmt: skip
    return found


def lora_weights(where: torch.device) -> dict[str, Any]:
    """Measure LoRA weights on a Stable Diffusion of random weights, taken in as a user's folder is."""
    with tempfile.TemporaryDirectory() as place:
        os.environ |= {"STUDIO_CACHE": f"{place}/cache"}
        folder = stable_diffusion(Path(place) / "pipeline", where)
        digest, side = bases.inspected(folder, lambda done, total: None)
        bases.publish("sd", digest, side, folder)
        settings = LoraSettings(base=digest, rank=4 if QUICK else 128)
        denoiser = networks.untrained(settings, side, 0, "0" * 16)
        assert denoiser.text is not None
        denoiser.network.eval()
        found = measured(where, denoiser, 2 if QUICK else 50, 2 if QUICK else 64, prompts=True)
        images = np.random.default_rng(0).integers(0, 256, (2 if QUICK else 32, side, side, 3), dtype=np.uint8)
        denoiser.text.posterior(images[:1])
        found["encoded_a_second"] = round(len(images) / once(where, lambda: denoiser.text.posterior(images)), 2)  # type: ignore[union-attr]
        found["side"] = side
    return found


def stable_diffusion(folder: Path, where: torch.device) -> Path:
    """Save a pipeline of Stable Diffusion 1.5's architecture with random weights."""
    tokenizer = text_base.build_tokenizer(["a picture"])
    tokenizer.model_max_length = 77
    width = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12}
    if QUICK:
        width = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
    small: dict[str, Any] = {"block_out_channels": (32, 32, 32, 32), "attention_head_dim": 4} if QUICK else {}
    with where:
        text = CLIPTextModel(CLIPTextConfig(
            vocab_size=49408, projection_dim=width["hidden_size"], bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.eos_token_id, **width,
        ))  # fmt: skip
        vae = AutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4,
            block_out_channels=(32, 32, 32, 32) if QUICK else (128, 256, 512, 512), layers_per_block=2,
            latent_channels=4, sample_size=128 if QUICK else 256,
        )  # fmt: skip
        unet = UNet2DConditionModel(
            sample_size=16 if QUICK else 32, cross_attention_dim=width["hidden_size"], **small
        )  # the other defaults are Stable Diffusion's
    schedule = DDIMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False, set_alpha_to_one=False,
        steps_offset=1,
    )  # fmt: skip
    StableDiffusionPipeline(
        vae, text, tokenizer, unet, schedule, safety_checker=None, feature_extractor=None, requires_safety_checker=False
    ).to(dtype=torch.float16).save_pretrained(folder)
    return folder


@contextlib.contextmanager
def autocast(where: torch.device, half: bool) -> Iterator[None]:
    with torch.autocast(where.type, torch.bfloat16, enabled=half):
        yield


def once(where: torch.device, work: Callable[[], object]) -> float:
    """Return the wall time of one call, with all that it set going on the device."""
    if where.type == "cuda":
        torch.cuda.synchronize(where)
    began = time.perf_counter()
    work()
    if where.type == "cuda":
        torch.cuda.synchronize(where)
    return time.perf_counter() - began


def timed(where: torch.device, work: Callable[[], object]) -> float:
    return statistics.median(once(where, work) for _ in range(10))


def _free() -> None:
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    main()
