"""The command `doctor`."""

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict

from locallearn.host.commands import Outcome
from locallearn.host.connect import connect
from locallearn.host.device import ChipDevice, fingerprints
from locallearn.host.doctor import Finding, examine
from locallearn.host.link import Link
from locallearn.host.terminal import Terminal
from locallearn.quant.errors import DeviceError, Mismatch
from locallearn.quant.spec import NetworkSpec, load_spec, preset_names

__all__ = ["doctor_command"]


def doctor_command(args: argparse.Namespace, terminal: Terminal) -> Outcome:
    if args.url in ("model", "numpy"):
        raise DeviceError("doctor examines a chip: sim or its port")
    findings: list[Finding] = []
    with _chip(args, terminal) as device:
        spec = device.spec
        terminal.say(f"{device.name}: {spec.name}, fingerprint {spec.fingerprint:08x}")
        for finding in examine(device, terminal):
            terminal.say(f"{'well ' if finding.well else 'FAULT'}  {finding.what}: {finding.text}")
            findings.append(finding)
    faults = [finding.what for finding in findings if not finding.well]
    summary = {"device": args.url, "spec": spec.name, "findings": [asdict(finding) for finding in findings]}
    return summary, Mismatch(f"something is wrong with: {', '.join(faults)}") if faults else None


@contextmanager
def _chip(args: argparse.Namespace, terminal: Terminal) -> Iterator[ChipDevice]:
    if args.url == "sim":
        with connect(load_spec(args.network or "digits"), "sim", terminal.stage) as device:
            assert isinstance(device, ChipDevice)
            yield device
        return
    with Link(args.url, baud=args.baud) as link:
        spec = _preset_of(link) if args.network is None else load_spec(args.network)
        yield ChipDevice(spec, link)


def _preset_of(link: Link) -> NetworkSpec:
    """The preset that the chip was built from."""
    found, _ = fingerprints(link)
    for name in preset_names():
        if (spec := load_spec(name)).fingerprint == found:
            return spec
    raise DeviceError(
        f"{link.url}: the chip's network (fingerprint {found:08x}) is none of the presets: name its description with "
        "--network SPEC.toml"
    )
