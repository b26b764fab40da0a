"""Downloads from a web server on 127.0.0.1 that serves made-up data sets with their own checksums."""

import gzip
import hashlib
import io
import re
import struct
import tarfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from locallearn.host.datasets import NAMES, load
from locallearn.host.fetch import REGISTRY, Source, fetch
from locallearn.host.formats_binary import CIFAR10_FILES
from locallearn.quant.errors import DataError


@dataclass
class Site:
    """What the server has, what it was asked for, and how many bytes it sends before it hangs up."""

    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    sends: int | None = None

    def registry(self, name: str, *members: str) -> dict[str, Source]:
        """The files as they are now, under the name."""
        sums = {file: f"sha256:{hashlib.sha256(body).hexdigest()}" for file, body in self.files.items()}
        return {name: Source(self.url, sums, members)}


@pytest.fixture
def site() -> Iterator[Site]:
    site = Site()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            name = self.path.removeprefix("/data/")
            site.asked.append(name)
            if name not in site.files:
                self.send_error(404)
                return
            self.send_response(200)
            self.send_header("Content-Length", str(len(site.files[name])))
            if name.endswith(".gz"):
                # As some publishers' servers do: who obeys it unpacks the file and finds a wrong checksum.
                self.send_header("Content-Encoding", "gzip")
            self.end_headers()
            self.wfile.write(site.files[name][: site.sends])

        def log_message(self, format: str, *args: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        site.url = f"http://127.0.0.1:{server.server_port}/data/"
        yield site
        server.shutdown()
        thread.join()


def idx(*shape: int) -> bytes:
    header = struct.pack(f">HBB{len(shape)}I", 0, 8, len(shape), *shape)
    return gzip.compress(header + bytes(int(np.prod(shape))))


def idx_files(site: Site) -> None:
    site.files = {
        "train-images-idx3-ubyte.gz": idx(6, 3, 2),
        "train-labels-idx1-ubyte.gz": idx(6),
        "t10k-images-idx3-ubyte.gz": idx(2, 3, 2),
        "t10k-labels-idx1-ubyte.gz": idx(2),
    }


def tar(members: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        for name, body in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(body)
            archive.addfile(info, io.BytesIO(body))
    return out.getvalue()


def cifar10_files(site: Site) -> None:
    members = {f"cifar-10-batches-bin/{name}": bytes([3]) * 3073 for name in CIFAR10_FILES}
    site.files = {"cifar-10-binary.tar.gz": tar({"cifar-10-batches-bin/readme.html": b"", **members})}


def test_fetched_idx_files_load(site: Site, tmp_path: Path) -> None:
    idx_files(site)
    folder = fetch("mnist", tmp_path, registry=site.registry("mnist"))
    assert folder == tmp_path / "mnist"
    assert sorted(path.name for path in folder.iterdir()) == sorted(site.files)
    data = load("mnist", tmp_path)
    assert (data.train_x.shape, data.test_x.shape, data.shape) == ((6, 6), (2, 6), (3, 2))


def test_a_fetched_archive_is_unpacked_and_loads(site: Site, tmp_path: Path) -> None:
    cifar10_files(site)
    folder = fetch("cifar10", tmp_path, registry=site.registry("cifar10", *CIFAR10_FILES))
    assert {path.name for path in folder.iterdir()} == {*CIFAR10_FILES, "cifar-10-binary.tar.gz"}
    data = load("cifar10", tmp_path)
    assert (data.train_x.shape, data.test_y.tolist()) == ((5, 3072), [3])


def test_what_is_there_is_not_downloaded_again(site: Site, tmp_path: Path) -> None:
    idx_files(site)
    registry = site.registry("mnist")
    fetch("mnist", tmp_path, registry=registry)
    assert len(site.asked) == 4
    fetch("mnist", tmp_path, registry=registry)
    assert len(site.asked) == 4
    # A damaged file, and only that one, is.
    (tmp_path / "mnist" / "t10k-labels-idx1-ubyte.gz").write_bytes(b"half")
    fetch("mnist", tmp_path, registry=registry)
    assert site.asked[4:] == ["t10k-labels-idx1-ubyte.gz"]
    assert load("mnist", tmp_path).test_y.size == 2


def test_damage_to_an_unpacked_file_is_mended_from_the_archive(site: Site, tmp_path: Path) -> None:
    cifar10_files(site)
    registry = site.registry("cifar10", *CIFAR10_FILES)
    batch = fetch("cifar10", tmp_path, registry=registry) / "data_batch_2.bin"
    batch.write_bytes(b"half")
    fetch("cifar10", tmp_path, registry=registry)
    assert (batch.stat().st_size, len(site.asked)) == (3073, 1)


@pytest.mark.parametrize("slash", ["", "/"])
def test_a_mirror_takes_the_publishers_place(site: Site, tmp_path: Path, slash: str) -> None:
    idx_files(site)
    files = site.registry("kmnist")["kmnist"].files
    registry = {"kmnist": Source("http://publisher.invalid/", files)}
    fetch("kmnist", tmp_path, base_url=site.url.rstrip("/") + slash, registry=registry)
    assert load("kmnist", tmp_path).size == 6


def test_a_folder_is_a_mirror_too(site: Site, tmp_path: Path) -> None:
    idx_files(site)
    mirror = tmp_path / "mirror"
    mirror.mkdir()
    for name, body in site.files.items():
        (mirror / name).write_bytes(body)
    fetch("mnist", tmp_path, base_url=mirror.as_uri(), registry=site.registry("mnist"))
    assert load("mnist", tmp_path).size == 6
    assert site.asked == []


def test_wrong_checksum_leaves_nothing(site: Site, tmp_path: Path) -> None:
    idx_files(site)
    registry = site.registry("mnist")
    expected = hashlib.sha256(site.files["train-images-idx3-ubyte.gz"]).hexdigest()
    site.files["train-images-idx3-ubyte.gz"] = b"something else"
    got = hashlib.sha256(b"something else").hexdigest()
    with pytest.raises(DataError, match=f"train-images-idx3-ubyte.gz: .*expected sha256:{expected} but got {got}"):
        fetch("mnist", tmp_path, registry=registry)
    assert list((tmp_path / "mnist").iterdir()) == []


@pytest.mark.parametrize("sends", [0, 10])
def test_a_download_that_breaks_off_leaves_nothing(site: Site, tmp_path: Path, sends: int) -> None:
    idx_files(site)
    site.sends = sends
    size = len(site.files["train-images-idx3-ubyte.gz"])
    with pytest.raises(DataError, match=f"images-idx3-ubyte.gz: broke off after {sends} of {size} bytes"):
        fetch("mnist", tmp_path, registry=site.registry("mnist"))
    assert list((tmp_path / "mnist").iterdir()) == []


def test_not_found(site: Site, tmp_path: Path) -> None:
    idx_files(site)
    registry = site.registry("mnist")
    site.files.clear()
    url = re.escape(f"{site.url}train-images-idx3-ubyte.gz")
    with pytest.raises(DataError, match=f"{url}: the server answers 404 Not Found; try another address"):
        fetch("mnist", tmp_path, registry=registry)


def test_no_network(tmp_path: Path) -> None:
    # Port 1 of the loopback refuses; a name that cannot be resolved takes the same path.
    with pytest.raises(DataError, match=r"cannot be reached: .*refused; or put the file into .*mnist$"):
        fetch("mnist", tmp_path, base_url="http://127.0.0.1:1")


def test_an_address_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="unknown url type"):
        fetch("mnist", tmp_path, base_url="nowhere")


def test_a_folder_that_cannot_be_made(site: Site, tmp_path: Path) -> None:
    idx_files(site)
    (tmp_path / "mnist").touch()
    with pytest.raises(DataError, match=f"cannot download {site.url}.* to {tmp_path}/mnist: "):
        fetch("mnist", tmp_path, registry=site.registry("mnist"))


@pytest.mark.parametrize("name", ["../../escaped.bin", "/escaped.bin"])
def test_archive_members_cannot_escape(site: Site, tmp_path: Path, name: str) -> None:
    site.files = {"a.tar.gz": tar({name: b"x"})}
    folder = fetch("cifar10", tmp_path / "deep" / "down", registry=site.registry("cifar10", "escaped.bin"))
    assert [path.relative_to(tmp_path) for path in tmp_path.rglob("escaped.bin")] == [
        (folder / "escaped.bin").relative_to(tmp_path)
    ]
    assert not Path("/escaped.bin").exists()


def test_a_link_in_an_archive_is_no_file(site: Site, tmp_path: Path) -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        info = tarfile.TarInfo("train.bin")
        info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(info)
    site.files = {"a.tar.gz": out.getvalue()}
    with pytest.raises(DataError, match=r"a\.tar\.gz: holds no train\.bin$"):
        fetch("cifar100", tmp_path, registry=site.registry("cifar100", "train.bin"))


def test_an_archive_that_is_none(site: Site, tmp_path: Path) -> None:
    site.files = {"a.tar.gz": gzip.compress(b"no tar")}
    with pytest.raises(DataError, match=r"a\.tar\.gz: cannot unpack: "):
        fetch("stl10", tmp_path, registry=site.registry("stl10", "train_X.bin"))


def test_names(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"digits needs no download: .*comes with scikit-learn"):
        fetch("digits", tmp_path)
    with pytest.raises(DataError, match=r"no data set called cifar1O; .*did you mean cifar10\?"):
        fetch("cifar1O", tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_every_named_set_can_be_fetched() -> None:
    assert {*REGISTRY, "digits"} == set(NAMES)
    for source in REGISTRY.values():
        assert source.base_url.endswith("/")
        assert all(re.fullmatch(r"md5:[0-9a-f]{32}", checksum) for checksum in source.files.values())


def test_progress_goes_to_standard_error_or_nowhere(
    site: Site, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    idx_files(site)
    registry = site.registry("mnist")
    fetch("mnist", tmp_path / "quiet", progress=False, registry=registry)
    assert capfd.readouterr() == ("", "")
    fetch("mnist", tmp_path / "loud", registry=registry)
    out, err = capfd.readouterr()
    assert out == ""
    assert "t10k-labels-idx1-ubyte.gz" in err
