"""The file of keys: what `serve key` writes, and what a server makes of what people write into it."""

import json
import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from nanocv_cli.errors import ConfigError, RequestError
from nanocv_cli.serving.key_file import add_key, digest_of, read_keys, salt_of
from tests.conftest import run_nanocv

LINE = f"laptop infer - sha256:{'0' * 16}:{'a' * 64}"


def test_a_key_is_known_again_by_its_hash_and_is_not_in_the_file(tmp_path: Path) -> None:
    path = tmp_path / "keys.txt"
    key = add_key(path, "laptop", ["infer", "metrics"], 2.5)
    other = add_key(path, "phone", ["control"], None)
    found = read_keys(path)
    mine = found[salt_of(key)]
    assert (mine.name, mine.roles, mine.rate) == ("laptop", {"infer", "metrics"}, 2.5)
    assert mine.digest == digest_of(key) != digest_of(other)
    assert found[salt_of(other)].rate is None
    assert key.rpartition("_")[2] not in path.read_text()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [item.name for item in tmp_path.iterdir()] == ["keys.txt"]


def test_lines_of_others_stay_and_names_are_given_once(tmp_path: Path) -> None:
    path = tmp_path / "keys.txt"
    path.write_text(f"# mine\n\n{LINE}")
    path.chmod(0o644)
    add_key(path, "phone", ["infer"], None)
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert path.read_text().startswith(f"# mine\n\n{LINE}\nphone infer - sha256:")
    before = path.read_bytes()
    for name in ("phone", "", "a b", "../x", "-x", "a" * 65, "é"):
        with pytest.raises(RequestError):
            add_key(path, name, ["infer"], None)
    assert path.read_bytes() == before


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files to others")
def test_whoever_could_read_the_file_can_read_it_after_another_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, link = tmp_path / "keys.txt", tmp_path / "link.txt"
    link.symlink_to(path)
    add_key(link, "laptop", ["infer"], None)
    os.chown(path, 10001, 10002)
    path.chmod(0o640)
    add_key(link, "phone", ["infer"], None)
    told = path.stat()
    assert (told.st_uid, told.st_gid, stat.S_IMODE(told.st_mode)) == (10001, 10002, 0o640)
    assert link.is_symlink() and len(read_keys(path)) == 2

    def refuse(*arguments: object) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "chown", refuse)
    add_key(path, "tablet", ["infer"], None)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600  # and not open to another group


def test_keys_that_are_made_at_once_are_all_there(tmp_path: Path) -> None:
    path = tmp_path / "keys.txt"
    with ThreadPoolExecutor(8) as pool:
        keys = list(pool.map(lambda number: add_key(path, f"n{number}", ["infer"], None), range(24)))
    assert {salt_of(key) for key in keys} == set(read_keys(path))


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("laptop infer -", "four fields"),
        (LINE.replace("infer", "admin"), "roles"),
        (LINE.replace("infer", "infer,"), "roles"),
        (LINE.replace(" - ", " 0 "), "rate"),
        (LINE.replace(" - ", " nan "), "rate"),
        (LINE.replace(" - ", " 1e400 "), "rate"),
        (LINE.replace("sha256", "md5"), "hash"),
        (LINE + "a", "hash"),
        (LINE.replace("laptop", "\x1b[2J"), "name"),
        (f"{LINE}\n{LINE.replace('laptop', 'phone')}", "twice"),
        (f"{LINE}\n{LINE.replace('0' * 16, '1' * 16)}", "twice"),
        ("nanocv_" + "0" * 16 + "_" + "5ec7e7" * 10, "four fields"),
    ],
)
def test_what_is_no_key_is_named_by_its_line_and_not_repeated(tmp_path: Path, line: str, said: str) -> None:
    path = tmp_path / "keys.txt"
    path.write_text(f"# keys\n{line}\n")
    path.chmod(0o600)
    with pytest.raises(ConfigError, match=said) as refused:
        read_keys(path)
    assert refused.value.message.startswith(f"{path}:{3 if 'twice' in said else 2}: ")
    assert "5ec7e7" not in refused.value.message
    assert refused.value.message.isprintable()


@pytest.mark.parametrize("rate", ["1e9", "1e8", "999999999.9999999", "1e-6", "1e-7", "4.9e-7", "0.3333333"])
def test_a_rate_is_refused_or_the_file_can_be_read_with_it(tmp_path: Path, rate: str) -> None:
    path = tmp_path / "keys.txt"
    add_key(path, "laptop", ["infer"], None)
    before = path.read_bytes()
    made = run_nanocv("serve", "key", "phone", "--key-file", path, "--rate", rate)
    if 1e-6 <= float(rate) <= 1e8:
        assert made.code == 0
        assert read_keys(path)[salt_of(made.out.strip())].rate == pytest.approx(float(rate), abs=1e-6)
    else:
        assert made.code == 2 and path.read_bytes() == before and "rate" in made.err


@pytest.mark.parametrize("mode", [0o666, 0o602, 0o660, 0o620])
def test_a_file_that_others_can_write_holds_no_keys(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "keys.txt"
    path.write_text(LINE)
    path.chmod(mode)
    with pytest.raises(ConfigError, match="can be written by others"):
        read_keys(path)
    with pytest.raises(ConfigError, match="can be written by others"):
        add_key(path, "phone", ["infer"], None)
    assert path.read_text() == LINE
    path.chmod(mode & 0o755 | 0o044)  # who may read it is nobody's harm
    assert len(read_keys(path)) == 1


def test_the_command_prints_a_key_once_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "keys.txt"
    made = run_nanocv("serve", "key", "laptop", "--key-file", path, "--roles", "metrics,infer", "--rate", "20")
    key = made.out.strip()
    assert made.code == 0 and salt_of(key) in read_keys(path) and key not in made.err
    told = run_nanocv("serve", "key", "phone", "--key-file", path, "--json")
    assert json.loads(told.out)["roles"] == ["infer"] and json.loads(told.out)["key"] not in path.read_text()
    again = run_nanocv("serve", "key", "phone", "--key-file", path)
    assert again.code == 2 and again.out == "" and "another name" in again.err
