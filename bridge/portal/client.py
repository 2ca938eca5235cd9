"""Calls of the Client Portal's Web API, within its limits and with typed failures.

Every call ends within its time-out and either gives the decoded answer or raises a class of
`bridge.portal.errors`; no error of the HTTP library gets out.

Our own requests stay within the Web API's limits, so that a penalty never begins. From the public
documents: ten requests a second in all, some endpoints far fewer; who passes a
limit is kept out for ten to fifteen minutes. We stay a little below, because our clock and the
broker's do not tick alike.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import msgspec

from bridge.portal.certificates import Certificates
from bridge.portal.errors import (
    LoginRequiredError,
    PortalCertificateError,
    PortalLimitedError,
    PortalRefusedError,
    PortalSilentError,
    PortalUnreachableError,
)
from bridge.portal.state import Reading, reading_of

if TYPE_CHECKING:
    import httpx
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from bridge.clock import Clock

PENALTY_SECONDS = 900.0
PER_SECOND = 8
INTERVALS: tuple[tuple[str, float], ...] = (
    ("/tickle", 1.0),
    ("/sso/validate", 60.0),
    ("/iserver/account/orders", 5.0),
    ("/iserver/account/trades", 5.0),
    ("/iserver/account/pnl/partitioned", 5.0),
    ("/portfolio/accounts", 5.0),
    ("/portfolio/subaccounts", 5.0),
    ("/iserver/marketdata/snapshot", 0.1),
)
MARGIN = 1.05
START_SECONDS = 1.0
"""How long after its start a process waits before its first tickle."""


class Turn:
    """One admitted call. The broker sees it at some moment between its start and its end."""

    def __init__(self, start: float) -> None:
        self.time = start
        self.ended = False

    def never_sent(self) -> None:
        """The broker has not seen it, and never will."""
        self.time, self.ended = float("-inf"), True

    def seen_by(self, now: float) -> float:
        """The latest moment at which the broker may have seen the call."""
        return self.time if self.ended else max(self.time, now)


class PortalPacer:
    """Admits requests one after the other, waiting as long as the limits demand.

    One for each process: the broker counts by address and user, whatever our settings are. Gaps
    are counted from the end of a call: a first call that takes half a second to connect is seen
    by the broker half a second late.

    Args:
        clock: what is waited on.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._recent: deque[Turn] = deque(maxlen=PER_SECOND)
        # A predecessor of this process may have tickled just now.
        self._last: dict[str, Turn] = {"/tickle": Turn(clock.monotonic() - 1.0 + START_SECONDS)}
        self._last["/tickle"].ended = True
        self._closed_until = float("-inf")

    @property
    def penalty_left(self) -> float:
        """Seconds for which nothing may be sent; 0 when the way is free."""
        return max(0.0, self._closed_until - self._clock.monotonic())

    def penalise(self, seconds: float | None = None) -> None:
        """The broker said 429: nothing is sent for `seconds` (fifteen minutes by default)."""
        wait = PENALTY_SECONDS if seconds is None else max(seconds, 1.0)
        self._closed_until = max(self._closed_until, self._clock.monotonic() + wait)

    @asynccontextmanager
    async def turn(self, path: str, timeout: float) -> AsyncIterator[None]:
        """The body runs when the request may be sent, and is the request.

        Raises:
            PortalLimitedError: it would take longer than `timeout` seconds.
        """
        turn = await self._admit(path, timeout)
        try:
            yield
        finally:
            turn.time, turn.ended = self._clock.monotonic(), True

    async def _admit(self, path: str, timeout: float) -> Turn:
        # The place is taken before the wait, so that callers who wait at the same time do not
        # all start at once.
        now = self._clock.monotonic()
        start = max(now, self._earliest(path, now))
        if start - now > timeout:
            raise PortalLimitedError(
                f"the Client Portal's limits leave no room for {path} now",
                retry_after=start - now,
            )
        turn = Turn(start)
        self._recent.append(turn)
        if (endpoint := _limited_endpoint(path)) is not None:
            self._last[endpoint] = turn
        if start > now:
            try:
                await self._clock.sleep(start - now)
                self._require_no_penalty(path)  # it may have begun while this call waited
            except BaseException:
                turn.never_sent()
                raise
        return turn

    def _require_no_penalty(self, path: str) -> None:
        if (left := self.penalty_left) > 0:
            raise PortalLimitedError(f"the Client Portal keeps us out: {path}", retry_after=left)

    def _earliest(self, path: str, now: float) -> float:
        earliest = self._closed_until
        if len(self._recent) == PER_SECOND:
            earliest = max(earliest, self._recent[0].seen_by(now) + MARGIN)
        endpoint = _limited_endpoint(path)
        if endpoint is not None and (last := self._last.get(endpoint)) is not None:
            earliest = max(earliest, last.seen_by(now) + dict(INTERVALS)[endpoint] * MARGIN)
        return earliest


