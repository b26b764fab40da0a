"""Are the tests any good? Small faults are put into RTL and models, one at a time, and the tests have to notice.

    python benchmarks/mutations.py                        all of mutations.toml that have no result yet
    python benchmarks/mutations.py pool-last-wins         those named, once more

Needs the extra [dev]. Each mutation is applied to a copy of the working tree in a temporary folder, which Python
imports in place of the installed package; the tests that the mutation names run there and stop at the first that
fails. Before that they have passed in a copy that nothing was done to. Nothing of the user's is read or left behind:
simulators, compiled models and examples are kept in the temporary folder. Keeps its place in results/mutations.json, a
result a mutation, so that the same command goes on; one that was changed runs again. Writes results/mutations.md. Ends
with an error where a mutation was not caught.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from tables import save_table

HERE = Path(__file__).parent
ROOT = HERE.parent
LIST = HERE / "mutations.toml"
RESULTS = HERE / "results" / "mutations.json"
TABLE = RESULTS.with_suffix(".md")
COPIED = (".typing", "fpga", "host", "quant", "reference", "rtl", "sim", "tests", "benchmarks/results/estimate.json")
"""What the tests need, with `pyproject.toml`; `.typing` has the folders under their import name."""

ONE_TEST_S = 300
"""What hangs by a mutation is a failure of the test that it hangs in."""

# Appended to the copy's conftest: a counterexample is as good without being made smaller, which takes minutes.
NO_SHRINKING = """
from hypothesis import Phase
phases = [phase for phase in Phase if phase not in (Phase.shrink, Phase.explain)]
settings.register_profile("mutations", settings.get_profile("locallearn"), phases=phases)
settings.load_profile("mutations")
"""


@dataclass(frozen=True)
class Mutation:
    """A fault.

    file, old, new  `old`, which stands in the file once, becomes `new`
    breaks          the fault that it stands for
    tests           what should notice, as pytest takes it, the fastest first
    note            what is to be known of its history
    """

    name: str
    file: str
    old: str
    new: str
    breaks: str
    tests: tuple[str, ...]
    note: str = ""

    @property
    def key(self) -> str:
        """Another one where anything that its result depends on was changed."""
        parts = (self.file, self.old, self.new, *self.tests)
        return sha256("\0".join(parts).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Outcome:
    """Of a run of some tests.

    failed   the first test that did; None where all passed
    timeout  it hung
    message  what it said, the first line
    """

    failed: str | None
    timeout: bool
    message: str
    seconds: float


def read_list() -> list[Mutation]:
    """Raises SystemExit where two have the same name, or one cannot be applied."""
    entries = tomllib.loads(LIST.read_text())["mutations"]
    mutations = [Mutation(**entry | {"tests": tuple(entry["tests"])}) for entry in entries]
    names = [mutation.name for mutation in mutations]
    for mutation in mutations:
        count = (ROOT / mutation.file).read_text().count(mutation.old)
        if count != 1:
            raise SystemExit(f"{mutation.name}: {mutation.old!r} is in {mutation.file} {count} times, must be once")
        if names.count(mutation.name) > 1:
            raise SystemExit(f"{mutation.name}: there are two of this name")
    return mutations


@contextmanager
def copy_of_tree(scratch: Path) -> Iterator[Path]:
    """The working tree, in a folder of its own, for as long as it is needed."""
    with TemporaryDirectory(dir=scratch, prefix="tree-") as name:
        tree = Path(name)
        for part in (*COPIED, "pyproject.toml"):
            source, target = ROOT / part, tree / part
            if source.is_dir():
                shutil.copytree(source, target, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(source, target)
        with (tree / "tests" / "conftest.py").open("a") as conftest:
            conftest.write(NO_SHRINKING)
        yield tree


def environment(tree: Path) -> dict[str, str]:
    """The copy is found before the installed package; what is compiled stays in it; pytest cuts no message off."""
    places = {"PYTHONPATH": ".typing", "XDG_CACHE_HOME": "cache", "NUMBA_CACHE_DIR": "compiled"}
    return {**os.environ, "COLUMNS": "1000"} | {name: str(tree / place) for name, place in places.items()}


def check_import(tree: Path, file: str) -> None:
    """Raises SystemExit unless the mutated module is what tests will import."""
    module = ".".join(("locallearn", *Path(file).with_suffix("").parts))
    code = f"import importlib.util; print(importlib.util.find_spec({module!r}).origin)"
    found = subprocess.run(
        [sys.executable, "-c", code], cwd=tree, env=environment(tree), capture_output=True, text=True
    )
    if Path(found.stdout.strip()).resolve() != (tree / file).resolve():
        raise SystemExit(f"{module} comes from {found.stdout or found.stderr}, not from {tree}")


def run_tests(tree: Path, scratch: Path, tests: tuple[str, ...]) -> Outcome:
    """In a copy, until the first fails. Benches are kept by what they simulate, so that all copies may share them."""
    options = ["-x", "-q", "-rfE", "--tb=no", "-p", "no:xdist", "--hypothesis-seed=0"]
    options += ["-o", f"timeout={ONE_TEST_S}", "-o", f"cache_dir={scratch / 'benches'}"]
    begun = time.monotonic()
    command = [sys.executable, "-m", "pytest", *options, f"--basetemp={tree / 'tmp'}", *tests]
    done = subprocess.run(command, cwd=tree, env=environment(tree), capture_output=True, text=True)
    seconds = round(time.monotonic() - begun, 1)
    if done.returncode == 0:
        return Outcome(None, False, "", seconds)
    found = re.search(r"^(?:FAILED|ERROR) (.*?)(?: - (.*))?$", done.stdout, re.MULTILINE)
    if found is None:
        raise SystemExit(f"{' '.join(command)}: exit status {done.returncode}\n{done.stdout}{done.stderr}")
    message = found[2] or ""
    return Outcome(found[1], "Timeout" in message, message, seconds)


def unmutated(results: dict[str, Any], scratch: Path, tests: tuple[str, ...]) -> None:
    """Raises SystemExit unless each of these tests passes where nothing was changed; once for every entry."""
    passed = results["unmutated"]
    for test in tests:
        if test not in passed:
            with copy_of_tree(scratch) as tree:
                outcome = run_tests(tree, scratch, (test,))
            if outcome.failed:
                raise SystemExit(f"{outcome.failed} fails without any mutation: {outcome.message}")
            passed[test] = outcome.seconds
            save(results)


def mutated(mutation: Mutation, scratch: Path) -> dict[str, Any]:
    """What the tests made of it."""
    with copy_of_tree(scratch) as tree:
        file = tree / mutation.file
        file.write_text(file.read_text().replace(mutation.old, mutation.new))
        check_import(tree, mutation.file)
        return {"key": mutation.key} | asdict(run_tests(tree, scratch, mutation.tests))


def save(results: dict[str, Any]) -> None:
    unfinished = RESULTS.with_suffix(".unfinished")
    unfinished.write_text(json.dumps(results, indent=1) + "\n")
    unfinished.replace(RESULTS)


def write_table(mutations: list[Mutation], results: dict[str, Any]) -> None:
    """In the order of the list; those without a result are left out."""
    rows = []
    for mutation in mutations:
        result = results["mutations"].get(mutation.name)
        if result is None or result["key"] != mutation.key:
            continue
        caught = f"`{result['failed']}`" if result["failed"] else "**SURVIVED**"
        caught += " (hung)" if result["timeout"] else ""
        rows.append(
            (f"`{mutation.name}`", f"`{mutation.file}`", mutation.breaks, caught, mutation.note, result["seconds"])
        )
    save_table(TABLE, ("mutation", "file", "what it breaks", "caught by", "note", "time [s]"), 5, rows)


def run() -> None:
    example = "example: python benchmarks/mutations.py pool-last-wins lead-must-be-more"
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=example, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "names", metavar="NAME", nargs="*", help="mutations to run again (default: all without a result)"
    )
    args = parser.parse_args()
    mutations = read_list()
    by_name = {mutation.name: mutation for mutation in mutations}
    if unknown := set(args.names) - set(by_name):
        raise SystemExit(f"{', '.join(sorted(unknown))}: not in {LIST.name}")
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {"unmutated": {}, "mutations": {}}
    done = {name: result["key"] for name, result in results["mutations"].items()}
    unfinished = [mutation for mutation in mutations if done.get(mutation.name) != mutation.key]
    todo = [by_name[name] for name in args.names] or unfinished
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    with TemporaryDirectory(prefix="mutations-") as name, Progress(*columns) as progress:
        task = progress.add_task("", total=len(todo))
        for mutation in todo:
            progress.update(task, description=mutation.name)
            unmutated(results, Path(name), mutation.tests)
            result = results["mutations"][mutation.name] = mutated(mutation, Path(name))
            save(results)
            write_table(mutations, results)
            verdict = f"caught by {result['failed']}" if result["failed"] else "SURVIVED"
            said = f"{mutation.name}: {verdict}, {result['seconds']} s"
            progress.console.print(said, markup=False, highlight=False, soft_wrap=True)
            progress.advance(task)
    # Those that are not in the list any more.
    results["mutations"] = {name: result for name, result in results["mutations"].items() if name in by_name}
    save(results)
    write_table(mutations, results)
    of_now = [results["mutations"].get(m.name) for m in mutations]
    survived = [m.name for m, result in zip(mutations, of_now, strict=True) if result and not result["failed"]]
    print(f"{len(mutations)} mutations, {len(survived)} survived: {', '.join(survived) or '-'}")
    if survived:
        raise SystemExit(1)


if __name__ == "__main__":
    run()
