"""How a figure looks and leaves: one colour a method everywhere, SVG and PNG bytes that depend on the numbers alone."""

from __future__ import annotations

import colorsys
import re
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path

import matplotlib

matplotlib.use("Agg")  # no display, whatever the reader's machine has configured

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.optimize import isotonic_regression

from acodm_core.files import atomic, digest

WIDTH = 7.2  # inches: two columns of a paper
INK, FAINT, GRID = "#222222", "#6a6a6a", "#e3e3e3"

# The references are greys; the others lean on Okabe and Ito's set, which stays apart under the common colour blindnesses.
KNOWN = {
    "natural": "#4d4d4d",
    "uniform": "#9a9a9a",
    "oracle": "#111111",
    "acodm": "#d55e00",
    "acodm_proxy": "#8c2d82",
    "odm": "#0072b2",
    "odm_released": "#56b4e9",
    "doremi": "#009e73",
    "doge": "#e69f00",
    "regmix": "#b8860b",
    "ado": "#cc79a7",
    "aioli": "#5b4a9e",
    "skillit": "#7a8b00",
    "temperature": "#8b5a2b",
    "pike": "#00838f",
    "chameleon": "#c51b7d",
}
_POOL = ("#c2185b", "#33691e", "#3949ab", "#6d4c41", "#00a3a3", "#ad7fd6", "#f06292", "#827717", "#01579b", "#bf8040")
_MARKERS = "osD^vP*X<>hpd8"


def colours(methods: Iterable[str]) -> dict[str, str]:
    """A colour for each method: fixed for known ones, else drawn from the name; never the same one twice.

    An unknown method keeps its colour whatever stands beside it, unless two names draw the same one: then the
    alphabetically later moves on.
    """
    methods = list(methods)
    chosen = {method: KNOWN[method] for method in methods if method in KNOWN}
    for method in sorted(set(methods) - set(KNOWN)):
        start = int(digest(method, 8), 16)
        pool = [_POOL[(start + i) % len(_POOL)] for i in range(len(_POOL))]
        hues = ((start * 0.618034 + i * 0.381966) % 1 for i in range(10_000))
        spare = (matplotlib.colors.to_hex(colorsys.hls_to_rgb(hue, 0.42, 0.55)) for hue in hues)
        used = set(chosen.values())
        chosen[method] = next((c for c in pool if c not in used), None) or next(c for c in spare if c not in used)
    return {method: chosen[method] for method in methods}


def markers(methods: Iterable[str]) -> dict[str, str]:
    """A marker for each method: a second cue beside the colour."""
    return {method: _MARKERS[i % len(_MARKERS)] for i, method in enumerate(methods)}


def use() -> None:
    """Load the style; every drawing function calls it first."""
    plt.rcdefaults()
    plt.style.use(Path(__file__).with_name("style.mplstyle"))


def tag(artist: Artist | Sequence[Artist], method: str, tip: str = "") -> None:
    """Say which method an artist belongs to (the report can fade it) and what its hover title says."""
    for one in artist if isinstance(artist, Sequence) else [artist]:
        one.set_gid(f"method-{method}")
        one.acodm_tip = tip


def spread_labels(wanted: Sequence[float], gap: float, low: float = -np.inf, high: float = np.inf) -> list[float]:
    """Positions nearest to ``wanted`` (least squares) that keep their order, ``gap`` apart, within ``low`` and ``high``."""
    wanted = np.asarray(wanted, dtype=float)
    order = np.argsort(wanted, kind="stable")
    ladder = gap * np.arange(len(wanted))
    placed = isotonic_regression(wanted[order] - ladder).x + ladder if len(wanted) else wanted
    if len(placed):
        placed = placed + max(0.0, low - placed[0])
        placed = placed - max(0.0, placed[-1] - high)
        placed = np.maximum(placed, low + ladder) if high - low >= ladder[-1] else placed
    result = np.empty(len(wanted))
    result[order] = placed
    return result.tolist()


def label_lines(ax: Axes, ends: Sequence[tuple[float, float, str, str, str]], *, size: float = 7.5) -> None:
    """Names to the right of the axes, one an end ``(x, y, text, colour, method)``, apart from each other, with leaders."""
    if not ends:
        return
    figure = ax.figure
    low, high = ax.get_ylim()
    to_unit = ax.transAxes.inverted().transform
    units = [to_unit(ax.transData.transform((x, y))) for x, y, *_ in ends]
    lines = max(text.count("\n") + 1 for _, _, text, _, _ in ends)
    height = ax.get_position().height * figure.get_figheight() * 72
    places = spread_labels([u[1] for u in units], 1.25 * lines * size / height, 0.02, 0.98)
    for (_, _, text, colour, method), (ux, uy), place in zip(ends, units, places, strict=True):
        leader = ax.plot(
            [ux, 1.015, 1.035],
            [uy, place, place],
            transform=ax.transAxes,
            color=colour,
            lw=0.7,
            alpha=0.6,
            clip_on=False,
        )
        name = ax.text(1.045, place, text, transform=ax.transAxes, color=colour, va="center", fontsize=size)
        tag([*leader, name], method)
    ax.set_ylim(low, high)


def plain(ax: Axes, text: str) -> None:
    """An axes that only says something, such as "not run"."""
    ax.set_axis_off()
    ax.text(0.5, 0.5, text, ha="center", va="center", color=FAINT, transform=ax.transAxes)


def said(text: str, width: float = WIDTH) -> Figure:
    """A figure in place of one that has nothing to draw."""
    use()
    figure, ax = plt.subplots(figsize=(width, 1.2))
    plain(ax, text)
    return figure


def save(figure: Figure, name: str, out: Path) -> None:
    """Write ``NAME.svg`` and ``NAME.png``; no dates, no random ids, native hover titles in the SVG."""
    tips = {}
    for i, artist in enumerate(figure.findobj(lambda a: (a.get_gid() or "").startswith("method-"))):
        artist.set_gid(f"{artist.get_gid().split('--')[0]}--{i}")
        tips[artist.get_gid()] = getattr(artist, "acodm_tip", "")
    with atomic(out / f"{name}.svg") as temporary:
        figure.savefig(temporary, format="svg", metadata={"Date": None, "Creator": None})
        svg = temporary.read_text(encoding="utf-8")
        hover = re.sub(
            r'<g id="(method-[^"]+)">',
            lambda m: m[0] + (f"<title>{escape(tips[m[1]])}</title>" if tips.get(m[1]) else ""),
            svg,
        )
        temporary.write_text(hover, encoding="utf-8")
    with atomic(out / f"{name}.png") as temporary:
        figure.savefig(temporary, format="png", dpi=200, metadata={"Software": None})
    plt.close(figure)
