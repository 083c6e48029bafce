"""A W&B server in a thread: the part of its protocol that a run needs, its history kept, and faults on demand."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class WandbServer:
    """Runs by id. `fault`: None, "silent" (accepts and never answers) or "500"; `stop` refuses connections.

    A run's history is the list of lines its client sent, each put where the client's offset says, as W&B does."""

    def __init__(self, port: int = 0):
        self.runs: dict[str, dict[str, Any]] = {}
        self.received = b""  # every byte of every request's path, headers and body
        self.fault: str | None = None
        self.answering = threading.Event()  # set: those who wait for a silent server are let go
        self.server = _Server(("127.0.0.1", port), self._handler())
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def rows(self, run_id: str) -> list[dict[str, Any]]:
        """A run's history, W&B's own keys (`_runtime`, `_timestamp`) left out."""
        lines = self.runs[run_id]["history"] if run_id in self.runs else []
        return [
            {key: value for key, value in json.loads(line).items() if key not in ("_runtime", "_timestamp", "_wandb")}
            for line in lines
        ]

    def stop(self) -> None:
        """Refuse connections from now on, and end those there are."""
        self.fault = "gone"
        self.answering.set()
        self.server.shutdown()
        self.server.server_close()

    def graphql(self, query: str, variables: dict[str, Any]) -> dict[str, Any]:
        """The answer to one of the five questions a run asks."""
        if "mutation UpsertBucket" in query:
            name = variables["name"]
            run = self.runs.setdefault(name, {"history": [], "summary": "{}", "events": [], "finished": None})
            run |= {key: variables[key] for key in ("config", "project", "displayName") if variables.get(key)}
            return {"upsertBucket": {"inserted": True, "bucket": self._bucket(name)}}
        if "RunResumeStatus" in query:
            name = variables["name"]
            return {"model": {"id": "1", "name": "p", "entity": ENTITY, "bucket": self._bucket(name)}}
        if "createRunFiles" in query:
            files = [{"name": name, "uploadUrl": f"{self.url}/upload/{name}"} for name in variables["files"]]
            return {"createRunFiles": {"runID": "1", "uploadHeaders": [], "files": files}}
        if "viewer" in query:
            return {"viewer": {"id": "1", "entity": "someone", "username": "someone", "flags": "{}"}}
        if "serverInfo" in query:
            return {"serverInfo": {"features": []}}
        return {}

    def _bucket(self, name: str) -> dict[str, Any] | None:
        if (run := self.runs.get(name)) is None:
            return None
        return {
            **{
                "id": f"id-{name}",
                "name": name,
                "displayName": run.get("displayName", name),
                "tags": [],
                "notes": None,
            },
            **{"project": {"id": "1", "name": run["project"], "entity": ENTITY}, "config": run.get("config", "{}")},
            **{"historyLineCount": len(run["history"]), "historyTail": json.dumps(run["history"][-1:])},
            **{"eventsLineCount": len(run["events"]), "eventsTail": json.dumps(run["events"][-1:])},
            **{"logLineCount": 0, "summaryMetrics": run["summary"], "wandbConfig": '{"t": 1}'},
        }

    def stream(self, run_id: str, body: dict[str, Any]) -> None:
        """Lines of a run: history, system figures, summary."""
        run = self.runs[run_id]
        for name, lines in body.get("files", {}).items():
            if name == "wandb-summary.json":
                run["summary"] = lines["content"][-1]
            elif name in FILES:
                kept = run[FILES[name]]
                kept[lines["offset"] : lines["offset"] + len(lines["content"])] = lines["content"]
        if body.get("complete"):
            run["finished"] = body.get("exitcode")

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        world = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                world.received += f"{self.path} {self.headers}".encode() + body
                if world.fault == "silent":
                    world.answering.wait(60)
                if world.fault in ("silent", "gone"):
                    self.close_connection = True
                    return
                reply: dict[str, Any] = {}
                if world.fault != "500" and self.path == "/graphql":
                    asked = json.loads(body)
                    reply = {"data": world.graphql(asked["query"], asked.get("variables") or {})}
                elif world.fault != "500" and self.path.endswith("/file_stream"):
                    world.stream(self.path.split("/")[4], json.loads(body))
                data = json.dumps(reply).encode()
                self.send_response(500 if world.fault == "500" else 200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            do_GET = do_POST = do_PUT = answer

            def log_message(self, format: str, *args: Any) -> None:
                """Say nothing."""

        return Handler


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that gave up is no news."""


FILES = {"wandb-history.jsonl": "history", "wandb-events.jsonl": "events"}
ENTITY = {"id": "1", "name": "someone"}
