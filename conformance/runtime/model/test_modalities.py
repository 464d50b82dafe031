"""Images, sound and diffusion in the model: behind their flags, beside a text path that does not notice."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from arbitor.conformance.judge.target import Target
from arbitor.conformance.machine import models
from arbitor.conformance.machine.models import QUICK, backward, hash_of
from arbitor.main import ARBConfig, ARBModel
from arbitor.modalities import NO_LABEL, ImageShape, label_tokens
from arbitor.runtime import configure_ternary_training
from arbitor.update import ternary_modules

FLAGS = ARBModel.FLAGS
IMAGE = ImageShape(side=4, channels=2, patch=2, classes=3)


def model_with(target: Target, *flags: str, backend: str = "", **config: Any) -> ARBModel:
    """A small model with those parts, which changes quickly."""
    shape = {"d_model": 16, "layers": 2, "heads": 2, "mlp_ratio": 2, "group_size": 12}
    settings: dict[str, Any] = shape | {"image": IMAGE, "frame": 4, "times": 8} | config
    parts: dict[str, Any] = dict.fromkeys(flags, True)
    made = ARBModel(ARBConfig(**settings), backend=backend or target.backend.name, **parts)
    configure_ternary_training(made, **QUICK)
    return made.to(target.device)


def images(target: Target, count: int, seed: int = 0) -> torch.Tensor:
    return models.noise(target, count, 2, 4, 4, seed=seed)


def sound(target: Target, count: int, samples: int, seed: int = 0) -> torch.Tensor:
    return models.noise(target, count, samples, seed=seed).tanh()


Call = Callable[[ARBModel, Target, int], torch.Tensor]
CALLS: dict[str, Call] = {
    "enable_vision": lambda m, t, seed: torch.cat([p.flatten() for p in m.vision(images(t, 3, seed))]),
    "enable_audio": lambda m, t, seed: m.audio(sound(t, 2, 13, seed)),
    "enable_diffusion": lambda m, t, seed: m.denoise(
        images(t, 2, seed), models.bytes_of(t, 2, high=8), models.bytes_of(t, 2, high=3)
    ),
}


@pytest.mark.clause("ARB-MODEL-004")
def test_a_flag_that_does_not_exist_is_named() -> None:
    with pytest.raises(TypeError, match=r"enable_image.*images are enable_vision"):
        ARBModel(enable_image=True)
    with pytest.raises(TypeError, match=r"enable_smell.*it has enable_vision, enable_audio, "):
        ARBModel(enable_smell=True)


@pytest.mark.clause("ARB-MODEL-004")
@pytest.mark.parametrize("flag", FLAGS)
def test_a_part_that_is_not_there_says_which_flag(target: Target, flag: str) -> None:
    model = model_with(target, *(other for other in FLAGS if other != flag))
    with pytest.raises(ValueError, match=f"made without {flag}=True"):
        CALLS[flag](model, target, 0)


@pytest.mark.clause("ARB-MODEL-004", "ARB-MODEL-001")
def test_text_does_not_notice_the_other_parts(target: Target) -> None:
    """The same tensors under the same names and ids, and the same logits."""
    plain, whole = model_with(target), model_with(target, *FLAGS)
    tensors = whole.state_dict()
    for name, tensor in plain.state_dict().items():
        assert torch.equal(tensors[name], tensor)
    tokens = models.bytes_of(target, 2, 9)
    with torch.no_grad():
        assert torch.equal(plain(tokens), whole(tokens))
    ids = [module.tensor_id for module in ternary_modules(whole).values()]
    assert sorted(ids) == list(range(len(ids)))
    assert not any(p.numel() for p in whole.parameters())
    assert not any(tensor.is_floating_point() for tensor in tensors.values())


@pytest.mark.clause("ARB-TRAIN-001", "ARB-MODEL-005", "ARB-MODEL-006", "ARB-MODEL-007")
@pytest.mark.parametrize("flag", FLAGS)
def test_each_part_trains_alike_on_every_backend(target: Target, flag: str) -> None:
    """Four updates: the same hash; and its modules, and they alone beside the trunk, have changed."""
    ends = {}
    for backend in (target.backend.name, *models.rivals(target)):
        model = model_with(target, flag, backend=backend)
        for step in range(4):
            backward(CALLS[flag](model, target, step).square().mean())
            assert model._ternary_update_memory().totals()["flips"] > 0
        ends[backend] = hash_of(model)
        still = {name for name, module in ternary_modules(model).items() if not module.updates}
        assert still == ({"head", "embedding"} if flag == "enable_audio" else {"head"})
    assert len(set(ends.values())) == 1


@pytest.mark.clause("ARB-MODEL-005")
def test_vision_by_parts(target: Target) -> None:
    """Shapes; the class sees every patch, a next patch only what comes before it."""
    model = model_with(target, "enable_vision")
    x = images(target, 1)
    with torch.no_grad():
        classes, following = model.vision(x)
        assert (classes.shape, following.shape) == ((1, 3), (1, 3, 8))
        for patch in range(4):
            other = x.clone()
            row, column = divmod(patch, 2)
            other[:, :, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2] += 1.0
            now, then = model.vision(other)
            assert not torch.equal(now, classes)
            moved = (then != following)[0].any(-1).nonzero().flatten().tolist()
            assert moved == list(range(patch, 3))


@pytest.mark.clause("ARB-MODEL-006")
def test_audio_by_parts(target: Target) -> None:
    """A frame's codes depend on it and on those before it; samples that fill no frame play no part."""
    model = model_with(target, "enable_audio")
    x = sound(target, 1, 14)
    with torch.no_grad():
        logits = model.audio(x)
        assert logits.shape == (1, 3, 4, 256)
        assert torch.equal(model.audio(x[:, :12]), logits)
        for frame in range(3):
            other = x.clone()
            other[:, 4 * frame] *= -1
            moved = (model.audio(other) != logits)[0].flatten(1).any(-1)
            assert moved.nonzero().flatten().tolist() == list(range(frame, 3))


