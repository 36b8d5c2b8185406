"""Files by which a machine runs a hub: a unit for systemd, and a file that makes a container of it.

>>> "Restart=on-failure" in unit(Machine())
True
"""

from __future__ import annotations

from dataclasses import dataclass

UNIT, CONTAINER = "souq-hub.service", "Containerfile"
USER = 990  # in the container: whoever starts it gives them the folders


@dataclass(frozen=True)
class Machine:
    """Where a hub lives on it."""

    repos: str = "/srv/souq/models"
    data: str = "/srv/souq/data"
    port: int = 8_000
    url: str = ""
    processes: int = 2
    grace: int = 30
    souq: str = "/opt/souq/bin/souq"
    version: str = ""


def unit(machine: Machine) -> str:
    """A unit for systemd: a user of its own, who writes nowhere else."""
    address = f" --url {machine.url}" if machine.url else ""
    return f"""\
# {UNIT}: cp {UNIT} /etc/systemd/system/ && systemctl enable --now {UNIT}
# useradd --system --home /srv/souq souq; install -d -o souq -g souq -m 750 {machine.repos} {machine.data}
[Unit]
Description=souq hub
After=network-online.target
Wants=network-online.target

[Service]
User=souq
Group=souq
ExecStart={machine.souq} hub --repos {machine.repos} --data {machine.data} --port {machine.port} \
--processes {machine.processes} --grace {machine.grace} --logs{address}
Restart=on-failure
RestartSec=2
TimeoutStopSec={machine.grace + 10}
UMask=0027
NoNewPrivileges=yes
ProtectSystem=strict
ProtectHome=yes
PrivateTmp=yes
PrivateDevices=yes
ProtectKernelTunables=yes
ProtectKernelModules=yes
ProtectControlGroups=yes
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX
RestrictSUIDSGID=yes
LockPersonality=yes
ReadWritePaths={machine.repos} {machine.data}
LimitNOFILE=65536

[Install]
WantedBy=multi-user.target
"""


def container(machine: Machine) -> str:
    """A file that makes a container: the repositories and the data are volumes of whoever runs it."""
    pinned = f"=={machine.version}" if machine.version else ""
    address = f', "--url", "{machine.url}"' if machine.url else ""
    return f"""\
# {CONTAINER}: docker build -t souq-hub -f {CONTAINER} . && mkdir -p models data && sudo chown -R {USER} models data \
&& docker run -p {machine.port}:{machine.port} -v $PWD/models:/models -v $PWD/data:/data souq-hub
FROM docker.io/library/python:3.12-slim-bookworm
RUN apt-get update && apt-get install -y --no-install-recommends git openssh-client && rm -rf /var/lib/apt/lists/*
RUN pip install --no-cache-dir "souq[postgres,merge,checks]{pinned}"
RUN useradd --system --uid {USER} souq && mkdir -p /models /data && chown souq /models /data
USER souq
ENV GIT_CONFIG_COUNT=1 GIT_CONFIG_KEY_0=safe.directory GIT_CONFIG_VALUE_0=*
VOLUME ["/models", "/data"]
EXPOSE {machine.port}
STOPSIGNAL SIGTERM
HEALTHCHECK CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:{machine.port}/health')"]
ENTRYPOINT ["souq", "hub", "--repos", "/models", "--data", "/data", "--host", "0.0.0.0", "--port", "{machine.port}", \
"--processes", "{machine.processes}", "--grace", "{machine.grace}", "--logs"{address}]
"""
