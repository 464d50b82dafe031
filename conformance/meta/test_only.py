"""`--only`: the tests of some operations, which files and parameters say, and none of the others."""

from __future__ import annotations

import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from arbitor.cli import main
from arbitor.conformance.judge import selection
from arbitor.conformance.tools.commands import OPERATIONS as FOLDER
from arbitor.conformance.tools.commands import refused
from arbitor.judge.suite import find_suite, operations_named
from arbitor.kernels.operations import FAMILIES, OPERATIONS

# tests in files of every operation that are of none, or of what a backend declares
OF_NONE = {
    "test_claims.py::test_devices_are_as_declared",
    "test_claims.py::test_configurations_are_as_declared",
    "test_claims.py::test_a_configuration_that_does_not_exist_is_refused",
    "test_configurations.py::test_every_configuration_gives_one_hash",  # torch has nothing to choose
    "test_configurations.py::test_every_configuration_keeps_to_its_buffers",
    "test_configurations.py::test_a_configuration_with_other_bits_is_seen",
    "test_domains.py::test_firing_of_every_vote",
    "test_domains.py::test_every_r16_against_the_boundaries_of_f",
    "test_large.py::test_large",  # needs a GPU
    "test_large.py::test_what_is_compared_is_enough",
    "test_machine_code.py::test_machine_code",
    "test_machine_code.py::test_what_is_a_problem",
    "test_machine_code.py::test_what_is_inexact",
    "test_machine_code.py::test_opcodes_are_read_off_the_listing",
    "test_preconditions.py::test_nothing_that_is_narrower_than_its_dtype_is_left_out",
    "test_rotary.py::test_no_cosine_is_near_a_half",
    "test_rotary.py::test_refuses",
    "test_rotary.py::test_the_angles_are_those_of_rotary_positions",
    "test_rotary.py::test_three_tables_agree",
    "test_settings.py::test_another_rounding_is_refused",
    "test_settings.py::test_optimised_python",
}

# files that ask the same of every operation: beside the families' rooms
OF_ALL = {
    path.name for folder in (FOLDER, FOLDER / "wide", FOLDER / "refused") for path in folder.glob("test_*.py")
}


