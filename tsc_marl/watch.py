"""One episode in sumo-gui, driven by a trained policy or a classical controller."""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tsc_marl.rollout.worker import Policy, Task, start
from tsc_marl.sim.engine import closed_window

VIEW = """<viewsettings>
  <scheme name="tsc_marl">
    <background backgroundColor="235,238,240"/>
    <edges widthExaggeration="{wide}"/>
    <vehicles vehicleQuality="2" vehicle_minSize="1" vehicle_exaggeration="{large}"/>
  </scheme>
  <delay value="{delay_ms}"/>
</viewsettings>
"""
"""Roads, signals and vehicles drawn larger than they are, so that they are seen with the whole network in the window."""

CLEAR_M = 250.0
"""A network of this extent is drawn to scale."""


def watch(
    task: Task, policy: Policy, seed: int, delay_ms: int, quit_on_end: bool = False, say: Callable[[str], Any] = print
) -> dict[str, float] | None:
    """Open sumo-gui and drive one episode in it.

    Args:
        task: network, timing, observation.
        policy: what chooses the phases.
        seed: SUMO seed.
        delay_ms: real milliseconds for one simulated second.
        quit_on_end: close the window at the end of the window of time.
        say: told what happens, line by line.

    Returns the episode's figures (`sim.metrics`); None when the window was closed before the end.

    Raises:
        UserError: when there is no display.
    """
    env = task.env()
    with tempfile.TemporaryDirectory() as folder:
        settings = Path(folder) / "view.xml"
        corners = [(signal.x, signal.y) for signal in env.net.signals]
        extent_m = max(max(axis) - min(axis) for axis in zip(*corners, strict=True))
        wide = max(1.0, min(6.0, extent_m / CLEAR_M))
        settings.write_text(VIEW.format(delay_ms=delay_ms, wide=wide, large=1.5 * wide))
        options = ["--start", "--gui-settings-file", str(settings), "--window-size", "1280,900", "--window-pos", "0,0"]
        try:
            act, done = start(env, policy, seed, gui=[*options, *(["--quit-on-end"] if quit_on_end else [])]), False
            say(f"{policy.name} drives {task.network}, seed {seed}, in sumo-gui; close its window to stop")
            while not done:
                _, done = env.step(act())
            figures = env.metrics()
        except closed_window():
            env.close()
            say(f"the window was closed at second {env.now - env.scenario.begin_s:.0f}")
            return None
    say(
        f"delay {figures['delay']:.1f} s, arrived {figures['arrived']:.0f} of {figures['scheduled']:.0f}, "
        f"never inserted {figures['never_inserted']:.0f}"
    )
    return figures
