import dataclasses
import hashlib
import http.server
import io
import tarfile
import threading
import zipfile

import pytest

from caffe_compat.datasets import downloads
from caffe_compat.datasets.downloads import DOWNLOADS, Download, checksum, fetch, table, verify
from caffe_compat.errors import CaffeCompatError, DataError, MissingFileError, UsageError

CONTENT = b"MATLAB" + bytes(range(250)) + bytes(range(256)) * 4999


class Host(http.server.BaseHTTPRequestHandler):
    """Serves ``files``; understands Range; ends a connection after ``limit`` bytes."""

    files: dict[str, bytes] = {}
    limit = 1 << 30
    asked: list[str | None] = []

    def do_GET(self):
        content = self.files.get(self.path)
        if content is None:
            self.send_error(404)
            return
        wanted = self.headers.get("Range")
        self.asked.append(wanted)
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted else 0
        if start >= len(content):
            self.send_error(416)
            return
        self.send_response(206 if wanted else 200)
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        self.wfile.write(content[start : start + self.limit])

    def log_message(self, *_):
        pass


@pytest.fixture
def host(monkeypatch):
    Host.files, Host.limit, Host.asked = {}, 1 << 30, []
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Host)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def serve(monkeypatch, host: str, name: str, content: bytes, **changes) -> Download:
    Host.files[f"/{name}"] = content
    item = Download(
        f"{host}/{name}", "a test", "answers", len(content), f"md5:{hashlib.md5(content).hexdigest()}", **changes
    )
    monkeypatch.setattr(downloads, "DOWNLOADS", {"thing": item})
    return item


