"""What the containers of a job are given. Torch-free."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class ComposeConfig:
    """Docker Compose on this machine."""

    file: str = "docker-compose.yml"
    """The services; the file of the checkout, since it builds the images there."""
    secrets: str = ".secrets"
    """Folder beside that file with the token of Ray, the passwords of Redis and Grafana, and the token of the page.
    What is missing there is made."""
    actor_cpus: int = 1
    """CPUs of each container for actors; there are as many containers as --actor.actors needs."""
    gpu: bool = False
    """Give each process of the learner a GPU of NVIDIA; needs the NVIDIA container toolkit."""

    def __post_init__(self) -> None:
        if self.actor_cpus < 1:
            raise ValueError(f"compose.actor_cpus={self.actor_cpus} must be at least 1.")
