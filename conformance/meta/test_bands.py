"""The judge of runs finds each fault alone, and a band belongs to one command line."""

from __future__ import annotations

import json
import math
import statistics
from pathlib import Path
from typing import Any

import pytest

from arbitor.conformance.training.bands import (
    BANDS,
    RUNS,
    Band,
    against_control,
    band_of,
    judge,
    load_bands,
    same_trajectory,
)

BAND = Band(1.75, 1.875, (1.8, 1.8125), "pydoc-topics-3.11")
GOOD: dict[str, Any] = {
    "losses": [3.0, 2.0], "valid": [1.8125], "skipped": [], "float_parameters": 0, "guess": 3.25,
    "digest": "d" * 64, "corpus": {"name": "pydoc-topics-3.11"}, "backend": "torch",
}  # fmt: skip


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({}, None),
        ({"valid": [1.75]}, None),
        ({"valid": [1.875]}, None),
        ({"valid": [9.0, 1.8125]}, None),
        ({"valid": [1.7499]}, "outside the band"),
        ({"valid": [1.8751]}, "outside the band"),
        ({"valid": [None]}, "its validation losses are not all finite"),
        ({"valid": [None, 1.8125]}, "its validation losses are not all finite"),
        ({"losses": [3.0, None]}, "its training losses are not all finite"),
        ({"valid": []}, "measured no loss"),
        (
            {"skipped": ["step 3: loss_signal is not finite"]},
            "1 of its updates were skipped, the first at step 3",
        ),
        ({"float_parameters": 1}, "1 trainable float parameters"),
        ({"guess": 1.8125}, "not below the unigram entropy"),
    ],
)
def test_learning_run(change: dict[str, Any], found: str | None) -> None:
    """Edges of the band are inside; each fault is one problem."""
    verdict = judge("learning", GOOD | change, BAND)
    assert verdict.passed == (found is None)
    assert len(verdict.problems) == (0 if found is None else 1)
    assert found is None or found in verdict.problems[0]


def test_short_run_is_judged_by_its_mean_training_loss() -> None:
    band = Band(2.25, 2.75, (2.4, 2.6), "pydoc-topics-3.11")
    assert judge("pretrain", GOOD | {"valid": []}, band).passed
    assert judge("pretrain", GOOD | {"valid": []}, band).value == 2.5
    assert not judge("pretrain", GOOD | {"losses": [3.0, 1.0]}, band).passed
    assert judge("pretrain", GOOD | {"guess": 0.0}, band).passed


def test_another_corpus_is_named_only_where_it_matters() -> None:
    other = GOOD | {"corpus": {"name": "notes"}}
    assert judge("learning", other, BAND).passed
    assert (
        "(of pydoc-topics-3.11, this is notes)"
        in judge("learning", other | {"valid": [2.0]}, BAND).problems[0]
    )


def test_control_is_judged_without_a_band() -> None:
    assert judge("learning", GOOD | {"valid": [6.0]}, None).passed
    assert not judge("learning", GOOD | {"valid": [None]}, None).passed
    assert against_control(1.75, 6.0) == ()
    assert against_control(5.0, 6.0) != ()


@pytest.mark.parametrize(
    "change",
    [
        {"digest": "e" * 64},
        {"losses": [3.0, math.nextafter(2.0, 3.0)]},
        {"losses": [3.0]},
        {"losses": [3.0, None]},
        {"valid": []},
    ],
)
def test_trajectories(change: dict[str, Any]) -> None:
    """One bit of one loss is a difference."""
    assert same_trajectory(GOOD, dict(GOOD)) == ()
    assert len(same_trajectory(GOOD, GOOD | change)) == 1


def test_band_of() -> None:
    """Three standard deviations beyond the range, and a tenth at least."""
    band = band_of([1.0, 2.0, 3.0], "c")
    assert (band.low, band.high) == (-2.0, 6.0)
    band = band_of([1.5, 1.5], "c")
    assert (band.low, band.high) == (1.5 - 0.1, 1.5 + 0.1)
    for values in ([1.0], [1.0, math.nan], [1.0, math.inf]):
        with pytest.raises(ValueError, match="at least two finite values"):
            band_of(values, "c")


def test_recorded_bands() -> None:
    """They are those of RUNS and follow from their values; learning is below the unigram entropy."""
    entries = json.loads(BANDS.read_text(encoding="utf-8"))["runs"]
    bands = load_bands()
    assert set(entries) == set(RUNS)
    for name, band in bands.items():
        assert band == band_of(entries[name]["values"], entries[name]["corpus"])
        assert len(entries[name]["seeds"]) == len(band.values)
    assert bands["learning"].high < entries["learning"]["unigram"]
    assert statistics.fmean(bands["learning"].values) < bands["pretrain"].low


def test_a_band_of_another_command_line_is_refused(tmp_path: Path) -> None:
    record = json.loads(BANDS.read_text(encoding="utf-8"))
    path = tmp_path / "bands.json"
    path.write_text(json.dumps(record))
    assert load_bands(path) == load_bands()
    record["runs"]["learning"]["command"] += " --gain 3.0"
    path.write_text(json.dumps(record))
    with pytest.raises(ValueError, match=r"no band of the run 'learning' as it is now .*record_bands"):
        load_bands(path)
    del record["runs"]["learning"]
    path.write_text(json.dumps(record))
    with pytest.raises(ValueError, match="no band of the run 'learning'"):
        load_bands(path)
