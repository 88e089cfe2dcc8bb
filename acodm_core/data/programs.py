"""``acodm data``: the steps from archives to a sealed corpus, each by hand, and ``build`` for all of them.

The workflow calls the same commands, one per rule.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from acodm_core.errors import UserError

if TYPE_CHECKING:
    from acodm_core.data.catalogue import CorpusSpec
    from acodm_core.data.sources.specs import Shards

app = typer.Typer(help="From archives to memory-mapped domains.", no_args_is_help=True)

Spec = Annotated[Path, typer.Argument(help="A corpus spec, JSON or YAML.", metavar="SPEC")]
Domain = Annotated[str, typer.Argument(help="Name of a domain.", metavar="DOMAIN")]
Out = Annotated[Path, typer.Option("--out", help="What to write.")]


@app.command()
def fetch(
    archive: Annotated[
        str, typer.Argument(help="The archive's pin, JSON, as under `archives` in the catalogue.", metavar="PIN")
    ],
    out: Annotated[Path, typer.Option("--out", help="Folder to put it in.")] = Path("data/archives"),
) -> None:
    """Download one archive and check its hash (`build` fetches all that a corpus needs)."""
    from pydantic import ValidationError

    from acodm_core.data.catalogue import load_catalogue
    from acodm_core.data.sources import archives
    from acodm_core.data.sources.specs import Archive, PackagesDomain

    try:
        pin = Archive.model_validate_json(archive)
    except ValidationError as error:
        raise UserError(
            f"not an archive's pin: {error}", fix="package, version, filename and sha256, as JSON"
        ) from None
    shipped = load_catalogue().domains.items()
    parts = {name: entry.parts for name, entry in shipped if isinstance(entry, PackagesDomain)}
    archives.fetch(
        pin, out, needed_by=[name for name, found in parts.items() if pin in [part.archive for part in found]]
    )


@app.command()
def documents(
    spec: Spec,
    domain: Domain,
    archives_dir: Annotated[Path, typer.Option("--archives", help="Folder of archives.")],
    out: Out,
) -> None:
    """Clean, de-duplicate and split the documents of one domain into a Parquet file."""
    from acodm_core.data.catalogue import read_spec
    from acodm_core.data.tokens.documents import build_documents

    summary = build_documents(read_spec(spec), domain, archives_dir, out)
    typer.echo(
        f"{domain}: {summary.documents} documents, {summary.bytes / 1e6:.2f} MB"
        f" (left out: {summary.duplicates} repeats, {summary.short} short, {summary.over_cap} over the cap)"
    )


@app.command()
def tokenizer(
    spec: Spec, documents_dir: Annotated[Path, typer.Option("--documents", help="Folder of Parquet files.")], out: Out
) -> None:
    """Train the tokenizer on every domain's train split."""
    from acodm_core.data.catalogue import read_spec
    from acodm_core.data.tokens.tokenizer import train_tokenizer

    train_tokenizer(read_spec(spec), documents_dir, out)


@app.command()
def tokenize(
    spec: Spec,
    domain: Domain,
    documents_path: Annotated[Path, typer.Option("--documents", help="The domain's Parquet file.")],
    tokenizer_path: Annotated[Path, typer.Option("--tokenizer", help="The tokenizer.json.")],
    out: Out,
) -> None:
    """Write one domain's token files into a folder."""
    from acodm_core.data.catalogue import read_spec
    from acodm_core.data.tokens.token_files import tokenize_domain

    tokenize_domain(read_spec(spec), domain, documents_path, tokenizer_path, out)


@app.command()
def shards(spec: Spec, out: Out) -> None:
    """List the shards that a corpus is made of, with their sizes. Later steps read this list."""
    from acodm_core.data.catalogue import read_spec
    from acodm_core.data.sources.shards import find_shards, write_listing

    listing = find_shards(sharded(read_spec(spec), spec))
    write_listing(listing, out)
    typer.echo(f"{len(listing)} shards, {sum(shard.bytes for shard in listing) / 1e9:.2f} GB")


