"""
Run ruff, mypy, Sphinx and the tests, and say as the last line how many passed.

The last line is `N passed, N failed, N skipped`. Each of the four checks in
`CHECKS` counts as one test, and the rest are trial's own counts, taken from its
result object. The exit status is 0 only when that line is as it should be.
"""

import argparse
import os
import subprocess
import sys
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Self

import attrs

# The runner behind `trial -j`: private, and the only one that uses all processors.
from twisted.trial._dist.disttrial import DistTrialRunner
from twisted.trial.reporter import TestResult, TreeReporter
from twisted.trial.runner import TestLoader

ROOT = Path(__file__).resolve().parent.parent

CHECKS = {
    "ruff check": ("ruff", "check", "--no-fix", "."),
    "ruff format": ("ruff", "format", "--check", "."),
    "mypy": ("mypy",),
    "docs": (
        *("sphinx", "-W", "--keep-going", "-q", "-E", "-b", "html"),
        *("docs", "docs/_build"),
    ),
}


LONGEST = (
    "packaging",
    "pages",
    "readme",
    "process",
    "console",
    "cli_files",
    "cli_talk",
    "cli_trust",
    "scanner",
    "lanespeed",
    "cli_account",
)
"""
The modules that take longest, of those in `tests`; they are begun first.

Were one of them begun last, the other processors would have nothing to do meanwhile.
"""

MORE_WORKERS = 2
"""Than processors: tests wait for programs, disks and timers as well."""


@attrs.frozen
class Count:
    """How many tests ended in which way."""

    passed: int = 0
    failed: int = 0
    skipped: int = 0

    def __add__(self, other: Self) -> "Count":
        """Both counts together."""
        return Count(
            self.passed + other.passed,
            self.failed + other.failed,
            self.skipped + other.skipped,
        )

    def __str__(self) -> str:
        """The closing line, without its line end."""
        return f"{self.passed} passed, {self.failed} failed, {self.skipped} skipped"

    def exit_status(self, *, in_ci: bool) -> int:
        """
        What the process answers: 0 when all is well, else 1.

        Args:
            in_ci: a machine that has all the tests need, so that a skipped one
                was skipped by mistake.
        """
        well = self.passed and not self.failed and not (in_ci and self.skipped)
        return 0 if well else 1


def count(result: TestResult) -> Count:
    """
    Count the tests of a trial run by how they ended.

    A test that went wrong in two ways, in itself and in its clean-up say, is one
    failed test. So is one that is marked as "to do", however it ended. A run that
    was interrupted, or found no test at all, has failed once more than its tests.
    """
    failed = {test.id() for test, _ in result.failures}
    failed |= {test.id() for test, _ in result.errors}
    failed |= {test.id() for test, *_ in result.expectedFailures}
    failed |= {test.id() for test, _ in result.unexpectedSuccesses}
    skipped = {test.id() for test, _ in result.skips} - failed
    cut_short = result.shouldStop or not (result.successes or failed or skipped)
    return Count(result.successes, len(failed) + cut_short, len(skipped))


class Dealer:
    """
    Deals tests to workers.

    A worker does whole modules, because the tests of one may share what is made once
    in a process.  When all have been begun, it helps with those that have most left.
    """

    def __init__(self) -> None:
        self._waiting: deque[deque[Any]] = deque()
        self._begun: list[deque[Any]] = []

    def add(self, cases: Iterable[Any]) -> None:
        """Take tests, in any order."""
        modules: dict[str, deque[Any]] = {}
        for case in cases:
            modules.setdefault(type(case).__module__, deque()).append(case)
        first = [f"tests.test_{name}" for name in LONGEST]
        names = [name for name in first if name in modules]
        names += [name for name in modules if name not in first]
        self._waiting.extend(modules[name] for name in names)

    def deal(self) -> Iterator[Any]:
        """Give one worker the next test whenever it asks, until all are dealt."""
        while self._waiting:
            module = self._waiting.popleft()
            self._begun.append(module)
            while module:
                yield module.popleft()
        while any(self._begun):
            yield max(self._begun, key=len).popleft()


class Runner(DistTrialRunner):
    """Runs tests in several processes, and deals them as `Dealer` does."""

    def __init__(self) -> None:
        super().__init__(
            TreeReporter,
            (os.cpu_count() or 1) + MORE_WORKERS,
            [],
            workingDirectory=str(ROOT / "_trial_temp"),
        )
        self._dealer = Dealer()

    async def _driveWorker(
        self,
        result: Any,
        testCases: Iterable[Any],  # noqa: N803 - trial's own name
        worker: Any,
    ) -> None:
        # All workers are given the same iterator; the first takes everything.
        self._dealer.add(testCases)
        await super()._driveWorker(result, self._dealer.deal(), worker)


def run_checks() -> Count:
    """Run ruff and mypy over all of the code, and Sphinx over the documents."""

    def run(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", *command],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )

    total = Count()
    with ThreadPoolExecutor() as pool:
        for name, done in zip(CHECKS, pool.map(run, CHECKS.values()), strict=True):
            print(f"-- {name}\n{done.stdout}", end="", flush=True)
            total += Count(failed=1) if done.returncode else Count(passed=1)
    return total


def run_tests(names: Sequence[str]) -> Count:
    """
    Run tests with trial, which keeps its log in `_trial_temp` of the checkout.

    Args:
        names: packages, modules, classes or methods, with dots.
    """
    print("-- trial", flush=True)
    result = Runner().run(TestLoader().loadByNames(list(names), recurse=True))
    # What it answers with stands before the reporter that has the counts.
    result = getattr(result, "original", result)
    if not isinstance(result, TestResult):
        msg = f"trial answered with a {type(result).__name__}"
        raise TypeError(msg)
    return count(result)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the command line asks for; everything, when it asks for nothing."""
    parser = argparse.ArgumentParser(prog="python -m tests.run", description=__doc__)
    parser.add_argument(
        "--lint", action="store_true", help="only ruff, mypy and Sphinx, not the tests"
    )
    parser.add_argument(
        "names", nargs="*", help="only these tests, such as tests.test_architecture"
    )
    options = parser.parse_args(arguments)

    total = Count()
    if options.lint or not options.names:
        total += run_checks()
    if options.names or not options.lint:
        total += run_tests(options.names or ["tests"])

    sys.stderr.flush()
    print(total, flush=True)
    return total.exit_status(in_ci=os.environ.get("CI") == "true")


if __name__ == "__main__":
    sys.exit(main())
