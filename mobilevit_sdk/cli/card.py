"""`mobilevit card`: a model card from facts."""

from __future__ import annotations

from pathlib import Path

import click

from mobilevit_sdk.cli.common import out, print_json, print_notes, verb

FACTS = (
    click.option(
        "--verdicts",
        type=click.Path(path_type=Path),
        metavar="FILE",
        help="The verdicts.json of `verify --report`; by default the one in the folder, or in its report/.",
    ),
    click.option(
        "--device-report",
        "device_reports",
        multiple=True,
        type=click.Path(path_type=Path),
        metavar="FILE",
        help="What a phone answered and measured; may be repeated.",
    ),
)


@verb("card", "Write a model card of phone files, from facts alone.")
@click.argument("artifacts", metavar="ARTIFACT_OR_DIR...", nargs=-1, required=True, type=click.Path(path_type=Path))
@FACTS[0]
@FACTS[1]
@click.option("--repo", metavar="ORG/NAME", help="The repository that the card's commands fetch from.")
@click.option("--out", "path", type=click.Path(path_type=Path), metavar="FILE", help="Write it here, as to README.md.")
def command(
    artifacts: tuple[Path, ...],
    verdicts: Path | None,
    device_reports: tuple[Path, ...],
    repo: str | None,
    path: Path | None,
    as_json: bool,
) -> None:
    """Write the model card of artifacts of one checkpoint: files, parity, accuracy, phones, use, origin, limits.

    Every number comes from a manifest, a verdict on that very file, or a device report; "not measured" stands where
    there is none. The YAML at its top is what the Hugging Face hub reads. JSON keys: "path" (null without --out),
    "card", "notes".
    """
    from mobilevit_sdk.files import replacing
    from mobilevit_sdk.publishing.card import render
    from mobilevit_sdk.publishing.facts import collect_facts

    facts = collect_facts(artifacts, verdicts=verdicts, device_reports=device_reports)
    card = render(facts, repo)
    if path:
        with replacing(path) as fresh:
            fresh.write_text(card, encoding="utf-8")
    print_notes(facts.notes)
    if as_json:
        print_json({"path": str(path) if path else None, "card": card, "notes": list(facts.notes)})
    elif path:
        out.print(f"{path}: the card of {len(facts.artifacts)} artifacts", markup=False)
    else:
        click.echo(card, nl=False)
