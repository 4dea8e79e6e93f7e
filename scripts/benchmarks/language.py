"""Triggers and mappings alone, in this process; mappings beside Segment's own engine, which node runs from npm."""

import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from benchmarks.report import Budget, Figure
from relayd.actions.mapping import compile_mapping
from relayd.actions.trigger import compile_trigger
from relayd.destinations import CATALOG
from relayd.destinations.action import Preset, defaults

if TYPE_CHECKING:
    from benchmarks.rows import Bench

ENGINE = "@segment/actions-core@3.170.0"
_PACKAGES = (ENGINE, "liquidjs@10.30.1")  # the second is a peer that the engine asks for
_SCRIPT = Path(__file__).with_name("mappings.cjs")
_EVENT: dict[str, Any] = {
    "messageId": "bench-1",
    "type": "track",
    "event": "Order Completed",
    "userId": "user-7f3a2c",
    "anonymousId": "anonymous-91c0",
    "timestamp": "2026-11-24T10:55:30.799Z",
    "receivedAt": "2026-11-24T10:55:31.123Z",
    "properties": {
        "order_id": "50314b8e9bcf", "total": 27.5, "revenue": 25.0, "currency": "EUR", "coupon": "hasbros",
        "products": [
            {"product_id": "507f1f77", "sku": "45790-32", "name": "Monopoly: 3rd Ed.", "price": 19, "quantity": 1},
            {"product_id": "505bd76785eb", "sku": "46493-32", "name": "Uno Card Game", "price": 3, "quantity": 2},
        ],
    },
    "context": {
        "ip": "203.0.113.7", "locale": "de-DE", "timezone": "Europe/Berlin",
        "userAgent": "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/120.0.0.0",
        "library": {"name": "analytics.js", "version": "2.11.1"},
        "page": {"url": "https://shop.example/x?utm_source=g", "path": "/x", "title": "X", "referrer": ""},
        "campaign": {"name": "spring", "source": "mail", "medium": "newsletter"},
        "app": {"name": "shop", "version": "1.2.3", "build": "7", "namespace": "io.shop"},
        "device": {"id": "dev-1", "type": "ios", "model": "iPhone", "manufacturer": "Apple"},
        "os": {"name": "iOS", "version": "17.1"},
    },
    "integrations": {"All": True},
}  # fmt: skip
_TRIGGERS = (
    'type = "track" and event = "Order Completed"',
    'type = "track" and event != "Order Completed"',
    'type = "page" or type = "screen"',
    'type = "track" and properties.total > 20 and contains(properties.currency, "EU")',
)


def presets() -> Iterator[tuple[str, Preset, dict[str, object]]]:
    """Every preset of the catalog with its mapping."""
    for type_, destination in sorted(CATALOG.items()):
        for preset in destination.presets:
            action = destination.actions[preset.action]
            yield type_, preset, dict(defaults(action.fields) if preset.mapping is None else preset.mapping)


def _rate(run: Callable[[], object], seconds: float) -> float:
    """Calls a second: the best of three stretches."""
    best = 0.0
    for _ in range(3):
        count, start = 0, time.perf_counter()
        while (elapsed := time.perf_counter() - start) < seconds:
            for _ in range(200):
                run()
            count += 200
        best = max(best, count / elapsed)
    return best


def mapping(bench: "Bench") -> Iterator[Figure]:
    """mappings/s on the presets of the catalog, beside @segment/actions-core on node"""
    rate = Figure("mapping", "presets mapped (harmonic mean)", "mappings/s", Budget(ratio_least=2.0))
    work = {f"{type_}: {preset.name}": tree for type_, preset, tree in presets()}
    seconds = bench.seconds / 50
    for number in range(bench.rounds):
        bench.quiet("mapping")
        bench.say(f"mapping: round {number + 1} of {bench.rounds}, {len(work)} presets")
        engine = _engine(bench, work, seconds)
        if engine:
            rate.add("yardstick", _harmonic(engine))
        compiled = [compile_mapping(tree) for tree in work.values()]
        rate.add("relayd", _harmonic([_rate(lambda run=run: run(_EVENT), seconds) for run in compiled]))  # type: ignore[misc]
    yield rate


def trigger(bench: "Bench") -> Iterator[Figure]:
    """evaluations/s of compiled triggers"""
    rate = Figure("trigger", "triggers evaluated (harmonic mean)", "evaluations/s", Budget(least=1_000_000))
    compiled = [compile_trigger(text) for text in _TRIGGERS]
    for _ in range(bench.rounds):
        bench.quiet("trigger")
        rates = [_rate(lambda run=run: run(_EVENT), bench.seconds / 20) for run in compiled]  # type: ignore[misc]
        rate.add("relayd", _harmonic(rates))
    yield rate


def _engine(bench: "Bench", work: dict[str, dict[str, object]], seconds: float) -> list[float]:
    """Mappings/s of each preset in Segment's engine; none where node or the package can not be had."""
    if not shutil.which("npm"):
        bench.note("mapping: there is no node here, so nothing to compare with")
        return []
    folder = bench.directory()
    folder.mkdir()
    modules = folder.parent / "engine"
    if not modules.exists():
        bench.say(f"mapping: installing {ENGINE}")
        command = ["npm", "install", "--silent", "--no-audit", "--no-fund", "--prefix", str(modules), *_PACKAGES]
        if subprocess.run(command, stdin=subprocess.DEVNULL, timeout=300).returncode:
            bench.note(f"mapping: {ENGINE} can not be installed, so there is nothing to compare with")
            return []
    given = folder / "work.json"
    given.write_bytes(msgspec.json.encode({"event": _EVENT, "mappings": list(work.values()), "seconds": seconds}))
    answer = subprocess.run(["node", _SCRIPT, modules, given], stdout=subprocess.PIPE, check=True, timeout=600)
    return msgspec.json.decode(answer.stdout, type=list[float])


def _harmonic(rates: list[float]) -> float:
    """The rate at which all of them together are done."""
    return len(rates) / sum(1 / rate for rate in rates)
