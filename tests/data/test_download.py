"""Downloads, from a server on this machine that can cut them short."""

import hashlib
import io
import json
import re
import runpy
import shutil
import sys
import tarfile
import threading
import zipfile
from collections import namedtuple
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

import robust_lpips.data.download as download_module
from robust_lpips.data.download import DATASETS, RECORD_FILE, Archive, Download, download

NOISE = np.random.default_rng(0).bytes(50_000)
FILES = {"val/cnn/a.bin": NOISE, "val/cnn/b.bin": b"b", "val/top.txt": b"top"}
SCRIPT = Path(__file__).resolve().parents[2] / "experiments" / "download_data.py"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        server = self.server
        server.requests.append((self.path, self.headers.get("Range")))
        if self.path in server.moved:
            self.send_response(302)
            self.send_header("Location", server.moved[self.path])
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        if self.path not in server.files:
            self.send_error(404)
            return
        body, tag = server.files[self.path], f'"{hashlib.md5(server.files[self.path]).hexdigest()}"'
        whole = len(body)
        start = 0
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        if asked and server.ranges and self.headers.get("If-Range", tag) == tag:
            start = int(asked[1])
            if start >= whole:
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{whole}")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{whole - 1}/{whole}")
        else:
            self.send_response(200)
        self.send_header("Content-Length", str(whole - start))
        self.send_header("ETag", tag)
        self.end_headers()
        sent = body[start : server.cut] if server.cut else body[start:]
        server.sent.append(len(sent))
        self.wfile.write(sent)

    def log_message(self, *_):
        pass


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.files, server.requests, server.sent = {}, [], []
        server.ranges, server.cut, server.moved = True, None, {}
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def offer(server, monkeypatch):
    """``offer(bytes, ...)``: the data set "toy" is that archive on the server."""

    def offer(content, file="toy.tar.gz", kind="tar", folder="2afc", md5=None):
        server.files[f"/{file}"] = content
        url = f"http://127.0.0.1:{server.server_port}/{file}"
        toy = Download("toy", (Archive(url, kind, folder, md5),), "a toy")
        monkeypatch.setitem(DATASETS, "toy", toy)

    return offer


def tarred(files=FILES, extra=(), mode="w:gz"):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
        for info in extra:
            archive.addfile(info)
    return buffer.getvalue()


