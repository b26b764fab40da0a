"""The list of faults that the tests have to notice stays one that can be put into the code as it is."""

import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
MUTATIONS = tomllib.loads((ROOT / "benchmarks" / "mutations.toml").read_text())["mutations"]


def test_every_mutation_can_be_applied() -> None:
    wrong = []
    for mutation in MUTATIONS:
        count = (ROOT / mutation["file"]).read_text().count(mutation["old"])
        if count != 1 or mutation["new"] == mutation["old"]:
            wrong.append(f"{mutation['name']}: {mutation['old']!r} is in {mutation['file']} {count} times")
    assert not wrong, "\n".join(wrong)


def test_mutations_are_many_and_differ() -> None:
    for what in (["name"], ["breaks", "file"], ["file", "old", "new"]):
        assert len({tuple(mutation[key] for key in what) for mutation in MUTATIONS}) == len(MUTATIONS)
    assert len(MUTATIONS) >= 40


def test_the_tests_that_should_notice_are_there() -> None:
    """The file, and the function where one is named."""
    assert all(mutation["tests"] for mutation in MUTATIONS)
    missing = []
    for test in {test for mutation in MUTATIONS for test in mutation["tests"]}:
        file, _, function = test.partition("::")
        text = (ROOT / file).read_text() if (ROOT / file).is_file() else ""
        if f"def {function.partition('[')[0] or 'test_'}" not in text:
            missing.append(test)
    assert not missing, "\n".join(missing)
