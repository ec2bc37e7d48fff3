"""A command's options from a YAML file, and back: ``--config FILE`` and ``--print-config``."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any, TypeVar

import click

from ..runtime.errors import InputError, missing_package

F = TypeVar("F")
# What belongs to one call and not to a configuration.
_LEFT_OUT = {"config", "print_config", "as_json", "help", "resume"}


def config_options(command: F) -> F:
    """Add both options. Flags stand above the file, the file above the defaults."""
    path = click.Path(exists=True, dir_okay=False, path_type=Path)
    command = click.option("--print-config", is_flag=True, help="Print the options as YAML for --config, and stop.")(
        command  # type: ignore[arg-type]
    )
    return click.option(
        "--config",
        type=path,
        is_eager=True,
        expose_value=False,
        callback=_read,
        help="YAML file of options, named as here without the dashes; flags stand above it.",
    )(command)  # type: ignore[return-value,arg-type]


def as_yaml(context: click.Context) -> str:
    """The options in force, as a file for ``--config``."""
    import yaml

    values = {
        _name(parameter): _plain(context.params[parameter.name])
        for parameter in context.command.params
        if parameter.name in context.params and parameter.name not in _LEFT_OUT
    }
    return yaml.safe_dump({name: value for name, value in values.items() if value is not None}, sort_keys=False)


def _read(context: click.Context, parameter: click.Parameter, path: Path | None) -> None:
    if path is None:
        return
    try:
        import yaml
    except ModuleNotFoundError as error:
        raise missing_package("pyyaml", "report") from error

    class Loader(yaml.SafeLoader):
        """Refuses a key that is given twice: YAML's own takes the last."""

        def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
            keys = [self.construct_object(key, deep=True) for key, _ in node.value]
            twice = next((key for key in keys if keys.count(key) > 1), None)
            if twice is not None:
                raise yaml.YAMLError(f"{twice} is given twice")
            return super().construct_mapping(node, deep)

    try:
        found = yaml.load(path.read_text(encoding="utf-8"), Loader)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{path}: cannot be read as YAML ({reason}); --print-config prints a valid file") from error
    if not isinstance(found, dict):
        raise InputError(f"{path}: holds no options; write lines of NAME: VALUE, as --print-config prints them")
    names = {_name(known): known for known in context.command.params if known.name not in _LEFT_OUT}
    chosen: dict[str, Any] = {}
    for key, value in found.items():
        name = str(key).replace("_", "-")
        if name not in names:
            close = difflib.get_close_matches(name, names, n=1)
            hint = f"did you mean {close[0]}?" if close else "see --help for the options"
            raise InputError(f"{path}: there is no option {key}; {hint}")
        known = names[name]
        several = isinstance(known, click.Option) and known.multiple
        if isinstance(value, dict) or value is None or (isinstance(value, list) and not several):
            raise InputError(f"{path}: {key} has no plain value; give one, or leave the line out")
        if isinstance(value, float) and not value.is_integer() and isinstance(known.type, click.types.IntParamType):
            raise InputError(f"{path}: {key} is a whole number, not {value}")
        chosen[str(known.name)] = [value] if several and not isinstance(value, list) else value
    context.default_map = {**(context.default_map or {}), **chosen}


def _name(parameter: click.Parameter) -> str:
    return next(option for option in parameter.opts if option.startswith("--")).removeprefix("--")


def _plain(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    return [_plain(item) for item in value] or None if isinstance(value, tuple) else value
