"""The figure of a video: a road map for each policy with vehicles, lights and the value of each signal's phase."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from tsc_marl.rollout.types import Task
from tsc_marl.sim import network_file, road_network
from tsc_marl.sim import scenario as scenarios
from tsc_marl.viz import phase_values
from tsc_marl.viz.clip import Clip, Frame
from tsc_marl.viz.movement_paths import MovementPath, movement_paths
from tsc_marl.viz.plotting import clock, line_styles, new_figure

DPI = 100
PANEL = 620
"""Width of a map in pixels."""
HEIGHTS = (360, 640)
"""Least and largest height of a map in pixels."""
TOP, BOTTOM, GAP = 92, 112, 16
"""Pixels above and below the maps, and around them."""
POINTS = 72 / DPI
"""A pixel in matplotlib's unit of line widths."""
ROAD, FAST_MS = "0.8", 14.0
LIGHTS = {"g": "#00a854", "y": "#f2b701"}
VEHICLE_M = 5.0


class VideoCanvas:
    """A figure that shows the frames of clips, one after the other.

    Args:
        task: its network is drawn.
        seed: SUMO seed, for the title.
        clips: by the name over the map.
    """

    def __init__(self, task: Task, seed: int, clips: Mapping[str, Clip]) -> None:
        loaded = scenarios.load(task.network)
        self._net, _ = network_file.read(loaded.net)
        low, high = (np.array(corner) for corner in self._net.getBBoxXY())
        height = int(np.clip(PANEL * (high[1] - low[1]) / (high[0] - low[0]), *HEIGHTS))
        self._pixel = float(max((high - low) / (np.array([PANEL, height]) - 2 * GAP)))
        size = (len(clips) * (PANEL + GAP) + GAP, TOP + height + BOTTOM)
        size = (size[0] + size[0] % 2, size[1] + size[1] % 2)  # video formats need even numbers
        self.figure = new_figure(figsize=(size[0] / DPI, size[1] / DPI), dpi=DPI)
        self._signals = road_network.of(loaded).signals
        self._heading = f"{task.network}, SUMO seed {seed}"
        self._title = self.figure.text(0.5, 1 - 8 / size[1], "", ha="center", va="top", fontsize=13)
        self._panels = []
        for i, (name, clip) in enumerate(clips.items()):
            box = (GAP + i * (PANEL + GAP), BOTTOM, PANEL, height)
            axis = self.figure.add_axes((box[0] / size[0], box[1] / size[1], box[2] / size[0], box[3] / size[1]))
            middle, half = (low + high) / 2, np.array([PANEL, height]) * self._pixel / 2
            axis.set(xlim=(middle[0] - half[0], middle[0] + half[0]), ylim=(middle[1] - half[1], middle[1] + half[1]))
            axis.set(xticks=[], yticks=[])
            self._draw_roads(axis)
            self._panels.append(_ControllerPanel(axis, name, clip, self._signals, self._movements(), self._pixel))
            self._draw_scale(box, size, name, clip)
        self._draw_key(size)

    def show(self, i: int) -> None:
        """Show the frame with this number."""
        for panel in self._panels:
            panel.show(i)
        self._title.set_text(f"{self._heading}, {clock(self._panels[0].clip.frames[i].second)} after the start")

    def show_end(self) -> None:
        """Cover the maps with the result: the delay of each policy, and the time lost by all vehicles over the episode."""
        cover = self.figure.add_axes((0, 0, 1, 1), zorder=10)
        cover.set(xticks=[], yticks=[], facecolor="white")
        cover.spines[:].set_visible(False)
        width = self.figure.get_figwidth() * DPI
        axis = self.figure.add_axes((90 / width, 0.16, 1 - 250 / width, 0.58), zorder=11)
        styles = list(line_styles({panel.name: panel.clip.algorithm for panel in self._panels}).values())
        for panel, style in zip(self._panels, styles, strict=True):
            second, lost_s = panel.clip.lost_s.T
            axis.plot(second / 60, lost_s / 3600, linewidth=2.5, **style)
        to_s = self._panels[-1].clip.lost_s[-1, 0]
        axis.set(xlim=(0, to_s / 60), ylim=(0, None))
        axis.set_xlabel("time from the start of the window [min]", fontsize=11)
        axis.set_ylabel("time lost by all vehicles [vehicle-hours]", fontsize=11)
        axis.spines[["top", "right"]].set_visible(False)
        self._name_ends(axis, styles)
        self.figure.text(0.5, 0.93, self._heading, ha="center", fontsize=13, zorder=12)
        delays = "     ".join(f"{panel.name}: delay {panel.clip.delay_s:.1f} s" for panel in self._panels)
        until = f"mean delay per vehicle to {clock(to_s)}"
        self.figure.text(0.5, 0.85, delays, ha="center", fontsize=16, fontweight="bold", zorder=12)
        self.figure.text(0.5, 0.79, until, ha="center", fontsize=10, color="0.35", zorder=12)

    def _name_ends(self, axis: Any, styles: list[dict[str, Any]]) -> None:
        """Write the name of each policy at the end of its line; two that end together stand one above the other."""
        ends = [float(panel.clip.lost_s[-1, 1]) / 3600 for panel in self._panels]
        least, place = 0.07 * axis.get_ylim()[1], -np.inf
        for i in np.argsort(ends):
            place = max(ends[i], place + least)
            axis.annotate(
                f"{self._panels[i].name}\n{ends[i]:.1f} h", (1.01, place), xycoords=("axes fraction", "data"), va="center",
                fontsize=10, color=styles[i]["color"],
            )  # fmt: skip

    def _movements(self) -> list[list[MovementPath]]:
        def shape(lane: str) -> Any:
            return self._net.getLane(lane).getShape()

        return [movement_paths(signal, shape, 26 * self._pixel) for signal in self._signals]

    def _draw_roads(self, axis: Any) -> None:
        from matplotlib.collections import LineCollection, PolyCollection

        lanes = [lane for edge in self._net.getEdges(withInternal=False) for lane in edge.getLanes()]
        lines = [np.array(lane.getShape())[:, :2] for lane in lanes]
        widths = [max(lane.getWidth() / self._pixel, 1.5) * POINTS for lane in lanes]
        axis.add_collection(LineCollection(lines, colors=ROAD, linewidths=widths, zorder=2))
        corners = [np.array(node.getShape())[:, :2] for node in self._net.getNodes() if len(node.getShape()) > 2]
        axis.add_collection(PolyCollection(corners, facecolors=ROAD, edgecolors="none", zorder=2))

    def _draw_scale(self, box: tuple[int, ...], size: tuple[int, int], name: str, clip: Clip) -> None:
        """Write the meaning of the colours of the discs under a map."""
        left, centre = box[0], box[0] + PANEL / 2
        if clip.legend is None:
            text = f"grey discs: {name} has no values of its phases"
            self.figure.text(centre / size[0], (BOTTOM - 30) / size[1], text, ha="center", va="center", fontsize=9)
            return
        legend, (middle, reach) = clip.legend, value_scale(clip)
        axis = self.figure.add_axes(((left + 150) / size[0], (BOTTOM - 22) / size[1], (PANEL - 300) / size[0], 12 / size[1]))
        shown = np.linspace(-1, 1, 200)
        axis.imshow(phase_values.colours(shown, 0.0, 1.0)[None], aspect="auto", extent=(-1, 1, 0, 1))
        form = f"{'+' if legend.around_zero else ''}.{0 if reach > 10 else 1}f"
        ticks = (-1.0, -0.5, 0.0, 0.5, 1.0)
        axis.set_xticks(ticks, [f"{middle + tick * reach:{form}}" for tick in ticks], fontsize=8)
        axis.set_yticks([])
        axis.set_xlabel(f"disc: {legend.title}", fontsize=8, labelpad=2)
        for x, side, text in ((left + 144, "right", legend.low), (left + PANEL - 144, "left", legend.high)):
            self.figure.text(x / size[0], (BOTTOM - 16) / size[1], text, ha=side, va="center", fontsize=8)

    def _draw_key(self, size: tuple[int, int]) -> None:
        """Write the legend of vehicles and lines at the bottom."""
        from matplotlib.lines import Line2D

        entries = {
            "standing": vehicle_colours(np.zeros(1))[0],
            f"moving, {FAST_MS * 3.6:.0f} km/h": vehicle_colours(np.full(1, FAST_MS))[0],
        }
        lines = {f"vehicle {name}": colour for name, colour in entries.items()} | {
            "movement with green": LIGHTS["g"],
            "with yellow": LIGHTS["y"],
        }
        handles = [Line2D([], [], color=colour, linewidth=4, label=name) for name, colour in lines.items()]
        self.figure.legend(handles=handles, loc="lower center", ncols=2 if size[0] < 1000 else 4, fontsize=8, frameon=False)


