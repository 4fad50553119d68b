"""Download the public data sets: interrupted downloads resume, archives are checked and unpacked.

pooch fetches and checks; what it lacks is here: resuming, a record of the digests of archives for
which none is published, and unpacking that is safe on every supported Python and all or nothing.
"""

from __future__ import annotations

import errno
import gzip
import json
import logging
import os
import shutil
import sys
import tarfile
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path, PureWindowsPath
from typing import Any, BinaryIO, Literal

import pooch
import requests
from tqdm import tqdm

from robust_lpips._files import atomic_path
from robust_lpips.data.bapps import PathLike

RECORD_FILE = "downloads.json"
CHUNK = 1 << 16  # bytes, of which at most one chunk is lost where the connection ends
TIMEOUT = 60  # seconds without a byte
# Number of an archive's top-level entries that are looked for to see that it is still unpacked.
PROBES = 20

BAPPS = "https://perceptual-similarity.s3.us-west-2.amazonaws.com/dataset"
CLIC = "https://storage.googleapis.com/clic2021_public/perceptual"
CLIC_ARCHIVE = "https://downloads.compression.cc"

BAPPS_NOTE = "BAPPS, Zhang et al., CVPR 2018; terms: github.com/richzhang/PerceptualSimilarity"
CLIC_NOTE = (
    "perceptual track of CLIC 2021, crops of photographs from Unsplash; the organizers ask users "
    "to write to them first: archive.compression.cc/datasets"
)


@dataclass(frozen=True)
class Archive:
    """One file to download and unpack.

    Args:
        url: its address, which ends in the file's name.
        kind: ``"tar"``, compressed or not, or ``"zip"``.
        folder: where it is unpacked, relative to the root of the download.
        md5: its published digest, if any.
    """

    url: str
    kind: Literal["tar", "zip"]
    folder: str = "."
    md5: str | None = None

    @property
    def file(self) -> str:
        """The name of the file on disk."""
        return self.url.rpartition("/")[2]


@dataclass(frozen=True)
class Download:
    """A data set: its archives, all unpacked into one root, and its origin and terms."""

    name: str
    archives: tuple[Archive, ...]
    note: str


