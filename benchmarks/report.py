"""From pytest-benchmark's JSON to the tables, and into the pages that show them."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

import cases
import peers

Results = dict[str, Any]

PEERS = ["scikit-learn", "PyTorch", "PyTensor"]
BY_HAND = "PyTorch by hand"  # no autograd, where "PyTorch" has it

# The deep-learning tutorial (deeplearning.net, 2008-2013) trained on 50 000 images.
TUTORIAL_ROWS = 50_000
TUTORIAL_RBM_EPOCHS, TUTORIAL_RBM_MINUTES = 15, 122
TUTORIAL_DBN_EPOCHS, TUTORIAL_DBN_MINUTES = 100, 615  # epochs of each layer


def tables(results: Results, command: str) -> str:
    """Return all tables of one run with the machine they were measured on."""
    run = results["machine_info"]["harmonium"]
    peak = run["peak"][str(run["threads"])]
    parts = [machine_line(results, command), ""]
    parts += table(results, "workloads", "harmonium", PEERS, peak)
    networks = table(results, "networks", "harmonium", ["PyTorch", BY_HAND, "scikit-learn"], peak)
    parts += ["", "Backpropagation:", "", *networks]
    whole = f"{threads(run['threads'])}, {run['isa']}"
    less = [
        benchmark["extra_info"]["title"]
        for benchmark in results["benchmarks"]
        if set(cases.PARTS) & set(benchmark["extra_info"]["seconds"])
    ]
    if less:
        heading = "What threads and instruction sets give harmonium:"
        parts += [
            "",
            heading,
            "",
            *table(results, "workloads", whole, list(cases.PARTS), only=less),
            *table(results, "networks", whole, list(cases.PARTS), only=less)[2:],
        ]
    best, *lower = run["levels"]
    kernels = table(results, "kernels", best, [*lower, "NumPy", "PyTorch"], peak)
    parts += ["", "By instruction set:", "", *kernels, ""]
    ways = table(results, "ways", "chosen by counts", list(cases.WAYS))
    parts += ["From which state the sums of a row are reached:", "", *ways, ""]
    parts += notes(run, peak)
    return "\n".join(parts)


def short_table(results: Results, command: str) -> str:
    """Return what the README shows: a few workloads, and the machine."""
    run = results["machine_info"]["harmonium"]
    peak = run["peak"][str(run["threads"])]
    lines = table(results, "workloads", "harmonium", PEERS, peak, only=cases.IN_README)
    lines += table(results, "networks", "harmonium", PEERS, peak, only=cases.IN_README)[2:]
    return "\n".join([*lines, "", machine_line(results, command)])


def then_and_now(results: Results, command: str) -> str:
    """Return the tutorial's published times beside what the rates of this run come to."""
    n_threads = results["machine_info"]["harmonium"]["threads"]
    contenders = {threads(n_threads): "harmonium"}
    if n_threads > 1:
        contenders = {cases.ONE_THREAD: cases.ONE_THREAD} | contenders
    head = ["workload", "published", *(f"harmonium, {name}" for name in contenders)]
    lines = [row(head), row([":--", ":--", *["--:"] * len(contenders)])]
    rates = {
        benchmark["extra_info"]["title"]: rates_of(benchmark) for benchmark in results["benchmarks"]
    }
    bottom, other = cases.TUTORIAL_DBN
    for what, machine, minutes, epochs, layers in (
        (
            f"RBM 784–500, PCD-15, batch 20, {TUTORIAL_RBM_EPOCHS} epochs",
            "1 thread of a Xeon E5430, GotoBLAS",
            TUTORIAL_RBM_MINUTES,
            TUTORIAL_RBM_EPOCHS,
            [cases.TUTORIAL_RBM],
        ),
        (
            f"DBN 784–1000–1000–1000, CD-1, batch 10, {TUTORIAL_DBN_EPOCHS} epochs a layer",
            "4 cores of a Xeon X5560, MKL",
            TUTORIAL_DBN_MINUTES,
            TUTORIAL_DBN_EPOCHS,
            [bottom, other, other],
        ),
    ):
        cells = [what, f"{minutes} min, {machine}"]
        for contender in contenders.values():
            per_row = sum(1 / rates[layer.title][contender] for layer in layers)
            now = per_row * epochs * TUTORIAL_ROWS / 60
            cells.append(f"**{now:.2g} min** ({times(minutes / now)})")
        lines.append(row(cells))
    return "\n".join(lines)


def table(
    results: Results,
    name: str,
    ours: str,
    others: list[str],
    peak: float | None = None,
    only: list[str] | None = None,
) -> list[str]:
    """Return the lines of a table: rates, and after each other's how many times ours it is.

    With `peak`, the last column is the rate as a part of the float32 roofline.
    """
    head = ["workload", "", ours, *others] + ["× roofline"] * (peak is not None)
    lines = [row(head), row([":--", ":--", *["--:"] * (len(head) - 2)])]
    for benchmark in results["benchmarks"]:
        info = benchmark["extra_info"]
        if info.get("table") != name or (only is not None and info["title"] not in only):
            continue
        rates = rates_of(benchmark)
        rate = rates["harmonium"]
        cells = [info["title"], info["unit"], f"**{quantity(rate)}**"]
        for other in others:
            if other in rates:
                cells.append(f"{quantity(rates[other])} ({times(rate / rates[other])})")
            else:
                cells.append("-")
        if peak is not None:
            cells.append(f"{rate * info['flop'] / peak:.2g}" if info["flop"] else "-")
        lines.append(row(cells))
    return lines


def rates_of(benchmark: Results) -> dict[str, float]:
    """Return every contender's rate, "harmonium" among them."""
    info = benchmark["extra_info"]
    ours = {"harmonium": benchmark["stats"]["median"] / info["repeats"]}
    return {name: info["amount"] / seconds for name, seconds in (ours | info["seconds"]).items()}


def row(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def quantity(value: float) -> str:
    """Return three digits and an SI prefix."""
    for limit, prefix in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if value >= limit:
            return f"{value / limit:#.3g}".rstrip(".") + prefix
    return f"{value:.3g}"


def times(ratio: float) -> str:
    """Return two digits, without an exponent."""
    return f"{float(f'{ratio:.2g}'):g}×"


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
        ones = ", ".join(f"{what} {100 * density:.2g}%" for what, density in densities.items())
        lines.append(f"- Ones, trained {model}: {ones}.")
    for peer in PEERS:
        if peer not in run["versions"]:
            lines.append(f"- {peer} is not installed, so its column is empty: {peers.INSTALL}.")
    return lines


def write_between_markers(page: Path, name: str, text: str) -> bool:
    """Replace what is between a page's markers of a name; tell whether it has them."""
    old = page.read_text(encoding="utf-8") if page.exists() else ""
    opening, closing = f"<!-- {name} -->", f"<!-- /{name} -->"
    before, begin, rest = old.partition(opening)
    _, end, after = rest.partition(closing)
    if not (begin and end):
        return False
    page.write_text(f"{before}{opening}\n{text}\n{closing}{after}", encoding="utf-8")
    return True
