"""What pyproject.toml lists against the folders that are there.

A package missing from the list works in an editable install and is left out of the wheel.
"""

import tomllib
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def pyproject() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def shipped_folders() -> list[Path]:
    """Top-level folders whose modules import as locallearn.*."""
    packages = (init.parent for init in ROOT.glob("*/__init__.py"))
    return sorted(folder for folder in packages if folder.name != "tests")


def package_name(folder: Path) -> str:
    return ".".join(["locallearn", *folder.relative_to(ROOT).parts])


def test_packages_are_the_folders(pyproject: dict[str, Any]) -> None:
    found = [package_name(init.parent) for top in shipped_folders() for init in top.rglob("__init__.py")]
    assert sorted(pyproject["tool"]["setuptools"]["packages"]) == sorted(found)


def test_every_module_is_in_a_package() -> None:
    modules = (module for top in shipped_folders() for module in top.rglob("*.py"))
    assert [str(module) for module in modules if not (module.parent / "__init__.py").exists()] == []


def test_packages_are_mapped_to_folders(pyproject: dict[str, Any]) -> None:
    expected = {package_name(folder): folder.name for folder in shipped_folders()}
    assert pyproject["tool"]["setuptools"]["package-dir"] == expected


def test_types_are_checked_everywhere(pyproject: dict[str, Any]) -> None:
    assert sorted(pyproject["tool"]["mypy"]["packages"]) == [package_name(folder) for folder in shipped_folders()]
    for folder in shipped_folders():
        assert (ROOT / ".typing" / "locallearn" / folder.name).resolve() == folder


def test_data_files_are_there(pyproject: dict[str, Any]) -> None:
    for package, patterns in pyproject["tool"]["setuptools"]["package-data"].items():
        folder = ROOT.joinpath(*package.split(".")[1:])
        for pattern in patterns:
            assert list(folder.glob(pattern)), f"{package}: no file matches {pattern}"


def test_other_files_are_listed(pyproject: dict[str, Any]) -> None:
    """Whatever lies beside the modules must be named in package-data, or the wheel has no such file."""
    listed = {
        path
        for package, patterns in pyproject["tool"]["setuptools"]["package-data"].items()
        for pattern in patterns
        for path in ROOT.joinpath(*package.split(".")[1:]).glob(pattern)
    }
    there = {path for top in shipped_folders() for path in top.rglob("*") if path.is_file()}
    others = {path for path in there if path.suffix != ".py" and "__pycache__" not in path.parts}
    assert others == listed