def zipped(files=FILES):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def tree(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def unpacked(root):
    return {name: content for name, content in tree(root).items() if name != RECORD_FILE}


EXPECTED = {f"2afc/{name}": content for name, content in FILES.items()}


# ---------------------------------------------------------------- what comes


@pytest.mark.parametrize(
    ("content", "kind"), [(tarred(), "tar"), (tarred(mode="w"), "tar"), (zipped(), "zip")]
)
def test_downloads_and_unpacks(offer, server, tmp_path, content, kind, capsys):
    offer(content, kind=kind)
    root = tmp_path / "new" / "root"
    assert download("toy", root) == root
    assert unpacked(root) == EXPECTED
    assert json.loads((root / RECORD_FILE).read_text())["toy"]["toy.tar.gz"] == {
        "url": f"http://127.0.0.1:{server.server_port}/toy.tar.gz",
        "sha256": hashlib.sha256(content).hexdigest(),
        "bytes": len(content),
        "top": ["val"],
    }
    assert "no digest is published" in capsys.readouterr().err


def test_second_call_does_nothing(offer, server, tmp_path, capsys):
    offer(tarred())
    download("toy", tmp_path)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    capsys.readouterr()
    download("toy", tmp_path)
    assert len(server.requests) == 1
    assert before == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    assert capsys.readouterr() == ("", "")


def test_deleted_data_is_downloaded_again(offer, server, tmp_path):
    offer(tarred())
    download("toy", tmp_path, progress=False)
    shutil.rmtree(tmp_path / "2afc" / "val")
    download("toy", tmp_path, progress=False)
    assert len(server.requests) == 2
    assert unpacked(tmp_path) == EXPECTED


def test_merges_into_what_is_there(offer, tmp_path):
    offer(tarred())
    for name in ("2afc/val/cnn/mine.bin", "2afc/val/top.txt", "2afc/train/x"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"mine")
    download("toy", tmp_path, progress=False)
    kept = {"2afc/val/cnn/mine.bin": b"mine", "2afc/train/x": b"mine"}
    assert unpacked(tmp_path) == EXPECTED | kept


def test_quiet(offer, tmp_path, capsys):
    offer(tarred())
    download("toy", tmp_path, progress=False)
    assert capsys.readouterr() == ("", "")


# ---------------------------------------------------------------- resuming


@pytest.fixture
def small_chunks(monkeypatch):
    """Chunks that an interruption after a multiple of 1000 bytes does not split."""
    monkeypatch.setattr(download_module, "CHUNK", 1000)


def interrupt(server, root, after):
    server.cut = after
    with pytest.raises(ConnectionError, match="run it again to resume"):
        download("toy", root, progress=False)
    server.cut = None
    assert not (root / "2afc").exists()
    assert (root / "toy.tar.gz.part").stat().st_size == after


@pytest.mark.usefixtures("small_chunks")
def test_interrupted_download_resumes(offer, server, tmp_path):
    content = tarred()
    offer(content)
    interrupt(server, tmp_path, 20_000)
    download("toy", tmp_path, progress=False)
    assert server.requests == [("/toy.tar.gz", None), ("/toy.tar.gz", "bytes=20000-")]
    assert server.sent == [20_000, len(content) - 20_000]
    assert unpacked(tmp_path) == EXPECTED


def test_interrupted_before_the_first_chunk(offer, server, tmp_path):
    offer(tarred())
    server.cut = 1
    with pytest.raises(ConnectionError, match="run it again to resume"):
        download("toy", tmp_path, progress=False)
    assert tree(tmp_path) == {}


@pytest.mark.usefixtures("small_chunks")
def test_resumes_behind_a_redirection(offer, server, tmp_path):
    content = tarred()
    offer(content)
    server.files["/elsewhere"] = server.files.pop("/toy.tar.gz")
    server.moved["/toy.tar.gz"] = "/elsewhere"
    interrupt(server, tmp_path, 20_000)
    download("toy", tmp_path, progress=False)
    assert server.sent == [20_000, len(content) - 20_000]
    assert unpacked(tmp_path) == EXPECTED


@pytest.mark.usefixtures("small_chunks")
def test_server_without_ranges_starts_anew(offer, server, tmp_path):
    content = tarred()
    offer(content)
    interrupt(server, tmp_path, 20_000)
    server.ranges = False
    download("toy", tmp_path, progress=False)
    assert server.sent[1] == len(content)
    assert unpacked(tmp_path) == EXPECTED


@pytest.mark.usefixtures("small_chunks")
def test_parts_of_two_files_are_not_joined(offer, server, tmp_path):
    offer(tarred())
    interrupt(server, tmp_path, 20_000)
    content = tarred({"val/other.bin": NOISE[::-1]})
    offer(content)
    download("toy", tmp_path, progress=False)
    assert server.sent[1] == len(content)
    assert unpacked(tmp_path) == {"2afc/val/other.bin": NOISE[::-1]}


def test_whole_part_is_taken_and_longer_one_is_not(offer, server, tmp_path):
    content = tarred()
    offer(content)
    (tmp_path / "toy.tar.gz.part").write_bytes(content)
    download("toy", tmp_path, progress=False)
    assert server.sent == []
    shutil.rmtree(tmp_path / "2afc")
    (tmp_path / "toy.tar.gz.part").write_bytes(content + b"more")
    download("toy", tmp_path, progress=False)
    assert server.sent == [len(content)]
    assert unpacked(tmp_path) == EXPECTED


def test_finished_archive_is_not_fetched_again(offer, server, tmp_path):
    content = tarred()
    offer(content)
    (tmp_path / "toy.tar.gz").write_bytes(content)
    download("toy", tmp_path, progress=False)
    assert server.requests == []
    assert unpacked(tmp_path) == EXPECTED


def test_unreachable(offer, server, tmp_path):
    offer(tarred())
    del server.files["/toy.tar.gz"]
    with pytest.raises(ConnectionError, match=r"toy.tar.gz: cannot be downloaded .*404"):
        download("toy", tmp_path, progress=False)


# ---------------------------------------------------------------- what is refused


def test_changed_archive_is_refused(offer, tmp_path):
    offer(tarred())
    download("toy", tmp_path, progress=False)
    shutil.rmtree(tmp_path / "2afc")
    offer(tarred({"val/other.bin": b"other"}))
    with pytest.raises(ValueError, match=r"expected sha256:[0-9a-f]{64} .* of the first"):
        download("toy", tmp_path, progress=False)
    assert not (tmp_path / "2afc").exists()


def test_published_digest(offer, tmp_path, capsys):
    content = tarred()
    offer(content, md5="0" * 32)
    with pytest.raises(ValueError, match=r"expected md5:0{32} but got .* as published"):
        download("toy", tmp_path)
    assert not (tmp_path / "2afc").exists()
    offer(content, md5=hashlib.md5(content).hexdigest())
    download("toy", tmp_path)
    assert unpacked(tmp_path) == EXPECTED
    assert "no digest is published" not in capsys.readouterr().err


def link(name, target):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = tarfile.SYMTYPE, target
    return info


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (tarred(FILES | {"../../evil": b""}), "tar"),
        (tarred(FILES | {"val/../../../evil": b""}), "tar"),
        (tarred(FILES | {"/evil": b""}), "tar"),
        (tarred(FILES | {"C:\\evil": b""}), "tar"),
        (tarred(FILES, [link("val/link", "../../../evil")]), "tar"),
        (tarred(FILES, [link("val/link", "/etc")]), "tar"),
        (zipped(FILES | {"../../evil": b""}), "zip"),
        (zipped(FILES | {"/evil": b""}), "zip"),
        (zipped(FILES | {"..\\..\\evil": b""}), "zip"),
    ],
)
def test_unsafe_members_are_refused(offer, tmp_path, content, kind):
    offer(content, kind=kind)
    root = tmp_path / "data" / "root"
    with pytest.raises(ValueError, match=r"toy.tar.gz: refused, it has"):
        download("toy", root, progress=False)
    assert set(tree(tmp_path)) == {"data/root/toy.tar.gz"}
    assert [path.name for path in (root / "2afc").iterdir()] == []


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (tarred()[:30_000], "tar"),
        (tarred(mode="w")[:30_000], "tar"),
        (b"<html>no archive</html>", "tar"),
        (b"", "tar"),
        (zipped()[:30_000], "zip"),
        (zipped().replace(NOISE[:100], NOISE[100:200]), "zip"),
    ],
)
def test_damaged_archives(offer, tmp_path, content, kind):
    offer(content, kind=kind)
    with pytest.raises(ValueError, match=r"toy.tar.gz: cannot be unpacked.*Delete the file"):
        download("toy", tmp_path, progress=False)
    assert set(tree(tmp_path)) == {"toy.tar.gz"}
    (tmp_path / "toy.tar.gz").unlink()
    offer(tarred())  # no digest of the damaged one is kept
    download("toy", tmp_path, progress=False)
    assert unpacked(tmp_path) == EXPECTED


