"""The programs of docs/emitting.md: a Django view, SQLAlchemy, SQL by psql, a Celery worker, a cron script."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

from tests.outside.schema import Database
from tests.outside.test_sql import events
from tests.support.postgres import require_postgres
from waypost.protocol.records import read_values

PAGE = (Path(__file__).parent.parent.parent / "docs" / "emitting.md").read_text()
TABLE = "CREATE TABLE shop_order (number int PRIMARY KEY, paid boolean NOT NULL)"

DJANGO = """
import sys
from psycopg.conninfo import conninfo_to_dict
from django.conf import settings
import django

place = conninfo_to_dict(sys.argv[1])
names = {"NAME": "dbname", "USER": "user", "HOST": "host", "PORT": "port"}
settings.configure(
    DATABASES={"default": {"ENGINE": "django.db.backends.postgresql", **{k: place[v] for k, v in names.items()}}},
    INSTALLED_APPS=["shop"],
    ROOT_URLCONF="urls",
    ALLOWED_HOSTS=["*"],
    DEFAULT_AUTO_FIELD="django.db.models.AutoField",
)
django.setup()
from django.test import Client

for _ in range(2):
    assert Client().post("/pay/7").status_code == 204
"""
MODELS = """
from django.db import models

class Order(models.Model):
    number = models.IntegerField(primary_key=True)
    paid = models.BooleanField()

    class Meta:
        db_table = "shop_order"
        app_label = "shop"
"""
URLS = """
from django.urls import path
from views import pay

urlpatterns = [path("pay/<int:number>", pay)]
"""
SQLALCHEMY = """
import asyncio, sys
from sqlalchemy.ext.asyncio import create_async_engine
from api import pay

async def main():
    engine = create_async_engine(sys.argv[1].replace("postgresql:", "postgresql+asyncpg:"))
    await pay(engine, 7)
    await engine.dispose()

asyncio.run(main())
"""
CELERY = """
from celery.contrib.testing.worker import start_worker
from tasks import app, emitter, ship

app.conf.update(result_backend="cache+memory://", broker_connection_retry_on_startup=True)
with start_worker(app, perform_ping_check=False, pool="solo"):
    for _ in range(2):
        ship.delay(7).get(timeout=30)
emitter.close()
"""


def block(language: str, first_line: str = "") -> str:
    """Return the one block of the page in a language that begins with a line."""
    found = re.findall(rf"^```{language}[^\n]*\n({re.escape(first_line)}.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    assert len(found) == 1, (language, first_line)
    return textwrap.dedent(found[0])


def run(folder: Path, program: str, *arguments: str, **environment: str) -> None:
    """Run a program in a folder of its own; it must succeed."""
    (folder / "main.py").write_text(program)
    done = subprocess.run(
        [sys.executable, "main.py", *arguments],
        cwd=folder,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def prepared(database: Database) -> None:
    database.query(TABLE)
    database.query("INSERT INTO shop_order VALUES (7, false)")


def is_paid(database: Database) -> bool:
    return bool(database.query("SELECT paid FROM shop_order")[0][0])


def test_a_django_view_that_is_called_twice_tells_once(tmp_path: Path, database: Database) -> None:
    prepared(database)
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "__init__.py").touch()
    (tmp_path / "shop" / "models.py").write_text(MODELS)
    (tmp_path / "urls.py").write_text(URLS)
    (tmp_path / "views.py").write_text(block("python", "# views.py"))
    run(tmp_path, DJANGO, database.url)
    assert is_paid(database)
    assert events(database) == [(["order 7"], [], "paid", 7)]
    assert [(one[0], read_values(one[3])) for one in database.messages("mails")] == [("receipt 7", ["receipt", 7])]


def test_a_session_of_sqlalchemy_tells(tmp_path: Path, database: Database) -> None:
    prepared(database)
    (tmp_path / "api.py").write_text(block("python", "# api.py"))
    run(tmp_path, SQLALCHEMY, database.url)
    assert is_paid(database)
    assert events(database) == [(["order 7"], [], "paid", 7)]


def test_sql_tells(database: Database) -> None:
    prepared(database)
    psql = require_postgres() / "psql"
    subprocess.run([psql, "-qX", "-v", "ON_ERROR_STOP=1", database.url], input=block("sql"), text=True, check=True)
    assert is_paid(database)
    assert events(database) == [(["order 7"], [], "paid", 7), (None, ["muted"], "news", "we are open")]
    assert database.query("SELECT id FROM waypost.scheduled") == [("receipt 7",)]


def test_a_task_of_celery_that_runs_twice_tells_once(tmp_path: Path, database: Database) -> None:
    (tmp_path / "tasks.py").write_text(block("python", "# tasks.py"))
    run(tmp_path, CELERY, BROKER="memory://", STORE=database.url)
    assert events(database) == [(["order 7"], [], "shipped", 7)]


def test_a_cron_script_tells_and_disconnects(tmp_path: Path, database: Database) -> None:
    run(tmp_path, block("python", "# nightly.py"), database.url)
    assert events(database, "/admin") == [(None, [], "report", {"sold": 7})]
    assert database.query("SELECT kind FROM waypost.log WHERE journal = 1") == [(4,)]