@cache
def collected(*words: str) -> set[str]:
    """Tests FILE::TEST[...] that pytest selects with these words, on the backend torch."""
    settings = find_suite().parent / "pyproject.toml"
    where = ["-c", str(settings)] if settings.is_file() else ["--import-mode=importlib"]
    ended = subprocess.run(
        [sys.executable, "-m", "pytest", str(FOLDER), *where, "--collect-only", "-q", "--backend", "torch",
         "-p", "no:cacheprovider", *words],
        capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return {
        line.rpartition("/")[2] if "[" not in line else re.sub(r"^[^\[]*/", "", line)
        for line in ended.stdout.splitlines()
        if "::" in line
    }


def without_parameters(tests: set[str]) -> set[str]:
    return {test.partition("[")[0] for test in tests}


def test_all_operations_have_every_test_of_one() -> None:
    """What is left out is named above; a new test of what kernels decide has to say what it is about."""
    found = collected("--only", ",".join(OPERATIONS))
    assert without_parameters(collected() - found) == OF_NONE
    assert found < collected()


def test_one_operation_has_its_own() -> None:
    """Its file, and of the files of every operation what is of it."""
    found = collected("--only", "pack")
    own = {test for test in collected() if test.startswith("test_pack.py::")}
    assert own < found
    others = {name for name in OPERATIONS if name != "pack"}
    for test in found - own:
        file, _, parameters = test.partition("[")
        assert not others & set(re.split(r"[^a-z_]+", parameters)), test
        assert file.partition("::")[0] in OF_ALL
    assert {test.partition("::")[0] for test in found - own} >= {
        "test_vectors.py", "test_buffers.py", "test_settings.py", "test_pointers.py", "test_large.py",
    }  # fmt: skip


def test_marks_count() -> None:
    """Where no parameter says it."""
    found = without_parameters(collected("--only", "ternary_update,quantise_columns"))
    assert {"test_domains.py::test_scaled_votes", "test_settings.py::test_a_subnormal_in_full"} <= found
    assert "test_tiles.py::test_every_group_size_is_updated" not in found


@pytest.mark.parametrize(
    ("words", "names"),
    [
        ([], []),
        (["unpack", "pack"], ["pack", "unpack"]),
        (["pack, unpack", "pack"], ["pack", "unpack"]),
        (["packing"], FAMILIES["packing"].split()),
        (["linear,pack"], ["pack", *FAMILIES["linear"].split()]),
    ],
)
def test_names_of_operations_and_families(words: list[str], names: list[str]) -> None:
    assert operations_named(words) == names


def test_an_operation_that_is_declared_as_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """There is nothing to judge, so there is no verdict."""
    part = tmp_path / "part.py"
    part.write_text(
        "from arbitor.kernels.eager import pack\n"
        "CAPABILITIES = {'version': 1, 'operations': ['pack'], 'formats': ['codes'], 'devices': ['cpu']}\n"
    )
    status = main(["verify", "--backend", str(part), "--only", "weight_gradient"])
    refused(status, "--only weight_gradient: ", capsys)
    assert list(tmp_path.iterdir()) == [part]


@pytest.mark.parametrize("name", ["packs", "", "PACK", "pack,,unpack", "test_pack"])
def test_a_name_that_is_none_is_refused(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Naming those that there are; nothing is run."""
    status = main(["verify", "--backend", "torch", "--only", name])
    refused(status, "expected pack, unpack, ", capsys)


def test_all_and_only_exclude_each_other(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["verify", "--backend", "torch", "--only", "pack", "--all"])
    assert ended.value.code == 2
    assert "not allowed with argument --only" in capsys.readouterr().err


class Asked:
    """Of pytest's configuration what selection looks at."""

    def __init__(self, backend: str, **options: object) -> None:
        self.options = {"--backend": backend, "--kernels": False, "--all": False, "--only": []}
        self.options |= {f"--{name}": value for name, value in options.items()}

    def getoption(self, name: str) -> object:
        return self.options[name]


@pytest.mark.parametrize(
    ("config", "kernels", "words"),
    [
        (Asked("torch"), False, ""),
        (Asked("torch", kernels=True), True, "what kernels decide"),
        (Asked("arbitor.conformance.oracle"), False, ""),
        (Asked("mine.py"), True, "what kernels decide (--all is the whole suite)"),
        (Asked("my.module"), True, "what kernels decide (--all is the whole suite)"),
        (Asked("cmd:./ternary"), True, "what kernels decide (--all is the whole suite)"),
        (Asked("mine.py", all=True), False, ""),
        (Asked("mine.py", only=["pack"]), False, "only pack"),
    ],
)
def test_a_backend_of_somebody_else_has_the_kernels_part(config: Asked, kernels: bool, words: str) -> None:
    """Unasked, and the first line of a run says so."""
    asked: pytest.Config = config  # type: ignore[assignment]
    assert selection.kernels_only(asked) == kernels
    assert selection.described(asked) == words


def test_a_file_that_is_named_runs() -> None:
    """Although it is around the kernels and the backend is none of ours."""
    named = find_suite() / "meta" / "test_blame.py"
    words = [sys.executable, "-m", "pytest", str(named), "--collect-only", "-q", "-p", "no:cacheprovider"]
    found = {
        option: subprocess.run(
            [*words, "--backend", "arbitor.conformance.cheats.zeros", *option], capture_output=True, text=True
        )
        for option in ((), ("--kernels",))
    }
    assert (found[()].returncode, found[("--kernels",)].returncode) == (0, 5)
    assert "test_blame.py::" in found[()].stdout
    assert "test_blame.py::" not in found[("--kernels",)].stdout
