"""metadata.csv, metadata.jsonl, labels.json and captions beside pictures, as people really have them."""

from __future__ import annotations

import json
import unicodedata
from pathlib import Path

import pytest
from PIL import Image

from dtrak_core.commands import answers, cli
from dtrak_core.datasets import captions, catalogue, pictures
from dtrak_core.datasets.content import Content
from dtrak_core.datasets.settings import Columns, DatasetSettings
from dtrak_core.datasets.source_files import SourceFile
from dtrak_core.engine import work
from dtrak_core.errors import DataError, SettingsError
from dtrak_core.progress import quiet
from dtrak_core.settings import build, key_of

HEAD = "file_name,caption,contributor"


def folder(place: Path, *names: str) -> Path:
    """Write one picture of its own colour under each name."""
    for i, name in enumerate(names):
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (20 * i, 255 - 20 * i, 7)).save(place / name, "PNG")
    return place


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return folder(tmp_path / "mine", *(f"sub/{i}.png" for i in range(10)))


def read(source: Path, on_broken: str = "refuse") -> Content:
    return pictures.load(catalogue.source_settings("folder", source, "mine", 8, on_broken), source)


def facts(content: Content, fact: str) -> dict[str, str]:
    """Return a fact of every picture, by its path."""
    return {row["origin"]: row.get(fact, "") for split in (content.train, content.held_out) for row in split.rows}


LINES = [f"sub/{i}.png,a cup {i},me" for i in range(10)]
CAPTIONS = {f"sub/{i}.png": f"a cup {i}" for i in range(10)}


@pytest.mark.parametrize(
    "written",
    [
        "\ufeff" + "\r\n".join([HEAD, *LINES, ",,", ",,", ""]),
        "\r\n".join([HEAD, *LINES]).replace(",", ";"),
        "\n".join([HEAD, *LINES]).replace(",", "\t"),
        "sep=;\r\n" + "\r\n".join([HEAD, *LINES]).replace(",", ";"),
        "\n".join(["File_Name, Caption ,CONTRIBUTOR", *LINES]),
        "\n".join(["File Name,text,Contributor", *LINES]),
        "\n".join(["filename,prompt,contributor", *LINES]),
        "\n".join([f",{HEAD}", *(f"{i},{line}" for i, line in enumerate(LINES))]),
        "\n".join([f"Unnamed: 0,{HEAD}", *(f"{i},{line}" for i, line in enumerate(LINES))]),
        "\n".join([f"{HEAD},,", *(f"{line},," for line in LINES)]),
        "\n".join([HEAD, *LINES]).replace("sub/", "sub\\"),
        "\n".join([HEAD, *LINES]).replace("sub/", "./sub/"),
        "\n".join([HEAD, *LINES]).replace(".png", ".PNG").replace("sub/", "SUB/"),
        "\n".join(["", HEAD, *LINES]),
    ],
    ids=[
        "BOM and empty rows", "semicolons", "tabs", "sep", "case", "text", "prompt", "index", "Unnamed", "more commas",
        "backslashes", "dots", "upper case", "empty line first",
    ],
)  # fmt: skip
@pytest.mark.parametrize("coding", ["utf-8", "utf-16"])
def test_a_table_from_any_program(source: Path, written: str, coding: str) -> None:
    (source / "metadata.csv").write_bytes(written.removeprefix("\ufeff" if coding == "utf-16" else "").encode(coding))
    content = read(source)
    assert facts(content, "caption") == CAPTIONS
    assert set(facts(content, "contributor").values()) == {"me"}
    assert not content.skipped
    assert not content.notes


def test_file_name_alone_is_needed_and_a_table_may_be_partial(source: Path) -> None:
    (source / "metadata.csv").write_text("file_name,year\nsub/1.png,1998\n")
    assert facts(read(source), "year") == {f"sub/{i}.png": "1998" if i == 1 else "" for i in range(10)}


