"""The files by which docker-compose.yml sets up Prometheus and Grafana."""

import json
import shutil
import subprocess
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[3]
FILES = ROOT / "deploy" / "monitor" / "provisioning"
SERVICES = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]


def test_prometheus_asks_the_learner_on_its_loopback_interface() -> None:
    config = yaml.safe_load((FILES / "prometheus.yml").read_text())
    assert config.keys() == {"global", "scrape_configs"} and config["global"].keys() == {"scrape_interval"}
    (job,) = config["scrape_configs"]
    assert job.keys() == {"job_name", "static_configs"}
    ((host, port),) = (target.split(":") for static in job["static_configs"] for target in static["targets"])
    assert host == "127.0.0.1" and f"--metrics-port={port}" in SERVICES["learner"]["command"]
    assert SERVICES["learner"]["network_mode"] == "service:prometheus"
    assert (
        "./deploy/monitor/provisioning/prometheus.yml:/etc/prometheus/prometheus.yml:ro"
        in (SERVICES["prometheus"]["volumes"])
    )
    if promtool := shutil.which("promtool"):
        command = [promtool, "check", "config", str(FILES / "prometheus.yml")]
        assert subprocess.run(command, timeout=500).returncode == 0


def test_grafana_has_the_dashboard_and_its_data() -> None:
    (source,) = yaml.safe_load((FILES / "datasources" / "prometheus.yaml").read_text())["datasources"]
    assert (source["type"], source["access"], source["isDefault"]) == ("prometheus", "proxy", True)
    host, _, port = source["url"].removeprefix("http://").partition(":")
    assert host in SERVICES and port == "9090"
    (provider,) = yaml.safe_load((FILES / "dashboards" / "nexus.yaml").read_text())["providers"]
    assert provider["type"] == "file"
    mounts = dict(volume.split(":")[:2][::-1] for volume in SERVICES["grafana"]["volumes"])
    dashboards = {place: file for place, file in mounts.items() if place.startswith(provider["options"]["path"] + "/")}
    ((place, file),) = dashboards.items()
    assert place.endswith(".json")
    dashboard = json.loads((ROOT / file).read_text())
    (variable,) = (one for one in dashboard["templating"]["list"] if one["type"] == "datasource")
    assert variable["query"] == source["type"]
    assert mounts["/etc/grafana/provisioning/datasources"] == "./deploy/monitor/provisioning/datasources"
    assert mounts["/etc/grafana/provisioning/dashboards"] == "./deploy/monitor/provisioning/dashboards"
