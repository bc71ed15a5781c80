# SPDX-License-Identifier: MIT
"""Whether the tests catch a mutant: builds in a scratch copy what the change concerns, and runs it.

Everything is built once as it is. A mutant costs the sources that depend on its file, compiled again, and the test
programs that are linked of any of them, run one after the other until one fails. Done here and not by CMake because a
mutant takes a second or two so, and because two at a time can share what they do not change.
"""

import math
import os
import pathlib
import queue
import re
import shutil
import signal
import subprocess
import tempfile
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from mutants import Mutant

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
COMPILER = os.environ.get("CXX", "c++")

COPIED = ["include", "src", "tests"]
# Everything but the system calls, which the tests replace.
LIBRARY = ["src/*.cpp", "src/*/*.cpp", "tests/support/*.cpp"]
NOT_LIBRARY = ["src/sys.cpp"]
TESTS = ["tests/unit/*_test.cpp", "tests/model/*_test.cpp"]
NOT_TESTS = ["tests/unit/elf_test.cpp"]  # of the command's machine

# Checked indices stand in for the sanitizers that tools/test runs. The warning is for returns that cannot be dropped:
# without it their mutants would do anything.
COMPILE = "-std=c++20 -O0 -D_GLIBCXX_ASSERTIONS -Werror=return-type -Iinclude -Isrc -Itests/support -I.".split()
LINK = "-fuse-ld=gold -pthread -lgtest_main -lgtest -lrapidcheck".split()  # gold takes half the time
# What is included of others is most of a compiler's work, and precompiled: that of the library by itself, and together
# with that of the tests in each directory.
PRECOMPILED = {"library": ["include", "src"], "unit": ["tests/unit"], "model": ["tests/model"]}

# No test that runs on x86 can tell that a memory order is too weak. For each file with orders, a command that can, run
# in the changed copy: status 1 when one is. Where there is none such mutants are shown as not checked and do not count.
ORDER_CHECKS = {"include/dirtyring/ring.hpp": "tests/ordering/run"}

# A test that waits for ever is ended after so many seconds. One that runs for ever is ended sooner, by the CPU time it
# takes: that does not depend on what else the machine does.
MOST_SECONDS = 300
# Model tests make the same cases each time.
ENVIRONMENT = {**os.environ, "GTEST_FAIL_FAST": "1", "GTEST_BRIEF": "0", "GTEST_COLOR": "no", "RC_PARAMS": "seed=1"}


class Stop(Exception):
    """Ends everything, with a sentence."""


class NoBuild(Exception):
    """The compiler or the linker says no."""


@dataclass
class Outcome:
    what: str  # caught, survived, does not compile, or not checked
    by: str = ""


def matching(patterns: list[str], without: list[str] = ()) -> list[str]:
    """Files of this tree, as from its root."""
    found = [path.relative_to(ROOT).as_posix() for pattern in patterns for path in sorted(ROOT.glob(pattern))]
    return [path for path in found if path not in without]


def foreign_includes(directories: list[str]) -> set[str]:
    files = matching([f"{directory}/**/*.[ch]pp" for directory in directories])
    return {line for file in files for line in re.findall(r"^#include <.*>$", (ROOT / file).read_text(), re.MULTILINE)}


