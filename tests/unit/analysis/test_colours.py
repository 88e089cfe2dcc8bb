"""Colours of methods: told apart in every vision, and legible as letters."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.colors import to_rgb

from acodm_analysis.core import style

# Machado, Oliveira and Fernandes 2009, table 1, severity 1: what linear RGB becomes without one kind of cone.
VISIONS = {
    "normal": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]],
}
XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])


def linear(colours) -> np.ndarray:
    rgb = np.array([to_rgb(colour) for colour in colours])
    return np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)


def lab(rgb: np.ndarray) -> np.ndarray:
    """CIELAB under D65."""
    xyz = rgb @ XYZ.T / (XYZ @ np.ones(3))
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.stack([116 * f[:, 1] - 16, 500 * (f[:, 0] - f[:, 1]), 200 * (f[:, 1] - f[:, 2])], axis=1)


@pytest.mark.parametrize("vision", VISIONS)
def test_known_colours_stay_apart_in_every_vision(vision):
    seen = lab(np.clip(linear(style.KNOWN.values()) @ np.asarray(VISIONS[vision]).T, 0, 1))
    apart = np.linalg.norm(seen[:, None] - seen[None], axis=-1)[np.triu_indices(len(seen), 1)]
    assert apart.min() > 7  # 2.3 is just noticeable


def test_names_in_a_methods_colour_can_be_read():
    for colour in style.KNOWN.values():
        (rgb,) = linear([style.legible(colour)])
        assert 1.05 / (XYZ[1] @ rgb + 0.05) > 4.45
    assert style.legible("#111111") == "#111111"


# --- In a browser ------------------------------------------------------------------------------------------------------------
