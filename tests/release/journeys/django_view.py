"""A Django site whose synchronous views emit: in their transaction through a queue, and from their thread.

It needs the installed package and Django.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import waypost

_DEADLINE_S = 60
_LISTENING = re.compile(r"listening on (http://127\.0\.0\.1:\d+)")

_SITE = """
import asyncio

import django
from django.conf import settings

settings.configure(
    ALLOWED_HOSTS=["*"],
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": "shop.db"}},
    INSTALLED_APPS=["django.contrib.contenttypes"],
    ROOT_URLCONF=__name__,
    SECRET_KEY="a secret",
)
django.setup()

from django.core.asgi import get_asgi_application
from django.db import connection, models, transaction
from django.http import HttpResponse
from django.urls import path

import waypost

io = waypost.Server(store="shop.db")  # Django's tables are in the same file


class Order(models.Model):
    item = models.TextField()

    class Meta:
        app_label = "shop"


@io.on("connect")
async def connect(socket, auth):
    await socket.join("clerks")
    await socket.consume("orders")


def order(request, item):  # a plain def: Django runs it in a thread
    with transaction.atomic():
        made = Order.objects.create(item=item)
        io.queue("orders").publish(connection.connection, "order", made.id, item)
        if item == "nothing":
            raise ValueError("a fault after the message: neither of the two is kept")
    io.from_thread.to("clerks").emit("ordered", item)
    return HttpResponse(f"order {made.id}")


async def greet(request, name):  # an async view runs on the server's loop
    await io.emit("greeted", name)
    return HttpResponse("greeted")


def count(request):
    return HttpResponse(str(Order.objects.count()))


urlpatterns = [path("order/<item>", order), path("greet/<name>", greet), path("count", count)]
application = io.asgi(get_asgi_application())

async def make_store():  # the server makes the file, and Django's tables come into it
    await io.start()
    await io.close()


if __name__ == "__main__":  # what `manage.py migrate` does
    asyncio.run(make_store())
    with connection.schema_editor() as editor:
        editor.create_model(Order)
"""


def main() -> None:
    """Make the site in the current directory, serve it, and use it."""
    Path("site_of_shop.py").write_text(_SITE, encoding="utf-8")
    subprocess.run([sys.executable, "site_of_shop.py"], check=True, timeout=_DEADLINE_S)
    with _serving() as url:
        asyncio.run(_use(url))


@contextlib.contextmanager
def _serving() -> Iterator[str]:
    command = [sys.executable, "-m", "waypost", "serve", "site_of_shop:application", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as server:
        try:
            assert server.stdout is not None
            said = []
            for line in server.stdout:
                said.append(line)
                if found := _LISTENING.search(line):
                    yield found[1]
                    break
            else:
                raise AssertionError("the server did not start:\n" + "".join(said))
        finally:
            server.terminate()
            assert server.wait(_DEADLINE_S) == 0


async def _use(url: str) -> None:
    def get(path: str) -> str:
        with urllib.request.urlopen(f"{url}/{path}", timeout=_DEADLINE_S) as answer:
            return str(answer.read().decode())

    client = waypost.Client(url)
    orders, ordered, greeted = (client.events(name) for name in ("order", "ordered", "greeted"))
    async with asyncio.timeout(_DEADLINE_S), client:
        assert await asyncio.to_thread(get, "order/tea") == "order 1"
        assert (await anext(orders)).args == (1, "tea")
        assert (await anext(ordered)).args == ("tea",)
        try:
            await asyncio.to_thread(get, "order/nothing")
        except urllib.error.HTTPError as fault:
            assert fault.code == 500  # noqa: PT017 # there is no pytest here
        assert await asyncio.to_thread(get, "count") == "1"
        assert await asyncio.to_thread(get, "greet/ada") == "greeted"
        assert (await anext(greeted)).args == ("ada",)
        assert await asyncio.to_thread(get, "order/milk") == "order 2"
        assert (await anext(orders)).args == (2, "milk")  # and nothing of the one that failed


if __name__ == "__main__":
    main()
