"""Downloads the published data sets, checked against the checksums that are known for them."""

import http.client
import tarfile
import tempfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

import pooch  # type: ignore[import-untyped]
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from locallearn.host.datasets import NAMES, default_data_dir, unknown_name
from locallearn.host.formats_binary import CIFAR10_FILES, CIFAR100_FILES, STL10_FILES
from locallearn.quant.errors import DataError

__all__ = ["REGISTRY", "Source", "fetch"]

_CHUNK = 1 << 16  # bytes
_TIMEOUT = 30  # seconds without a byte


@dataclass(frozen=True)
class Source:
    """Where a data set is published."""

    base_url: str  # ends with a slash; the files' names follow it
    files: dict[str, str]  # file name -> "md5:..." or "sha256:..."
    members: tuple[str, ...] = ()  # the files are tar archives: what is taken out of them


def _idx(base_url: str, *md5: str) -> Source:
    names = ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1")
    return Source(base_url, {f"{name}-ubyte.gz": f"md5:{digest}" for name, digest in zip(names, md5, strict=True)})


# The checksums of the IDX, SVHN and STL-10 files are those that torchvision checks too; CIFAR-10's is on its page,
# CIFAR-100's is what several public projects check.
REGISTRY: dict[str, Source] = {
    "mnist": _idx(
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
        "f68b3c2dcbeaaa9fbdd348bbdeb94873",
        "d53e105ee54ea40749a09fcbcd1e9432",
        "9fb629c4189551a2d022fa330f9573f3",
        "ec29112dd5afa0611ce80d1b7f02629c",
    ),
    "fashion-mnist": _idx(
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
        "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
        "25c81989df183df01b3e8a0aad5dffbe",
        "bef4ecab320f06d8554ea6380940ec79",
        "bb300cfdad3c16e7a12a480ee83cd310",
    ),
    "kmnist": _idx(
        "http://codh.rois.ac.jp/kmnist/dataset/kmnist/",
        "bdb82020997e1d708af4cf47b453dcf7",
        "e144d726b3acfaa3e44228e80efcd344",
        "5c965bf0a639b31b8f53240b1b52f4d7",
        "7320c461ea6c1c855c0b718fb2a4b134",
    ),
    "cifar10": Source(
        "https://www.cs.toronto.edu/~kriz/",
        {"cifar-10-binary.tar.gz": "md5:c32a1d4ab5d03f1284b67883e8d87530"},
        CIFAR10_FILES,
    ),
    "cifar100": Source(
        "https://www.cs.toronto.edu/~kriz/",
        {"cifar-100-binary.tar.gz": "md5:03b5dce01913d631647c71ecec9e9cb8"},
        CIFAR100_FILES,
    ),
    "svhn": Source(
        "http://ufldl.stanford.edu/housenumbers/",
        {
            "train_32x32.mat": "md5:e26dedcc434d2e4c54c9b2d4a06d8373",
            "test_32x32.mat": "md5:eb5a983be6a315427106f1b164d9cef3",
        },
    ),
    "stl10": Source(
        "http://ai.stanford.edu/~acoates/stl10/",
        {"stl10_binary.tar.gz": "md5:91f7769df0f17e558f3565bffb0c7dfb"},
        STL10_FILES,
    ),
}


def fetch(
    name: str,
    data_dir: Path | None = None,
    base_url: str | None = None,
    progress: bool = True,
    registry: dict[str, Source] = REGISTRY,
) -> Path:
    """Download a data set into data_dir/NAME (default: `default_data_dir`), where `load` finds it.

    `base_url` is the address of a mirror that holds the same files (http:, https: or file:). A file that is
    there already and has the right checksum stays as it is; an archive is kept beside what was taken out of
    it. `progress` shows a bar a file on standard error. Returns the folder.

    Raises `DataError`: no such name, no download needed, the address does not answer, a download that broke
    off or has another checksum (nothing of it stays), an archive that lacks a file, a folder or disk that
    cannot be written.
    """
    if name not in registry:
        raise DataError(f"{name} needs no download: {NAMES[name]}") if name in NAMES else unknown_name(name, "data set")
    source = registry[name]
    folder = (data_dir or default_data_dir()) / name
    pooch.get_logger().setLevel("WARNING")  # the bars tell the rest
    columns = TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn()
    with Progress(*columns, console=Console(stderr=True), disable=not progress) as bars:
        for file, checksum in source.files.items():
            url = f"{(base_url or source.base_url).rstrip('/')}/{file}"
            _fetch_file(url, folder, file, checksum, bars)
            if source.members:
                _unpack(folder / file, source.members)
    return folder


def _fetch_file(url: str, folder: Path, file: str, checksum: str, bars: Progress) -> None:
    def download(url: str, target: str, _: object) -> None:
        # The bytes as they are: pooch's own downloader would unpack a .gz that the server calls gzip-encoded,
        # and the checksum would not match.
        request = Request(url, headers={"User-Agent": "locallearn"})
        with urlopen(request, timeout=_TIMEOUT) as reply, Path(target).open("wb") as out:
            total = int(reply.headers["Content-Length"]) if reply.headers["Content-Length"] else None
            task = bars.add_task(file, total=total)
            while chunk := reply.read(_CHUNK):
                out.write(chunk)
                bars.advance(task, len(chunk))
            if total is not None and out.tell() != total:
                raise DataError(f"{url}: broke off after {out.tell()} of {total} bytes; try again")

    try:
        # Downloads beside the target, compares the checksum, and only then renames.
        pooch.retrieve(url, checksum, file, folder, downloader=download)
    except HTTPError as error:
        raise DataError(f"{url}: the server answers {error.code} {error.reason}; try another address") from error
    except URLError as error:
        raise DataError(f"{url}: cannot be reached: {error.reason}; or put the file into {folder}") from error
    except ValueError as error:  # pooch's for a checksum, urllib's for an address
        raise DataError(f"{url}: {error}") from error
    except http.client.HTTPException as error:
        raise DataError(f"{url}: broke off: {error!r}") from error
    except OSError as error:
        raise DataError(f"cannot download {url} to {folder}: {error}") from error


def _unpack(archive: Path, members: tuple[str, ...]) -> None:
    """The archive's files of these names, whatever their folder there, next to the archive."""
    folder = archive.parent
    try:
        with tempfile.TemporaryDirectory(dir=folder) as scratch, tarfile.open(archive) as tar:
            for member in tar:
                name = Path(member.name).name
                if member.isfile() and name in members:
                    tar.extract(member.replace(name=name, deep=False), scratch, filter="data")
                    # Renamed when whole: an interruption leaves no half file.
                    (Path(scratch) / name).replace(folder / name)
    except (tarfile.TarError, EOFError, zlib.error, OSError) as error:
        raise DataError(f"{archive}: cannot unpack: {error}") from error
    missing = [name for name in members if not (folder / name).is_file()]
    if missing:
        raise DataError(f"{archive}: holds no {', '.join(missing)}")
