"""Verbs that take a policy out of training: to controllers on the street, and to signals that run elsewhere."""

import contextlib
import os
import shlex
from pathlib import Path

from tsc_marl import console
from tsc_marl.cli.options import DeployOptions, ServeOptions
from tsc_marl.cli.tasks import open_task
from tsc_marl.config import cli, command_line, read_timing
from tsc_marl.config.words import values_of
from tsc_marl.errors import UserError
from tsc_marl.paths import file_name, temporary_folder


def deploy(argv: list[str]) -> None:
    """Write a policy for controllers on the street: weights, detectors, signal plans."""
    options = cli(DeployOptions, argv, "deploy")
    from tsc_marl.deployment import folder
    from tsc_marl.tracking.policies import policy_labels

    task = open_task(options.network, options.timing_preset)
    label = file_name(policy_labels([options.policy])[options.policy])
    out = options.out or Path("deploy") / f"{file_name(task.network)}-{label}"
    folder.write(task, options.policy, out, command_line("deploy", argv))
    timed = shlex.join(["python", str(out / "controller.py"), str(out)])
    console.say(f"{out}: {', '.join(sorted(path.name for path in out.iterdir()))}; how long a decision takes: {timed}")


def serve(argv: list[str]) -> None:
    """Let a policy drive signals live: of a running SUMO, or of a street through a gateway."""
    options = cli(ServeOptions, argv, "serve")
    if options.traci is not None:
        _drive_sumo(options, options.traci)
        return
    if options.source is not None:
        for option in ("--network", "--policy", "--timing-preset"):
            if given := values_of(argv, option):
                raise UserError(
                    f"{option} {given[0]} has no effect with --from {options.source}, which has its own; leave out one"
                )
    from tsc_marl.live import http_gateway, mqtt_gateway

    with contextlib.ExitStack() as held:
        broker = None if options.mqtt is None else mqtt_gateway.checked(options.mqtt)
        server = None if broker else held.enter_context(http_gateway.Server(options.host, options.http))
        out = options.source
        if out is None:
            from tsc_marl.deployment import folder

            out = Path(held.enter_context(temporary_folder()), "street")
            folder.write(open_task(options.network, options.timing_preset), options.policy, out, command_line("serve", argv))
        if broker is not None:
            mqtt_gateway.serve(broker, out, options.watchdog)
        elif server is not None:
            http_gateway.serve(server, out, options.watchdog)


def _drive_sumo(options: ServeOptions, address: str) -> None:
    host, _, port = address.rpartition(":")
    if not (port.isdecimal() and 1 <= int(port) <= 65535):
        raise UserError(f"traci must be host:port, with a port in 1 .. 65535; got {address}")
    if options.source is not None:
        raise UserError("from (FROM) is a folder for a gateway; with traci give network (NET) and policy (POLICY)")
    if options.mqtt is not None:
        raise UserError("mqtt is for a gateway to a street; with traci leave it out")
    # Before torch: each decision has a thread, which would start threads of its own.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    from tsc_marl.api.pilot import Pilot
    from tsc_marl.live import running_sumo as module

    pilot = Pilot(options.policy, options.network, timing=read_timing(options.timing_preset), watchdog=options.watchdog)
    module.drive(pilot, host or "127.0.0.1", int(port))
