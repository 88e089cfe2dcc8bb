"""``acodm reference``: the documents that are generated from the code."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def reference(
    context: typer.Context,
    what: Annotated[
        str,
        typer.Argument(help="defaults (YAML), schema (JSON); methods, models, signals, configuration, cli (Markdown)."),
    ],
    out: Annotated[Path | None, typer.Option(help="Write a file in place of printing.")] = None,
) -> None:
    """Print a document that is generated from the code: every setting, the schema, the methods' cards, the commands."""
    from acodm_core.errors import unknown_name
    from acodm_core.reference import pages as pages
    from acodm_core.reference.settings_page import configuration
    from acodm_core.seals import marked

    def methods() -> str:
        from acodm_core.lm.flops import config_flops

        return pages.methods(config_flops)

    def cli() -> str:
        from typer.cli import get_docs_for_click

        root = context.find_root()
        return get_docs_for_click(obj=root.command, ctx=root, name="acodm", title="Command line")

    documents = {
        "defaults": pages.defaults,
        "schema": pages.schema,
        "methods": methods,
        "models": pages.models,
        "signals": pages.signals,
        "configuration": configuration,
        "cli": cli,
    }
    if what not in documents:
        raise unknown_name("document", what, documents, where="acodm reference")
    text = documents[what]()
    if out is None:
        print(text, end="")
        return
    with marked(out) as temporary:
        temporary.write_text(text, encoding="utf-8")
