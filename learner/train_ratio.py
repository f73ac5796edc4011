"""How many updates are due: the official train-ratio counter."""


class TrainRatio:
    """Returns the updates due at an environment step count, `ratio` updates per step, without drift.

    The first call returns 1, as in the official program. `ratio = train_ratio / (batch_size * batch_length)`;
    0 never trains, and a negative ratio returns 1 at every call.
    """

    def __init__(self, ratio: float):
        self.ratio = ratio
        self.previous: float | None = None

    def __call__(self, step: int) -> int:
        if self.ratio == 0:
            return 0
        if self.ratio < 0:
            return 1
        if self.previous is None:
            self.previous = step
            return 1
        due = int((step - self.previous) * self.ratio)
        self.previous += due / self.ratio
        return due

    def state(self) -> float | None:
        return self.previous

    def load(self, state: float | None) -> None:
        self.previous = state
