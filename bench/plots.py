"""The plots, from results.json: `python bench/plots.py DIR`, in an environment of its own (bench/requirements.txt)."""

import json
import sys
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("svg")
from matplotlib import pyplot as plt

STYLE = {
    "svg.hashsalt": "breakwater",
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#dddddd",
    "figure.figsize": (7.2, 3.8),
    "savefig.facecolor": "white",
}
COLOURS = {
    "breakwater": "#0b6e99",
    "stock libraries": "#c0392b",
    "stock sliding window": "#c0392b",
    "stock, one pipeline": "#e69f00",
    "LiteLLM proxy": "#6c3483",
    "floor": "#888888",
}


def _save(out: Path, name: str) -> None:
    plt.tight_layout()
    plt.savefig(out / f"{name}.svg", metadata={"Date": None})
    plt.close()


def network(out: Path, found: dict[str, Any]) -> None:
    """A hit by the distance to Redis."""
    delays = [int(delay) for delay in found["by_delay_ms"]]
    lines: dict[str, list[float]] = {}
    for figures in found["by_delay_ms"].values():
        for each in figures:
            if each["kind"] == "hit":
                lines.setdefault(each["name"], []).append(each["p50"])
    for name, values in lines.items():
        style = ":" if name == "floor" else "-"
        plt.plot(delays, values, style, marker="o", color=COLOURS.get(name), label=name)
    plt.xlabel("added to every reply of Redis, ms")
    plt.ylabel("a hit, p50 in ms")
    plt.xlim(left=0)
    plt.ylim(bottom=0)
    plt.legend(frameon=False)
    _save(out, "network")


def accuracy(out: Path, found: dict[str, Any]) -> None:
    """How much was admitted in the minute before, during the boundary attack."""
    for name, points in found["attack_curve"].items():
        plt.step([x for x, _ in points], [y for _, y in points], where="post", color=COLOURS.get(name), label=name)
    plt.axhline(found["limit"], color="#222222", linestyle="--", linewidth=1, label="limit")
    plt.xlabel("seconds since the attack began, just before a window's edge")
    plt.ylabel("admitted in the last 60 s")
    plt.ylim(bottom=0)
    plt.legend(frameon=False, loc="lower right")
    _save(out, "accuracy")


def main() -> None:
    """Draw what was measured."""
    out = Path(sys.argv[1])
    results = json.loads((out / "results.json").read_text())
    plt.rcParams.update(STYLE)
    for name, draw in (("network", network), ("accuracy", accuracy)):
        if name in results:
            draw(out, results[name])


if __name__ == "__main__":
    main()
