"""The name of the distribution: arbitor-ternary; `arbitor` is another project's on the package index."""

from __future__ import annotations

import re
import tomllib
from importlib.metadata import packages_distributions, version
from pathlib import Path

import pytest

import arbitor
from arbitor.judge.provenance import package_version
from arbitor.judge.suite import find_suite
from arbitor.refusal import lacking

ROOT = find_suite().parent
CHECKOUT = (ROOT / "pyproject.toml").is_file()
NAME = "arbitor-ternary"
# what installs by a name from an index; a path or a URL is none
INSTALLS = re.compile(r"(?:pip3?|uv|pipx)\s+(?:pip\s+)?install\b[^\n`&;|)]*?(?<![\w./-])arbitor(?![\w./-])")
TEXTS = ("*.md", "*.py", "*.toml", "*.ini", "*.sh", "*.yml", "*.txt", "*.cfg")


@pytest.mark.skipif(not CHECKOUT, reason="this needs a checkout")
def test_the_project_file() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["name"] == NAME
    assert project["scripts"] == {"arbitor": "arbitor.cli:main"}
    extras = project["optional-dependencies"]
    assert not any("arbitor" in each for each in extras.values())
    assert set(extras["train"]) < set(extras["test"]), "an extra cannot name another of its own project"


@pytest.mark.skipif(CHECKOUT, reason="this needs an installed wheel")
def test_the_installed_distribution() -> None:
    """The import keeps its name, and there is one version."""
    assert packages_distributions()["arbitor"] == [NAME]
    assert version(NAME) == package_version(NAME) == arbitor.__version__


@pytest.mark.skipif(not CHECKOUT, reason="this needs a checkout")
def test_nobody_is_sent_to_the_other_project() -> None:
    folders = ("arbitor", "kernels", "reference", "conformance", "training", "scripts", "docs", "")
    files = [
        path
        for folder in folders
        for kind in TEXTS
        for path in ((ROOT / folder).rglob(kind) if folder else ROOT.glob(kind))
    ]
    assert len(files) > 400
    found = {path.relative_to(ROOT).as_posix() for path in files if INSTALLS.search(path.read_text("utf-8"))}
    assert found <= {Path(__file__).resolve().relative_to(ROOT).as_posix()}


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("pip install arbitor", True),
        ("pip install 'arbitor[test]'", True),
        ("python -m pip install -U arbitor==0.1", True),
        ("uv pip install arbitor[triton]", True),
        ("pip install arbitor-ternary[test]", False),
        ("pip install -e '.[test]'", False),
        ("pip install docs/examples/package && arbitor verify", False),
        ("pip install ./arbitor", False),
    ],
)
def test_what_is_looked_for(text: str, wrong: bool) -> None:
    """So that the test above can fail."""
    assert bool(INSTALLS.search(text)) == wrong


def test_what_a_missing_extra_says() -> None:
    said = lacking(ModuleNotFoundError(name="rich"), "x", "test")
    assert said == "no module named 'rich': x needs pip install -e '.[test]' in a checkout"
