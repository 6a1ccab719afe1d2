"""From pytest-benchmark's JSON to the tables, and into the pages that show them."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

import cases
import peers

Results = dict[str, Any]

BEGIN, END = "<!-- benchmarks -->", "<!-- /benchmarks -->"


def tables(results: Results, command: str) -> str:
    """Return both tables with the machine they were measured on."""
    run = results["machine_info"]["harmonium"]
    peak = run["peak"][str(run["threads"])]
    parts = [machine_line(results, command), ""]
    parts += table(results, "workloads", peak, "harmonium", ["scikit-learn", "PyTorch"])
    best, *lower = run["levels"]
    kernels = table(results, "kernels", peak, best, [*lower, "NumPy", "PyTorch"])
    parts += ["", "By instruction set:", "", *kernels, "", *notes(run, peak)]
    return "\n".join(parts)


def short_table(results: Results, command: str) -> str:
    """Return what the README shows: a few workloads, and the machine."""
    run = results["machine_info"]["harmonium"]
    peak = run["peak"][str(run["threads"])]
    peers_shown = ["scikit-learn", "PyTorch"]
    lines = table(results, "workloads", peak, "harmonium", peers_shown, only=cases.IN_README)
    return "\n".join([*lines, "", machine_line(results, command)])


def table(
    results: Results,
    name: str,
    peak: float,
    ours: str,
    others: list[str],
    only: list[str] | None = None,
) -> list[str]:
    """Return the lines of a table: rates, and after each peer's how many times ours it is."""
    head = ["workload", "", ours, *others, "× roofline"]
    lines = [row(head), row([":--", ":--", *["--:"] * (len(head) - 2)])]
    for benchmark in results["benchmarks"]:
        info = benchmark["extra_info"]
        if info.get("table") != name or (only is not None and info["title"] not in only):
            continue
        rate = info["amount"] * info["repeats"] / benchmark["stats"]["median"]
        cells = [info["title"], info["unit"], f"**{quantity(rate)}**"]
        for other in others:
            seconds = info["seconds"].get(other)
            if seconds is None:
                cells.append("-")
            else:
                other_rate = info["amount"] / seconds
                cells.append(f"{quantity(other_rate)} ({rate / other_rate:.2g}×)")
        cells.append(f"{rate * info['flop'] / peak:.2g}" if info["flop"] else "-")
        lines.append(row(cells))
    return lines


def row(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def quantity(value: float) -> str:
    """Return three digits and an SI prefix."""
    for limit, prefix in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if value >= limit:
            return f"{value / limit:#.3g}".rstrip(".") + prefix
    return f"{value:.3g}"


def threads(n: int | str) -> str:
    return f"{n} thread" if int(n) == 1 else f"{n} threads"


def machine_line(results: Results, command: str) -> str:
    machine = results["machine_info"]
    run = machine["harmonium"]
    versions = ", ".join(f"{name} {version}" for name, version in run["versions"].items())
    return (
        f"{machine['cpu']['brand_raw']}, {run['cores']} cores, {run['isa']}; "
        f"{machine['system']} {machine['release']}, "
        f"Python {machine['python_version']}, {versions}; "
        f"{threads(run['threads'])} for everyone; {date.today()}, `{command}`."
    )


def notes(run: dict[str, Any], peak: float) -> list[str]:
    """Return what one has to know to read the tables."""
    peaks = ", ".join(
        f"{value / 1e9:.0f} GFLOP/s on {threads(n)}" for n, value in run["peak"].items()
    )
    ideal = quantity(peak / cases.GIBBS[0].flop)
    lines = [
        f"- float32 roofline (the best sgemm of NumPy and PyTorch, 2048³): {peaks}. A Gibbs step "
        f"784–500 that was perfect sgemm and nothing else would stop at {ideal} chain-steps/s."
    ]
    for model, densities in run["densities"].items():
        ones = ", ".join(f"{what} {density:.0%}" for what, density in densities.items())
        lines.append(f"- Ones, trained {model}: {ones}.")
    if "PyTorch" not in run["versions"]:
        lines.append(f"- {peers.NO_TORCH}.")
    return lines


def write_between_markers(page: Path, text: str) -> bool:
    """Replace what is between a page's markers; tell whether it has them."""
    old = page.read_text(encoding="utf-8") if page.exists() else ""
    before, begin, rest = old.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        return False
    page.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}", encoding="utf-8")
    return True
