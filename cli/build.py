"""``medcompress build``: a bundle's TensorRT plans, on the machine that is to run them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from .documents import as_json_option, print_json

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from ..runtime.building import Plan, Shares

_MIB = 2**20


@click.command("build")
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--engine", type=click.Choice(["tensorrt"]), default="tensorrt", show_default=True, help="What runs it.")
@click.option(
    "--version-compatible",
    is_flag=True,
    help="Plans that run on later versions of TensorRT too: larger, and slower, as each brings its own runtime along.",
)
@click.option("--trust", type=click.Path(path_type=Path), help="Public key, or folder of keys, it must be signed with.")
@as_json_option
def command(bundle: Path, engine: str, version_compatible: bool, trust: Path | None, as_json: bool) -> int:
    """Build what BUNDLE's variants for a GPU need on this machine, and try them.

    TensorRT compiles a model for one GPU, driver and version: some minutes a variant, once. What it made is kept in
    this user's state folder, and built again where any of these, or the model, is another: run this as the user who
    serves the bundle. Then every variant is tried and timed, and the fastest answers from now on.

    Exit codes: 0 every plan runs faithfully here, 2 the bundle is damaged or has no such variant, 3 there is no GPU or
    no TensorRT, or one of the plans cannot be built or does not run.
    """
    from rich.console import Console
    from rich.progress import Progress

    from ..runtime.building import build_plans
    from ..runtime.bundle import open_bundle

    opened = open_bundle(bundle, trust=trust)
    with Progress(console=Console(stderr=True), transient=True) as progress:
        found = build_plans(opened, Bars(progress), version_compatible=version_compatible)
    if as_json:
        print_json(found)
        return found.exit_code
    driver = f", driver {found.driver}" if found.driver else ""
    click.echo(f"{found.gpu}{driver}, TensorRT {found.tensorrt} by {found.memory}")
    for plan in found.plans:
        _print_plan(plan)
    for name, why in found.failed.items():
        click.echo(f"\n{name}: {why}")
    click.echo(f"answers here: {found.answers or 'none'}")
    return found.exit_code


class Bars:
    """A bar for each phase of a build that goes on. Told by TensorRT's threads."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._bars: dict[str, TaskID] = {}
        self._depth: dict[str, int] = {}

    def started(self, phase: str, parent: str, steps: int) -> None:
        """A phase began."""
        self._depth[phase] = self._depth[parent] + 1 if parent in self._depth else 0
        self._bars[phase] = self._progress.add_task("  " * self._depth[phase] + phase, total=steps)

    def stepped(self, phase: str, step: int) -> None:
        """One of its steps is done."""
        if phase in self._bars:
            self._progress.update(self._bars[phase], completed=step + 1)

    def finished(self, phase: str) -> None:
        """It ended; its bar goes."""
        bar = self._bars.pop(phase, None)
        if bar is not None:
            self._progress.remove_task(bar)

    def noted(self, what: str) -> None:
        """A line that stays."""
        self._progress.console.print(what, highlight=False, markup=False, soft_wrap=True)


def _print_plan(plan: Plan) -> None:
    record = plan.record
    how = f"built on {record.created[:10]}" if plan.kept else "built now"
    layers = ", ".join(f"{count} layers in {kind}" for kind, count in record.layers.items())
    what = f"{plan.variant}, with heat maps" if plan.explains else plan.variant
    click.echo(f"\n{what}: {plan.status if not plan.ok else 'ok'}")
    click.echo(f"  plan     {how} in {record.seconds:.0f} s, {record.size / _MIB:.1f} MiB on disk and on the GPU")
    click.echo(f"  memory   {record.activations_bytes / _MIB:.1f} MiB of the GPU's for each inference at a time")
    click.echo(f"  runs in  {record.precision}{f': {layers}' if layers else ''}")
    if plan.golden_error is not None:
        click.echo(f"  golden   off by {plan.golden_error:.5f} of the largest logit")
    if plan.shares is not None:
        _print_shares(plan.shares)


def _print_shares(shares: Shares) -> None:
    called = f"{shares.called:.3f} ms as called" if shares.called is not None else ""
    way = "one CUDA graph" if shares.graph else "without a CUDA graph"
    click.echo(f"  an image {called}; on the GPU {shares.whole:.3f} ms, {way}")
    moved = shares.upload + shares.download
    click.echo(f"           of which the engine {shares.engine:.3f} ms and its copies {moved:.3f} ms, one by one")
    if shares.called:
        click.echo(f"           the engine is {min(1.0, shares.engine / shares.called):.0%} of the time")
