"""As much of the API server of Kubernetes as kubectl needs to create, read, scale and delete objects, and for logs."""

import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

KINDS = {
    "v1": {"ConfigMap": "configmaps", "Service": "services", "Secret": "secrets", "Pod": "pods",
           "PersistentVolumeClaim": "persistentvolumeclaims"},
    "apps/v1": {"StatefulSet": "statefulsets"},
    "networking.k8s.io/v1": {"NetworkPolicy": "networkpolicies"},
    "ray.io/v1": {"RayJob": "rayjobs", "RayCluster": "rayclusters"},
}  # fmt: skip
PATH = re.compile(r"/apis?/[\w./]+?/namespaces/[\w-]+/(?P<plural>\w+)(/(?P<name>[\w.-]+))?(/(?P<part>\w+))?")
Object = dict[str, Any]


class ApiServer:
    """Keeps objects by plural and name; `logs` by pod."""

    def __init__(self) -> None:
        self.objects: dict[tuple[str, str], Object] = {}
        self.logs: dict[str, str] = {}
        self.asked: list[str] = []

    def answer(self, method: str, path: str, body: Object) -> tuple[int, Any]:
        self.asked.append(f"{method} {path}")
        found = PATH.fullmatch(path)
        if not found:
            return self._discover(path)
        key = (found["plural"], found["name"] or body.get("metadata", {}).get("name", ""))
        if found["part"] == "log":
            return (200, self.logs[key[1]]) if key[1] in self.logs else (404, _status(404))
        if method == "POST":
            self.objects[key] = body
        elif key not in self.objects:
            return 404, _status(404)
        elif method == "DELETE":
            del self.objects[key]
            return 200, _status(200)
        elif method in ("PATCH", "PUT"):
            self.objects[key] = _merged(self.objects[key], body)
        if key[0] == "statefulsets":
            self.objects[key]["status"] = {"readyReplicas": self.objects[key]["spec"]["replicas"]}
        if found["part"] == "scale":
            wanted = {"replicas": self.objects[key]["spec"]["replicas"]}
            return 200, {"kind": "Scale", "apiVersion": "autoscaling/v1", "metadata": {"name": key[1]}, "spec": wanted}
        return 200, self.objects[key]

    def _discover(self, path: str) -> tuple[int, Any]:
        if path == "/api":
            return 200, {"kind": "APIVersions", "versions": ["v1"]}
        if path == "/apis":
            groups = [version.split("/") for version in KINDS if "/" in version]
            return 200, {"kind": "APIGroupList", "apiVersion": "v1", "groups": [
                {"name": name, "versions": [{"groupVersion": f"{name}/{version}", "version": version}],
                 "preferredVersion": {"groupVersion": f"{name}/{version}", "version": version}}
                for name, version in groups
            ]}  # fmt: skip
        if path.startswith("/openapi/v3"):
            return 200, _openapi(path.removeprefix("/openapi/v3").lstrip("/"))
        version = re.sub("^/apis?/", "", path)
        if version not in KINDS:
            return 404, _status(404)
        verbs = ["create", "delete", "get", "list", "patch", "update", "watch"]
        resources = [
            {"name": plural, "singularName": kind.lower(), "namespaced": True, "kind": kind, "verbs": verbs}
            for kind, plural in KINDS[version].items()
        ]
        if version == "apps/v1":
            resources.append({
                "name": "statefulsets/scale", "singularName": "", "namespaced": True, "kind": "Scale",
                "group": "autoscaling", "version": "v1", "verbs": ["get", "patch", "update"],
            })  # fmt: skip
        return 200, {"kind": "APIResourceList", "groupVersion": version, "resources": resources}


@contextmanager
def serving(server: ApiServer, folder: Path) -> Iterator[Path]:
    """Serve on this machine; the path of a configuration of kubectl for it."""

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *arguments: Any) -> None:
            pass

        def answer(self) -> None:
            text = self.rfile.read(int(self.headers.get("content-length") or 0))
            code, answer = server.answer(self.command, urlsplit(self.path).path, json.loads(text or b"{}"))
            data = answer.encode() if isinstance(answer, str) else json.dumps(answer).encode()
            self.send_response(code)
            self.send_header("content-type", "text/plain" if isinstance(answer, str) else "application/json")
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = do_PATCH = do_PUT = do_DELETE = answer  # noqa: N815

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        thread = threading.Thread(target=http.serve_forever)
        thread.start()
        cluster = {"name": "test", "cluster": {"server": f"http://127.0.0.1:{http.server_port}"}}
        context = {"name": "test", "context": {"cluster": "test", "namespace": "lab", "user": ""}}
        file = folder / "kubeconfig"
        file.write_text(json.dumps({
            "apiVersion": "v1", "kind": "Config", "clusters": [cluster], "contexts": [context],
            "current-context": "test",
        }))  # fmt: skip
        try:
            yield file
        finally:
            http.shutdown()
            thread.join(10)


def _openapi(path: str) -> Object:
    """That this server checks fields itself, as every one does."""
    if not path:
        each = [f"apis/{version}" if "/" in version else f"api/{version}" for version in KINDS]
        return {"paths": {name: {"serverRelativeURL": f"/openapi/v3/{name}"} for name in each}}
    group, _, version = re.sub("^apis?/", "", path).rpartition("/")
    parameters = [{"name": "fieldValidation", "in": "query", "schema": {"type": "string"}}]
    paths = {
        f"/{path}/namespaces/{{namespace}}/{plural}/{{name}}": {"patch": {
            "parameters": parameters, "responses": {},
            "x-kubernetes-group-version-kind": {"group": group, "version": version, "kind": kind},
        }} for kind, plural in KINDS[f"{group}/{version}" if group else version].items()
    }  # fmt: skip
    return {"openapi": "3.0.0", "info": {"title": "Kubernetes", "version": "1.31"}, "paths": paths}


def _status(code: int) -> Object:
    said = {"status": "Success"} if code == 200 else {"status": "Failure", "reason": "NotFound", "message": "not found"}
    return {"kind": "Status", "apiVersion": "v1", "code": code, **said}


def _merged(old: Any, new: Any) -> Any:
    if not (isinstance(old, dict) and isinstance(new, dict)):
        return new
    kept = {key: value for key, value in old.items() if key not in new}
    return kept | {key: _merged(old.get(key), value) for key, value in new.items() if value is not None}
