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
    "Node, @upstash": "#1e8449",
    "Node, at once": "#82c99a",
    "LiteLLM proxy": "#6c3483",
    "floor": "#888888",
}


def _save(out: Path, name: str) -> None:
    plt.tight_layout()
    plt.savefig(out / f"{name}.svg", metadata={"Date": None})
    plt.close()


def network(out: Path, found: dict[str, Any]) -> None:
    """A hit and a miss by the distance to Redis."""
    delays = [int(delay) for delay in found["by_delay_ms"]]
    _, panels = plt.subplots(1, 2, sharey=True)
    for kind, panel in zip(("hit", "miss"), panels, strict=True):
        lines: dict[str, list[float]] = {}
        for figures in found["by_delay_ms"].values():
            for each in figures:
                if each["name"] == "floor" or (each["kind"] == kind and each["name"] != "floor, spared"):
                    lines.setdefault(each["name"], []).append(each["p50"])
        for name, values in lines.items():
            ours = name == "breakwater"
            style, width = (":", 1.5) if name == "floor" else ("-", 3.5 if ours else 1.5)
            panel.plot(delays, values, style, lw=width, marker="o", ms=3, color=COLOURS.get(name), label=name)
        panel.set_title(kind)
        panel.set_xlabel("added to every reply of Redis, ms")
        panel.set_xlim(left=0)
    panels[0].set_ylim(bottom=0)
    panels[0].set_ylabel("p50 in ms")
    panels[0].legend(frameon=False)
    _save(out, "network")


def accuracy(out: Path, found: dict[str, Any]) -> None:
    """How much was admitted in the minute before, during the boundary attack."""
    for name, points in found["attack_curve"].items():
        plt.step(
            [x for x, _ in points], [y for _, y in points], where="post", color=COLOURS.get(name), label=name, lw=2
        )
    plt.axhline(found["limit"], color="#222222", linestyle="--", linewidth=1, label="limit", zorder=1)
    plt.xlabel("seconds since the attack began, just before a window's edge")
    plt.ylabel("admitted in the last 60 s")
    plt.ylim(bottom=0)
    plt.yticks(range(0, 2 * found["limit"] + 1, 2))
    plt.legend(frameon=False, loc="lower center")
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
