"""What an installation gets: every module and every file the modules read, and nothing else."""

import configparser
import importlib.metadata
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from calllogd import __version__

ROOT = Path(__file__).parents[1]
BUILD_FROM = ("setup.cfg", "pyproject.toml", "README.md")
SETUPTOOLS_LEAST = 71
"""The first that builds wheels by itself."""


def setuptools_version() -> int:
    """The major version of setuptools; 0 where there is none."""
    try:
        return int(importlib.metadata.version("setuptools").partition(".")[0])
    except importlib.metadata.PackageNotFoundError:
        return 0


def sources() -> set[str]:
    """Every file of the package, as it is named in a wheel."""
    found = (path for path in (ROOT / "calllogd").rglob("*") if path.is_file())
    return {str(path.relative_to(ROOT)) for path in found if "__pycache__" not in path.parts}


def setup() -> configparser.ConfigParser:
    parsed = configparser.ConfigParser(delimiters=("=",))
    parsed.read(ROOT / "setup.cfg", encoding="utf-8")
    return parsed


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    if setuptools_version() < SETUPTOOLS_LEAST:
        pytest.skip(f"setuptools {SETUPTOOLS_LEAST} or newer is needed; tests/run has it")
    # Built from a copy: setuptools takes what an earlier build has left, and leaves something itself.
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    shutil.copytree(ROOT / "calllogd", source / "calllogd", ignore=shutil.ignore_patterns("__pycache__"))
    for name in BUILD_FROM:
        if (ROOT / name).exists():
            shutil.copy(ROOT / name, source)
    words = "wheel -q --disable-pip-version-check --no-deps --no-build-isolation --no-index"
    pip = [sys.executable, "-m", "pip", *words.split(), "--wheel-dir", str(target), str(source)]
    built = subprocess.run(pip, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    (path,) = target.iterdir()
    return zipfile.ZipFile(path)


def test_every_file_that_is_no_module_is_named_as_package_data() -> None:
    patterns = [pattern.strip() for pattern in setup()["options.package_data"]["calllogd"].split(",")]
    named = {pattern: set((ROOT / "calllogd").glob(pattern)) for pattern in patterns}
    data = {ROOT / name for name in sources() if not name.endswith(".py")}
    assert data == set().union(*named.values())
    assert not [pattern for pattern, found in named.items() if not found]


def test_every_folder_with_modules_is_a_package() -> None:
    folders = {Path(name).parent for name in sources() if name.endswith(".py")}
    assert not {folder for folder in folders if not (ROOT / folder / "__init__.py").exists()}


def test_the_wheel_has_every_file_and_nothing_else(wheel: zipfile.ZipFile) -> None:
    assert {name for name in wheel.namelist() if ".dist-info/" not in name} == sources()


def test_the_wheel_has_the_files_of_sql_as_they_are(wheel: zipfile.ZipFile) -> None:
    sql = [name for name in wheel.namelist() if name.endswith(".sql")]
    assert sql
    for name in sql:
        assert wheel.read(name) == (ROOT / name).read_bytes()


def test_the_wheel_says_its_version_and_its_command(wheel: zipfile.ZipFile) -> None:
    folder = f"calllogd-{__version__}.dist-info"
    assert f"\nVersion: {__version__}\n" in wheel.read(f"{folder}/METADATA").decode()
    points = configparser.ConfigParser()
    points.read_string(wheel.read(f"{folder}/entry_points.txt").decode())
    assert dict(points["console_scripts"]) == {"calllogd": "calllogd.console.main:main"}
