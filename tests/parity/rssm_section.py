"""rssm_<cfg>.npz: one recurrent step, prior, posterior, KL, a filtered sequence with gradients, an imagined one."""

import numpy as np
import torch
from torch import Tensor

from tests.parity.check import Check
from tests.parity.official_config import load_part, rssm_config, spaces
from world_models.distributions import categorical_entropy, categorical_kl
from world_models.dreamer.agent import Dreamer
from world_models.dreamer.config import DecoderConfig, DreamerConfig, EncoderConfig, HeadConfig, PolicyConfig
from world_models.dreamer.official_names import official_names, to_official
from world_models.dreamer.rssm import RSSM, State
from world_models.layers import concat_dict
from world_models.space import Space, Spaces


def check_rssm(check: Check) -> None:
    """Every part, with the parameters of the file."""
    config = check.json()
    actions = spaces(config["act_space"])
    head = HeadConfig(units=1)
    agent = Dreamer(
        {"x": Space(dtype=np.dtype(np.float32), shape=(1,))},
        actions,
        DreamerConfig(
            rssm=rssm_config(config["rssm"]),
            encoder=EncoderConfig(units=config["tokens"], layers=1),  # its width is that of the tokens in the file
            decoder=DecoderConfig(units=1),
            reward=head, continuation=head, value=head,
            policy=PolicyConfig(units=1),
        ),
    )  # fmt: skip
    load_part(agent, check.inputs("params/"))
    check_steps(check, agent.rssm)
    check_kl(check, agent.rssm)
    check_observe(check, agent, actions)
    check_imagine(check, agent.rssm, actions)


def check_steps(check: Check, rssm: RSSM) -> None:
    core, post = check.tensors("core/in/"), check.tensors("post/in/")
    deter = rssm.core(core["deter"], core["stoch"].flatten(-2), rssm.embed_action(core["action"]))
    check.compare("core/out/deter", deter)
    check.compare("prior/out/logit", rssm.prior(check.tensor("prior/in/deter")))
    check.compare("post/out/logit", rssm.posterior(post["deter"], post["tokens"]))


def check_kl(check: Check, rssm: RSSM) -> None:
    post, prior = (check.tensor(f"kl/in/{name}").requires_grad_() for name in ("post", "prior"))
    losses, _ = rssm.kl_losses(post, prior)
    (losses["dynamics"].sum() + 0.1 * losses["representation"].sum()).backward()
    log_post, log_prior = rssm.log_probs(post), rssm.log_probs(prior)
    check.compare("kl/out/dyn", losses["dynamics"])
    check.compare("kl/out/rep", losses["representation"])
    check.compare("kl/out/raw", categorical_kl(log_post, log_prior).sum(-1))
    check.compare("kl/out/post_entropy", categorical_entropy(log_post).sum(-1))
    check.compare("kl/grad/post", post.grad, "gradient")
    check.compare("kl/grad/prior", prior.grad, "gradient")


def check_observe(check: Check, agent: Dreamer, actions: Spaces) -> None:
    rssm = agent.rssm
    start = State(check.tensor("in/carry/deter"), check.tensor("in/carry/stoch"))
    tokens = check.tensor("in/tokens").requires_grad_()
    action = concat_dict(actions, check.tensors("in/action/"))
    index = check.tensor("observe/post_index").long()
    sequence = rssm.observe(start, tokens, action, check.tensor("in/reset"), index)
    prior = rssm.prior(sequence.deter)
    losses, entropies = rssm.kl_losses(sequence.posterior_logits, prior)
    objective = (
        losses["dynamics"].mean()
        + 0.1 * losses["representation"].mean()
        + sequence.deter.square().mean()
        + (sequence.stoch * check.tensor("observe/grad_w")).mean()
    )
    objective.backward()
    outputs = {
        "deter": sequence.deter,
        "stoch": sequence.stoch,
        "post_logit": sequence.posterior_logits,
        "prior_logit": prior,
        "loss_dyn": losses["dynamics"],
        "loss_rep": losses["representation"],
        "dyn_ent": entropies["dynamics_entropy"],
        "rep_ent": entropies["representation_entropy"],
        "final_deter": sequence.deter[:, -1],
        "final_stoch": sequence.stoch[:, -1],
        "grad_objective": objective,
    }
    for name, value in outputs.items():
        check.compare(f"observe/{name}", value)
    check.compare("observe/grad_tokens", tokens.grad, "gradient")
    compare_gradients(check, agent, "observe/grad/", {"dyn": "dyn"})


def check_imagine(check: Check, rssm: RSSM, actions: Spaces) -> None:
    state = State(check.tensor("imagine/in/carry/deter"), check.tensor("imagine/in/carry/stoch"))
    action = concat_dict(actions, check.tensors("imagine/in/action/"))
    index = check.tensor("imagine/index").long()
    rows: list[tuple[Tensor, ...]] = []
    with torch.no_grad():
        for step in range(index.shape[1]):
            state, logits = rssm.imagine_step(state, action[:, step], index[:, step])
            rows.append((*state, logits))
    for name, values in zip(("deter", "stoch", "logit"), zip(*rows, strict=True), strict=True):
        check.compare(f"imagine/{name}", torch.stack(values, 1))


def compare_gradients(check: Check, agent: Dreamer, at: str, modules: dict[str, str]) -> None:
    """Gradients of all parameters of some official modules, given with their names in the file."""
    parameters = dict(agent.named_parameters())
    for ours, theirs in official_names(agent).items():
        module, rest = theirs.split("/", 1)
        if module in modules:
            grad = parameters[ours].grad
            grad = torch.zeros_like(parameters[ours]) if grad is None else grad
            check.compare(f"{at}{modules[module]}/{rest}", to_official(agent, ours, grad), "gradient")
