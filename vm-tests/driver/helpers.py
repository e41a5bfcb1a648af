"""What the driver and the scripts wait with."""

from __future__ import annotations

import datetime
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from driver.errors import TestError

# What the NixOS driver gives everything that waits, in seconds.
TIMEOUT = 900
# Between two tries: the first is soon, as most things are ready within moments; the NixOS driver always waits the second.
FIRST_PAUSE = 0.05
PAUSE = 1.0
# How many times as long as a script says everything may take: more than 1 where machines are slow. The session sets it.
patience = 1


# As the NixOS driver has it since 26.11: a bare number is one of seconds.
Duration = datetime.timedelta | float


def as_seconds(duration: Duration) -> float:
    """So many seconds, as everything else counts them."""
    return duration.total_seconds() if isinstance(duration, datetime.timedelta) else duration


# By position only: the NixOS driver has changed the name of the second parameter.
def retry(fn: Callable[[bool], bool], timeout: Duration = TIMEOUT, /) -> None:
    """Calls `fn(False)` until it says True; after `timeout` once more as `fn(True)`, and fails if that is not True."""
    limit = as_seconds(timeout) * patience
    end = time.monotonic() + limit
    pause = FIRST_PAUSE
    while time.monotonic() < end:
        if fn(False):
            return
        time.sleep(pause)
        pause = min(pause * 2, PAUSE)
    if not fn(True):
        raise TestError(f"action timed out after {limit} s")


class PollingCondition:
    """Something that has to stay true: `with condition:` checks it before every command in a machine, but not too often."""

    def __init__(
        self,
        condition: Callable[[], bool | None],
        active: list[PollingCondition],
        seconds_interval: float,
        description: str | None,
    ) -> None:
        self._condition = condition
        self._active = active
        self._interval = seconds_interval
        self.description = description or (condition.__doc__ or condition.__name__).strip()
        self._checked = float("-inf")
        self._running = False

    def check(self) -> None:
        """Fails if the condition does not hold any more."""
        # The condition may run commands itself.
        if self._running or time.monotonic() - self._checked < self._interval:
            return
        self._running = True
        try:
            # As in the NixOS driver, one that returns nothing holds unless it raises.
            holds = self._condition()
        finally:
            self._running = False
            self._checked = time.monotonic()
        if holds is False:
            raise TestError(f"polling condition failed: {self.description}")

    def __enter__(self) -> None:
        self._active.append(self)

    def __exit__(self, *_: object) -> None:
        self._active.remove(self)

    # In NixOS, `with condition:` and `with condition():` are the same.
    @contextmanager
    def __call__(self) -> Iterator[None]:
        with self:
            yield
