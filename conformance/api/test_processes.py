"""Several processes, with what people wrap a model in: the ternary state is that of one process with whole
batches."""

from __future__ import annotations

import copy
import gc
import itertools
import os
import re
import subprocess
import sys
import weakref

import pytest
import torch
from torch import nn
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper

import arbitor
from arbitor.conformance.api.gpt import batches, loss_of, made
from arbitor.conformance.api.processes import CHANGES, WAYS, compiled, trained
from arbitor.conformance.judge.target import Target
from arbitor.update import ternary_modules

# from the inside: three of them at most, and torch compiles no module twice
WRAPPERS = ("compiled", "checkpointed")
NESTS = [
    wrappers
    for depth in range(4)
    for wrappers in itertools.product(WRAPPERS, repeat=depth)
    if wrappers.count("compiled") <= 1
]


@pytest.mark.clause("ARB-RANK-001", "ARB-RANK-002", "ARB-RANK-005")
def test_every_way_ends_in_the_state_of_one(target: Target, one_thread: None) -> None:
    """Real processes; float gradients of theirs are of no matter here. Ranks of other weights are refused."""
    if target.device == "cpu" and target.backend.name != "torch":
        pytest.skip("processes over gloo: once, in the lane of torch on the CPU")
    if target.device == "cuda" and torch.cuda.device_count() < 2:
        pytest.skip("processes over nccl: a GPU each, and torch sees one")
    place = [target.device, target.backend.name]
    words = [sys.executable, "-W", "ignore", "-m", "torch.distributed.run", "--standalone"]
    script = ["--nproc-per-node", "2", "-m", "arbitor.conformance.api.processes", *place, *WAYS]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    ended = subprocess.run(
        [*words, *script], env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert ended.returncode == 0, ended.stderr[-3000:]
    alone = trained("alone", None, *place)
    for way in WAYS:
        assert re.findall(rf"(?m)^{way}: (\w{{64}})", ended.stdout) == [alone] * 2, way
    for change in CHANGES:
        said = re.findall(rf"{change}: step (\d): table has another state on rank", ended.stdout)
        assert said == ["1" if change == "after" else "0"] * 2, ended.stdout


@pytest.mark.clause("ARB-RANK-001")
def test_a_flat_parameter_is_refused(target: Target) -> None:
    """FullyShardedDataParallel takes parameters away during a forward, and puts tensors in their place."""
    model = made(target.device, target.backend.name)
    up = model.blocks[0].up
    trainable = up._parameters.pop("trainable")
    up.trainable = torch.empty(0, device=target.device)
    model_of = arbitor.TernaryOptimizer(model).model  # gives modules their names
    with pytest.raises(RuntimeError, match=r"blocks\.0\.up is inside of FullyShardedDataParallel"):
        loss_of(model_of, next(batches(target.device, 1)))
    del up.trainable
    up.trainable = trainable
    loss_of(model_of, next(batches(target.device, 1))).backward()


@pytest.mark.clause("ARB-RANK-001")
@pytest.mark.parametrize("wrappers", NESTS, ids=str)
def test_all_state_is_told_of_whatever_is_around(target: Target, wrappers: tuple[str, ...]) -> None:
    """DDP looks at the names that buffers have in what it is given."""
    model: nn.Module = made(target.device, target.backend.name)
    state = {id(buffer) for module in ternary_modules(model).values() for buffer in module.state().values()}
    for wrapper in wrappers:
        model = compiled(model) if wrapper == "compiled" else checkpoint_wrapper(model)
    told = set(model._ddp_params_and_buffers_to_ignore)  # type: ignore[arg-type]
    assert {id(buffer) for name, buffer in model.named_buffers() if name in told} >= state


@pytest.mark.clause("ARB-RANK-001")
def test_what_is_told_of_a_model_does_not_hold_it(target: Target) -> None:
    """It goes with its last name, and a copy is told of the state by itself. Names are those of the moment in
    which DDP asks: of a block that is compiled meanwhile."""
    model = made(target.device, target.backend.name)
    told = set(model._ddp_params_and_buffers_to_ignore)  # type: ignore[arg-type]
    assert "blocks.0.up.t_accum" in told
    assert set(copy.deepcopy(model)._ddp_params_and_buffers_to_ignore) == told  # type: ignore[arg-type]
    model.blocks[0] = compiled(model.blocks[0])
    assert "blocks.0._orig_mod.up.t_accum" in set(model._ddp_params_and_buffers_to_ignore)  # type: ignore[arg-type]
    left = weakref.ref(model)
    gc.collect()  # what others left
    gc.disable()
    try:
        del model
        assert left() is None
    finally:
        gc.enable()