def _limited_endpoint(path: str) -> str | None:
    return next((endpoint for endpoint, _ in INTERVALS if path.startswith(endpoint)), None)


PREFIX = "/v1/api"
USER_AGENT = "gangway-bridge"
NOT_IMPLEMENTED = 501
LOOK_SECONDS = 4.0
"""Within these a look at the session is answered, or the gateway counts as silent."""
MAXIMUM_ANSWER = 4 * 1024 * 1024
LATE_SECONDS = 0.25
"""So much later than the HTTP library, which looks at each part of a call, all of it is ended."""
MOST_CONNECTIONS = 6
MOST_PASSED_THROUGH = 3
"""Calls for others at once: the session's own always find a connection."""


class PortalClient:
    """One gateway's Web API.

    Args:
        url: `https://host:port`; the path `/v1/api` is added here.
        pacer: admits the calls.
        certificates: knows which certificate the gateway has to show.
        credentials: user and password for a proxy in front of the gateway (HTTP basic).
    """

    def __init__(
        self,
        url: str,
        pacer: PortalPacer,
        certificates: Certificates,
        credentials: tuple[str, str] | None = None,
    ) -> None:
        self.url = url.rstrip("/").removesuffix(PREFIX)
        self.pacer = pacer
        self._certificates = certificates
        self._credentials = credentials
        self._http: httpx.AsyncClient | None = None
        self._for_others = asyncio.Semaphore(MOST_PASSED_THROUGH)
        self._meeting = asyncio.Lock()

    async def get(
        self, path: str, query: Mapping[str, str] | None = None, *, timeout: float = 8.0
    ) -> Any:
        """A GET below `/v1/api`; the decoded JSON."""
        return await self._call("GET", path, timeout, query=query)

    async def get_for_others(
        self, path: str, query: Mapping[str, str] | None = None, *, timeout: float = 8.0
    ) -> Any:
        """A GET that somebody else wants: only so many of them at once.

        Raises:
            PortalLimitedError: none of them came to its end in `timeout` seconds.
        """
        try:
            async with asyncio.timeout(timeout):
                await self._for_others.acquire()
        except TimeoutError:
            raise PortalLimitedError(
                f"{MOST_PASSED_THROUGH} calls are passed through already, and do not end",
                retry_after=1.0,
            ) from None
        try:
            return await self.get(path, query, timeout=timeout)
        finally:
            self._for_others.release()

    async def post(self, path: str, body: object | None = None, *, timeout: float = 8.0) -> Any:
        """A POST below `/v1/api`; the decoded JSON."""
        return await self._call("POST", path, timeout, body=body)

    async def tickle(self) -> Reading:
        """Keeps the session alive and reads its flags."""
        return reading_of(await self.post("/tickle", timeout=LOOK_SECONDS))

    async def status(self) -> Reading:
        """Reads the flags, and nothing else."""
        return reading_of(await self.post("/iserver/auth/status", timeout=LOOK_SECONDS))

    async def close(self) -> None:
        if self._http is not None:
            await self._http.aclose()
            self._http = None

    async def _call(
        self,
        method: str,
        path: str,
        timeout: float,
        *,
        query: Mapping[str, str] | None = None,
        body: object | None = None,
    ) -> Any:
        import httpx

        content = None if body is None else msgspec.json.encode(body)
        try:
            async with self.pacer.turn(path, timeout):
                http = await self._connection()
                async with (
                    asyncio.timeout(timeout + LATE_SECONDS),
                    http.stream(
                        method, PREFIX + path, params=query, content=content, timeout=timeout
                    ) as response,
                ):
                    answer = await _whole(path, response)
        except TimeoutError:
            raise PortalSilentError(f"no whole answer to {path} within {timeout:g} s") from None
        except httpx.ConnectTimeout:
            raise PortalUnreachableError(f"no connection within {timeout:g} s") from None
        except httpx.TimeoutException:
            raise PortalSilentError(f"no answer to {path} within {timeout:g} s") from None
        except httpx.HTTPError as error:
            if _is_certificate_failure(error):
                await self.close()
                raise await self._certificates.refusal(self.url) from None
            raise PortalUnreachableError(f"{path}: {_plain(error)}") from None
        except RuntimeError as error:  # another call has found the certificate wrong, and closed it
            raise PortalUnreachableError(f"{path}: {_plain(error)}") from None
        return self._decoded(path, response, answer)

    def _decoded(self, path: str, response: httpx.Response, content: bytes) -> Any:
        status = response.status_code
        if status == 429:
            retry_after = response.headers.get("retry-after", "")
            told = retry_after.isdecimal() and len(retry_after) < 7
            self.pacer.penalise(float(retry_after) if told else None)
            raise PortalLimitedError(
                "the Client Portal answered 429: this address is kept out for a while",
                retry_after=self.pacer.penalty_left,
            )
        if status in {401, 403} or response.is_redirect:
            raise LoginRequiredError(
                f"the Client Portal answered {status}: nobody is logged in",
                extra={"portalStatus": status},
            )
        if status >= 500 and status != NOT_IMPLEMENTED:
            raise PortalUnreachableError(f"the Client Portal answered {path} with {status}")
        if status >= 400:
            text = reading_of(_json(content)).message or f"status {status}"
            raise PortalRefusedError(text, status)
        answer = _json(content)
        if answer is None and content.strip() not in {b"", b"null"}:
            raise PortalUnreachableError(f"the answer to {path} is not JSON")
        return answer

    async def _connection(self) -> httpx.AsyncClient:
        async with self._meeting:  # who comes second is not to meet the gateway once more
            return self._http or await self._connected()

    async def _connected(self) -> httpx.AsyncClient:
        import httpx

        verify: ssl.SSLContext | bool = True
        if urlsplit(self.url).scheme == "https":
            verify = await self._certificates.context(self.url)
        self._http = httpx.AsyncClient(
            base_url=self.url,
            verify=verify,
            auth=self._credentials,
            trust_env=False,
            headers={
                "User-Agent": USER_AGENT,
                "Accept": "application/json",
                "Content-Type": "application/json",
            },
            limits=httpx.Limits(max_connections=MOST_CONNECTIONS, max_keepalive_connections=2),
        )
        return self._http


async def _whole(path: str, response: httpx.Response) -> bytes:
    """What was answered, as long as it is no longer than an answer may be."""
    content = bytearray()
    async for part in response.aiter_bytes():
        content += part
        if len(content) > MAXIMUM_ANSWER:
            raise PortalUnreachableError(f"the answer to {path} is larger than 4 MiB")
    return bytes(content)


def _json(content: bytes) -> Any:
    try:
        return msgspec.json.decode(content)
    except msgspec.DecodeError:
        return None


def _is_certificate_failure(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, ssl.SSLCertVerificationError | PortalCertificateError):
            return True
        error = error.__cause__ or error.__context__
    return False


def _plain(error: Exception) -> str:
    return str(error) or type(error).__name__
