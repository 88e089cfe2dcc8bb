"""How a figure looks and leaves: one colour a method everywhere, SVG and PNG bytes that depend on the numbers alone."""

from __future__ import annotations

import colorsys
import json
import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from html import escape
from pathlib import Path

import matplotlib

matplotlib.use("Agg")  # no display, whatever the reader's machine has configured

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.text import Text
from matplotlib.ticker import LogFormatter, ScalarFormatter
from matplotlib.transforms import Bbox
from scipy.optimize import isotonic_regression

from acodm_core.files import digest
from acodm_core.seals import marked

WIDTH = 7.2  # inches: two columns of a paper
INK, FAINT, GRID = "#222222", "#6a6a6a", "#e3e3e3"
DEFAULT_THRESHOLD = "natural"  # what figures and tables count steps to unless the reader chooses another

# The references are greys and black; the others lean on Okabe and Ito's set, and those after it were chosen to stay apart from
# all before them in normal vision and under the two common colour blindnesses (tests/unit/analysis/test_report.py).
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
    "ado": "#cc79a7",
    "aioli": "#5b4a9e",
    "opmix": "#2600c4",
    "temperature": "#8b5a2b",
    "pike": "#00838f",
    "acodm_paper": "#b1b162",
    "acodm_paper_proxy": "#629dff",
    "acodm_released": "#4e3b14",
    "acodm_released_proxy": "#b13b76",
    "hds": "#d84e62",
    "unimax": "#764e3b",
    "acodm_mirror": "#c4763b",
    "objective": "#62b1c4",
    "acodm_alignment": "#0062c4",
    "odm_floor": "#00c489",
    "curriculum": "#9d4e00",
    "pike_balanced": "#3b3b62",
    "regmix": "#d89d3b",
    "skillit": "#8976d8",
    "chameleon": "#7689c4",
}
_POOL = ("#c2185b", "#33691e", "#3949ab", "#6d4c41", "#00a3a3", "#ad7fd6", "#f06292", "#827717", "#01579b", "#bf8040")
_MARKERS = "osD^vP*X<>hpd8"
_DASHES = ("-", (0, (5, 1.2)), (0, (1.2, 1)), (0, (5, 1.2, 1.2, 1.2)))
FEW = 6  # lines that colour alone tells apart
BANDS = 8  # methods whose bands over seeds do not hide each other


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


def dashes(methods: Iterable[str]) -> dict[str, object]:
    """A line style for each method: solid while they are few, else four in turn as a second cue beside the colour."""
    methods = list(methods)
    return {method: _DASHES[i % len(_DASHES) if len(methods) > FEW else 0] for i, method in enumerate(methods)}


def banded(methods: Collection[str]) -> bool:
    """Whether a figure of these methods has room for what surrounds their lines."""
    return len(methods) <= BANDS


def legible(colour: str) -> str:
    """``colour`` as dark as small letters on white need it: a contrast of at least 4.5 to 1 (WCAG 2)."""
    rgb = np.array(matplotlib.colors.to_rgb(colour))
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    luminance = float(linear @ (0.2126, 0.7152, 0.0722))
    linear = linear * min(1.0, (1.05 / 4.5 - 0.05) / max(luminance, 1e-9))
    return matplotlib.colors.to_hex(np.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear ** (1 / 2.4) - 0.055))


def pale(colour: str) -> tuple[float, float, float]:
    """``colour`` mixed with three parts of white: a second area of the same method."""
    return tuple(float(1 - 0.25 * (1 - part)) for part in matplotlib.colors.to_rgb(colour))


def use() -> None:
    """Load the style; every drawing function calls it first."""
    plt.rcdefaults()
    plt.style.use(Path(__file__).with_name("style.mplstyle"))


def tag(artist: Artist | Sequence[Artist], method: str = "", tip: str = "", threshold: str = "") -> None:
    """Say which method an artist belongs to (the report can hide it) and what its hover title says.

    An artist of one ``threshold`` is seen when the report's reader chooses that threshold; elsewhere only DEFAULT_THRESHOLD's are.
    """
    for one in artist if isinstance(artist, Sequence) else [artist]:
        one.acodm_part = {"method": method, "threshold": threshold, "tip": tip}


def trace(line: Line2D, panel: str, values: Sequence[str]) -> None:
    """What the report shows at each of a tagged line's points: the panel's words, the step (the point's x) and ``values``."""
    line.acodm_trace = (panel, list(values))


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


def label_lines(
    ax: Axes, ends: Sequence[tuple[float, float, str, str, str]], notes: dict[str, dict[str, str]], *, size: float = 7.5
) -> None:
    """Names to the right of the axes, one an end ``(x, y, text, colour, method)``, apart from each other, with leaders.

    ``notes``: threshold -> method -> a few letters between the leader and the name; see ``tag`` for thresholds.
    """
    if not ends:
        return
    low, high = ax.get_ylim()
    to_unit = ax.transAxes.inverted().transform
    units = [to_unit(ax.transData.transform((x, y))) for x, y, *_ in ends]
    width, height = (72 * side for side in _size(ax))
    units = [(ux, min(max(uy, 0.0), 1.0)) for ux, uy in units]  # a line may have left the axes
    places = spread_labels([uy for _, uy in units], 1.25 * size / height, 0.02, 0.98)
    room = 4.5 * size if any(notes.values()) else 0.0
    for (_, _, text, colour, method), (ux, uy), place in zip(ends, units, places, strict=True):
        (leader,) = ax.plot([ux, 1 + 4 / width, 1 + 9 / width], [uy, place, place], transform=ax.transAxes)
        leader.set(color=colour, lw=0.7, alpha=0.6, clip_on=False)
        words = {"transform": ax.transAxes, "color": legible(colour), "va": "center", "fontsize": size}
        tag([leader, ax.text(1 + (13 + room) / width, place, text, **words)], method)
        for threshold, note in notes.items():
            if method in note:
                tag(
                    ax.text(1 + (9 + room) / width, place, note[method], ha="right", **words),
                    method,
                    threshold=threshold,
                )
    ax.set_ylim(low, high)


