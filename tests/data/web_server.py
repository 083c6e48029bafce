"""A web server that knows ranges, breaks off where it is told to, or stops answering; test_remote.py copies from it."""

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any


class Handler(SimpleHTTPRequestHandler):
    """Serves files, with ranges, and breaks off as it is told to."""

    def do_GET(self) -> None:
        file = Path(self.translate_path(self.path))
        if not file.is_file():
            return self.send_error(404)
        content = file.read_bytes()
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", "")) if self.server.ranges else None
        first = int(asked[1]) if asked else 0
        last = min(int(asked[2] or len(content)), len(content) - 1) if asked else len(content) - 1
        self.server.asked.append((file.name, first))
        if self.server.hold and file.name.startswith("tokens"):  # answers no more
            self.server.held.set()
            return self.server.hold.wait(60)
        self.send_response(206 if asked else 200)
        self.send_header("Content-Length", str(last + 1 - first))
        if asked:
            self.send_header("Content-Range", f"bytes {first}-{last}/{len(content)}")
        self.end_headers()
        body = content[first : last + 1]
        if self.server.breaks_at is not None and file.name.startswith("tokens") and last >= self.server.breaks_at:
            self.wfile.write(body[: max(0, self.server.breaks_at - first)])
            self.close_connection = True
            return None
        self.wfile.write(body)

    def do_HEAD(self) -> None:
        file = Path(self.translate_path(self.path))
        if not file.is_file():
            return self.send_error(404)
        self.send_response(200)
        self.send_header("Content-Length", str(file.stat().st_size))
        if self.server.ranges:
            self.send_header("Accept-Ranges", "bytes")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def serve(folder: Path) -> Iterator[Any]:
    """Serve a folder at `server.url`; `asked` holds (file, first byte) of each request.

    Set `ranges`, `breaks_at` (a byte of the token files) or `hold` (an Event until which no token file is answered)."""
    server: Any = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(folder)))
    server.daemon_threads = True
    server.url = f"http://127.0.0.1:{server.server_port}"
    server.asked, server.ranges, server.breaks_at, server.hold = [], True, None, None
    server.held = threading.Event()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server
    finally:
        if server.hold:
            server.hold.set()
        server.shutdown()
        server.server_close()