def test_fetch_goes_on_where_the_connection_ended(monkeypatch, host, tmp_path):
    serve(monkeypatch, host, "f.mat", CONTENT)
    Host.limit = 500_000
    with pytest.raises(CaffeCompatError, match=r"500000 of 1280000 bytes|incomplete|IncompleteRead"):
        fetch("thing", tmp_path)
    assert (tmp_path / "f.mat.part").stat().st_size == 500_000 and not (tmp_path / "f.mat").exists()
    Host.limit = 1 << 30
    assert fetch("thing", tmp_path).read_bytes() == CONTENT
    assert Host.asked == [None, "bytes=500000-"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["f.mat", "f.mat.sha256"]
    fetch("thing", tmp_path)  # only checked
    assert len(Host.asked) == 2


def test_a_damaged_download_does_not_get_the_name(monkeypatch, host, tmp_path):
    serve(monkeypatch, host, "f.mat", CONTENT)
    Host.files["/f.mat"] = CONTENT[:-1] + b"x"
    with pytest.raises(DataError, match=r"f\.mat\.part: md5 .* expected .*delete it"):
        fetch("thing", tmp_path)
    assert not (tmp_path / "f.mat").exists()


def test_a_page_that_is_no_such_file_is_refused(monkeypatch, host, tmp_path):
    serve(monkeypatch, host, "f.mat", CONTENT)
    Host.files["/f.mat"] = b"<html>moved</html>"
    monkeypatch.setitem(downloads.DOWNLOADS, "thing", Download(f"{host}/f.mat", "a test", "answers"))
    with pytest.raises(DataError, match=r"f\.mat\.part: not a \.mat file, it begins with b'<html>.*delete it"):
        fetch("thing", tmp_path)
    for url in ("nonsense", "http://[", f"{host}/"):
        (tmp_path / "f.mat.part").unlink(missing_ok=True)
        with pytest.raises(CaffeCompatError, match="--url takes a mirror"):
            fetch("thing", tmp_path, url=url)
    (tmp_path / "file").write_text("")
    with pytest.raises(CaffeCompatError, match="cannot write into"):
        fetch("thing", tmp_path / "file")


@pytest.mark.parametrize("suffix", ["zip", "tgz"])
def test_archives_are_unpacked(monkeypatch, host, tmp_path, suffix):
    packed = io.BytesIO()
    if suffix == "zip":
        with zipfile.ZipFile(packed, "w") as archive:
            archive.writestr("tree/a.txt", "here")
    else:
        with tarfile.open(fileobj=packed, mode="w:gz") as archive:
            info = tarfile.TarInfo("tree/a.txt")
            info.size = 4
            archive.addfile(info, io.BytesIO(b"here"))
    serve(monkeypatch, host, f"f.{suffix}", packed.getvalue(), folder="in")
    fetch("thing", tmp_path)
    assert (tmp_path / "in" / "tree" / "a.txt").read_text() == "here"


@pytest.mark.parametrize("damage", ["encrypted", "method", "content", "directory"])
def test_archives_that_cannot_be_unpacked(monkeypatch, host, tmp_path, damage):
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.txt", "here" * 100)
    data = bytearray(packed.getvalue())
    entry = data.index(b"PK\x01\x02")
    if damage == "encrypted":
        data[6] |= 1
        data[entry + 8] |= 1
    elif damage == "method":
        data[8] = data[entry + 10] = 97
    elif damage == "content":
        data[36:42] = b"\xff" * 6
    else:
        del data[entry + 20 :]
    serve(monkeypatch, host, "f.zip", bytes(data), folder="in")
    with pytest.raises(CaffeCompatError, match=r"f\.zip: cannot be unpacked into .*delete it"):
        fetch("thing", tmp_path)
    assert not (tmp_path / "in" / "a.txt").exists()


def test_archives_do_not_write_outside(monkeypatch, host, tmp_path):
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        archive.addfile(tarfile.TarInfo("../../evil.txt"), io.BytesIO(b""))
    serve(monkeypatch, host, "f.tgz", packed.getvalue(), folder="in")
    with pytest.raises(CaffeCompatError, match=r"f\.tgz: cannot be unpacked"):
        fetch("thing", tmp_path / "a" / "b")
    assert not list(tmp_path.rglob("evil.txt"))


def test_dead_hosts_and_wrong_names_say_so(monkeypatch, host, tmp_path):
    item = serve(monkeypatch, host, "f.mat", CONTENT)
    with pytest.raises(CaffeCompatError, match=r"none\.mat: .*404.*\(answers\).*--url"):
        fetch("thing", tmp_path, url=f"{host}/none.mat")
    with pytest.raises(CaffeCompatError, match="127.0.0.1:9/f.mat: .*refused"):
        fetch("thing", tmp_path, url="http://127.0.0.1:9/f.mat")
    with pytest.raises(UsageError, match="no download 'thong'.*thing"):
        fetch("thong", tmp_path)
    with pytest.raises(MissingFileError, match=r"f\.mat \(a test, from http"):
        verify(tmp_path / "f.mat", item)
    (tmp_path / "f.mat").write_bytes(CONTENT[:-7])
    with pytest.raises(DataError, match="1279993 bytes, expected 1280000: truncated"):
        verify(tmp_path / "f.mat", item)
    assert "no checksum" in verify(tmp_path / "f.mat", dataclasses.replace(item, size=None, digest=None))


def test_the_list_names_every_file_and_what_is_known(tmp_path):
    text = table()
    assert all(name in text and item.url in text and item.status in text for name, item in DOWNLOADS.items())
    assert sum(name.startswith("nyud2_raw_") for name in DOWNLOADS) == 37
    for item in DOWNLOADS.values():
        kind, _, digits = (item.digest or "md5:" + "0" * 32).partition(":")
        assert len(digits) == {"md5": 32, "sha256": 64}[kind]
    (tmp_path / "x").write_bytes(b"abc")
    assert checksum(tmp_path / "x") == "900150983cd24fb0d6963f7d28e17f72"


def test_https_is_tried_first_where_a_host_may_have_it(monkeypatch, tmp_path):
    assert downloads._addresses("http://a.b/c.mat?d=1") == ["https://a.b/c.mat?d=1", "http://a.b/c.mat?d=1"]
    for url in ("https://a.b/c", "http://127.0.0.1:80/c", "ftp://a.b/c"):
        assert downloads._addresses(url) == [url]
    asked = []

    def download(url, part, *_):
        asked.append(url)
        if url.startswith("https:") and "none" in url:
            raise CaffeCompatError("refused")
        part.write_bytes(CONTENT)
        if "broken" in url:
            raise CaffeCompatError("ended")

    monkeypatch.setattr(downloads, "_download", download)
    for name, tried in (("none", 2), ("one", 1)):
        thing = Download(f"http://{name}.net/f.mat", "a test", "answers")
        monkeypatch.setattr(downloads, "DOWNLOADS", {"thing": thing})
        asked.clear()
        fetch("thing", tmp_path / name)
        assert asked == [f"https://{name}.net/f.mat", f"http://{name}.net/f.mat"][:tried]
    thing = Download("http://broken.net/f.mat", "a test", "answers")
    monkeypatch.setattr(downloads, "DOWNLOADS", {"thing": thing})
    asked.clear()
    with pytest.raises(CaffeCompatError, match="ended"):
        fetch("thing", tmp_path / "broken")
    assert asked == ["https://broken.net/f.mat"]  # it answered; the rest is for the next run


def test_the_sha256_of_what_came_is_kept_and_compared(monkeypatch, host, tmp_path):
    item = dataclasses.replace(serve(monkeypatch, host, "f.mat", CONTENT), digest=None)
    monkeypatch.setitem(downloads.DOWNLOADS, "thing", item)
    path, beside = fetch("thing", tmp_path), tmp_path / "f.mat.sha256"
    digits = hashlib.sha256(CONTENT).hexdigest()
    assert beside.read_text() == f"{digits}  f.mat\n"  # as sha256sum -c reads it
    assert verify(path, item) == "1280000 bytes, sha256 as recorded"
    path.write_bytes(CONTENT[:-1] + b"x")
    with pytest.raises(DataError, match=rf"f\.mat: sha256 .* expected {digits}: damaged"):
        fetch("thing", tmp_path)
    beside.write_text("nonsense")
    with pytest.raises(DataError, match=r"f\.mat\.sha256: begins with 'nonsense', expected the 64 digits"):
        verify(path, item)
    beside.unlink()
    assert verify(path, item).startswith("1280000 bytes, no checksum recorded, sha256 ")


def packed_zeros(suffix: str, size: int) -> bytes:
    packed = io.BytesIO()
    if suffix == "zip":
        with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("a", bytes(size // 2))
            archive.writestr("b", bytes(size // 2))
    else:
        with tarfile.open(fileobj=packed, mode="w:gz") as archive:
            for name in "ab":
                info = tarfile.TarInfo(name)
                info.size = size // 2
                archive.addfile(info, io.BytesIO(bytes(size // 2)))
    return packed.getvalue()


@pytest.mark.parametrize("suffix", ["zip", "tgz"])
def test_archives_that_unpack_to_far_more_than_they_hold(monkeypatch, host, tmp_path, suffix):
    monkeypatch.setattr(downloads, "_SMALL", 1 << 18)
    serve(monkeypatch, host, f"f.{suffix}", packed_zeros(suffix, 1 << 20), folder="in")
    with pytest.raises(CaffeCompatError, match=r"unpacks to (1 M|512 K)iB or more, at most 256 KiB .*--no-limits"):
        fetch("thing", tmp_path)
    assert not list((tmp_path / "in").glob("*"))
    monkeypatch.setenv("CAFFE_COMPAT_NO_LIMITS", "1")
    fetch("thing", tmp_path)
    assert (tmp_path / "in" / "b").stat().st_size == 1 << 19
    full = type("Usage", (), {"free": 1 << 18})
    monkeypatch.setattr(downloads.shutil, "disk_usage", lambda _: full)
    with pytest.raises(CaffeCompatError, match=r"unpacks to (1 M|512 K)iB or more, .*in has 256 KiB free"):
        fetch("thing", tmp_path)


def test_a_file_goes_where_its_data_set_is(monkeypatch, host, tmp_path):
    """And what is in it beside it; a .tar.gz is an archive too."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        entry = tarfile.TarInfo("frames/run/a/00001.png")
        entry.size = 3
        archive.addfile(entry, io.BytesIO(b"abc"))
    serve(monkeypatch, host, "frames.tar.gz", packed.getvalue(), folder="clips", place="clips")
    assert fetch("thing", tmp_path, progress=False) == tmp_path / "clips" / "frames.tar.gz"
    assert (tmp_path / "clips/frames/run/a/00001.png").read_bytes() == b"abc"


def test_a_rar_is_only_fetched(monkeypatch, host, tmp_path):
    serve(monkeypatch, host, "videos.rar", b"Rar!\x1a\x07" + bytes(100), place="videos")
    assert fetch("thing", tmp_path, progress=False).read_bytes()[:4] == b"Rar!"
    assert sorted(path.name for path in (tmp_path / "videos").iterdir()) == ["videos.rar", "videos.rar.sha256"]
