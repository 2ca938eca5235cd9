"""Steps of a build, read from what BuildKit and the classic builder print."""

from infrastructure.runtime.streamed import BuildLog

BUILDKIT = """\
#0 building with "default" instance using docker driver

#1 [bridge internal] load build definition from Dockerfile
#1 DONE 0.0s
#4 [bridge dependencies 1/3] FROM docker.io/library/python:3.13-slim-trixie
#4 DONE 0.0s
#5 [bridge dependencies 2/3] COPY bridge/requirements*.lock /tmp/locks/
#5 CACHED
#6 [bridge stage-1 3/4] WORKDIR /app
#5 [bridge dependencies 2/3] COPY bridge/requirements*.lock /tmp/locks/
#7 [bridge stage-1 4/4] RUN python -m compileall -q -j 0 /app/bridge
#7 0.351 [1/1] compiling
#8 exporting to image
"""
CLASSIC = """\
Sending build context to Docker daemon  1.2MB
Step 1/2 : FROM python:3.13-slim-trixie
 ---> 0123456789ab
Step 2/2 : RUN true
"""


def steps(text: str) -> list[tuple[int, int, str]]:
    log = BuildLog()
    found = [log.feed(line) for line in text.splitlines()]
    return [(one["step"], one["steps"], one["text"]) for one in found if one]


def test_buildkit() -> None:
    assert steps(BUILDKIT) == [
        (1, 3, "FROM docker.io/library/python:3.13-slim-trixie"),
        (2, 3, "COPY bridge/requirements*.lock /tmp/locks/"),
        (3, 7, "WORKDIR /app"),
        (4, 7, "RUN python -m compileall -q -j 0 /app/bridge"),
    ]


def test_classic() -> None:
    assert steps(CLASSIC) == [(1, 2, "FROM python:3.13-slim-trixie"), (2, 2, "RUN true")]


def test_a_single_stage_and_a_long_step() -> None:
    [(step, of, text)] = steps(f"#5 [bridge 2/2] RUN {'x' * 300}")
    assert (step, of, len(text)) == (1, 2, 100)
    assert text.endswith("…")
