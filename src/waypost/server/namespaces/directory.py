"""The namespaces of a server: those that the application named, and the children that clients created."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any
from weakref import WeakValueDictionary

from waypost.checking.arguments import NAMESPACE, check
from waypost.errors import ConfigurationError, ConnectionRefused
from waypost.logs import by_client, fields, get_logger
from waypost.server.emitting.flags import Flags
from waypost.server.namespaces.children_elsewhere import ChildrenElsewhere
from waypost.server.namespaces.core import NamespaceCore, Parts
from waypost.server.namespaces.eviction import Eviction
from waypost.server.namespaces.namespace import Namespace, ParentNamespace
from waypost.server.namespaces.parents import ParentCore
from waypost.server.watching.counters import OTHER

__all__ = ["Directory", "UnknownNamespace"]

logger = get_logger("waypost.namespace")


class UnknownNamespace(ConnectionRefused):
    """A client wants a namespace that the application does not have."""


class Directory:
    """All namespaces of a server, by name.

    Args:
        parts: The parts that all namespaces share.
    """

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._named: dict[str, NamespaceCore] = {}
        self._parents: list[ParentCore] = []
        self._children: dict[str, NamespaceCore] = {}
        self._made_from: dict[str, str] = {}
        self._made: Counter[str] = Counter()
        self._elsewhere = ChildrenElsewhere(parts.services, self._copy)
        self._eviction = Eviction(
            self._children.values,
            lambda child: self._children.get(child.name) is child and child.name not in self._elsewhere,
        )
        # The application may still hold a removed child. If it is needed again, it must be the same object.
        self._forgotten: WeakValueDictionary[str, NamespaceCore] = WeakValueDictionary()

    def __iter__(self) -> Iterator[NamespaceCore]:
        return iter([*self._named.values(), *self._children.values()])

    def of(self, name: str, *, has_journal: bool = True) -> Namespace:
        """Return a namespace for the application; see `core`.

        Args:
            name: The name.
            has_journal: ``False`` for a namespace without a journal.

        Raises:
            ConfigurationError: The name is not valid, or the namespace's journal is open already.
        """
        core = self.core(name)
        if not has_journal:
            core.renounce_journal()
        public: Namespace = core.public
        return public

    def core(self, name: str) -> NamespaceCore:
        """Return a namespace; if it does not exist, make it. It stays as long as the server.

        A name that matches a parent's pattern becomes a child of that parent.

        Raises:
            ConfigurationError: The name is not valid.
        """
        check_name(name)
        namespace = self.get(name)
        if namespace is None:
            parent = next((parent for parent in self._parents if parent.matches(name)), None)
            namespace = self._make(name, parent)
        self._keep(namespace)
        return namespace

    def _child(self, name: str, parent: ParentCore) -> Namespace:
        """Return a parent's child; if it does not exist, make it. It stays as long as the server.

        Raises:
            ConfigurationError: The name is not valid, or belongs to another namespace.
        """
        check_name(name)
        namespace = self.get(name) or self._make(name, parent)
        if namespace.parent is not parent:
            raise ConfigurationError("namespace", name, "a name that no other namespace has")
        self._keep(namespace)
        public: Namespace = namespace.public
        return public

    def _keep(self, namespace: NamespaceCore) -> None:
        self._children.pop(namespace.name, None)
        self._count_no_more(namespace.name)
        self._named[namespace.name] = namespace

    def add_parent(
        self, accepts: re.Pattern[str] | Callable[..., Any], *, has_journal: bool = True
    ) -> ParentNamespace:
        """Register a parent. If several parents match a name, the first one gets it.

        Raises:
            ConfigurationError: The argument is neither a compiled pattern of text nor a function of a name and auth.
        """
        flags = Flags(timeout_s=self._parts.settings.ack_timeout_s)
        parent = ParentCore(accepts, self._parts.services, flags, has_journal=has_journal)
        parent.public = public = ParentNamespace(parent, self._child)
        self._parents.append(parent)
        return public

    def get(self, name: str) -> NamespaceCore | None:
        """Return an existing namespace, or ``None``."""
        return self._named.get(name) or self._children.get(name)

    async def find(self, name: str, auth: dict[str, Any] | None, site: str | None) -> NamespaceCore:
        """Return the namespace that a client named; if a parent accepts it, make it.

        A parent's function is called for every client, also if the namespace exists.

        Args:
            name: The name.
            auth: The client's auth.
            site: The client's address, for the limit on the children of one address; ``None`` is not counted.

        Raises:
            UnknownNamespace: The application has no namespace of that name.
            ConnectionRefused: The namespace of that name does not accept this client.
        """
        namespace = await self._find(name, auth, site)
        if namespace.parent is not None:
            self._elsewhere.entered(name, self._parents.index(namespace.parent), self._made_from.get(name))
        return namespace

    async def _find(self, name: str, auth: dict[str, Any] | None, site: str | None) -> NamespaceCore:
        namespace = self.get(name)
        for parent in self._parents if namespace is None else (namespace.parent,):
            if parent is None or await parent.accepts(name, auth):
                return await self._enter(name, parent, site)
        raise UnknownNamespace("Invalid namespace")

    def _copy(self, name: str, parent: int, site: str | None) -> None:
        """Make a child that clients of another node have made; it counts here too for the address that made it."""
        if parent < len(self._parents) and self.get(name) is None:
            child = self._make_child(name, self._parents[parent], site)
            task = asyncio.get_running_loop().create_task(self._parents[parent].tell_made(child))
            self._parts.services.keep_task(task)

    async def _enter(self, name: str, parent: ParentCore | None, site: str | None) -> NamespaceCore:
        # While the parent decided, other clients may have created it, or the upkeep may have removed it.
        namespace = self.get(name)
        if namespace is None:
            settings = self._parts.settings
            if site is not None and self._made[site] >= settings.max_child_namespaces_per_address:
                logger.warning(
                    "refused to make %s: %s has made %d child namespaces; "
                    "max_child_namespaces_per_address sets the limit",
                    name,
                    site,
                    self._made[site],
                    extra=by_client(fields(namespace=name, address=site, option="max_child_namespaces_per_address")),
                )
                raise ConnectionRefused("Too many namespaces")
            if len(self._children) >= settings.max_child_namespaces:
                await self._make_room(name)
            namespace = self.get(name) or self._make_child(name, parent, site)
        if namespace.parent is not None:
            await namespace.parent.tell_made(namespace)
        return namespace

    def _make_child(self, name: str, parent: ParentCore | None, site: str | None) -> NamespaceCore:
        child = self._children[name] = self._make(name, parent)
        child.empty_since = asyncio.get_running_loop().time()
        if site is not None:
            self._made_from[name] = site
            self._made[site] += 1
        return child

    async def _make_room(self, name: str) -> None:
        """Remove a child that nobody would miss, in favour of a new one.

        Raises:
            ConnectionRefused: There is no such child.
        """
        while len(self._children) >= self._parts.settings.max_child_namespaces:
            chosen = await self._eviction.choose()
            if chosen is None:
                logger.warning(
                    "refused to make %s: there are %d child namespaces; max_child_namespaces sets the limit",
                    name,
                    len(self._children),
                    extra=by_client(fields(namespace=name, option="max_child_namespaces")),
                )
                raise ConnectionRefused("Too many namespaces")
            child, sessions = chosen
            logger.info(
                "%s, which is empty and was never used, is removed in favour of %s",
                child.name,
                name,
                extra=fields(namespace=child.name, option="max_child_namespaces"),
            )
            journal = child.feed.journal
            self._forget(child)
            if journal is not None:
                child.forget_store()
                for session in sessions:
                    await journal.end_session(session.key)
                if await self._parts.services.store.drop_journal(child.name):
                    child.forget_store()

    async def revive(self, names: list[str]) -> None:
        """Make the children that have stored sessions, so that emits reach those sessions too.

        Args:
            names: The namespaces with sessions in the store.
        """
        for name in names:
            try:
                await self._find(name, None, None)
            except ConnectionRefused:
                logger.debug(
                    "the store has sessions of %s, which is not there any more", name, extra=fields(namespace=name)
                )

    def _make(self, name: str, parent: ParentCore | None) -> NamespaceCore:
        namespace = self._forgotten.get(name)
        if namespace is None:
            namespace = NamespaceCore(name, self._parts, parent)
            namespace.public = Namespace(namespace)
        if namespace.parent is not None:
            namespace.parent.children[name] = namespace
        return namespace

    def start(self) -> None:
        """Learn from now on which children other nodes have; once for each opening of the store."""
        self._elsewhere.start()

    def renew(self) -> None:
        """Forget the children that clients made, and all that belongs to a closed store."""
        self._elsewhere.forget_all()
        for child in list(self._children.values()):
            self._forget(child)
        for namespace in [*self._named.values(), *self._forgotten.values()]:
            namespace.renew()

    def counted_as(self, name: str) -> str:
        """Return the name under which a namespace is counted, also for one that only another server has."""
        namespace = self.get(name)
        if namespace is not None:
            return namespace.counted_as
        return next((parent.counted_as for parent in self._parents if parent.matches(name)), OTHER)

    async def clean_up(self) -> None:
        """Remove the children without clients and without sessions, and their journals.

        Raises:
            StorageError: The store did not take the change.
        """
        if not self._parts.settings.cleanup_empty_child_namespaces:
            return
        idle = [child for child in self._children.values() if child.is_idle and child.name not in self._elsewhere]
        has_journals = bool(idle) and self._parts.settings.recovery is not None
        followed = set(await self._parts.services.store.followed_journals()) if has_journals else set()
        for child in idle:
            if child.is_idle and child.name not in followed and self._children.get(child.name) is child:
                self._forget(child)
                if has_journals:
                    await self._drop_journal(child)

    async def _drop_journal(self, child: NamespaceCore) -> None:
        # Before: clients that come meanwhile wait, and begin another journal. After: one may just have got this one.
        child.forget_store()
        await self._parts.services.store.drop_journal(child.name)
        child.forget_store()

    def _forget(self, child: NamespaceCore) -> None:
        logger.debug("nobody is in %s any more, it is forgotten", child.name, extra=fields(namespace=child.name))
        del self._children[child.name]
        self._elsewhere.forgotten(child.name)
        self._count_no_more(child.name)
        if child.parent is not None:
            del child.parent.children[child.name]
        self._forgotten[child.name] = child

    def _count_no_more(self, name: str) -> None:
        site = self._made_from.pop(name, None)
        if site is not None:
            self._made[site] -= 1
            if not self._made[site]:
                del self._made[site]


def check_name(name: str) -> None:
    """Check the name of a namespace.

    Raises:
        ConfigurationError: The name is not valid.
    """
    check("namespace", name, NAMESPACE)