class _ControllerPanel:
    """Map of one policy."""

    def __init__(self, axis: Any, name: str, clip: Clip, signals: Any, movements: list[list[MovementPath]], pixel: float) -> None:
        from matplotlib.collections import LineCollection

        self.name, self.clip, self._pixel, self._movements = name, clip, pixel, movements
        self._middle, self._reach = value_scale(clip)
        axis.set_title(name, fontsize=12, fontweight="bold", pad=22)
        self._count = axis.text(0.5, 1.01, "", transform=axis.transAxes, ha="center", va="bottom", fontsize=10)
        x, y = np.array([(signal.x, signal.y) for signal in signals]).T
        self._discs = axis.scatter(x, y, s=(46 * POINTS) ** 2, edgecolors="0.35", linewidths=1, zorder=1)
        self._lights = axis.add_collection(LineCollection([], linewidths=3 * POINTS, zorder=3))
        width = max(1.8 / pixel, 3.0) * POINTS
        self._vehicles = axis.add_collection(LineCollection([], linewidths=width, capstyle="butt", zorder=4))

    def show(self, i: int) -> None:
        frame: Frame = self.clip.frames[i]
        self._discs.set_facecolor(phase_values.colours(frame.values, self._middle, self._reach) / 255)
        pairs = zip(frame.states, self._movements, strict=True)
        lit = [(path.shape, light) for state, paths in pairs for path in paths if (light := path.signal_colour(state)) in LIGHTS]
        self._lights.set_segments([shape for shape, _ in lit])
        self._lights.set_color([LIGHTS[light] for _, light in lit])
        front, angle = frame.vehicles[:, :2], np.radians(frame.vehicles[:, 2])
        length = max(VEHICLE_M, 5 * self._pixel)
        back = front - length * np.stack([np.sin(angle), np.cos(angle)], axis=1)
        self._vehicles.set_segments(list(np.stack([back, front], axis=1)))
        self._vehicles.set_color(vehicle_colours(frame.vehicles[:, 3]))
        self._count.set_text(
            f"{frame.halting} halting, {frame.waiting} waiting to enter, {frame.lost_s / 3600:.1f} vehicle-hours lost so far"
        )


def value_scale(clip: Clip) -> tuple[float, float]:
    """Return the value of the middle colour, and the distance from it of the strongest ones, over a clip."""
    if clip.legend is None:
        return 0.0, 1.0
    return phase_values.scale(np.concatenate([frame.values for frame in clip.frames]), clip.legend)


def vehicle_colours(speed_ms: np.ndarray) -> np.ndarray:
    """Return RGB colours [M, 3] in 0 .. 1: black for standing vehicles, light blue at `FAST_MS`."""
    share = np.clip(speed_ms / FAST_MS, 0, 1)[:, None]
    return share * np.array([0.25, 0.68, 1.0])
