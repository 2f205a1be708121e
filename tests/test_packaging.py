"""The package as a user gets it: built, and installed where nothing else is."""

import functools
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

ROOT = Path(__file__).resolve().parent.parent
SOURCES = ("setup.cfg", "pyproject.toml", "README.md", "LICENSE")
SOURCE_FOLDERS = ("securerecv", "twisted")
COMMAND_TIMEOUT_S = 240


def run(*command: str | Path) -> str:
    """
    Run a command as a user's shell does, and give what it printed.

    It runs in an empty folder, not in the checkout, whose code it would find.

    Args:
        command: the program and its arguments.

    Raises:
        AssertionError: it did not exit with 0; what it printed is in the message.
    """
    hidden = ("PYTHON", "VIRTUAL_ENV")
    done = subprocess.run(
        command,
        cwd=workshop() / "elsewhere",
        env={k: v for k, v in os.environ.items() if not k.startswith(hidden)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=COMMAND_TIMEOUT_S,
        check=False,
    )
    if done.returncode:
        message = f"{command} exited with {done.returncode}:\n{done.stdout}"
        raise AssertionError(message)
    return done.stdout


@functools.cache
def workshop() -> Path:
    """
    A folder of its own for this run, in trial's temporary one.

    It holds `source`, a copy of what is packaged (so that what an earlier build left
    in the checkout cannot come along) and `elsewhere`, which is empty.
    """
    folder = Path(tempfile.mkdtemp(prefix="packaging-", dir=Path.cwd()))
    source = folder / "source"
    source.mkdir()
    for name in SOURCES:
        shutil.copy(ROOT / name, source)
    for name in SOURCE_FOLDERS:
        shutil.copytree(
            ROOT / name,
            source / name,
            ignore=shutil.ignore_patterns("__pycache__", "dropin.cache"),
        )
    (folder / "elsewhere").mkdir()
    return folder


@functools.cache
def wheel() -> Path:
    """The wheel, built from the source distribution as for a release."""
    out = workshop() / "dist"
    run(sys.executable, "-m", "build", "--outdir", out, workshop() / "source")
    (built,) = out.glob("*.whl")
    return built


@functools.cache
def environment() -> Path:
    """
    Make an empty virtual environment and install the wheel, with all it needs.

    Returns:
        The environment's folder of commands.
    """
    folder = workshop() / "environment"
    run(sys.executable, "-m", "venv", "--without-pip", folder)
    # What is imported is compiled then, which is a small part of what is there.
    pip(folder / "bin", "install", "--no-compile", wheel())
    return folder / "bin"


def pip(bin_folder: Path, *arguments: str | Path) -> str:
    """Run pip for an environment, and give what it printed."""
    options = ("--quiet", "--disable-pip-version-check", "--no-input")
    there = ("--python", bin_folder / "python")
    return run(sys.executable, "-m", "pip", *there, *options, *arguments)


class WheelTests(SynchronousTestCase):
    """What is in the wheel."""

    def test_contents(self) -> None:
        """It holds the typed package and the plugin, and nothing of Twisted's own."""
        names = zipfile.ZipFile(wheel()).namelist()
        self.assertIn("securerecv/py.typed", names)
        foreign = [name for name in names if not name.startswith("securerecv")]
        self.assertEqual(foreign, ["twisted/plugins/securerecv_plugin.py"])

    def test_every_module(self) -> None:
        """No module or data file of the package was left behind."""
        names = set(zipfile.ZipFile(wheel()).namelist())
        files = {
            str(file.relative_to(ROOT))
            for file in (ROOT / "securerecv").rglob("*")
            if file.is_file() and file.parent.name != "__pycache__"
        }
        self.assertEqual(files - names, set())


class InstallTests(SynchronousTestCase):
    """What an install gives, seen from a folder that is not the checkout."""

    def check_commands(self) -> None:
        """Both commands show their help, and Twisted still has its own plugins."""
        server_help = run(environment() / "twistd", "-n", "securerecv", "--help")
        self.assertIn("--proto", server_help)
        self.assertIn("Usage", run(environment() / "securerecv", "--help"))
        self.assertIn("web", run(environment() / "twistd", "--help"))

    def test_wheel(self) -> None:
        """In an empty environment the wheel works, and leaves Twisted whole."""
        pip(environment(), "install", "--force-reinstall", "--no-deps", wheel())
        pip(environment(), "check")
        self.check_commands()

        pip(environment(), "uninstall", "--yes", "securerecv")
        left = run(environment() / "twistd", "--help")
        self.assertIn("web", left)
        self.assertNotIn("securerecv", left)

    def test_editable(self) -> None:
        """An editable install, which `make` makes, finds the plugin as well."""
        source = workshop() / "source"
        pip(environment(), "install", "--no-deps", "--editable", source)
        self.check_commands()
