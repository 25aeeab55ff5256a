"""Which packages of the repository the distribution holds; all other metadata is in pyproject.toml."""

from __future__ import annotations

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

SOURCE = "../../src"
PACKAGES = ("tercet", "tercet.client*", "tercet.compat*", "tercet.gotext", "tercet.proto", "tercet.rpc")
LEFT_OUT = {("tercet", "__main__"), ("tercet.client", "generate_sync"), ("tercet.proto", "generate")}
"""Modules of these packages that serve the distribution `tercet` or its development."""


class BuildPy(build_py):
    def find_package_modules(self, package: str, package_dir: str) -> list[tuple[str, str, str]]:
        return [found for found in super().find_package_modules(package, package_dir) if found[:2] not in LEFT_OUT]


setup(
    package_dir={"": SOURCE},
    packages=find_packages(SOURCE, include=PACKAGES),
    cmdclass={"build_py": BuildPy},
)