@pytest.mark.clause("ARB-MODEL-007")
def test_diffusion_by_parts(target: Target) -> None:
    """Every patch of the answer depends on every patch, on the time and on the class; no class is one too."""
    model = model_with(target, "enable_diffusion")
    x, times = images(target, 1), torch.tensor([3], device=target.device)
    label = torch.tensor([1], device=target.device)

    def moved(answer: torch.Tensor) -> list[int]:
        differs = IMAGE.patches(answer) != IMAGE.patches(clean)
        places: list[int] = differs[0].any(-1).nonzero().flatten().tolist()
        return places

    with torch.no_grad():
        clean = model.denoise(x, times, label)
        assert clean.shape == x.shape
        for other in (model.denoise(x, times + 1, label), model.denoise(x, times, label + 1)):
            assert moved(other) == [0, 1, 2, 3]
        assert moved(model.denoise(x, times)) == [0, 1, 2, 3]
        assert torch.equal(model.denoise(x, times), model.denoise(x, times, torch.full_like(label, NO_LABEL)))
        for row, column in ((0, 0), (3, 3)):
            changed = x.clone()
            changed[:, :, row, column] += 1.0
            assert moved(model.denoise(changed, times, label)) == [0, 1, 2, 3]


@pytest.mark.clause("ARB-MODEL-007")
def test_special_tokens_of_classes() -> None:
    assert label_tokens(torch.tensor([NO_LABEL, 0, 2]), 3).tolist() == [256, 257, 259]


@pytest.mark.clause("ARB-MODEL-005", "ARB-MODEL-006")
def test_inputs_that_are_refused(target: Target) -> None:
    model = model_with(target, *FLAGS)
    with pytest.raises(ValueError, match=r"images must have shape \[B, 2, 4, 4\], got \(1, 1, 4, 4\)"):
        model.vision(torch.zeros(1, 1, 4, 4, device=target.device))
    with pytest.raises(ValueError, match=r"S at least 4, got \(1, 3\)"):
        model.audio(torch.zeros(1, 3, device=target.device))
    if target.device == "cpu":  # elsewhere nothing waits for the device
        one = torch.zeros(1, dtype=torch.int64)
        for label in (-2, 3):
            with pytest.raises(ValueError, match=r"labels must be in -1\.\.2, got"):
                model.denoise(images(target, 1), one, one + label)
    with pytest.raises(ValueError, match="multiple of patch"):
        ImageShape(side=5, patch=2)
    with pytest.raises(ValueError, match="classes must be in"):
        ImageShape(classes=32)
