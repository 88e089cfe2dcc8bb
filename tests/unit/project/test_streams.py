"""Random streams keep their numbers, or every result changes; no other module names a stream of its own."""

import re
from pathlib import Path

import numpy as np

from acodm_core import streams

ROOT = Path(__file__).resolve().parents[3] / "acodm_core"


def test_streams_keep_their_numbers_and_are_all_different():
    named = {name: value for name, value in vars(streams).items() if name.isupper()}
    assert named == {
        "WEIGHTS": 0,
        "MIXER": 1,
        "DRAWS": 0xD4A3,
        "ADAPTERS": 0xADA9,
        "PROJECTIONS": 0x5CE7,
        "OWN_LOOP_MIXER": 0x313,
    }
    assert len(set(named.values())) == len(named)
    assert streams.stream_seed(7, streams.WEIGHTS) == np.random.SeedSequence([7, 0]).generate_state(1)[0]
    assert streams.stream(7, 3, streams.DRAWS).random() == np.random.default_rng([7, 3, 0xD4A3]).random()


def test_no_other_module_of_a_run_makes_a_stream_of_numbers_of_its_own():
    folders = [ROOT / "lm", ROOT / "mixers", ROOT / "data" / "sampler.py"]
    files = [path for one in folders for path in ([one] if one.is_file() else sorted(one.rglob("*.py")))]
    assert len(files) > 20
    for path in files:
        made = re.findall(r"default_rng\(\[[^\]]*\]\)|\bSTREAM\b|0x[0-9A-F]{3,4}\b", path.read_text(encoding="utf-8"))
        assert not made, f"{path.name} has {made}: name it in streams.py"
