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
ORDER = ["training", "gibbs", "transform", "rowsum", "update", "bernoulli", "activation"]


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
    is_whole = status == pytest.ExitCode.OK and measured.issuperset(cases.IN_README)
    if is_whole and not (options.quick or options.no_write):
        pages = {"docs/benchmarks.md": report.tables, "README.md": report.short_table}
        for page, make in pages.items():
            if report.write_between_markers(HERE.parent / page, make(results, command)):
                print(f"{page} is up to date")
    return int(status)


if __name__ == "__main__":
    sys.exit(main())