def _size(ax: Axes) -> tuple[float, float]:
    """Width and height of an axes in inches."""
    place = ax.get_position()
    return place.width * ax.figure.get_figwidth(), place.height * ax.figure.get_figheight()


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


# What a picture without dates and program names takes, by format.
_PLAIN = {"png": {"Software": None}, "pdf": {"Creator": None, "Producer": None, "CreationDate": None}}
_formats: ContextVar[tuple[str, ...]] = ContextVar("_formats", default=("svg", "png"))


@contextmanager
def only(*formats: str) -> Iterator[None]:
    """Within the block ``save`` writes these formats and no other: ``pdf`` for a paper."""
    token = _formats.set(formats)
    try:
        yield
    finally:
        _formats.reset(token)


def save(figure: Figure, name: str, out: Path) -> None:
    """Write ``NAME.svg`` and ``NAME.png`` (see ``only``); no dates, no random ids.

    In the SVG a tagged artist's group has ``data-method``, ``data-threshold`` and a native hover title, and the points of traced
    lines stand as JSON in ``<metadata id="points">``.
    """
    _take_literally(figure)
    parts = {f"part-{i}": artist for i, artist in enumerate(figure.findobj(lambda a: hasattr(a, "acodm_part")))}
    for key, artist in parts.items():
        artist.set_gid(key)
    figure.draw_without_rendering()  # what is placed by its neighbours is placed now
    box = figure.get_tightbbox().padded(plt.rcParams["savefig.pad_inches"])
    if "svg" in _formats.get():
        with marked(out / f"{name}.svg") as temporary:
            figure.savefig(temporary, format="svg", bbox_inches=box, metadata={"Date": None, "Creator": None})
            temporary.write_text(_enriched(temporary.read_text(encoding="utf-8"), parts, box), encoding="utf-8")
    for artist in parts.values():
        artist.set_visible(artist.acodm_part["threshold"] in ("", DEFAULT_THRESHOLD))
    for kind in set(_formats.get()) & set(_PLAIN):
        with marked(out / f"{name}.{kind}") as temporary:
            figure.savefig(temporary, format=kind, dpi=200, bbox_inches=box, metadata=_PLAIN[kind])
    plt.close(figure)


def _take_literally(figure: Figure) -> None:
    """Draw all text as it is, a title with ``$`` in it too: only the numbers along an axis are set as formulas."""
    axes = [axis for ax in figure.axes for axis in (ax.xaxis, ax.yaxis)]
    numbered = [axis for axis in axes if isinstance(axis.get_major_formatter(), LogFormatter | ScalarFormatter)]
    numbers = {id(text) for axis in numbered for text in axis.findobj(Text) if text is not axis.label}
    for text in figure.findobj(Text):
        text.set_parse_math(id(text) in numbers)


def _enriched(svg: str, parts: dict[str, Artist], box: Bbox) -> str:
    """An SVG with what its parts are and where its traced lines' points lie."""
    svg = re.sub(r'<g id="(part-\d+)">', lambda m: _opening(m[1], **parts[m[1]].acodm_part), svg)
    if points := [_points(artist, box) for artist in parts.values() if hasattr(artist, "acodm_trace")]:
        text = json.dumps(points, ensure_ascii=False, separators=(",", ":"))
        svg = svg.replace("<defs>", f'<metadata id="points">{escape(text, quote=False)}</metadata>\n <defs>', 1)
    return svg


def _opening(key: str, method: str, threshold: str, tip: str) -> str:
    """The first tag of a tagged artist's group."""
    data = f' data-method="{escape(method)}"' * bool(method) + f' data-threshold="{escape(threshold)}"' * bool(
        threshold
    )
    hidden = ' style="display: none"' if threshold not in ("", DEFAULT_THRESHOLD) else ""
    return f'<g id="{key}"{data}{hidden}>' + (f"<title>{escape(tip)}</title>" if tip else "")


def _points(line: Line2D, box: Bbox) -> dict:
    """A traced line's points in the SVG's units, 1/72 inch from the top left corner of ``box`` (inches)."""
    panel, values = line.acodm_trace
    data = np.asarray(line.get_xydata(), dtype=float)
    known = np.isfinite(data).all(axis=1)
    data, values = data[known], [value for value, one in zip(values, known, strict=True) if one]
    inches = line.get_transform().transform(data) / line.figure.dpi
    x, y = 72 * (inches[:, 0] - box.x0), 72 * (box.y1 - inches[:, 1])
    points = {"x": x.round(1).tolist(), "y": y.round(1).tolist(), "step": data[:, 0].tolist(), "value": values}
    return {"method": line.acodm_part["method"], "panel": panel} | points
