"""Takes the packages that [tool.tercet] in pyproject.toml names.

In the repository the packages are in ../../src. A source distribution holds a copy of them in src.
"""

from __future__ import annotations

import shutil
import tomllib
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py
from setuptools.command.sdist import sdist

SOURCE = "src" if Path("src/tercet").is_dir() else "../../src"
CONTENTS = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))["tool"]["tercet"]
LEFT_OUT = {tuple(name.rsplit(".", 1)) for name in CONTENTS["left-out"]}


class BuildPy(build_py):
    def find_package_modules(self, package: str, package_dir: str) -> list[tuple[str, str, str]]:
        return [found for found in super().find_package_modules(package, package_dir) if found[:2] not in LEFT_OUT]


class SourceDistribution(sdist):
    def make_release_tree(self, base_dir: str, files: list[str]) -> None:
        """Files outside this directory would land outside `base_dir`; they are copied to where the unpacked setup.py looks."""
        super().make_release_tree(base_dir, [name for name in files if not name.startswith("..")])
        for name in files:
            path = Path(name)
            if name.startswith(SOURCE) and ".egg-info" not in name:
                target = Path(base_dir, "src", path.relative_to(SOURCE))
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, target)


setup(
    package_dir={"": SOURCE},
    packages=find_packages(SOURCE, include=CONTENTS["packages"]),
    cmdclass={"build_py": BuildPy, "sdist": SourceDistribution},
)
