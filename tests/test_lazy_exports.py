"""Packages that import their names on first use: the three lists of names agree, and each name can be imported."""

from __future__ import annotations

import ast
import importlib
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src"
PACKAGES = sorted(
    ".".join(path.parent.relative_to(SOURCE).parts)
    for path in SOURCE.rglob("__init__.py")
    if "lazy_exports(" in path.read_text()
)


def test_the_packages_of_the_client_are_lazy() -> None:
    assert {"tercet.client", "tercet.rpc"} <= set(PACKAGES)


@pytest.mark.parametrize("package", PACKAGES)
def test_every_exported_name_is_typed_and_importable(package: str) -> None:
    module = importlib.import_module(package)
    tree = ast.parse((SOURCE / package.replace(".", "/") / "__init__.py").read_text())
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and str(node.module).startswith("tercet")]
    typed = {alias.asname or alias.name for node in imports for alias in node.names} - {"lazy_exports"}
    assert typed >= set(module.__all__)
    for name in module.__all__:
        assert getattr(module, name) is not None


@pytest.mark.parametrize("package", PACKAGES)
def test_no_exported_name_is_that_of_a_submodule_with_another_object(package: str) -> None:
    """Importing a submodule sets it as an attribute of the package, which would hide a function of the same name."""
    module = importlib.import_module(package)
    directory = SOURCE / package.replace(".", "/")
    for name in module.__all__:
        if (directory / f"{name}.py").exists():
            assert importlib.import_module(f"{package}.{name}") is getattr(module, name)


def test_a_name_that_does_not_exist_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        importlib.import_module("tercet.rpc").nothing  # noqa: B018
