"""Measure harmonium beside its peers, print the tables, and bring the pages up to date.

python benchmarks/run.py            about five minutes; writes docs/benchmarks.md and README.md
python benchmarks/run.py --quick    under a minute; prints only
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

import cases
import pytest
import report

HERE = Path(__file__).resolve().parent
# What a reader wants to know first.
ORDER = [
    "training",
    "network",
    "gibbs",
    "transform",
    "rowsum",
    "ways",
    "update",
    "bernoulli",
    "activation",
]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="less work, fewer rounds")
    parser.add_argument("--threads", type=int, help="for everyone; default 2, or the one there is")
    parser.add_argument("--no-write", action="store_true", help="print only")
    parser.add_argument("--json", type=Path, help="keep pytest-benchmark's results here")
    options = parser.parse_args()

    with tempfile.TemporaryDirectory() as folder:
        path = options.json or Path(folder) / "results.json"
        arguments = ["-q", "-rs", "--tb=short", f"--benchmark-json={path}", "--benchmark-quiet"]
        arguments += ["-o", "addopts="]  # pyproject.toml's would skip benchmarks
        # Where contenders disagree, that is the error to see.
        arguments += ["-W", "ignore:Benchmark fixture was not used"]
        arguments += ["--quick"] * options.quick
        arguments += [] if options.threads is None else [f"--threads={options.threads}"]
        status = pytest.main(arguments + [str(HERE / f"bench_{name}.py") for name in ORDER])
        results = json.loads(path.read_text()) if path.exists() and path.stat().st_size else None
    if not results:
        return int(status) or 1

    command = " ".join(["python benchmarks/run.py", *sys.argv[1:]])
    print("\n" + report.tables(results, command))
    measured = {benchmark["extra_info"]["title"] for benchmark in results["benchmarks"]}
    needed = {*cases.IN_README, *(case.title for case in cases.TRAINING)}
    if status == pytest.ExitCode.OK and needed <= measured:
        then = report.then_and_now(results, command)
        print("\n" + then)
        if not (options.quick or options.no_write):
            write("docs/benchmarks.md", "benchmarks", report.tables(results, command))
            write("docs/benchmarks.md", "then and now", then)
            write("README.md", "benchmarks", report.short_table(results, command))
    return int(status)


def write(page: str, name: str, text: str) -> None:
    if report.write_between_markers(HERE.parent / page, name, text):
        print(f"{page}: {name} is up to date")


if __name__ == "__main__":
    sys.exit(main())
