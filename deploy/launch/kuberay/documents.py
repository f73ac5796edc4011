"""Objects of Kubernetes as YAML that people read. Torch-free."""

from collections.abc import Iterable
from typing import Any

import yaml


class _Dumper(yaml.SafeDumper):
    """Without anchors, and with texts of several lines as they are."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _text)


def documents(objects: Iterable[dict[str, Any]]) -> str:
    """One document for each object, its keys in their order."""
    return yaml.dump_all(objects, Dumper=_Dumper, sort_keys=False, width=1000)