def test_empty_archive(offer, tmp_path):
    offer(tarred({}))
    with pytest.raises(ValueError, match="it is empty"):
        download("toy", tmp_path, progress=False)


def test_full_disk(offer, tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(0, 0, 60_000))
    offer(tarred())
    with pytest.raises(OSError, match=r"needs about 0.0 GB of room"):
        download("toy", tmp_path, progress=False)
    assert tree(tmp_path) == {}


@pytest.mark.parametrize("text", ["{", "[]", '{"toy": {"toy.tar.gz": {}}}', '{"toy": 1}'])
def test_damaged_records(offer, tmp_path, text):
    offer(tarred())
    (tmp_path / RECORD_FILE).write_text(text)
    with pytest.raises(ValueError, match=r"downloads.json: expected records"):
        download("toy", tmp_path, progress=False)


def test_unknown_name(tmp_path):
    with pytest.raises(ValueError, match=r"name must be one of bapps-jnd, .*; got 'coco'"):
        download("coco", tmp_path)


# ---------------------------------------------------------------- the registry and the command


def test_registry():
    for name, dataset in DATASETS.items():
        assert dataset.name == name
        files = [archive.file for archive in dataset.archives]
        assert len(set(files)) == len(files)
        for archive in dataset.archives:
            assert archive.url.startswith("https://")
            assert archive.file.endswith((".zip",) if archive.kind == "zip" else (".tar", ".gz"))
            assert archive.md5 is None or re.fullmatch("[0-9a-f]{32}", archive.md5)


def test_command_lists(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), "--list"])
    runpy.run_path(str(SCRIPT), run_name="__main__")
    listed = capsys.readouterr().out
    for name, dataset in DATASETS.items():
        assert f"{name}: " in listed
        assert all(archive.url in listed for archive in dataset.archives)


def test_command_downloads(offer, tmp_path, monkeypatch, capsys):
    offer(tarred())
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), "toy", "--root", str(tmp_path)])
    runpy.run_path(str(SCRIPT), run_name="__main__")
    assert capsys.readouterr().out == f"toy: in {tmp_path}\n"
    assert unpacked(tmp_path) == EXPECTED


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["coco", "--root", "x"], r"NAME must be some of bapps-jnd.*; got coco"),
        (["bapps-jnd"], r"expected names of data sets and --root, or --list"),
    ],
)
def test_command_refuses(arguments, message, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), *arguments])
    with pytest.raises(SystemExit, match="2"):
        runpy.run_path(str(SCRIPT), run_name="__main__")
    assert re.search(message, capsys.readouterr().err)


def test_command_fails_in_one_line(offer, tmp_path, monkeypatch):
    offer(tarred()[:30_000])
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), "toy", "--root", str(tmp_path)])
    with pytest.raises(SystemExit, match=r"^toy: .*cannot be unpacked[^\n]*$"):
        runpy.run_path(str(SCRIPT), run_name="__main__")