@app.command()
def piece(
    spec: Spec,
    number: Annotated[int, typer.Argument(help="Number of the piece, from 0.", metavar="PIECE")],
    listing: Annotated[Path, typer.Option("--shards", help="The list of shards.")],
    tokenizer_path: Annotated[Path, typer.Option("--tokenizer", help="The tokenizer.json.")],
    out: Annotated[Path, typer.Option("--out", help="Folder of all pieces' parts.")],
) -> None:
    """Clean, split and tokenise one piece of the shards, for all its domains in one pass."""
    from acodm_core.data.catalogue import read_spec
    from acodm_core.data.sources.shards import read_listing
    from acodm_core.data.tokens.pieces import tokenize_piece

    found = read_spec(spec)
    sharded(found, spec)
    record = tokenize_piece(found, read_listing(listing), number, tokenizer_path, out)
    documents, text_bytes = (
        sum(getattr(d, key) for d in record.domains.values()) for key in ("documents", "text_bytes")
    )
    typer.echo(
        f"{documents:,} documents, {text_bytes / 1e6:.2f} MB; left out: {record.left_out}; faults: {record.faults}"
    )
    for example in record.examples:
        typer.echo(f"  {example}")


@app.command()
def join(
    spec: Spec,
    domain: Domain,
    parts: Annotated[Path, typer.Option("--parts", help="Folder of all pieces' parts.")],
    out: Out,
) -> None:
    """Join one domain's parts into its token files, without repeats."""
    from acodm_core.data.catalogue import read_spec
    from acodm_core.data.tokens.join import join_domain

    found = read_spec(spec)
    sharded(found, spec)
    join_domain(found, domain, parts, out)


@app.command()
def seal(spec: Spec, corpus_dir: Annotated[Path, typer.Argument(help="Folder of the corpus.")]) -> None:
    """Count and hash everything, and write the card and the manifest."""
    from acodm_core.data.catalogue import read_spec
    from acodm_core.data.seal import seal as seal_corpus

    typer.echo(seal_corpus(read_spec(spec), corpus_dir).digest)


@app.command()
def card(corpus_dir: Annotated[Path, typer.Argument(help="Folder of a sealed corpus.")]) -> None:
    """Print the data card of a corpus."""
    from acodm_core.data.card import card as render
    from acodm_core.data.corpus import Corpus

    typer.echo(render(Corpus.open(corpus_dir).manifest))


@app.command()
def verify(corpus_dir: Annotated[Path, typer.Argument(help="Folder of a sealed corpus.")]) -> None:
    """Check every file of a corpus against the checksum that it was sealed with."""
    from acodm_core.data.corpus import Corpus

    Corpus.open(corpus_dir).verify()
    typer.echo("every file is as it was sealed")


@app.command()
def build(
    spec: Annotated[Path | None, typer.Argument(help="A corpus spec; without one, the embedded corpus.")] = None,
    data: Annotated[Path, typer.Option("--data", help="Folder that holds archives/ and corpora/.")] = Path("data"),
    jobs: Annotated[int, typer.Option(help="Pieces of shards to tokenise at once, a process each.", min=1)] = 1,
) -> None:
    """All steps: fetch, documents, tokenizer, tokenize (or shards, pieces, join), seal. Finished steps are not repeated."""
    from acodm_core.data.build import build_corpus
    from acodm_core.data.catalogue import embedded_spec, read_spec

    folder = build_corpus(read_spec(spec) if spec else embedded_spec(), data, jobs)
    typer.echo(folder)


def sharded(found: CorpusSpec, path: Path) -> Shards:
    """The shards of a spec, or a UserError: it has none."""
    if found.shards is None:
        raise UserError("this corpus is not made of shards", where=str(path), fix="`acodm data build` takes any spec")
    return found.shards
