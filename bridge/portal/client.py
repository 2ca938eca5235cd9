"""Calls of the Client Portal's Web API, within its limits and with typed failures.

Every call ends within its time-out and either gives the decoded answer or raises a class of
`bridge.portal.errors`; no error of the HTTP library gets out.
"""

from __future__ import annotations

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
from bridge.portal.pacing import PortalPacer
from bridge.portal.state import Reading, reading_of

if TYPE_CHECKING:
    import httpx

PREFIX = "/v1/api"
USER_AGENT = "gangway-bridge"
NOT_IMPLEMENTED = 501
LOOK_SECONDS = 4.0
"""Within these a look at the session is answered, or the gateway counts as silent."""
MAXIMUM_ANSWER = 4 * 1024 * 1024


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

    async def get(
        self, path: str, query: Mapping[str, str] | None = None, *, timeout: float = 8.0
    ) -> Any:
        """A GET below `/v1/api`; the decoded JSON."""
        return await self._call("GET", path, timeout, query=query)

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
        """Closes the connections."""
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
                response = await http.request(
                    method, PREFIX + path, params=query, content=content, timeout=timeout
                )
        except httpx.ConnectTimeout:
            raise PortalUnreachableError(f"no connection within {timeout:g} s") from None
        except httpx.TimeoutException:
            raise PortalSilentError(f"no answer to {path} within {timeout:g} s") from None
        except httpx.HTTPError as error:
            if _is_certificate_failure(error):
                await self.close()
                raise await self._certificates.refusal(self.url) from None
            raise PortalUnreachableError(f"{path}: {_plain(error)}") from None
        return self._decoded(path, response)

    def _decoded(self, path: str, response: httpx.Response) -> Any:
        status = response.status_code
        if status == 429:
            retry_after = response.headers.get("retry-after", "")
            self.pacer.penalise(float(retry_after) if retry_after.isdecimal() else None)
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
        if len(response.content) > MAXIMUM_ANSWER:
            raise PortalUnreachableError(f"the answer to {path} is larger than 4 MiB")
        if status >= 400:
            text = reading_of(_json(response.content)).message or f"status {status}"
            raise PortalRefusedError(text, status)
        answer = _json(response.content)
        if answer is None and response.content.strip() not in {b"", b"null"}:
            raise PortalUnreachableError(f"the answer to {path} is not JSON")
        return answer

    async def _connection(self) -> httpx.AsyncClient:
        if self._http is None:
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
                limits=httpx.Limits(max_connections=4, max_keepalive_connections=2),
            )
        return self._http


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
