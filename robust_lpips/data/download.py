"""Fetch the public data sets: downloads that go on where they stopped, checked, unpacked whole."""

from __future__ import annotations

import errno
import gzip
import hashlib
import json
import os
import shutil
import sys
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse
from itertools import islice
from pathlib import Path, PureWindowsPath
from typing import Literal
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from tqdm import tqdm

from robust_lpips._files import atomic_path
from robust_lpips.data.bapps import PathLike

RECORD_FILE = "downloads.json"
CHUNK = 1 << 20
TIMEOUT = 60  # seconds without a byte
# Of an unpacked archive's top-level entries, so many are looked for to see that it is still there.
PROBES = 20

BAPPS = "https://perceptual-similarity.s3.us-west-2.amazonaws.com/dataset"
CLIC = "https://storage.googleapis.com/clic2021_public/perceptual"
CLIC_ARCHIVE = "https://downloads.compression.cc"

BAPPS_NOTE = "BAPPS, Zhang et al., CVPR 2018; terms: github.com/richzhang/PerceptualSimilarity"
CLIC_NOTE = (
    "perceptual track of CLIC 2021, crops of photographs from Unsplash; the organizers ask to be "
    "written to before use: archive.compression.cc/datasets"
)


@dataclass(frozen=True)
class Archive:
    """One file to fetch and unpack.

    Args:
        url: where it is; the last part is its name here.
        kind: ``"tar"``, compressed or not, or ``"zip"``.
        folder: where it is unpacked, from the root of the download on.
        md5: its digest as published; None where none is.
    """

    url: str
    kind: Literal["tar", "zip"]
    folder: str = "."
    md5: str | None = None

    @property
    def file(self) -> str:
        """Its name on disk."""
        return self.url.rpartition("/")[2]


@dataclass(frozen=True)
class Download:
    """A data set: its archives, unpacked into one root, and where it is from."""

    name: str
    archives: tuple[Archive, ...]
    note: str


# Digests as the challenge's development kit gives them (github.com/fab-jul/clic2021-devkit).
_CLIC_TEST = {
    "0": "1051e8adc4763c7f43a8bdde4007b08a",
    "1": "015822694e53692cf6c9c68f6186ee1a",
    "2": "76bf1c66114f882d040b3bc1ef07bb9a",
    "3": "5dcd38f56982bc231156f63c2c7de97f",
    "4": "09c6c620157fdf08e23c0d905af4536d",
    "5": "f6ba7d89dd69de00d71d86a8f02a9538",
    "6": "faf4e522548b0e6370bfc868e2e404c8",
    "7": "8593b89231c0418a69f89c6187e0202a",
    "8": "9d369a0b10ee923815b49b3c27726eee",
    "9": "30876781abcd554939125490f8dc28a4",
    "a": "5164040b4acd707575084968b0f94808",
    "b": "34bc20563534730265dc26de12a29764",
    "c": "a3e8238bc5300d969e3b7421b0306bf6",
    "d": "503dca354a62b9edd477c9b35d3afdf7",
    "e": "1d5da08c1eb8f26463fd7c80e0be920b",
    "f": "3425385b344c5daf4bd7a3e526ff07a7",
}

