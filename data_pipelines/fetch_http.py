"""HTTP for downloads: only https and only public addresses, also after redirects; patient with servers that are busy."""

import email.utils
import http.client
import ipaddress
import random
import socket
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

TIMEOUT = 60  # seconds without a byte
TRIES = 8  # in a row that bring nothing
LONGEST_WAIT = 600  # seconds: whoever asks for more is asked again tomorrow
BUSY = (429, 500, 502, 503, 504)
USER_AGENT = "llama-data-fetch/0.1 (one connection; Python urllib)"
BREAKS = (  # how a connection ends that might be taken up again; a full disk is none of them
    *(urllib.error.URLError, http.client.HTTPException, ConnectionError, TimeoutError, ssl.SSLError, socket.gaierror),
)


class Refused(ValueError):
    """An address that is not to be asked; no trying again."""


def check_url(url: str, allow_private: bool) -> None:
    """Raises Refused for anything but https to a public address (with `allow_private`, for tests: http, any address).

    Between this and the connection the name could come to mean another address; a machine that is not meant would then
    have no certificate for that name."""
    parts = urlsplit(url)
    if parts.scheme not in (("https", "http") if allow_private else ("https",)):
        raise Refused(f"{url} is not https: refused")
    if not parts.hostname or parts.username is not None or parts.password is not None:
        raise Refused(f"{url} has no host, or a user's name in it: refused")
    if allow_private:
        return
    try:
        addresses = {ipaddress.ip_address(parts.hostname)}
    except ValueError:
        if _proxied(parts.hostname):  # it looks the name up, and decides
            return
        found = socket.getaddrinfo(parts.hostname, parts.port or 443, type=socket.SOCK_STREAM)
        addresses = {ipaddress.ip_address(str(place[4][0]).partition("%")[0]) for place in found}
    for address in addresses:
        mapped = getattr(address, "ipv4_mapped", None) or address
        if not mapped.is_global or mapped.is_multicast:
            raise Refused(f"{url} leads to {address}, which is no public address: refused")


def _proxied(host: str) -> bool:
    return "https" in urllib.request.getproxies() and not urllib.request.proxy_bypass(host)


class _Redirects(urllib.request.HTTPRedirectHandler):
    def __init__(self, allow_private: bool):
        self.allow_private = allow_private

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        check_url(newurl, self.allow_private)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def open_url(url: str, allow_private: bool, headers: Mapping[str, str] | None = None) -> Any:
    """The response to one GET. Raises Refused, urllib.error.HTTPError for a status of 400 or more, or one of BREAKS."""
    check_url(url, allow_private)
    opener = urllib.request.build_opener(_Redirects(allow_private))
    sent = {"User-Agent": USER_AGENT, "Accept-Encoding": "identity"} | dict(headers or {})
    return opener.open(urllib.request.Request(url, headers=sent), timeout=TIMEOUT)


def get(url: str, allow_private: bool, most: int) -> tuple[bytes, Any]:
    """(body, headers) of a listing of at most `most` bytes, asked for until it comes whole. Raises OSError, ValueError."""
    for attempt in range(TRIES):
        try:
            with open_url(url, allow_private) as response:
                body = response.read(most + 1)
                length = response.headers.get("Content-Length")
                if len(body) > most:
                    raise Refused(f"{url} is longer than {most:,} bytes: that is no listing")
                if length is not None and len(body) != int(length):
                    raise http.client.IncompleteRead(body)
                return body, response.headers
        except BREAKS as error:
            wait(url, error, attempt)
    raise AssertionError("wait() raises at last")


def wait(url: str, error: Exception, attempt: int) -> None:
    """Sleep before the next try, as long as the server asked for, or ever longer; raises OSError where none makes sense."""
    asked: float | None = None
    if isinstance(error, urllib.error.HTTPError):
        error.close()
        if error.code not in BUSY:
            raise OSError(f"{url}: the server says {error.code} {error.reason}") from None
        asked = _retry_after(error.headers.get("Retry-After"))
    if isinstance(getattr(error, "reason", None), ssl.SSLCertVerificationError):
        raise OSError(f"{url}: {error}") from None
    if attempt + 1 >= TRIES or (asked or 0) > LONGEST_WAIT:
        later = f"; it asks to come back in {asked:.0f} s" if asked else ""
        raise OSError(f"{url}: given up after {attempt + 1} tries, the last ended in {error}{later}") from None
    longer = min(2.0**attempt, 60) * random.uniform(0.5, 1.5)  # jitter: of many that were cut off, not all at once
    time.sleep(longer if asked is None else asked + random.uniform(0, 1))


def _retry_after(value: str | None) -> float | None:
    """Seconds, given as such or as a date."""
    if value is None:
        return None
    if value.strip().isdecimal():
        return float(value[:9])
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, OverflowError):
        return None
