"""Which parts of a saved image travel."""

import io
import json
import tarfile

import pytest

from infrastructure.apply import shipping
from infrastructure.errors import GangwayError

A, B, C = ("sha256:" + letter * 64 for letter in "abc")


def saved(*names: str, ids: tuple[str, ...], links: dict[str, str] | None = None) -> io.BytesIO:
    """An archive as `docker save` writes it: for each layer a folder with `layer.tar`."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:

        def add(name: str, content: bytes) -> None:
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))

        add("config.json", json.dumps({"rootfs": {"diff_ids": ids}}).encode())
        for name in names:
            if name in (links or {}):
                entry = tarfile.TarInfo(name)
                entry.type, entry.linkname = tarfile.SYMTYPE, (links or {})[name]
                tar.addfile(entry)
            else:
                add(name, name.encode() * 1000)
        image = {"Config": "config.json", "RepoTags": ["x:1"], "Layers": names}
        add("manifest.json", json.dumps([image]).encode())
    return buffer


def packed(archive: io.BytesIO, without: int) -> list[str]:
    out = io.BytesIO()
    size = shipping.pack_layers(archive, out, shipping.read_layers(archive), without)
    assert size == len(out.getvalue())
    with tarfile.open(fileobj=io.BytesIO(out.getvalue()), mode="r:gz") as tar:
        return tar.getnames()


@pytest.mark.parametrize(
    ("on_host", "count"),
    [
        ([], 0),
        ([[B, C]], 0),  # the same layers above another base are other layers
        ([[A]], 1),
        ([[A, B, A], [A]], 2),
        ([[A, B, C]], 3),
        ([[A, B, C, A]], 3),
    ],
)
def test_only_a_common_beginning_is_shared(on_host: list[list[str]], count: int) -> None:
    assert shipping.shared_layers((A, B, C), on_host) == count


def test_the_lowest_layers_stay_here() -> None:
    archive = saved("1/layer.tar", "2/layer.tar", "3/layer.tar", ids=(A, B, C))
    assert shipping.read_layers(archive).ids == (A, B, C)
    rest = ["config.json", "3/layer.tar", "manifest.json"]
    assert packed(archive, 2) == rest
    assert packed(archive, 3) == ["config.json", "manifest.json"]
    assert len(packed(archive, 0)) == 5


def test_a_layer_that_is_needed_again_above_travels() -> None:
    links = {"3/layer.tar": "../1/layer.tar"}
    archive = saved("1/layer.tar", "2/layer.tar", "3/layer.tar", ids=(A, B, A), links=links)
    assert packed(archive, 2) == ["config.json", "1/layer.tar", "3/layer.tar", "manifest.json"]
    assert "1/layer.tar" not in packed(archive, 3)
    twice = saved("1/layer.tar", "2/layer.tar", ids=(A, B))
    names = shipping.Layers(("1/layer.tar", "2/layer.tar", "1/layer.tar"), (A, B, A))
    out = io.BytesIO()
    shipping.pack_layers(twice, out, names, 2)
    with tarfile.open(fileobj=io.BytesIO(out.getvalue())) as tar:
        assert "1/layer.tar" in tar.getnames()


def test_another_archive_is_refused() -> None:
    with pytest.raises(GangwayError, match="saves images in a way") as error:
        shipping.read_layers(io.BytesIO(b"no tar at all"))
    assert error.value.code == "local-docker"
