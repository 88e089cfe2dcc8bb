"""What text and tokens a spec gives, compared with recorded hashes: whoever changes them must give the recipe a new number.

A corpus is named by ``RECIPE`` (acodm_core/data/catalogue.py). When this test fails because the code was changed on purpose, raise
that number and record the hashes again:  ACODM_RECORD=1 python -m pytest tests/golden/test_corpus.py
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import numpy as np

from acodm_core.data.catalogue import RECIPE

FILE = Path(__file__).with_name("corpus.json")
ADVICE = "the same spec gives other tokens; if that is meant, raise RECIPE and record again (see the file's head)"


def test_a_spec_gives_the_tokens_that_its_number_says(corpus):
    hashes = {}
    for domain in corpus.domains:
        for split in ("train", "valid", "test"):
            tokens, offsets = corpus.tokens(split, domain), corpus.offsets(split, domain)
            content = np.asarray(tokens, "<u4").tobytes() + np.asarray(offsets, "<i8").tobytes()
            hashes[f"{domain} {split}"] = hashlib.sha256(content).hexdigest()
    if os.environ.get("ACODM_RECORD"):
        FILE.write_text(json.dumps({"recipe": RECIPE, "hashes": hashes}, indent=1) + "\n", encoding="utf-8")
    assert json.loads(FILE.read_text(encoding="utf-8")) == {"recipe": RECIPE, "hashes": hashes}, ADVICE
