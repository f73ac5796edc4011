"""KubeRay's custom resource definitions, from the files beside this checkout."""

import gzip
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

SCHEMAS = Path(__file__).parents[5] / "shared" / "schemas"


@cache
def schema(kind: str) -> dict[str, Any]:
    """The schema of the served version v1; skips the test where the files are absent."""
    path = SCHEMAS / f"ray.io_{kind.lower()}s.yaml.gz"
    if not path.exists():
        pytest.skip(f"KubeRay's definitions are not beside this checkout ({path})")
    definition = yaml.CSafeLoader(gzip.decompress(path.read_bytes())).get_data()  # the definition is long
    (found,) = (one for one in definition["spec"]["versions"] if one["name"] == "v1")
    return _strict(found["schema"]["openAPIV3Schema"])


def faults(kind: str, document: dict[str, Any]) -> list[str]:
    """What the schema has against an object, fields that it does not know included."""
    found = jsonschema.Draft202012Validator(schema(kind)).iter_errors(document)
    return [f"{error.json_path}: {error.message}" for error in found]


def rules(kind: str) -> set[tuple[str, str]]:
    """Its CEL rules, with the field that each is about, but for those of pods."""
    return set(_rules(schema(kind), ""))


def _strict(node: Any) -> Any:
    """Kubernetes drops fields that a schema does not name; here they are errors."""
    if isinstance(node, list):
        return [_strict(one) for one in node]
    if not isinstance(node, dict):
        return node
    node = {key: _strict(value) for key, value in node.items()}
    if isinstance(node.get("properties"), dict) and "additionalProperties" not in node and "type" in node:
        node["additionalProperties"] = False
    return node


def _rules(node: dict[str, Any], path: str) -> Iterator[tuple[str, str]]:
    yield from ((path, one["rule"]) for one in node.get("x-kubernetes-validations", ()))
    for name, child in node.get("properties", {}).items():
        if name not in ("template", "submitterPodTemplate", "status"):
            yield from _rules(child, f"{path}.{name}")
    if isinstance(node.get("items"), dict):
        yield from _rules(node["items"], f"{path}[]")
