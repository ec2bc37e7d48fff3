"""``medcompress tasks``: the registry."""

from __future__ import annotations

import dataclasses

import click

from .documents import as_json_option, print_json


@click.command("tasks")
@as_json_option
def command(as_json: bool) -> None:
    """List the tasks that are known by name.

    Data of one of them are recognised by their classes; --task NAME says so where they are not. Folders and tables of
    other classes need no task. Every 2D set of MedMNIST is known by its name as well.
    """
    from ..trained.tasks import MEDMNIST, TASKS

    known = [task for name, task in TASKS.items() if name not in MEDMNIST]
    if as_json:
        print_json([dataclasses.asdict(task) for task in TASKS.values()])
        return
    for task in known:
        click.echo(f"{task.name}: {task.title} ({task.modality})")
        finding = f", finding {task.positive}" if task.positive else ""
        click.echo(f"  {len(task.classes)} classes, {task.kind}: {', '.join(task.classes)}{finding}")
        click.echo(f"  {task.size} px, {task.colour}, flips: {task.flips}, first figure: {task.metric}")
        click.echo(f"  {task.layout}")
    click.echo(f"MedMNIST: {', '.join(MEDMNIST)}")