DATASETS: dict[str, Download] = {
    download.name: download
    for download in (
        Download("bapps-jnd", (Archive(f"{BAPPS}/jnd.tar.gz", "tar"),), BAPPS_NOTE),
        Download(
            "bapps-2afc-val", (Archive(f"{BAPPS}/twoafc_val.tar.gz", "tar", "2afc"),), BAPPS_NOTE
        ),
        Download(
            "bapps-2afc-train",
            (Archive(f"{BAPPS}/twoafc_train.tar.gz", "tar", "2afc"),),
            BAPPS_NOTE,
        ),
        Download(
            "clic2021-val",
            (Archive(f"{CLIC}/clic_2021_perceptual_valid.zip", "zip"),),
            f"validation set, 2.1 GB; {CLIC_NOTE}",
        ),
        Download(
            "clic2021-val-archive",
            (
                Archive(f"{CLIC_ARCHIVE}/clic2021_perceptual_valid_crops.zip", "zip"),
                Archive(f"{CLIC_ARCHIVE}/clic2021_perceptual_valid_ratings.zip", "zip"),
            ),
            f"validation set from the challenge's archive, 2.2 GiB; {CLIC_NOTE}",
        ),
        Download(
            "clic2021-test",
            (
                Archive(
                    f"{CLIC}/test/clic_2021_perceptual_oracle.zip",
                    "zip",
                    md5="c8f73bb863dfed677fe897dade35c89a",
                ),
                *(
                    Archive(f"{CLIC}/test/{part}.tar", "tar", md5=md5)
                    for part, md5 in _CLIC_TEST.items()
                ),
            ),
            f"test set, about 47 GiB; {CLIC_NOTE}",
        ),
        Download(
            "clic2021-test-archive",
            (
                Archive(f"{CLIC_ARCHIVE}/clic2021_perceptual_test_crops.zip", "zip"),
                Archive(f"{CLIC_ARCHIVE}/clic2021_perceptual_test_ratings.zip", "zip"),
            ),
            f"test set from the challenge's archive, 47 GiB; {CLIC_NOTE}",
        ),
    )
}


def download(name: str, root: PathLike, *, progress: bool = True) -> Path:
    """Fetch a data set and unpack it, unless it is there.

    What was fetched of an archive stays beside it as ``<archive>.part`` when the connection or the
    program ends, and the next call goes on from there where the server can. An archive is unpacked
    into a hidden folder that is renamed, or merged into what is there, once it is whole; then it is
    deleted. Archives without a published digest are trusted at the first download: its SHA-256 is
    written to ``downloads.json`` in ``root``, and any later one has to match.

    Args:
        name: one of ``DATASETS``.
        root: folder that the data goes into; made where it is missing. BAPPS's parts share one.
        progress: show bars and messages on standard error.

    Returns:
        ``root``, as the loaders take it: for BAPPS it holds ``jnd`` or ``2afc/<split>``, for CLIC
        what its archives hold.

    Raises:
        ValueError: an unknown name; an archive that does not match its digest, cannot be unpacked
            or has members that would be written elsewhere (it stays, to be looked at or deleted);
            or a ``downloads.json`` that cannot be read.
        ConnectionError: an address that cannot be reached, or a download that was cut short.
        OSError: too little room on the disk.
    """
    if name not in DATASETS:
        raise ValueError(f"name must be one of {', '.join(DATASETS)}; got {name!r}")
    root = Path(root).expanduser()
    root.mkdir(parents=True, exist_ok=True)
    for archive in DATASETS[name].archives:
        record = _read_records(root).get(name, {}).get(archive.file)
        if record is None or not _is_there(root / archive.folder, record):
            _install(root, name, archive, record, progress)
    return root


def _install(root: Path, name: str, archive: Archive, record: dict | None, progress: bool) -> None:
    """Fetch, check, unpack and record one archive."""
    path = root / archive.file
    if not path.is_file():
        _fetch(archive.url, path, progress)
    digests = _digests(path, progress)
    _check_digests(path, archive, record, digests)
    size = path.stat().st_size
    top = _unpack(path, archive.kind, root / archive.folder, progress)
    records = _read_records(root)
    records.setdefault(name, {})[archive.file] = {
        "url": archive.url,
        "sha256": digests["sha256"],
        "bytes": size,
        "top": top,
    }
    with atomic_path(root / RECORD_FILE) as temporary:
        temporary.write_text(json.dumps(records, indent=2) + "\n", encoding="utf-8")
    path.unlink()
    if record is None and archive.md5 is None:
        _say(
            f"{archive.file}: no digest is published; its SHA-256 is kept in "
            f"{root / RECORD_FILE}, and later downloads must match it",
            progress,
        )


def _is_there(folder: Path, record: dict) -> bool:
    """Whether what the archive of ``record`` was unpacked to is still in ``folder``."""
    return all((folder / entry).exists() for entry in record["top"])


def _read_records(root: Path) -> dict[str, dict[str, dict]]:
    """Data set -> archive -> url, sha256, bytes and top-level entries."""
    path = root / RECORD_FILE
    try:
        records = json.loads(path.read_text(encoding="utf-8"))
        valid = all(
            isinstance(entry["sha256"], str) and isinstance(entry["top"], list)
            for archives in records.values()
            for entry in archives.values()
        )
    except FileNotFoundError:
        return {}
    except (ValueError, AttributeError, TypeError, KeyError):
        valid = False
    if not valid:
        raise ValueError(f"{path}: expected records of downloads as JSON; mend or delete it")
    return records


