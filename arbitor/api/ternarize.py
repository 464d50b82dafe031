"""Swap the float layers of a model for ternary ones, in place."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, Literal

import torch
from torch import nn

from ..components import TernaryEmbeddingTable, TernaryLinear
from ..runtime import leave_to_ranks
from ..update import ternary_modules
from .loading import check_before_loading
from .modules import FloatBias, TiedTable

Keep = str | Callable[[str, nn.Module], bool]


@dataclass(frozen=True)
class Ternarized:
    """What `ternarize` did, by name: what is ternary now, and what was kept, with the reason."""

    swapped: tuple[str, ...]
    kept: Mapping[str, str]

    def __str__(self) -> str:
        kept = "".join(f"\n  {name}: {reason}" for name, reason in self.kept.items())
        return (
            f"{len(self.swapped)} modules are ternary: {', '.join(self.swapped)}; {len(self.kept)} kept{kept}"
        )


def ternarize(
    model: nn.Module,
    keep: Keep | tuple[Keep, ...] | list[Keep] | None = None,
    *,
    bias: Literal["refuse", "float"] = "refuse",
    seed: int | None = None,
    first_id: int = 0,
    group_size: int = 128,
    e_span: int = 4,
    backend: str | None = None,
) -> Ternarized:
    """Swap every nn.Linear and nn.Embedding below `model` for a ternary one, in place.

    `keep`: names (with * and ?, as in "head" or "blocks.*.norm") or functions of a name and a module; what
    they say stays as it is. `bias`: layers with a bias are refused, or keep it as a float parameter. Trits
    are new ones, drawn from `seed`, None for one from torch's generator, as nn.Linear draws its weights:
    float weights are not taken over. Tensors have the ids first_id,
    first_id + 1, ... in the order of `model.named_modules()`, so a model that is built the same way has the
    same ones.

    A table and a linear layer that are tied stay tied: the layer has the state, the table takes its rows.

    Raises ValueError, before anything is changed, for what has no ternary counterpart: other weights that are
    shared, a padding_idx or max_norm, modules inside of nn.MultiheadAttention; and for a `keep` that no name
    matches.
    """
    if bias not in ("refuse", "float"):
        raise ValueError(f"bias must be 'refuse' or 'float', got {bias!r}")
    keeps = (keep,) if isinstance(keep, str) or callable(keep) else tuple(keep or ())
    if any(isinstance(part, nn.Module) or not (isinstance(part, str) or callable(part)) for part in keeps):
        raise TypeError("keep takes names, and functions of a name and a module, not modules")
    if seed is None:
        seed = int(torch.randint(2**63 - 1, (), dtype=torch.int64, device="cpu"))
    kept, chosen = _chosen(model, keeps)
    faults = [fault for name in chosen for fault in _faults(model, name, chosen)]
    biased = [n for n, m in chosen.items() if isinstance(m, nn.Linear) and m.bias is not None]
    if biased and bias == "refuse":
        has = "has a bias" if len(biased) == 1 else "have biases"
        faults.append(
            f"{', '.join(biased)} {has}, which a ternary layer has not; pass bias='float', or use keep="
        )
    if faults:
        raise ValueError("; ".join(faults))
    if not chosen:
        raise ValueError("the model has no nn.Linear or nn.Embedding to swap, beside what is kept")
    taken = {module.tensor_id for module in ternary_modules(model).values()}
    ids = (number for number in itertools.count(first_id) if number not in taken)
    how = {"seed": seed, "group_size": group_size, "e_span": e_span, "backend": backend}
    tables = {
        name: _sharing(model, module) for name, module in chosen.items() if type(module) is nn.Embedding
    }
    made = {
        name: _ternary(module, tensor_id=next(ids), **how)
        for name, module in chosen.items()
        if not tables.get(name)
    }
    for name, others in tables.items():
        if others:
            head = others[0][1]
            made[name] = TiedTable(_linear_of(made[next(n for n, m in chosen.items() if m is head)]))
    for name in chosen:  # all could be made
        _put(model, chosen[name], made[name])
    leave_to_ranks(model)
    check_before_loading(model)
    return Ternarized(tuple(chosen), kept)


def _chosen(model: nn.Module, keeps: tuple[Keep, ...]) -> tuple[dict[str, str], dict[str, nn.Module]]:
    """What stays, with why, and what is to be swapped: each module once, by its first name."""
    kept: dict[str, str] = {}
    chosen: dict[str, nn.Module] = {}
    unused = {pattern for pattern in keeps if isinstance(pattern, str)}
    for name, module in model.named_modules():
        said = [k for k in keeps if (fnmatchcase(name, k) if isinstance(k, str) else k(name, module))]
        unused.difference_update(said)
        if not isinstance(module, nn.Linear | nn.Embedding):
            below = [k for k in said if isinstance(k, str)]
            if below:
                kept |= dict.fromkeys(_layers(name, module), f"below {name}, which keep names")
            continue
        if said:
            kept[name] = "keep names it"
        elif name not in kept:
            chosen[name] = module
    if unused:
        raise ValueError(f"keep names {', '.join(sorted(unused))}, which no module of the model is called")
    return kept, chosen


def _layers(name: str, module: nn.Module) -> Iterator[str]:
    prefix = f"{name}." if name else ""
    for below, found in module.named_modules():
        if isinstance(found, nn.Linear | nn.Embedding):
            yield prefix + below


def _sharing(model: nn.Module, module: nn.Module) -> list[tuple[str, nn.Module]]:
    """The parameters that are the weight of `module` elsewhere, by name, with their modules."""
    found = model.named_parameters(remove_duplicate=False)
    names = [name for name, parameter in found if parameter is module.weight]
    owners = [(name, model.get_submodule(name.rpartition(".")[0])) for name in names]
    return [(name, owner) for name, owner in owners if owner is not module]


def _are_tied(
    module: nn.Module, others: list[tuple[str, nn.Module]], chosen: Mapping[str, nn.Module]
) -> bool:
    """Whether a table and a linear layer share their weights with nobody else, and both are swapped."""
    pair = [module, *(owner for _, owner in others)]
    kinds = sorted(type(part).__name__ for part in pair)
    return kinds == ["Embedding", "Linear"] and all(part in chosen.values() for part in pair)


def _faults(model: nn.Module, name: str, chosen: Mapping[str, nn.Module]) -> Iterator[str]:
    """Why a module cannot be swapped, in sentences."""
    module: Any = chosen[name]
    cure = f"name it in keep=, as in keep={name!r}"
    if type(module) not in (nn.Linear, nn.Embedding):
        yield f"{name} is a {type(module).__name__}, which may compute something else; {cure}"
    if not name:
        yield "the model itself is a layer, and cannot be swapped in place: make a TernaryLinear of it"
    owner = model.get_submodule(name.rpartition(".")[0])
    if isinstance(owner, nn.MultiheadAttention | nn.TransformerEncoderLayer):
        yield f"{name} is used by nn.{type(owner).__name__} without being called, in part; {cure}"
    others = _sharing(model, module)
    if others and not _are_tied(module, others, chosen):
        yield (
            f"{name}.weight is also {others[0][0]}: only an nn.Embedding and an nn.Linear can be tied, both "
            "ternary; untie them, or keep both"
        )
    if isinstance(module, nn.Embedding):
        for option in ("padding_idx", "max_norm"):
            if getattr(module, option) is not None:
                yield f"{name} has a {option}, which a ternary table has not; {cure}"


def _ternary(module: nn.Module, **how: Any) -> nn.Module:
    device = next(module.parameters()).device
    if isinstance(module, nn.Embedding):
        return TernaryEmbeddingTable(module.num_embeddings, module.embedding_dim, device=device, **how)
    assert isinstance(module, nn.Linear)
    linear = TernaryLinear(module.in_features, module.out_features, device=device, **how)
    return linear if module.bias is None else FloatBias(linear, module.bias)


def _linear_of(made: nn.Module) -> TernaryLinear:
    linear = made.linear if isinstance(made, FloatBias) else made
    assert isinstance(linear, TernaryLinear)
    return linear


def _put(model: nn.Module, old: nn.Module, new: nn.Module) -> None:
    """In every place of the old one."""
    new.train(old.training)
    for owner in [*model.modules()]:
        for name, child in owner._modules.items():  # named_children has a module that is there twice once
            if child is old:
                owner._modules[name] = new


def parameter_count(model: nn.Module) -> dict[str, int]:
    """{"trits": of all ternary modules, "floats": elements of all parameters}. `sum(p.numel())` sees the
    floats alone: ternary weights are no parameters."""
    trits = sum(module.shape.rows * module.shape.columns for module in ternary_modules(model).values())
    return {"trits": trits, "floats": sum(parameter.numel() for parameter in model.parameters())}
