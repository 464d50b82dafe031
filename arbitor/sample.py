"""`arbitor sample`: text from a checkpoint of the trainers, a byte at a time through the KV cache.

One stateful forward a byte gives what full forwards over the growing text would (ARB-MODEL-002), so a sample
shows the model and not the cache. Attention sees as many positions as it was trained on, unless told
otherwise: beyond them a model knows nothing. Nothing is random but one CPU generator that draws once a byte:
a seed is a text.
"""

from __future__ import annotations

import codecs
import dataclasses
import math
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from arbitor.kernels import registry
from arbitor.kernels.plain import plain
from arbitor.kernels.reading import said

from .checkpoint import CheckpointError, load_checkpoint, ternary_options
from .main import ARBConfig, ARBModel
from .parts import PartsOfAFile
from .refusal import refuse

BYTES = 256  # the tokens from here on are specials, which are no text
START = b"\n"  # stands in for an empty prompt: attention needs something to look at
# the first module of each modality (ARB-MODEL-004): what it reads, and the flag that makes it
MODALITIES = {
    "patches_in": "images (enable_vision)",
    "frames_in": "audio (enable_audio)",
    "noised_in": "diffusion (enable_diffusion)",
}
TRAINED, ALL = "trained", "all"  # windows of attention that are no number
# of what a model is made of by its options; what is 2^31 or more is nowhere an extent
HIGHEST = {"seed": 2**64 - 1, "max_moe_iters": 1024}
PROMPT_CHUNK = 256  # bytes a forward of the prompt, so that scores take this times its length, not its square
INTERRUPTED, BROKEN_PIPE = 130, 141  # what shells report for SIGINT and SIGPIPE


@dataclass(frozen=True)
class Sampling:
    """How bytes are chosen: `count` of them, among the `top_k` likeliest, at `temperature`, where 0 takes the
    likeliest.

    Raises `ValueError` with the flag's name for a value out of range.
    """

    count: int = 256
    temperature: float = 0.8
    top_k: int = BYTES
    seed: int = 0

    def __post_init__(self) -> None:
        if self.count < 1:
            raise ValueError(f"--bytes must be at least 1, got {self.count}")
        if not (math.isfinite(self.temperature) and self.temperature >= 0):
            raise ValueError(f"--temperature must be a finite number, 0 or more, got {self.temperature}")
        if not 1 <= self.top_k <= BYTES:
            raise ValueError(f"--top-k must be in 1..{BYTES}, got {self.top_k}")
        if not 0 <= self.seed < 2**64:
            raise ValueError(f"--seed must be in 0..2^64-1, got {self.seed}")


def model_config(config: Mapping[str, Any]) -> ARBConfig:
    """The shape of the ternary model whose trainer wrote this `config` into its checkpoint.

    Raises `ValueError` for the checkpoint of a float twin, and for a config that lacks what a model needs.
    """
    options = ternary_options(config)
    found: dict[str, Any] = {}
    for name in ("d_model", "layers", "heads", "group_size", "seed"):
        found[name] = _number(options, name)
    for name in ("experts", "top_k", "max_moe_iters"):  # checkpoints from before there were experts have none
        if name in options:
            found[name] = _number(options, name)
    window = None if options.get("window") is None else _number(options, "window")
    if window is None and options.get("preserve_state"):
        window = _number(options, "ctx")  # as the trainers have it: the cache may not grow with the corpus
    return ARBConfig(**found, window=window)


def trained_context(config: Mapping[str, Any]) -> int:
    """How many positions attention saw, at most, when the trainer that wrote this `config` trained it.

    Raises `ValueError` as `model_config` does.
    """
    options = ternary_options(config)
    seen = _number(options, "ctx")
    if options.get("window") is None:
        return seen
    window = _number(options, "window")
    return window if options.get("preserve_state") else min(window, seen)


def window_of(asked: str, config: Mapping[str, Any]) -> int | None:
    """The window that is asked for: "trained", "all" (None) or a number. Raises `ValueError` for others."""
    if asked == TRAINED:
        try:
            return trained_context(config)
        except ValueError as error:
            raise ValueError(f"{error}; --window N or --window {ALL} says it instead") from None
    if asked == ALL:
        return None
    if not asked.isascii() or not asked.isdecimal() or not 1 <= int(asked[:20]) < 2**31:
        expected = f"expected {TRAINED}, {ALL}, or a number in 1..2^31-1"
        raise ValueError(f"--window {said(asked)}: {expected}")
    return int(asked)


def _number(options: Mapping[str, Any], name: str) -> int:
    value = options.get(name)
    lowest, highest = 0 if name in ("seed", "experts") else 1, HIGHEST.get(name, 2**31 - 1)
    if isinstance(value, bool) or not isinstance(value, int) or value < lowest:
        raise ValueError(f"its options.{name} is {said(value)}, expected an integer, {lowest} or more")
    if value > highest:
        raise ValueError(f"its options.{name} is {value}, expected at most {highest}")
    return value