# --- Fetching ----------------------------------------------------------------------------------


def _fetch(url: str, path: Path, progress: bool) -> None:
    """Download ``url`` to ``path``, through ``<path>.part``, from where an earlier try ended."""
    part = path.with_name(f"{path.name}.part")
    # Which state of the remote file the part is of, so that two are never joined.
    state = path.with_name(f"{path.name}.part.state")
    start = part.stat().st_size if part.is_file() else 0
    headers = {"User-Agent": "robust-lpips"}
    if start:
        headers["Range"] = f"bytes={start}-"
        if state.is_file():
            headers["If-Range"] = state.read_text(encoding="latin-1")
    try:
        response = urlopen(Request(url, headers=headers), timeout=TIMEOUT)
    except HTTPError as error:
        if error.code != 416 or not start:
            raise _connection_error(url, error) from error
        # Nothing is left to send: the part is whole, or no part of what is there now.
        if error.headers.get("Content-Range") != f"bytes */{start}":
            part.unlink()
            state.unlink(missing_ok=True)
            return _fetch(url, path, progress)
    except (HTTPException, OSError) as error:
        raise _connection_error(url, error) from error
    else:
        with response:
            _receive(response, part, state, start, progress)
    os.replace(part, path)
    state.unlink(missing_ok=True)


def _receive(response: HTTPResponse, part: Path, state: Path, start: int, progress: bool) -> None:
    """Append the response to ``part``, or replace it where the server sends all again."""
    if response.status == 206:
        given = response.headers.get("Content-Range", "")
        if not given.startswith(f"bytes {start}-"):
            raise ConnectionError(f"{response.url}: asked for bytes from {start}; got {given!r}")
    elif start:
        _say(f"{part.name}: the server sends the whole file again", progress)
        start = 0
    length = response.headers.get("Content-Length")
    total = None if length is None else start + int(length)
    if total is not None:
        # Unpacked, it takes at least as much again.
        _check_space(part.parent, total - start + total)
    if not start:
        _note_state(response, state)
    with (
        part.open("ab" if start else "wb") as file,
        _bar(part.name.removesuffix(".part"), total, start, progress) as bar,
    ):
        while chunk := _read(response):
            file.write(chunk)
            bar.update(len(chunk))
    size = part.stat().st_size
    if total is not None and size != total:
        raise ConnectionError(
            f"{response.url}: the connection ended after {size} of {total} bytes; they are kept: "
            "run it again to go on"
        )


def _read(response: HTTPResponse) -> bytes:
    try:
        return response.read(CHUNK)
    except (HTTPException, OSError) as error:
        raise _connection_error(response.url, error) from error


def _connection_error(url: str, error: Exception) -> ConnectionError:
    return ConnectionError(
        f"{url}: cannot be fetched ({error}); what has come is kept: run it again to go on"
    )


def _note_state(response: HTTPResponse, state: Path) -> None:
    """Keep what the server calls this state of the file; weak tags do not allow for ranges."""
    tag = response.headers.get("ETag", "")
    tag = tag if tag.startswith('"') else response.headers.get("Last-Modified", "")
    state.unlink(missing_ok=True)
    if tag:
        state.write_text(tag, encoding="latin-1")