class Tree:
    """A copy of the sources, and what is built from it."""

    def __init__(self, directory: pathlib.Path) -> None:
        self.directory = directory
        for name in COPIED:
            shutil.copytree(ROOT / name, directory / name)
        (directory / "built").mkdir()

    def built(self, source: str, suffix: str) -> pathlib.Path:
        return self.directory / "built" / (source.replace("/", ".") + suffix)

    def call(self, command: list) -> str:
        done = subprocess.run(command, cwd=self.directory, capture_output=True, text=True, errors="replace")
        if "signal terminated program" in done.stderr:
            raise Stop(f"the compiler was killed, by too little memory or by somebody: {done.stderr.splitlines()[-1]}")
        if done.returncode != 0:
            raise NoBuild("\n".join(done.stderr.splitlines()[-20:]))
        return done.stdout

    def precompile(self, name: str) -> pathlib.Path:
        header = self.built(name, ".hpp")
        header.write_text("\n".join(sorted(foreign_includes(PRECOMPILED["library"] + PRECOMPILED[name]))) + "\n")
        self.call([COMPILER, *COMPILE, "-x", "c++-header", header, "-o", f"{header}.gch"])
        return header

    def compile(self, source: str, header: pathlib.Path) -> pathlib.Path:
        target = self.built(source, ".o")
        depend = ["-MMD", "-MF", self.built(source, ".d")]
        self.call([COMPILER, *COMPILE, "-include", header, *depend, "-c", source, "-o", target])
        return target

    def link(self, test: str, objects: list) -> str:
        """Makes the test's program; gives the linker's list of what has gone into it."""
        return self.call([COMPILER, *objects, *LINK, "-Wl,-t", "-o", self.built(test, "")])

    def run(self, test: str, cpu_seconds: int) -> tuple[str, float]:
        """Runs the test's program; gives what failed, or nothing, and how many seconds of CPU time it took."""
        output = self.built(test, ".out")
        with output.open("w") as file:
            process = subprocess.Popen(
                ["sh", "-c", f'ulimit -t {cpu_seconds} && exec "$0"', self.built(test, "")],
                cwd=self.directory,
                env=ENVIRONMENT,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
            )
            alarm = threading.Timer(MOST_SECONDS, process.kill)
            alarm.start()
            _, status, used = os.wait4(process.pid, 0)
            alarm.cancel()
        took = used.ru_utime + used.ru_stime
        if status == 0:
            return "", took
        text = output.read_text(errors="replace")
        if failed := re.search(r"^\[  FAILED  \] ([^\s,]+)", text, re.MULTILINE):
            return failed[1], took
        begun = re.findall(r"^\[ RUN      \] (\S+)", text, re.MULTILINE)
        how = "hangs" if os.waitstatus_to_exitcode(status) in (-signal.SIGXCPU, -signal.SIGKILL) else "dies"
        return f"{begun[-1] if begun else test} ({how})", took

    def finds_wrong_order(self, command: str) -> bool:
        done = subprocess.run(command, cwd=self.directory, capture_output=True, text=True)
        if done.returncode not in (0, 1):
            raise Stop(f"{command} cannot tell whether memory orders are right: {done.stderr.strip()}")
        return done.returncode == 1


class Baseline:
    """The library and its tests as they are. The tests are built when they are first asked for."""

    def __init__(self, directory: pathlib.Path, jobs: int) -> None:
        self.tree = Tree(directory)
        self.library = matching(LIBRARY, NOT_LIBRARY)
        self.tests = [Test(self, source) for source in matching(TESTS, NOT_TESTS)]
        self.catches: Counter[tuple[str, str]] = Counter()  # for a file, by a test
        self.archive = self.tree.built("library", ".a")
        with ThreadPoolExecutor(jobs) as pool:
            self.headers = dict(zip(PRECOMPILED, pool.map(self.tree.precompile, PRECOMPILED)))
            objects = list(pool.map(self.compile, self.library))
        self.tree.call(["ar", "rcs", self.archive, *objects])

    def header(self, source: str) -> pathlib.Path:
        """What is precompiled for this source."""
        return self.headers.get(pathlib.Path(source).parent.name, self.headers["library"])

    def compile(self, source: str) -> pathlib.Path:
        try:
            return self.tree.compile(source, self.header(source))
        except NoBuild as error:
            raise Stop(f"{source} does not compile without any change:\n{error}") from None

    def dependents(self, path: str, sources: list[str]) -> list[str]:
        """Those of the sources that are this file or include it."""
        depends = re.compile(rf"(?<!\S){re.escape(path)}(?!\S)")
        return [source for source in sources if depends.search(self.tree.built(source, ".d").read_text())]

    def tests_for(self, path: str) -> list["Test"]:
        """All tests, first those that probably fail soonest: unit tests before model tests, which take long, and of
        each those that have caught most in this file, then those named like it."""
        words = pathlib.Path(path).stem.split("_")

        def rank(test: Test) -> tuple:
            theirs = pathlib.Path(test.source).stem.split("_")
            alike = len(os.path.commonprefix([words, theirs]))
            return "/model/" in test.source, -self.catches[path, test.source], -alike, len(theirs)

        return sorted(self.tests, key=rank)


