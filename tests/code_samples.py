"""A small repository to map: a lighthouse in five files of Python, with tests and a text beside it."""

from __future__ import annotations

from pathlib import Path

FILES = {
    "README.md": "# Lighthouse\n\nKeeps ships off the rocks.\n",
    "coast/__init__.py": "from .tower import Tower\nfrom .oil import OilStore, refill_tank\n",
    "coast/tower.py": '''"""The tower."""

from coast.lamp import Lamp, MAX_HOURS
from coast.weather.storm import forecast_storm


class Tower:
    """A tower with a lamp."""

    def __init__(self, height):
        self.lamp = Lamp(height)

    def keep_watch(self, hours=MAX_HOURS):
        if forecast_storm(hours):
            return self.lamp.light_up(hours)
        return None
''',
    "coast/lamp.py": '''"""The lamp."""

from .oil import OilStore

MAX_HOURS = 12


class Lamp:
    """Burns oil."""

    def __init__(self, height):
        self.store = OilStore(height)

    def light_up(self, hours):
        return self.store.draw_oil(hours)

    def dim(self):
        return None
''',
    "coast/oil.py": '''"""Oil in a tank."""


class OilStore:
    def __init__(self, litres):
        self.litres = litres

    def draw_oil(self, hours):
        self.litres -= hours
        return self.litres


def refill_tank(store, litres):
    store.litres += litres
''',
    "coast/weather/storm.py": '''"""Storms, from the fall of the barometer."""


def read_barometer():
    return 987


def forecast_storm(hours):
    return read_barometer() < 1000 - hours
''',
    "coast/main.py": """from coast import Tower, refill_tank
from coast.oil import OilStore


def main():
    refill_tank(OilStore(3), 4)
    Tower(30).keep_watch()
""",
    "tests/test_storm.py": """from coast.weather import storm


def test_forecast_storm_by_barometer():
    assert not storm.forecast_storm(24)
""",
}


def write_repository(folder: Path) -> Path:
    """Write the files below `folder`; returns it."""
    for name, text in FILES.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return folder