@pytest.mark.parametrize("nothing", ["nan", "NaN", "None", "null", "<NA>", "N/A", " ", ""])
def test_nothing_is_nothing(source: Path, nothing: str) -> None:
    (source / "metadata.csv").write_text(
        f"{HEAD},label\n" + "\n".join(f"sub/{i}.png,{nothing},{nothing},{nothing}" for i in range(9))
    )
    content = read(source)
    for fact, value in (("caption", ""), ("contributor", ""), ("label", "sub")):
        assert set(facts(content, fact).values()) == {value}
    assert content.train.prompts[0] == "a picture of sub"


def test_captions_from_json_lines(source: Path) -> None:
    rows = [
        {"file_name": f"{i}.png", "text": text, "year": 1990 + i}
        for i, text in enumerate(["one", None, ["two", "2"], float("nan")])
    ]
    (source / "sub" / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n\n")
    content = read(source)
    told = ["one", "", "two", "", *[""] * 6]
    assert facts(content, "caption") == {f"sub/{i}.png": text for i, text in enumerate(told)}
    assert facts(content, "year")["sub/3.png"] == "1993"


def test_tables_in_split_folders_are_relative_to_them(tmp_path: Path) -> None:
    names = [f"{side}/{i}.png" for side in ("train", "test") for i in range(9)]
    source = folder(tmp_path / "mine", *(f"w/{name}" for name in names))
    for side in ("train", "test"):
        lines = [f"{i}.png,{side} {i},me" for i in range(9)]
        (source / "w" / side / "metadata.csv").write_text("\n".join([HEAD, *lines]))
    content = read(source)
    assert [row["caption"] for row in content.train.rows] == [f"train {i}" for i in range(9)]
    assert [row["caption"] for row in content.held_out.rows] == [f"test {i}" for i in range(9)]


def test_a_column_split_is_followed(source: Path) -> None:
    table = source / "metadata.csv"
    table.write_text("file_name,split\n" + "\n".join(f"sub/{i}.png,{'test' if i == 3 else 'train'}" for i in range(10)))
    content = read(source)
    assert [row["origin"] for row in content.held_out.rows] == ["sub/3.png"]
    table.write_text("file_name,split\nsub/3.png,test\nsub/4.png,left\n")
    assert read(source).notes == [
        "The column 'split' is not followed, since it has left; one picture in ten is held out instead."
    ]


def test_names_in_another_form_of_unicode(tmp_path: Path) -> None:
    names = [f"crème-{i}.png" for i in range(9)]
    for on_disk, in_table in (("NFD", "NFC"), ("NFC", "NFD")):
        source = folder(tmp_path / on_disk, *(unicodedata.normalize(on_disk, name) for name in names))
        lines = [f"{unicodedata.normalize(in_table, name)},a {i},me" for i, name in enumerate(names)]
        (source / "metadata.csv").write_text("\n".join([HEAD, *lines]), encoding="utf-8")
        assert sorted(facts(read(source), "caption").values()) == [f"a {i}" for i in range(9)]


def test_names_that_differ_in_case_alone(tmp_path: Path) -> None:
    source = folder(tmp_path / "mine", *(f"{i}.png" for i in range(7)), "a.png", "A.png")
    (source / "metadata.csv").write_text(f"{HEAD}\na.png,small,me\nA.png,large,me\n")
    told = facts(read(source), "caption")
    assert (told["a.png"], told["A.png"]) == ("small", "large")
    (source / "metadata.csv").write_text(f"{HEAD}\na.PNG,small,me\n")
    with pytest.raises(DataError, match=r"Row 2 of metadata\.csv names 'a\.PNG', which is no picture in 'mine'"):
        read(source)


@pytest.mark.parametrize(
    ("name", "written", "says"),
    [
        ("metadata.csv", f"{HEAD}\nsub/11.png,a,b", "which is no picture in 'mine'. Did you mean 'sub/1.png'?"),
        ("metadata.csv", f"{HEAD}\n3.png,a,b", "no picture in 'mine'. Did you mean 'sub/3.png'?"),
        ("metadata.csv", f"{HEAD}\n/home/me/sub/3.png,a,b", "Did you mean 'sub/3.png'?"),
        ("metadata.csv", f"{HEAD}\n,a,b", "Row 2 of metadata.csv has no file_name. Give one, or delete the row."),
        ("metadata.csv", "file,caption\n0.png,a", "it has: file, caption. Is it 'file'? Rename it."),
        ("metadata.csv", "url,caption\n0.png,a", "it has: url, caption. Add it: the path of each picture."),
        ("metadata.csv", "file_name,caption,Caption\nsub/0.png,a,b", "the column 'caption' more than once."),
        ("metadata.csv", "file_name,label,label\nsub/0.png,a,b", "the column 'label' more than once. Keep one."),
        ("metadata.jsonl", '{"file_name": "sub/0.png"}\n{"file_name"', "Row 2 of metadata.jsonl is not JSON"),
        ("metadata.jsonl", "[1, 2]", "Row 1 of metadata.jsonl is no object like"),
        ("metadata.jsonl", '{"text": "a"}', "metadata.jsonl has no column 'file_name'; it has: text."),
        ("metadata.jsonl", '{"file_name": "sub/0.png"}\n{"text": "a"}', "Row 2 of metadata.jsonl has no file_name."),
        ("sub/metadata.csv", f"{HEAD}\n99.png,a,b", "Row 2 of sub/metadata.csv names '99.png'"),
    ],
)  # fmt: skip
def test_wrong_tables_are_refused_with_a_hint(source: Path, name: str, written: str, says: str) -> None:
    (source / name).write_text(written)
    with pytest.raises(DataError) as error:
        read(source)
    assert says in str(error.value)


def test_two_tables(source: Path) -> None:
    (source / "metadata.csv").write_text(f"{HEAD}\nsub/0.png,of csv,me\n")
    (source / "metadata.jsonl").write_text('{"file_name": "sub/0.png", "text": "of jsonl"}')
    content = read(source)
    assert facts(content, "caption")["sub/0.png"] == "of csv"
    assert [(left.file, left.reason) for left in content.skipped] == [
        ("metadata.jsonl", "another table of its folder is read")
    ]
    (source / "sub" / "metadata.csv").write_text("file_name\n0.png\n")
    with pytest.raises(DataError, match=r"Row 2 of sub/metadata\.csv names '0\.png' a second time"):
        read(source)


def test_a_table_may_name_what_was_left_out(source: Path) -> None:
    (source / "sub" / "11.heic").write_bytes(b"\0\0\0\x18ftypheic")
    (source / "metadata.csv").write_text(f"{HEAD}\nsub/11.heic,a,b\nsub/1.png,one,me\n")
    content = read(source)
    assert facts(content, "caption")["sub/1.png"] == "one"
    assert [left.file for left in content.skipped] == ["sub/11.heic"]


def test_labels_of_fiftyone(tmp_path: Path) -> None:
    source = folder(tmp_path / "mine", *(f"data/{i}.png" for i in range(9)))
    labels = {str(i): i % 2 for i in range(8)} | {"gone": 1}
    (source / "labels.json").write_text(json.dumps({"classes": ["cat", "dog"], "labels": labels}))
    content = read(source)
    assert facts(content, "label") == {f"data/{i}.png": ("cat", "dog")[i % 2] if i < 8 else "" for i in range(9)}
    assert content.notes == ["labels.json names 1 picture that is not there."]
    (source / "labels.json").write_text(json.dumps({"classes": ["cat"], "labels": labels}))
    with pytest.raises(DataError, match=r"labels\.json gives '1' the label 1, but has only 1 classes"):
        read(source)
    (source / "labels.json").write_text('{"0": "cat"}')
    assert read(source).notes == ["labels.json is not read: it has no labels by picture name, as FiftyOne writes them."]


def test_captions_beside_the_pictures(tmp_path: Path) -> None:
    source = folder(tmp_path / "mine", *(f"10_sks painting/{i}.png" for i in range(9)))
    inside = source / "10_sks painting"
    (inside / "0.txt").write_text("\ufeff\n sks painting, oil \nsecond line\n", encoding="utf-8")
    (inside / "1.caption").write_text("a caption")
    (inside / "2.txt").write_text("the text")
    (inside / "2.caption").write_text("not read")
    (inside / "3.TXT").write_bytes("größe".encode("utf-16"))
    (inside / "4.png.txt").write_text("by the whole name")
    (inside / "5.txt").write_text("0 0.51 0.25 0.1 0.1\n1 0.5 0.5 0.2 0.2\n")
    (inside / "6.txt").write_text("")
    (inside / "7.txt").write_text("beside a table")
    (inside / "readme.txt").write_text("of no picture")
    (source / "metadata.csv").write_text(f"{HEAD}\n10_sks painting/7.png,of the table,me\n")
    content = read(source)
    told = ["sks painting, oil", "a caption", "the text", "größe", "by the whole name", "", "", "of the table", ""]
    assert list(dict(sorted(facts(content, "caption").items())).values()) == told
    assert set(facts(content, "label").values()) == {"sks painting"}
    assert not any("10" in prompt for prompt in content.train.prompts + content.held_out.prompts)
    assert {left.file.partition("/")[2]: left.reason for left in content.skipped} == {
        "2.caption": "another text of its picture is read",
        "5.txt": "no caption: it is empty or holds numbers alone",
        "6.txt": "no caption: it is empty or holds numbers alone",
        "7.txt": "the table has the caption",
        "readme.txt": "a text is read only where it is called like a picture",
    }


def test_a_changed_caption_changes_the_digest(source: Path) -> None:
    digests = [pictures.source_digest("folder", source)]
    for name, text in (("sub/0.txt", "one"), ("sub/0.txt", "two"), ("metadata.jsonl", '{"file_name": "sub/1.png"}')):
        (source / name).write_text(text)
        digests.append(pictures.source_digest("folder", source))
    assert len(set(digests)) == 4


@pytest.mark.parametrize(
    ("data", "guessed"),
    [("größe\r\nzwei".encode("cp1252"), True), ("„a“ – 5 €".encode("cp1252"), True), (b"\xff\0\x81\x01", False)],
    ids=str,
)
def test_the_encoding_that_text_is_probably_in_is_named(data: bytes, guessed: bool) -> None:
    with pytest.raises(DataError, match=r"Save it as CSV UTF-8\.") as refused:
        captions.decoded(data, "metadata.csv")
    assert ("Windows-1252 (cp1252): 'iconv -f WINDOWS-1252 -t UTF-8'" in str(refused.value)) == guessed


def test_text_in_no_known_encoding_is_named() -> None:
    file = SourceFile("a/0.txt", 3, lambda: "größe".encode("latin-1"))
    with pytest.raises(DataError, match=r"a/0\.txt is not text in UTF-8 \(invalid .* at byte 2\)\. Save it as UTF-8\."):
        captions.read(file)


STYLES = ["file_name,label,style,contributor", *(f"sub/{i}.png,x{i},{'ab'[i % 2]},me" for i in range(10))]


@pytest.mark.parametrize(
    ("columns", "labels", "contributors"),
    [
        ((), {f"x{i}" for i in range(10)}, {"me"}),
        ((("label", "style"),), {"a", "b"}, {"me"}),
        ((("label", ""),), {"sub"}, {"me"}),
        ((("label", "contributor"), ("contributor", "style")), {"me"}, {"a", "b"}),
        ((("contributor", ""),), {f"x{i}" for i in range(10)}, {""}),
    ],
)
def test_columns_are_read_as_they_are_chosen(
    source: Path, columns: Columns, labels: set[str], contributors: set[str]
) -> None:
    Image.new("RGB", (8, 8)).save(source / "other.png")
    (source / "metadata.csv").write_text("\n".join([*STYLES, "other.png,,,me"]))
    found = pictures.load(catalogue.source_settings("folder", source, "mine", 8, "refuse", columns), source)
    assert set(facts(found, "label").values()) - {""} == labels
    assert set(facts(found, "contributor").values()) - ({"", "me"} - contributors) == contributors


@pytest.mark.parametrize(
    ("columns", "sentence"),
    [
        ((("label", "genre"),), "has no column 'genre', chosen for label; it has: file_name, label, style"),
        ((("label", "style"), ("label", "label")), "label is given two columns"),
        ((("file_name", ""),), "file_name needs a column"),
        ((("maker", "style"),), "is 'maker': input should be 'file_name'"),
    ],
)
def test_columns_that_cannot_be_chosen_are_refused(source: Path, columns: Columns, sentence: str) -> None:
    (source / "metadata.csv").write_text("\n".join(STYLES))
    with pytest.raises((DataError, SettingsError), match=sentence):
        pictures.load(catalogue.source_settings("folder", source, "mine", 8, "refuse", columns), source)


def test_columns_without_a_table_are_refused_and_their_order_changes_no_key(source: Path) -> None:
    chosen: Columns = (("label", "style"), ("contributor", "who"))
    with pytest.raises(DataError, match=r"has no table \(metadata.csv.*could hold the column 'who'"):
        pictures.load(catalogue.source_settings("folder", source, "mine", 8, "refuse", chosen), source)
    one, other = (catalogue.source_settings("folder", source, "mine", 8, columns=c) for c in (chosen, chosen[::-1]))
    assert key_of("datasets", one) == key_of("datasets", other)
    with pytest.raises(SettingsError, match="columns are those of tables"):
        build(DatasetSettings, kind="npz", name="a", columns=chosen)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--columns", "label:style"], "--columns is 'label:style'; write a fact and its column"),
        (["--columns", "maker=style"], "--columns is 'maker=style'; write a fact"),
        (["--columns", "label=genre"], "no column 'genre'"),
    ],
)
def test_columns_on_the_command_line(
    source: Path, cache: Path, words: list[str], sentence: str, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    (source / "metadata.csv").write_text("\n".join(STYLES))
    monkeypatch.setattr(answers, "completed", lambda job, label: work.run(job, quiet))
    given = ["dataset", "--name", "mine", "--resolution", "8", "--source", str(source)]
    assert cli.main([*given, *words]) == 1
    assert sentence in capsys.readouterr().err
    assert cli.main([*given, "--columns", "label=style", "--columns", "contributor=", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["labels"], told["with_contributor"]) == (["a", "b"], 0)
    assert cli.main(["dataset", "--name", "cifar2", "--columns", "label=style"]) == 1
    assert "Give their folder with --source" in capsys.readouterr().err


def test_half_an_emoji_is_left_out(source: Path, cache: Path) -> None:
    """Programs that cut text by units of UTF-16 leave half a character, which no file can hold."""
    rows = [{"file_name": f"sub/{i}.png", "text": "a \U0001f600 cat \U0001f600"} for i in range(10)]
    rows[0]["m\ud83d"] = "me"
    lines = [json.dumps(row) for row in rows]
    assert lines[1].endswith(r'\ude00"}')
    lines[1] = lines[1].removesuffix(r'\ude00"}') + '"}'
    (source / "metadata.jsonl").write_text("\n".join(lines))
    found = facts(read(source), "caption")
    assert (found["sub/1.png"], found["sub/2.png"]) == ("a \U0001f600 cat", "a \U0001f600 cat \U0001f600")
    assert facts(read(source), "m")["sub/0.png"] == "me"


@pytest.mark.parametrize(
    ("given", "stored"),
    [
        (["0.0", "1.0", "10.0", "2.0", "", "-1.0", "3.", "+4.0", "5", "6.00"], "0 1 10 2 sub -1 3 +4 5 6"),
        (
            ["0.0", "1.5", "10.0", "2.0", "", "-1.0", "3.0", "4.0", "5", "6.00"],
            "0.0 1.5 10.0 2.0 sub -1.0 3.0 4.0 5 6.00",
        ),
        (["0.0", "v1.0", "10.0", "2.0", "a", "b", "c", "d", "e", "f"], "0.0 v1.0 10.0 2.0 a b c d e f"),
    ],
)
def test_whole_labels_have_no_point(source: Path, cache: Path, given: list[str], stored: str) -> None:
    """pandas writes whole numbers with a point where one of them is missing."""
    lines = [f"sub/{i}.png,{label}" for i, label in enumerate(given)]
    (source / "metadata.csv").write_text("\n".join(["file_name,label", *lines]))
    found = facts(read(source), "label")
    assert [found[f"sub/{i}.png"] for i in range(10)] == stored.split()