# Digests that the challenge's development kit publishes (github.com/fab-jul/clic2021-devkit).
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
    """Download a data set and unpack it, unless it is there already.

    A download that is interrupted leaves ``<archive>.part``, from which the next call resumes if
    the server can. An archive is unpacked into a hidden folder, whose content is moved into place
    once it is whole; then the archive is deleted. The SHA-256 of every archive is recorded in
    ``downloads.json`` in ``root`` at the first download, and any later download has to match it.
    An archive without a published digest is trusted at the first download.

    Args:
        name: one of ``DATASETS``.
        root: folder for the data, created if it is missing. BAPPS's parts share one.
        progress: show bars and messages on standard error.

    Returns:
        ``root``, as the loaders take it: for BAPPS it holds ``jnd`` or ``2afc/<split>``, for CLIC
        the content of its archives.

    Raises:
        ValueError: for an unknown name, an archive that does not match its digest (it is deleted),
            an archive that cannot be unpacked or has unsafe members (it is kept), or a
            ``downloads.json`` that cannot be read.
        ConnectionError: if an address cannot be reached or the connection ends early.
        OSError: if the disk has too little room.
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
    """Download, check, unpack and record one archive."""
    path = _fetch(root, archive, record, progress)
    entry = {
        "url": archive.url,
        "sha256": pooch.file_hash(path),
        "bytes": path.stat().st_size,
        "top": _unpack(path, archive.kind, root / archive.folder, progress),
    }
    records = _read_records(root)
    records.setdefault(name, {})[archive.file] = entry
    with atomic_path(root / RECORD_FILE) as temporary:
        temporary.write_text(json.dumps(records, indent=2) + "\n", encoding="utf-8")
    path.unlink()
    if record is None and archive.md5 is None:
        _say(
            f"{archive.file}: no digest is published; its SHA-256 is recorded in "
            f"{root / RECORD_FILE}, and later downloads must match it",
            progress,
        )


def _is_there(folder: Path, record: dict) -> bool:
    """True if ``folder`` still holds the recorded content of an archive."""
    return all((folder / entry).exists() for entry in record["top"])


def _read_records(root: Path) -> dict[str, dict[str, dict]]:
    """Records by data set and archive: url, sha256, bytes and top-level entries."""
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
        raise ValueError(f"{path}: expected records of downloads as JSON; correct or delete it")
    return records


# --- Fetching ----------------------------------------------------------------------------------


def _fetch(root: Path, archive: Archive, record: dict | None, progress: bool) -> Path:
    """The archive in ``root``, downloaded unless it is there, with the digest that is known."""
    if record is not None:
        known = f"sha256:{record['sha256']}"
        origin = f"of the first download; delete its record in {root / RECORD_FILE} to accept it"
    else:
        known = archive.md5 and f"md5:{archive.md5}"
        origin = "as published"
    downloader = _ResumingDownloader(root / f"{archive.file}.part", progress)
    try:
        with _quiet(pooch.get_logger()):
            fetched = pooch.retrieve(archive.url, known, archive.file, root, downloader=downloader)
    except requests.RequestException as error:
        raise ConnectionError(
            f"{archive.url}: cannot be downloaded ({error}); the part that has arrived is kept: "
            "run it again to resume"
        ) from error
    except ValueError as error:
        raise ValueError(f"{error} Expected is the digest {origin}") from error
    return Path(fetched)


@contextmanager
def _quiet(logger: logging.Logger) -> Iterator[None]:
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(level)


class _ResumingDownloader:
    """Downloader for pooch that resumes from ``part``, where an earlier try has left one."""

    def __init__(self, part: Path, progress: bool) -> None:
        self.part = part
        # The server's tag of the file that the part is of, so that two files are never joined.
        self.tag = part.with_name(f"{part.name}.tag")
        self.progress = progress

    def __call__(self, url: str, output_file: str, _: object) -> None:
        try:
            self._complete_part(url)
        except BaseException:
            if not self.part.stat().st_size:
                self._discard()
            raise
        os.replace(self.part, output_file)
        self._discard()

    def _complete_part(self, url: str) -> None:
        with self.part.open("ab") as file:
            start = file.tell()
            download = pooch.HTTPDownloader(
                progressbar=self.progress,
                chunk_size=CHUNK,
                timeout=TIMEOUT,
                headers=self._headers(start),
                hooks={"response": partial(self._begin, file, start)},
            )
            try:
                download(url, file, None)
                return
            except requests.HTTPError as error:
                if error.response.status_code != 416 or not start:
                    raise
                # Nothing is left to send: the part is whole, or no part of the present file.
                if error.response.headers.get("Content-Range") == f"bytes */{start}":
                    return
            file.truncate(0)
        self._complete_part(url)

    def _headers(self, start: int) -> dict[str, str]:
        headers = {"User-Agent": "robust-lpips", "Accept-Encoding": "identity"}
        if start:
            headers["Range"] = f"bytes={start}-"
            if self.tag.is_file():
                headers["If-Range"] = self.tag.read_text(encoding="latin-1")
        return headers

    def _begin(self, file: BinaryIO, start: int, response: requests.Response, **_: Any) -> None:
        """Make ``file`` ready for the body of a response, before it is read."""
        if response.status_code not in (200, 206):
            return  # a redirection, or an error that pooch raises
        given = response.headers.get("Content-Range", "")
        if response.status_code == 206 and not given.startswith(f"bytes {start}-"):
            raise requests.RequestException(f"asked for bytes from {start}; got {given!r}")
        remaining = int(response.headers.get("Content-Length", 0))
        kept = start if response.status_code == 206 else 0
        # Unpacked, it takes at least as much again.
        _check_space(self.part.parent, remaining + kept + remaining)
        if response.status_code == 200:
            if start:
                _say(f"{self.part.name}: the server sends the whole file again", self.progress)
            file.truncate(0)
            self._keep_tag(response)

    def _keep_tag(self, response: requests.Response) -> None:
        tag = response.headers.get("ETag", "")
        # Weak tags do not allow for ranges.
        tag = tag if tag.startswith('"') else response.headers.get("Last-Modified", "")
        self.tag.unlink(missing_ok=True)
        if tag:
            self.tag.write_text(tag, encoding="latin-1")

    def _discard(self) -> None:
        self.part.unlink(missing_ok=True)
        self.tag.unlink(missing_ok=True)


def _check_space(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise OSError(
            errno.ENOSPC,
            f"needs about {needed / 1e9:.1f} GB of room, but {free / 1e9:.1f} GB are free",
            str(folder),
        )


# --- Unpacking ---------------------------------------------------------------------------------


def _unpack(path: Path, kind: str, folder: Path, progress: bool) -> list[str]:
    """Unpack an archive into ``folder``, all or nothing; some of its top-level entries."""
    folder.mkdir(parents=True, exist_ok=True)
    # Next to the data, so that moving it there is renaming. With a fixed name, so that the next
    # call removes the leftovers of one that was killed.
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
            "to download it again"
        ) from error


# Not by pooch, which reads an archive twice and, before Python 3.12, trusts the members of a tar.
def _unpack_tar(path: Path, built: Path, progress: bool) -> None:
    _check_space(built, path.stat().st_size)
    with tarfile.open(path) as archive:
        for member in _bar(path, archive, None, progress):
            _check_member(path, member.name)
            archive.extract(member, built, filter="data")


def _unpack_zip(path: Path, built: Path, progress: bool) -> None:
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        for member in members:
            _check_member(path, member.filename)
        _check_space(built, sum(member.file_size for member in members))
        for member in _bar(path, members, len(members), progress):
            archive.extract(member, built)


def _check_member(path: Path, name: str) -> None:
    """Raise ValueError for a name that is absolute, on any system, or that has ``..`` in it."""
    member = PureWindowsPath(name)  # splits at slashes and backslashes
    if member.anchor or ".." in member.parts:
        raise ValueError(f"{path}: refused, it has the unsafe member {name!r}")


def _merge(source: Path, target: Path) -> None:
    """Move the content of ``source`` into ``target``, merging folders that both have."""
    for entry in sorted(source.iterdir()):
        there = target / entry.name
        if there.is_dir() and entry.is_dir() and not entry.is_symlink():
            _merge(entry, there)
        else:
            os.replace(entry, there)


def _bar(path: Path, members: Iterable, total: int | None, progress: bool) -> Iterable:
    """The members of the archive at ``path``, counted in a progress bar."""
    label = f"unpacking {path.name}"
    return tqdm(members, desc=label, total=total, unit="files", disable=not progress)


def _say(message: str, progress: bool) -> None:
    if progress:
        tqdm.write(message, file=sys.stderr)