class Test:
    """A test program of the baseline."""

    def __init__(self, baseline: Baseline, source: str) -> None:
        self.baseline = baseline
        self.source = source
        self.lock = threading.Lock()
        self.sources: list[str] = []  # that it is linked of
        self.cpu_seconds = 0

    def prepare(self) -> None:
        with self.lock:
            if self.sources:
                return
            tree = self.baseline.tree
            own = self.baseline.compile(self.source)
            try:
                linked = tree.link(self.source, [own, self.baseline.archive])
            except NoBuild as error:
                raise Stop(f"{self.source} does not link without any change:\n{error}") from None
            failed, took = tree.run(self.source, MOST_SECONDS)
            if failed:
                raise Stop(f"{failed} fails without any change; make the tests pass first")
            self.cpu_seconds = math.ceil(3 + 5 * took)
            members = set(re.findall(r"library\.a\((\S+)\.o\)$", linked, re.MULTILINE))
            self.sources = [self.source] + [one for one in self.baseline.library if one.replace("/", ".") in members]


class Worker:
    """Makes mutants in a tree of its own, one at a time."""

    def __init__(self, directory: pathlib.Path, baseline: Baseline) -> None:
        self.tree = Tree(directory)
        self.baseline = baseline

    def judge(self, mutant: Mutant) -> Outcome:
        file = self.tree.directory / mutant.path
        text = file.read_text()
        file.write_text(mutant.applied_to(text))
        try:
            return self.check_order(mutant) if mutant.kind == "order" else self.test(mutant)
        except NoBuild:
            return Outcome("does not compile")
        finally:
            file.write_text(text)

    def check_order(self, mutant: Mutant) -> Outcome:
        command = ORDER_CHECKS.get(mutant.path)
        if command is None:
            return Outcome("not checked")
        return Outcome("caught", command) if self.tree.finds_wrong_order(command) else Outcome("survived")

    def test(self, mutant: Mutant) -> Outcome:
        baseline = self.baseline
        compiled = {}
        for test in baseline.tests_for(mutant.path):
            test.prepare()
            changed = baseline.dependents(mutant.path, test.sources)
            if not changed:
                continue
            for source in changed:
                if source not in compiled:
                    compiled[source] = self.tree.compile(source, baseline.header(source))
            self.tree.link(test.source, [compiled.get(one, baseline.tree.built(one, ".o")) for one in test.sources])
            failed, _ = self.tree.run(test.source, test.cpu_seconds)
            if failed:
                baseline.catches[mutant.path, test.source] += 1
                return Outcome("caught", failed)
        return Outcome("survived")


def outcomes(mutants: list[Mutant], jobs: int) -> Iterator[Outcome]:
    """Of each mutant, in their order; `jobs` of them are tried at a time."""
    with tempfile.TemporaryDirectory(prefix="mutate.") as scratch:
        directory = pathlib.Path(scratch)
        baseline = Baseline(directory / "baseline", jobs)
        for command in {ORDER_CHECKS.get(mutant.path) for mutant in mutants if mutant.kind == "order"} - {None}:
            if baseline.tree.finds_wrong_order(command):
                raise Stop(f"{command} fails without any change; make it pass first")
        idle: queue.Queue[Worker] = queue.Queue()
        for number in range(min(jobs, len(mutants))):
            idle.put(Worker(directory / str(number), baseline))

        def judge(mutant: Mutant) -> Outcome:
            worker = idle.get()
            try:
                return worker.judge(mutant)
            finally:
                idle.put(worker)

        with ThreadPoolExecutor(jobs) as pool:
            try:
                yield from pool.map(judge, mutants)
            finally:  # also after Ctrl-C: what is under way is finished, nothing more begun
                pool.shutdown(cancel_futures=True)