def load_model(
    path: Path, backend: str | None = None, device: str = "auto", window: str = TRAINED
) -> ARBModel:
    """The model of a checkpoint on `device`; "auto" is CUDA where there is one and the backend can use it.
    `window`: how many positions attention sees, "trained" for as many as in training, "all" for all.

    Raises `CheckpointError` for a file that is not whole, not ours or not of a ternary model of text alone,
    `ValueError` or `BackendUnavailable` for a backend or a device that does not work here.
    """
    checkpoint = load_checkpoint(path)
    try:
        config = dataclasses.replace(
            model_config(checkpoint.config), window=window_of(window, checkpoint.config)
        )
    except ValueError as error:
        raise CheckpointError(f"{path}: {error}") from error
    modules = {name.partition(".")[0] for name in checkpoint.tensors}
    others = [text for module, text in MODALITIES.items() if module in modules]
    if others:
        raise CheckpointError(
            f"{path}: a checkpoint of a model with {' and '.join(others)}, and sample writes text only"
        )
    place = registry.device_for(device, backend)
    registry.choose(backend)  # what does not work here is no fault of the file
    try:
        model = ARBModel(
            config,
            parts=PartsOfAFile(checkpoint.tensors, config.seed, config.group_size, config.e_span, backend),
        )
        model.load_state_dict(checkpoint.tensors)
    except (ValueError, TypeError) as error:
        raise CheckpointError(f"{path}: its tensors are not those of its options: {error}") from error
    return model.to(place)


def generate(model: ARBModel, prompt: bytes, how: Sampling) -> Iterator[int]:
    """The bytes that follow `prompt`, each as soon as it is chosen; a newline stands in for an empty prompt.

    Forgets earlier stateful calls first; the cache is at most the model's window, or grows with the text.
    """
    model.reset_runtime_state()
    generator = torch.Generator().manual_seed(how.seed)
    given = torch.tensor(list(prompt or START), device=next(model.buffers()).device)
    for chunk in given.split(PROMPT_CHUNK):
        logits = _next_logits(model, chunk)
    for left in range(how.count, 0, -1):
        chosen = choose(logits, how, generator)
        yield chosen
        if left > 1:
            logits = _next_logits(model, given.new_tensor([chosen]))


@torch.no_grad()
def _next_logits(model: ARBModel, tokens: torch.Tensor) -> torch.Tensor:
    """tokens int64 [T] -> logits float32 [288] of the token after them, on the CPU."""
    logits: torch.Tensor = model(tokens.unsqueeze(0), stateful=True)[0, -1]
    return logits.cpu()


def choose(logits: torch.Tensor, how: Sampling, generator: torch.Generator) -> int:
    """A byte by its logits float [288]; of equal ones the lowest comes first. Specials are left out."""
    # a stable sort: integer sums often tie, and which of them is among the top may not be the sort's whim
    ordered, index = logits[:BYTES].double().sort(descending=True, stable=True)
    if how.temperature == 0:
        return int(index[0])
    # the largest is 0 before it is divided, so no temperature overflows; e^-1024 is nothing
    behind = ((ordered[: how.top_k] - ordered[0]) / how.temperature).clamp(min=-1024).float()
    (shares,) = registry.select("torch").softmax(behind.unsqueeze(0))
    ends = (shares.double() * 2.0**30).long().cumsum(0)  # integers, since torch's own draw takes logarithms
    drawn = torch.randint(int(ends[-1]), (), generator=generator)
    return int(index[int((ends <= drawn).sum())])


def decoded(stream: Iterable[int]) -> Iterator[str]:
    """Text of bytes as UTF-8, a character as soon as it is whole; what cannot become one is U+FFFD."""
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
    for byte in stream:
        if text := decoder.decode(bytes([byte])):
            yield text
    if text := decoder.decode(b"", final=True):
        yield text


def harmless(text: str) -> str:
    """`text` without what a terminal would take for a command, but newline and tab."""
    return plain(text, keep="\n\t", instead="\ufffd")


def sample(
    path: Path,
    prompt: str,
    how: Sampling,
    backend: str | None,
    device: str,
    threads: int,
    window: str = TRAINED,
) -> int:
    """Write what follows `prompt` to stdout, and a newline; gives the exit status.

    0; 2 with one sentence on stderr and nothing on stdout for bad input; 130 after Ctrl-C, after a newline;
    141 if nobody reads on, quietly.
    """
    if threads < 1:
        return refuse(f"--threads must be at least 1, got {threads}")
    torch.set_num_threads(threads)
    try:
        # a shell's argument may be bytes that are no UTF-8; Python hands them over as surrogates
        given = prompt.encode("utf-8", "surrogateescape")
        model = load_model(path, backend, device, window)
    except (ValueError, RuntimeError) as error:
        return refuse(str(error))
    except KeyboardInterrupt:
        print(flush=True)
        return INTERRUPTED
    try:
        return _stream(decoded(generate(model, given, how)))
    except BrokenPipeError:
        _give_up_stdout()
        return BROKEN_PIPE
    except OSError as error:
        _give_up_stdout()
        return refuse(f"stdout cannot be written: {error.strerror}")


def _stream(pieces: Iterable[str]) -> int:
    status = 0
    clean = harmless if sys.stdout.isatty() else str
    try:
        for text in pieces:
            _write(clean(text))
    except KeyboardInterrupt:
        status = INTERRUPTED
    _write("\n")
    return status


def _write(text: str) -> None:
    encoding = sys.stdout.encoding or "utf-8"
    sys.stdout.write(text.encode(encoding, "replace").decode(encoding))  # also where a locale is ASCII
    sys.stdout.flush()


def _give_up_stdout() -> None:
    """What is still in the buffer goes nowhere, so that the interpreter does not complain when it ends."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
