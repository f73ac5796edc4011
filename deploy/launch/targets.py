"""The targets by their names. Torch-free; a target's own libraries are imported when it is asked for."""

from typing import Any

from deploy.launch.target import Launched, Target


def target_class(name: str) -> type[Any]:
    """The target of this name, one of `nexus launch --target`, to be made from its configuration, or by `of` from the
    `place` of a job. ValueError: this version does not know it."""
    if name == "ray":
        from deploy.launch.ray_jobs.jobs import RayJobs

        return RayJobs
    if name == "slurm":
        from deploy.launch.slurm.jobs import SlurmJobs

        return SlurmJobs
    if name == "kuberay":
        from deploy.launch.kuberay.target import KubeRay

        return KubeRay
    if name == "compose":
        from deploy.launch.compose.target import Compose

        return Compose
    raise ValueError(f"{name!r} is no target that this version of Nexus knows.")


def target_of(job: Launched) -> Target:
    """The target that was given a job. ValueError: this version does not know it."""
    target: Target = target_class(job.target).of(job.place)
    return target
