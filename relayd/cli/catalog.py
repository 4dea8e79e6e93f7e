"""``relayd catalog``: the types of destinations, and what each can do."""

from collections.abc import Iterator, Sequence

import click
import msgspec
from tabulate import tabulate

from relayd.config.errors import suggestion
from relayd.destinations import CATALOG
from relayd.destinations.quick_info import METHODS, SOURCE_TYPES, ActionInfo, Batch, Field, QuickInfo, quick_info

_SHORT = 100
"""Characters of a default that are shown."""
_LEGEND = "yes: at once; subscription: with one of yours that says so; device: by the page or the app"


@click.command("catalog")
@click.argument("name", metavar="[NAME]", required=False)
@click.option("--matrix", type=click.Choice(("methods", "modes")), help="Show which type has which of them.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(name: str | None, matrix: str | None, as_json: bool) -> None:
    """Show the types of destinations; or of NAME, a type or a title, all that it takes and can do."""
    if name is not None and matrix is not None:
        raise click.UsageError("a matrix is of all types; leave the NAME out")
    if name is not None:
        info = quick_info(CATALOG[_type(name)])
        _print(info, render(info), as_json)
        return
    infos = [quick_info(each) for _, each in sorted(CATALOG.items())]
    if matrix == "methods":
        _print({each.type: each.methods for each in infos}, [methods(infos)], as_json)
    elif matrix == "modes":
        _print({each.type: each.modes for each in infos}, [modes(infos)], as_json)
    else:
        _print(infos, [overview(infos)], as_json)


def _print(answer: object, lines: Iterator[str] | Sequence[str], as_json: bool) -> None:
    click.echo(msgspec.json.format(msgspec.json.encode(answer)) if as_json else "\n".join(lines))


def _type(wanted: str) -> str:
    """The type that is meant by its name, its title, or one that ``integrations`` may call it by."""
    known = {
        name.casefold(): type_
        for type_, each in CATALOG.items()
        for name in (*each.names, quick_info(each).title, type_)
        if name
    }
    type_ = known.get(wanted.casefold())
    if type_ is None:
        titles = [quick_info(each).title for each in CATALOG.values()]
        near = suggestion(wanted, [*CATALOG, *titles], "types")
        raise click.UsageError(f'there is no type "{wanted}"; {near}')
    return type_


def overview(infos: Sequence[QuickInfo]) -> str:
    """A line for each type."""
    rows = [
        (each.type, each.title, " ".join(each.methods), len(each.actions), len(each.presets), _modes(each))
        for each in infos
    ]
    return _table(("type", "title", "methods", "actions", "presets", "modes"), rows, "lllrrl")


def methods(infos: Sequence[QuickInfo]) -> str:
    """Which type takes which events: at once, or with a subscription that says what becomes of them."""
    rows = [(each.type, *(_taken(each, method) for method in METHODS)) for each in infos]
    return f"{_table(('type', *METHODS), rows)}\n\n{_LEGEND}"


def _taken(info: QuickInfo, method: str) -> str:
    if method not in info.methods:
        return "-"
    if "cloud" not in _modes(info):
        return "device"
    return "yes" if method in info.at_once else "subscription"


def modes(infos: Sequence[QuickInfo]) -> str:
    """How each type is connected to which sources."""
    rows = [(each.type, *(", ".join(each.modes.get(source, ["-"])) for source in SOURCE_TYPES)) for each in infos]
    return _table(("type", *SOURCE_TYPES), rows)


def render(info: QuickInfo) -> Iterator[str]:
    """The Quick info of a type."""
    facts = [
        ("type", info.type),
        ("called", ", ".join(info.names)),
        ("methods", ", ".join(info.methods)),
        ("source types", ", ".join(info.source_types)),
        ("connection modes", "; ".join(f"{source}: {', '.join(each)}" for source, each in info.modes.items())),
    ]
    if info.passes_on:
        facts.append(("without subscriptions", f"events are passed on as they are, {_batch(info.batch)}"))
    elif info.presets:
        facts.append(("without subscriptions", f"it has its presets, for {', '.join(info.at_once)}"))
    yield f"{click.style(info.title, bold=True)}: {info.description}"
    yield ""
    yield tabulate([each for each in facts if each[1]], tablefmt="plain", disable_numparse=True)
    yield from _section("Settings")
    rows = [
        (
            each.name,
            each.type,
            "required" if each.required else each.default or "-",
            "secret" if each.secret else "public" if each.public else "",
            each.explanation,
        )
        for each in info.settings
    ]
    yield _table(("setting", "type", "default", "", ""), rows) if rows else "none"
    for action in info.actions:
        yield from _action(action)
    if info.presets:
        yield from _section("Presets")
        yield _table(
            ("preset", "action", "trigger"), [(each.name, each.action, each.trigger or "-") for each in info.presets]
        )


def _action(action: ActionInfo) -> Iterator[str]:
    yield from _section(f"Action {action.name}: {action.title}, {_batch(action.batch)}")
    if action.trigger:
        yield f"trigger to start from: {action.trigger}"
    rows = [(each.name, each.type, _required(each), _default(each)) for each in action.fields]
    yield _table(("field", "type", "required", "default"), rows)


def _required(field: Field) -> str:
    return "yes" if field.required else "at times" if field.required_if else ""


def _default(field: Field) -> str:
    text = "" if field.default is None else msgspec.json.encode(field.default).decode()
    return text if len(text) <= _SHORT else f"{text[:_SHORT]}..."


def _batch(batch: Batch | None) -> str:
    if batch is None or batch.max_size == 1:
        return "one event a request"
    size = "one event a request, with batch_size" if batch.size == 1 else f"{batch.size:,} events a request,"
    keys = f", of equal {', '.join(batch.keys)}" if batch.keys else ""
    return f"{size} at most {batch.max_size:,} and {batch.max_bytes:,} bytes{keys}"


def _modes(info: QuickInfo) -> str:
    return ", ".join(sorted({mode for each in info.modes.values() for mode in each}))


def _section(title: str) -> Sequence[str]:
    return ("", click.style(title, bold=True))


def _table(headers: Sequence[str], rows: Sequence[Sequence[object]], align: str = "") -> str:
    """``align`` has an l or an r for each column; left without."""
    sides = [{"l": "left", "r": "right"}[side] for side in align or "l" * len(headers)]
    return tabulate(rows, headers=headers, tablefmt="simple", colalign=sides if rows else None, disable_numparse=True)
