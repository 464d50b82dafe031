"""The largest spike of a loss curve, by hand: what counts, what does not, and what is worst."""

from __future__ import annotations

import math

import pytest

from arbitor.training.spikes import WINDOW, Spike, largest_spike, thinned, warmup_of

FLAT = [2.0] * 100


def test_a_flat_or_falling_curve_has_none() -> None:
    """Nothing stands above what came before."""
    assert largest_spike(FLAT) == Spike(0.0, None)
    assert largest_spike([100.0 - step for step in range(100)]) == Spike(0.0, None)
    assert largest_spike([]) == Spike(0.0, None)


@pytest.mark.parametrize("place", [20, 50, 99])
def test_one_spike(place: int) -> None:
    """Its height above the median of what came before, and its step, counted from 1."""
    losses = FLAT.copy()
    losses[place] = 3.5
    assert largest_spike(losses) == Spike(1.5, place + 1)
    losses[:20] = [9.0] * 20  # a higher beginning changes nothing as soon as one window is behind it
    assert largest_spike(losses) == (Spike(1.5, place + 1) if place > 40 else largest_spike(losses))


def test_warm_up_is_not_judged() -> None:
    """A spike on its last step does not count, one on the next does; it does not hide a later one either."""
    losses = [2.0] * 400
    losses[39] = 5.0
    assert warmup_of(400) == 40
    assert largest_spike(losses) == Spike(0.0, None)
    losses[60] = 2.25
    assert largest_spike(losses) == Spike(0.25, 61)
    losses[40] = 4.0
    assert largest_spike(losses) == Spike(2.0, 41)
    assert warmup_of(30) == warmup_of(0) == WINDOW


def test_what_warm_up_reached_is_known() -> None:
    """A run that was low and has left that before its warm-up ends is not calm."""
    assert largest_spike([1.0] * 30 + [2.0] * 370) == Spike(1.0, 41)


def test_by_hand_with_a_window_of_three() -> None:
    """Medians before the steps 4 to 9 are 5, 4.5, 4, 4, 4, 3; the lowest so far is taken away."""
    losses = [5.0, 6.0, 4.0, 4.5, 4.0, 3.0, 4.25, 3.0]
    assert largest_spike(losses, warmup=3, window=3) == Spike(0.25, 7)
    assert largest_spike([*losses, 4.0], warmup=3, window=3) == Spike(1.0, 9)


def test_one_lucky_batch_is_no_floor() -> None:
    """Under a running minimum every later step of this curve would be a spike of 1."""
    losses = FLAT.copy()
    losses[50] = 1.0
    assert largest_spike(losses) == Spike(0.0, None)


def test_a_slow_climb_counts_with_its_whole_height() -> None:
    """Its own running median would climb with it."""
    losses = [*FLAT, *(2.0 + step / 64 for step in range(1, 129))]
    assert largest_spike(losses) == Spike(2.0, 228)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, None])
@pytest.mark.parametrize("place", [0, 10, 99])
def test_a_loss_that_is_not_finite_is_worst(bad: float | None, place: int) -> None:
    """In warm-up too, and whatever else there is; the first one is named."""
    losses: list[float | None] = [*FLAT]
    losses[place] = bad
    losses[60] = 1e30
    losses.append(math.nan)
    assert largest_spike(losses) == Spike(math.inf, place + 1)
    assert largest_spike(losses).size > largest_spike([*FLAT, 1e300]).size


@pytest.mark.parametrize(("warmup", "window"), [(2, 3), (3, 0), (0, 1)])
def test_a_window_needs_room(warmup: int, window: int) -> None:
    with pytest.raises(ValueError, match="expected 1 <= window <= warm-up"):
        largest_spike(FLAT, warmup, window)


def test_thinned() -> None:
    """Every piece with its last step, its median and its highest; gaps stay gaps; a short curve is itself."""
    losses = [4.0, 8.0, 3.0, 2.0, None, 2.0, 1.0, 9.0]
    assert thinned(losses, 3) == [(3, 4.0, 8.0), (6, None, None), (8, 5.0, 9.0)]
    assert thinned([2.0, math.inf], 5) == [(1, 2.0, 2.0), (2, None, None)]
    assert thinned([]) == []
    assert len(thinned([1.0] * 2001)) <= 100
