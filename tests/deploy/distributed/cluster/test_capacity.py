"""Whether a cluster is large enough for a run, and which nodes a run may use."""

from dataclasses import replace

import pytest

from actors.config import ActorConfig
from deploy.distributed.cluster.capacity import learner_gpus, order, require_capacity
from deploy.distributed.cluster.demand import bundles
from deploy.distributed.cluster.probe import Node
from deploy.wiring.config import ClusterConfig, EvaluationConfig, RunConfig
from learner.config import LearnerConfig


def _node(name: str, cpus: float, here: bool = False, labels: str = "", **resources: float) -> Node:
    pairs = dict(pair.split("=") for pair in labels.split()) | {"ray.io/node-id": name}
    return Node(name, name, here, here, pairs, {"CPU": cpus, "node:10.0.0.1": 1, **resources})


HEAD = _node("head", 2, here=True, labels="role=learner")
WIDE = _node("wide", 16, labels="role=actors zone=a", actors=4)
GPU = _node("gpu", 8, labels="role=learner", GPU=2)


def _config(actors: int = 2, evaluates: bool = False, **cluster: object) -> RunConfig:
    config = RunConfig(task="gym:CartPole-v1", mode="cluster", cluster=ClusterConfig(**cluster))  # type: ignore[arg-type]
    evaluation = EvaluationConfig(every=100 if evaluates else 0)
    return replace(config, actor=ActorConfig(actors=actors, environments=max(8, actors)), evaluation=evaluation)


def test_nodes_are_named_by_label_or_by_resource() -> None:
    assert WIDE.matches("role=actors") and WIDE.matches("actors") and WIDE.matches("")
    assert not WIDE.matches("role=learner") and not WIDE.matches("role") and not HEAD.matches("actors")


def test_the_learner_goes_to_a_gpu_if_there_is_one_and_else_stays_here() -> None:
    assert learner_gpus(ClusterConfig(), [HEAD, WIDE]) == 0 and learner_gpus(ClusterConfig(), [HEAD, GPU]) == 1
    assert learner_gpus(ClusterConfig(learner_nodes="role=actors"), [WIDE, GPU]) == 0
    assert learner_gpus(ClusterConfig(), [HEAD, WIDE], 2) == 0 and learner_gpus(ClusterConfig(), [HEAD, GPU], 2) == 2
    assert order(ClusterConfig(), [WIDE, HEAD, GPU], "head", 2) == [GPU]
    assert order(ClusterConfig(), [WIDE, HEAD, GPU], "head") == [GPU]
    assert order(ClusterConfig(learner_gpus=0), [WIDE, GPU, HEAD], "head") == [HEAD, GPU, WIDE]
    assert order(ClusterConfig(learner_nodes="role=actors"), [GPU, WIDE, HEAD], "head") == [WIDE]


def test_a_run_that_fits_is_accepted_to_the_last_cpu() -> None:
    require_capacity(_config(1), [HEAD], "head")
    require_capacity(_config(17), [HEAD, WIDE], "head")
    require_capacity(_config(16, actor_nodes="actors"), [HEAD, WIDE], "head")
    require_capacity(_config(32, actor_nodes="actors", actor_cpus=0.5), [HEAD, WIDE], "head")


def test_processes_of_the_learner_need_as_many_gpus_on_one_node() -> None:
    config = replace(_config(1), learner=LearnerConfig(processes=4))
    require_capacity(config, [HEAD, WIDE], "head")
    message = r"No node for the learner has 4 GPUs; lower learner.processes=4 or cluster.learner_gpus\."
    with pytest.raises(ValueError, match=message):
        require_capacity(config, [HEAD, GPU], "head")
    require_capacity(replace(config, learner=LearnerConfig(processes=2)), [HEAD, GPU], "head")


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (_config(18), "Beside the learner, the Ray cluster has room for 17 actors of 1 CPUs each, but actor.actors=18"),
        (_config(17, evaluates=True), "Beside the learner and the evaluator, .* room for 16 actors"),
        (_config(17, actor_nodes="role=actors"), "room for 16 actors of 1 CPUs each on its nodes with role=actors"),
        (_config(9, actor_nodes="role=actors", actor_cpus=2), "room for 8 actors of 2 CPUs each"),
        (
            _config(actor_nodes="role=none"),
            "matches cluster.actor_nodes=role=none; .* role=actors, .* resources actors",
        ),
        (_config(learner_nodes="gpus"), "No node of the Ray cluster matches cluster.learner_nodes=gpus"),
        (_config(learner_gpus=1), "No node for the learner has 1 GPU; lower cluster.learner_gpus"),
    ],
)
def test_a_run_that_does_not_fit_is_refused_with_the_remedy(config: RunConfig, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        require_capacity(config, [HEAD, WIDE], "head")


def test_an_autoscaler_is_asked_for_what_the_processes_of_a_run_reserve() -> None:
    config = _config(2, evaluates=True, learner_nodes="role=learner", actor_nodes="actors", actor_cpus=0.5)
    resources, labels = bundles(config)
    assert resources == [{"CPU": 2.0}, {"CPU": 0.5, "actors": 0.001}, {"CPU": 0.5, "actors": 0.001}]
    assert labels == [{"role": "learner"}, {}, {}]
    assert bundles(_config(1, learner_gpus=2)) == ([{"CPU": 1.0, "GPU": 2.0}, {"CPU": 1.0}], [{}, {}])
    assert len(bundles(replace(config, offline="runs/other"))[0]) == 1


def test_the_learners_node_needs_cpus_of_its_own() -> None:
    small = _node("small", 1, here=True)
    with pytest.raises(ValueError, match="The learner and evaluator need 2 CPUs on one node, but small offers Ray 1"):
        require_capacity(_config(1, evaluates=True), [small], "small")
    none = _node("none", 0, here=True)
    with pytest.raises(ValueError, match="The learner needs 1 CPU on one node, but none offers Ray 0"):
        require_capacity(_config(1), [none], "none")