def _check_space(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise OSError(
            errno.ENOSPC,
            f"needs about {needed / 1e9:.1f} GB of room, but {free / 1e9:.1f} GB are free",
            str(folder),
        )


# --- Checking ----------------------------------------------------------------------------------


def _digests(path: Path, progress: bool) -> dict[str, str]:
    """SHA-256 and MD5 of a file, in one reading."""
    hashes = {
        "sha256": hashlib.sha256(),
        "md5": hashlib.md5(usedforsecurity=False),
    }
    with (
        path.open("rb") as file,
        _bar(f"checking {path.name}", path.stat().st_size, 0, progress) as bar,
    ):
        while chunk := file.read(CHUNK):
            for each in hashes.values():
                each.update(chunk)
            bar.update(len(chunk))
    return {name: each.hexdigest() for name, each in hashes.items()}


def _check_digests(
    path: Path, archive: Archive, record: dict | None, digests: dict[str, str]
) -> None:
    """Raise ValueError unless the file is the one published, or the one fetched before."""
    if archive.md5 is not None and digests["md5"] != archive.md5:
        raise ValueError(
            f"{path}: expected MD5 {archive.md5}, as published; got {digests['md5']}. "
            "Delete the file to fetch it anew"
        )
    if record is not None and digests["sha256"] != record["sha256"]:
        raise ValueError(
            f"{path}: expected SHA-256 {record['sha256']}, that of the first download in "
            f"{path.parent / RECORD_FILE}; got {digests['sha256']}. Delete the file to fetch it "
            "anew, or the record to accept it"
        )


# --- Unpacking ---------------------------------------------------------------------------------


def _unpack(path: Path, kind: str, folder: Path, progress: bool) -> list[str]:
    """Unpack an archive into ``folder``, whole or not at all; some of its top-level entries."""
    folder.mkdir(parents=True, exist_ok=True)
    # Beside the data, so that moving it there is renaming. A name of its own, so that what a killed
    # program has left is found.
    built = folder / f".unpacking-{path.name}"
    shutil.rmtree(built, ignore_errors=True)
    built.mkdir()
    try:
        with _archive_errors(path):
            unpack = _unpack_zip if kind == "zip" else _unpack_tar
            unpack(path, built, progress)
        top = sorted(islice((entry.name for entry in os.scandir(built)), PROBES))
        if not top:
            raise ValueError(f"{path}: expected files in it, but it is empty")
        _merge(built, folder)
    finally:
        shutil.rmtree(built, ignore_errors=True)
    return top


@contextmanager
def _archive_errors(path: Path) -> Iterator[None]:
    """Name the archive in errors about it."""
    try:
        yield
    except tarfile.FilterError as error:
        raise ValueError(f"{path}: refused, it has unsafe members ({error})") from error
    except (tarfile.TarError, zipfile.BadZipFile, gzip.BadGzipFile, zlib.error, EOFError) as error:
        reason = " ".join(str(error).split())  # tarfile's has several lines
        raise ValueError(
            f"{path}: cannot be unpacked, it is damaged or no archive ({reason}). Delete the file "
            "to fetch it anew"
        ) from error


def _unpack_tar(path: Path, built: Path, progress: bool) -> None:
    _check_space(built, path.stat().st_size)
    with (
        tarfile.open(path) as archive,
        _bar(f"unpacking {path.name}", None, 0, progress, "files") as bar,
    ):
        for member in archive:
            _check_member(path, member.name)
            archive.extract(member, built, filter="data")
            bar.update()


def _unpack_zip(path: Path, built: Path, progress: bool) -> None:
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        for member in members:
            _check_member(path, member.filename)
        _check_space(built, sum(member.file_size for member in members))
        with _bar(f"unpacking {path.name}", len(members), 0, progress, "files") as bar:
            for member in members:
                archive.extract(member, built)
                bar.update()


def _check_member(path: Path, name: str) -> None:
    """Raise ValueError for a name that is absolute, on any system, or that climbs."""
    member = PureWindowsPath(name)  # parts at slashes and backslashes
    if member.anchor or ".." in member.parts:
        raise ValueError(f"{path}: refused, it has the unsafe member {name!r}")


def _merge(source: Path, target: Path) -> None:
    """Move what is in ``source`` into ``target``, folder by folder where both have one."""
    for entry in sorted(source.iterdir()):
        there = target / entry.name
        if there.is_dir() and entry.is_dir() and not entry.is_symlink():
            _merge(entry, there)
        else:
            os.replace(entry, there)


# --- Telling -----------------------------------------------------------------------------------


def _bar(label: str, total: int | None, start: int, progress: bool, unit: str = "B") -> tqdm:
    return tqdm(
        desc=label,
        total=total,
        initial=start,
        unit=unit,
        unit_scale=unit == "B",
        disable=not progress,
    )


def _say(message: str, progress: bool) -> None:
    if progress:
        tqdm.write(message, file=sys.stderr)
