"""The targets by their names. Torch-free; a target's own libraries are imported when it is asked for."""

from deploy.launch.target import Launched, Target


def target_of(job: Launched) -> Target:
    """The target that was given a job. ValueError: this version does not know it."""
    if job.target == "ray":
        from deploy.launch.ray_jobs.config import RayJobsConfig
        from deploy.launch.ray_jobs.jobs import RayJobs

        return RayJobs(RayJobsConfig(), job.place)
    if job.target == "slurm":
        from deploy.launch.slurm.config import SlurmConfig
        from deploy.launch.slurm.jobs import SlurmJobs

        return SlurmJobs(SlurmConfig())
    if job.target == "kuberay":
        from deploy.launch.kuberay.target import KubeRay

        return KubeRay.of(job.place)
    if job.target == "compose":
        from deploy.launch.compose.target import Compose

        return Compose.of(job.place)
    raise ValueError(f"The job {job.name} was given to {job.target!r}, which this version of Nexus does not know.")
