"""The data card of a corpus: what is in it, whose it is, how much there is."""

from __future__ import annotations

from acodm_core.data.manifest import Manifest
from acodm_core.data.tokens.documents import SPLITS

_INTRODUCTION = """\
# Corpus {name}

Spec `{spec}`, content `{content}`, vocabulary {vocab} (byte-level), made by {versions}.
Held out by document, after exact de-duplication within a domain. MB is 10^6 bytes of text; the end of a document counts
as a token.
The text keeps the licence of its authors: this folder is for use, not for sharing.
"""


def card(manifest: Manifest) -> str:
    """The card as Markdown: two tables, quantities and rights, a row per domain."""
    parts = [
        _INTRODUCTION.format(
            name=manifest.spec.name,
            spec=manifest.spec_digest[:12],
            content=manifest.digest[:12],
            vocab=manifest.vocab_size,
            versions=", ".join(f"{name} {number}" for name, number in manifest.versions.items()),
        ),
        _row("domain", "stands for", "MB", "documents", *(f"{split} tokens" for split in SPLITS), "bytes per token"),
        _row("---", "---", *["---:"] * 6),
    ]
    for domain, splits in manifest.domains.items():
        size, tokens = (sum(getattr(r, key) for r in splits.values()) for key in ("text_bytes", "tokens"))
        parts.append(
            _row(
                domain,
                manifest.spec.domains[domain].pile_analogue,
                f"{size / 1e6:.2f}",
                sum(record.documents for record in splits.values()),
                *(splits[split].tokens for split in SPLITS),
                f"{size / tokens:.2f}",
            )
        )
    parts += ["", _row("domain", "text", "licence", "source"), _row(*["---"] * 4)]
    for domain, entry in manifest.spec.domains.items():
        licence = entry.licence + (" (rights unclear: do not share)" if entry.rights_unclear else "")
        parts.append(_row(domain, entry.title, licence, entry.citation))
    return "\n".join(parts) + "\n"


def _row(*cells: object) -> str:
    return "| " + " | ".join(str(cell).replace("|", r"\|").replace("\n", " ") for cell in cells) + " |"
