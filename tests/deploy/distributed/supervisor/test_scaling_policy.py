"""The number of actors that a simulated run comes to have."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from actors.config import AutoscaleConfig
from deploy.distributed.supervisor.scaling_policy import BAND, Decision, ScalingPolicy, Sight, wanted

TICK = 1.0
CONFIG = AutoscaleConfig(on=True, least=1, most=32, patience=20, cooldown=10, free_cpus=0)


@dataclass
class World:
    """A run whose learner is kept busy by `need(t)` actors; new ones take `starting` seconds until they act."""

    need: Callable[[float], float]
    config: AutoscaleConfig = CONFIG
    asked: int = 1
    starting: float = 7.0
    idle_cpus: float = math.inf
    """CPUs that are idle."""
    obstacle: str = ""
    time: float = 0.0
    decisions: list[tuple[float, Decision]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.policy = ScalingPolicy(self.config, most=100)
        self.acting, self._ready, self._waited = self.asked, 0.0, [0.0, 0.0]

    def sight(self) -> Sight:
        idle = self.time * self.idle_cpus if math.isfinite(self.idle_cpus) else math.inf
        settled = self.acting == self.asked
        insert, sample = self._waited
        return Sight(self.time, self.asked, self.acting, settled, insert, sample, idle, self.obstacle)

    def run(self, seconds: float) -> list[int]:
        """The changed numbers of actors, in their order."""
        before, end = len(self.decisions), self.time + seconds
        while self.time < end:
            self.time += TICK
            if self.time >= self._ready:
                self.acting = self.asked
            need = self.need(self.time)
            self._waited[0] += TICK * self.acting * max(0.0, 1 - need / self.acting)
            self._waited[1] += TICK * max(0.0, 1 - self.acting / need)
            if decision := self.policy.look(self.sight()):
                self.decisions.append((self.time, decision))
                self.asked, self._ready = decision.actors, self.time + self.starting
                self.acting = min(self.acting, self.asked)
        return [decision.actors for _, decision in self.decisions[before:]]


def constant(need: float) -> Callable[[float], float]:
    return lambda time: need


def test_it_doubles_until_the_learner_is_busy_and_then_rests() -> None:
    world = World(constant(11.0))
    assert world.run(300) == [2, 4, 8, 11]
    assert world.run(3000) == []
    assert world.decisions[0][1].reason == "the learner waits for data 91% of its time"


def test_slow_environments_that_become_fast() -> None:
    world = World(lambda time: 8.0 if time < 300 else 0.5)
    assert world.run(300) == [2, 4, 8]
    assert world.run(1000) == [1], "in one step"
    assert world.decisions[-1][1].reason == "actors wait for the learner 94% of their time"


def test_changes_keep_their_distance() -> None:
    world = World(constant(1000.0), asked=1)
    world.run(600)
    times = [time for time, _ in world.decisions]
    least = CONFIG.patience + CONFIG.cooldown + world.starting
    assert all(later - before >= least for before, later in zip(times, times[1:], strict=False))
    assert [decision.actors for _, decision in world.decisions] == [2, 4, 8, 16, 32]
    assert world.policy.says.endswith("no actor is added: the limit is 32")


def test_one_long_checkpoint_changes_nothing() -> None:
    world = World(lambda time: 0.001 if 100 <= time % 200 < 106 else 4.0, asked=4)
    assert world.run(2000) == []


def test_no_actor_is_added_without_a_free_cpu_or_place() -> None:
    config = AutoscaleConfig(on=True, patience=20, cooldown=10, free_cpus=0.5)
    busy = World(constant(9.0), config, idle_cpus=0.4)
    assert busy.run(300) == [] and "0.4 CPUs are idle" in busy.policy.says
    busy.idle_cpus = 0.9
    assert busy.run(100)[0] == 2
    waiting = World(constant(9.0), asked=3, obstacle="actor 2 waits for a free CPU")
    assert waiting.run(300) == [] and waiting.policy.says.endswith("no actor is added: actor 2 waits for a free CPU")
    assert World(constant(1.0), config, asked=9, idle_cpus=0.0).run(300) == [2], "fewer need none"


def test_another_number_of_its_own_accord_or_new_counts_begin_the_measurement_anew() -> None:
    world = World(constant(1000.0))
    world.run(CONFIG.cooldown + CONFIG.patience - 2)
    world._waited = [0.0, 0.0]  # another coordinator
    assert world.run(CONFIG.patience - 2) == []
    world.asked = world.acting = 3  # on request
    assert world.run(CONFIG.patience - 2) == [] and world.run(5) == [6]


def test_a_number_outside_the_bounds_is_brought_inside_at_once() -> None:
    world = World(constant(5.0), AutoscaleConfig(on=True, least=2, most=6), asked=40)
    assert world.run(1) == [6]
    assert world.decisions[0][1].reason == "there are to be 2 to 6"
    assert ScalingPolicy(AutoscaleConfig(least=4, most=9), most=3).least == 3


def test_why_no_actor_is_added_while_fewer_act_than_are_asked_for() -> None:
    def says(asked: int, obstacle: str = "") -> str:
        policy = ScalingPolicy(AutoscaleConfig(on=True, patience=8, cooldown=0), most=32)
        for time in range(20):
            assert policy.look(Sight(time, asked, 4, True, 0.0, 0.9 * time, obstacle=obstacle)) is None
        return policy.says.partition("no actor is added: ")[2]

    assert says(8) == "8 are asked for already"
    assert says(8, "actor 7 waits for a free CPU") == "actor 7 waits for a free CPU"
    assert says(32) == "the limit is 32"


def test_a_look_that_took_long_is_no_measurement() -> None:
    policy = ScalingPolicy(AutoscaleConfig(on=True, patience=30, cooldown=0), most=32)

    def look(time: float) -> Decision | None:
        return policy.look(Sight(time, 1, 1, True, 0.0, 0.9 * time))

    assert [look(time) for time in (0.0, 0.1, 23.0, 31.0)] == [None] * 4
    assert any(look(31.0 + tick / 4) for tick in range(1, 240)), "it measures again"


@given(st.lists(st.floats(0.001, 60), min_size=5, max_size=60), st.floats(1, 30))
def test_looks_may_come_at_any_time(pauses: list[float], patience: float) -> None:
    policy = ScalingPolicy(AutoscaleConfig(on=True, patience=patience, cooldown=0, most=8, free_cpus=0), most=32)
    time = 0.0
    for pause in pauses:
        time += pause
        decision = policy.look(Sight(time, 3, 3, True, 0.0, 0.9 * time))
        assert decision is None or decision.actors == 6


Shares = st.floats(0, 1)


@given(st.integers(1, 50), Shares, Shares, Shares, Shares)
def test_who_waits_more_moves_the_number_no_other_way(acting: int, a: float, b: float, c: float, d: float) -> None:
    (few, much), (short, long) = sorted((a, b)), sorted((c, d))
    assert wanted(acting, few, short) >= wanted(acting, much, short)
    assert wanted(acting, few, short) <= wanted(acting, few, long)
    assert wanted(acting, 0.0, 0.0) == acting


@settings(max_examples=40)
@given(st.floats(0.05, 100), st.integers(1, 32), st.integers(1, 8), st.integers(0, 24), st.floats(0, 40))
def test_a_constant_load_is_met_in_one_direction_and_left_alone(
    need: float, asked: int, least: int, more: int, starting: float
) -> None:
    config = AutoscaleConfig(on=True, least=least, most=least + more, patience=15, cooldown=5, free_cpus=0)
    world = World(constant(need), config, asked=min(max(asked, least), least + more), starting=starting)
    begun = world.asked
    numbers = [begun, *world.run(600)]
    assert all(config.least <= number <= config.most for number in numbers)
    assert numbers in (sorted(numbers), sorted(numbers, reverse=True))
    assert world.run(600) == [], "it has come to rest"
    best = min(max(need, config.least), config.most)
    assert best / (1 + BAND) - 1e-6 <= world.asked <= best * (1 + BAND) + 1


@settings(max_examples=30)
@given(st.floats(1, 20), st.integers(1, 32), st.lists(st.floats(0.9, 1.1), min_size=20, max_size=20))
def test_a_load_that_varies_by_a_tenth_makes_nothing_flap(need: float, asked: int, noise: list[float]) -> None:
    world = World(lambda time: need * noise[int(time / 13) % 20], asked=asked)
    world.run(600)
    after = world.run(1500)
    assert len(after) <= 1, "a rare drift to the other end of the band"


@settings(max_examples=30)
@given(st.lists(st.floats(0.01, 200), min_size=3, max_size=3), st.integers(1, 32))
def test_no_load_whatever_leads_out_of_the_bounds(needs: list[float], asked: int) -> None:
    config = AutoscaleConfig(on=True, least=2, most=9, patience=5, cooldown=0, free_cpus=0)
    world = World(lambda time: needs[int(time / 47) % 3], config, asked=asked)
    assert all(2 <= number <= 9 for number in world.run(400))
