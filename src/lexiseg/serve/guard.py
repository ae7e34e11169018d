"""What stands before every request: who is asking, by which name and from which page, and how much may be sent."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import json
import re
import secrets
import socket
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import SplitResult, parse_qs, urlsplit

from lexiseg.serve.problems import Refused

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

HEADERS = {
    "content-security-policy": (
        "default-src 'self'; img-src 'self' blob: data:; object-src 'none'; base-uri 'none'; form-action 'self'; "
        "frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}
_SMALL_BODY = 2**21
_SAFE = ("GET", "HEAD", "OPTIONS")
_SECRET = re.compile(r"[0-9a-f]{64}")


class Guard:
    """ASGI middleware.

    - The Host must be an address, this machine's name, or one that was allowed: a page of another site cannot
      reach the server by a name that it points here.
    - A request that changes anything must not come from another site's page (Origin, Sec-Fetch-Site).
    - Where there is a token, a visitor must bring it: once in the address of the page, which sets a cookie, or in
      every request as "Authorization: Bearer TOKEN" or "Token: TOKEN".
    - Each browser has a secret cookie; scans belong to its holder. `scope["state"]["visitor"]` is a key made of it.
    - Bodies are bounded.

    Args:
        app: what is guarded.
        token: None for none.
        names: hosts that are allowed besides addresses, "localhost" and this machine's name.
        port: names the cookies, since browsers share them between the ports of a host.
        uploads: bytes that paths with uploads take.
        takes_uploads: whether a path takes uploads.
        known: whether a visitor's key is known here; a cookie of somebody unknown is replaced.
        open: paths that answer without a token.
    """

    def __init__(
        self,
        app: App,
        *,
        token: str | None,
        names: Iterable[str],
        port: int,
        uploads: int,
        takes_uploads: Callable[[str], bool],
        known: Callable[[str], bool],
        open: Iterable[str] = (),
    ) -> None:
        self._app, self._token = app, token
        own = {"localhost", socket.gethostname().lower(), *(name.lower() for name in names)}
        self._names, self._uploads, self._takes, self._known = own, uploads, takes_uploads, known
        self._cookie, self._access = f"lexiseg_{port}", f"lexiseg_access_{port}"
        self._issued: set[str] = set()
        self._open = frozenset(open)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request pass, or answer it with one line."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return
        headers = {key.decode("latin-1").lower(): value.decode("latin-1") for key, value in scope["headers"]}
        cookies = _cookies(headers.get("cookie", ""))
        new: list[str] = []
        try:
            self._check_host(headers.get("host", ""))
            self._check_origin(scope["method"], headers)
            limit = self._uploads if self._takes(scope["path"]) else _SMALL_BODY
            _check_length(headers, limit)
            if scope["path"] in self._open:
                await self._app(scope, _bounded(receive, limit), _with_headers(send, new))
                return
            entering = self._check_token(scope, headers, cookies, new)
        except Refused as error:
            await _answer(send, error, scope["method"], page="text/html" in headers.get("accept", ""))
            return
        scope.setdefault("state", {})["visitor"] = self._visitor(cookies, new)
        if entering:
            await _redirect(_with_headers(send, new))
            return
        await self._app(scope, _bounded(receive, limit), _with_headers(send, new))

    def _check_host(self, host: str) -> None:
        name = _parts(f"//{host}").hostname or ""
        if name.lower() in self._names or _is_address(name):
            return
        raise Refused(421, "this name is not known here; open the address that lexiseg serve printed, "
                           "or start it with --name")  # fmt: skip

    def _check_origin(self, method: str, headers: dict[str, str]) -> None:
        if method in _SAFE:
            return
        origin, site = headers.get("origin"), headers.get("sec-fetch-site")
        foreign = site is not None and site not in ("same-origin", "none")
        if origin is not None and _parts(origin).netloc.lower() != headers.get("host", "").lower():
            foreign = True
        if foreign:
            raise Refused(403, "the request comes from another site's page; use the page of this server")

    def _check_token(self, scope: Scope, headers: dict[str, str], cookies: dict[str, str], new: list[str]) -> bool:
        """Whether the visitor has just come in by the address with the token."""
        if self._token is None:
            return False
        given = parse_qs(scope.get("query_string", b"").decode("latin-1")).get("token", [""])[0]
        bearer = headers.get("authorization", "") or (f"Bearer {headers['token']}" if "token" in headers else "")
        if given and scope["path"] == "/" and _same(given, self._token):
            new.append(_cookie(self._access, _proof(self._token)))
            return True
        if bearer.startswith("Bearer ") and _same(bearer.removeprefix("Bearer ").strip(), self._token):
            return False
        if not given and _same(cookies.get(self._access, ""), _proof(self._token)):
            return False
        stale = "is not valid any more" if given or self._access in cookies or bearer else "is missing"
        raise Refused(401, f"the token {stale}; open the address that lexiseg serve printed when it was started last")

    def _visitor(self, cookies: dict[str, str], new: list[str]) -> str:
        secret = cookies.get(self._cookie, "")
        if _SECRET.fullmatch(secret):
            key = _key(secret)
            if key in self._issued or self._known(key):
                return key
        secret = secrets.token_hex(32)
        new.append(_cookie(self._cookie, secret))
        key = _key(secret)
        if len(self._issued) < 100_000:
            self._issued.add(key)
        return key


def _key(secret: str) -> str:
    # The disk and the log see this one: a cookie cannot be made of it.
    return hashlib.sha256(secret.encode()).hexdigest()[:32]


def _proof(token: str) -> str:
    return hashlib.sha256(b"lexiseg:" + token.encode()).hexdigest()


def _same(first: str, second: str) -> bool:
    return hmac.compare_digest(first.encode(), second.encode())


def _cookie(name: str, value: str) -> str:
    return f"{name}={value}; Path=/; HttpOnly; SameSite=Strict; Max-Age=2592000"


def _cookies(header: str) -> dict[str, str]:
    jar: SimpleCookie = SimpleCookie()
    try:
        jar.load(header)
    except CookieError:
        return {}
    return {key: morsel.value for key, morsel in jar.items()}


def _parts(address: str) -> SplitResult:
    """The parts of an address; of what is none (a bracket without its other one) all are empty, and so foreign."""
    try:
        return urlsplit(address)
    except ValueError:
        return urlsplit("")


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _check_length(headers: dict[str, str], limit: int) -> None:
    length = headers.get("content-length")
    if length is not None and (not length.isdecimal() or int(length) > limit):
        raise _too_large(limit)


def _too_large(limit: int) -> Refused:
    size = f"{limit / 2**20:.0f} MB" if limit >= 2**20 else f"{limit} bytes"
    return Refused(413, f"too much was sent at once; expected at most {size}: send fewer or smaller files")


def _bounded(receive: Receive, limit: int) -> Receive:
    seen = 0

    async def bounded() -> Message:
        nonlocal seen
        message = await receive()
        seen += len(message.get("body", b""))
        if seen > limit:
            raise _too_large(limit)
        return message

    return bounded


def _with_headers(send: Send, cookies: list[str]) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            given = {key.lower() for key, _ in message.get("headers", [])}
            added = [(key.encode(), value.encode()) for key, value in HEADERS.items() if key.encode() not in given]
            added += [(b"set-cookie", cookie.encode()) for cookie in cookies]
            message["headers"] = [*message.get("headers", []), *added]
        await send(message)

    return sending


async def _answer(send: Send, error: Refused, method: str, *, page: bool) -> None:
    """One line: as JSON for programs, plain in a browser's window."""
    body = f"{error}\n".encode() if page else json.dumps({"error": str(error)}).encode()
    sending = _with_headers(send, [])
    length = str(len(body)).encode()
    kind = b"text/plain; charset=utf-8" if page else b"application/json"
    headers = [(b"content-type", kind), (b"content-length", length), (b"connection", b"close")]
    await sending({"type": "http.response.start", "status": error.status, "headers": headers})
    await sending({"type": "http.response.body", "body": b"" if method == "HEAD" else body})


async def _redirect(send: Send) -> None:
    """To the page without the token: it is not to stay in the address bar and the history."""
    headers = [(b"location", b"/"), (b"content-length", b"0")]
    await send({"type": "http.response.start", "status": 303, "headers": headers})
    await send({"type": "http.response.body", "body": b""})
