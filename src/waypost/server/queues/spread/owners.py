"""Which node owns each consumer, and how owners follow on each other: claims, and what is in hand elsewhere."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager, suppress
from typing import Any

import msgspec

from waypost.errors import StorageError, StoreClosed
from waypost.logs import fields, get_logger
from waypost.retrying import STORE_RETRIES, Backoff
from waypost.server.queues.delivery import Attachment
from waypost.server.queues.options import Order
from waypost.server.queues.runner import Runner
from waypost.server.queues.serving import Serving
from waypost.server.queues.socket_carrier import SocketCarrier
from waypost.server.queues.spread.branch import Branch
from waypost.server.queues.spread.desk import Desk
from waypost.server.queues.spread.guests import Guests, as_message
from waypost.server.queues.spread.heirs import Heirs
from waypost.server.queues.spread.letters import (
    TOPIC,
    Attach,
    Attached,
    Changed,
    Declined,
    Deliver,
    Forget,
    FromGuest,
    Hands,
    Inherit,
    LateAck,
    Letter,
    Loads,
    LoadsAsked,
    Moved,
    NotOwner,
    Owns,
    Taken,
    TellLoss,
    decode,
)
from waypost.server.queues.spread.post import Key, Post, guarded
from waypost.server.queues.spread.survey import Survey
from waypost.server.queues.spread.takeover import Takeover
from waypost.server.queues.spread.tenure import Tenure
from waypost.server.services import Services
from waypost.storage.following import Nodes

__all__ = ["Owners"]

logger = get_logger("waypost.queue")

_LINGER_S = 5.0
"""For so long a node owns a consumer that nothing is attached to."""
_SUCCESSOR_S = 1.0


class Owners:
    """The consumers of a store's queues, as one of its nodes sees them.

    Args:
        nodes: The nodes.
        services: What the server's parts share.
        desk: Has what serves each consumer.

    Attributes:
        post: Sends messages to nodes.
        survey: Asks the other nodes for numbers.
    """

    def __init__(self, nodes: Nodes, services: Services, desk: Desk) -> None:
        self._nodes = nodes
        self._services = services
        self._desk = desk
        self.post = Post(nodes)
        self.survey = Survey(self.post)
        self._tenures: dict[Key, Tenure] = {}
        self._heirs = Heirs(nodes, self.post)
        nodes.listen(TOPIC, self._receive)
        nodes.watch(self._node_changed)

    # -- serving --------------------------------------------------------------------------------------------

    async def serving(self, key: Key, order: Order | None) -> Serving:
        """Return what serves a consumer on this node, and claim the consumer if nobody owns it.

        Raises:
            StorageError: The store did not answer.
        """
        async with self._holding(key) as tenure:
            serving = self._desk.find(*key)
            if serving is None:
                serving = await self._settle(key, tenure, order)
            if self._desk.is_stopping:
                self._spawn(key, self._hand_over(key))
            return serving

    async def attach(self, serving: Serving, attachment: Attachment, order: Order | None) -> None:
        """Attach a socket or function to what serves its consumer.

        A socket whose session was cut off on another node then has what it held there.

        Raises:
            ConfigurationError: The consumer is being served in another order.
        """
        if isinstance(serving, Branch):
            await serving.attach(attachment, order)
            return
        assert isinstance(serving, Runner)
        serving.attach(attachment)
        carrier = attachment.carrier
        away = None if carrier.session is None else serving.find_away(carrier.session)
        guests = self._guests_of(serving)
        if (
            guests is not None
            and away is not None
            and not isinstance(away.carrier, SocketCarrier)
            and isinstance(carrier, SocketCarrier)
            and carrier.member is not None
        ):
            guests.bring_home(away, SocketCarrier(carrier.member, serving, self._services))

    def owns(self, key: Key) -> bool:
        """Return whether this node owns a consumer."""
        return key in self._tenures and self._tenures[key].is_owned

    def became_idle(self, key: Key) -> None:
        """Note that nothing is attached to a consumer any more. The consumer is given up if that stays so."""
        if key in self._tenures:
            self._tenures[key].guests = None
            asyncio.get_running_loop().call_later(_LINGER_S, self._give_up_later, key)

    def pass_on(self, key: Key, ack: LateAck) -> None:
        """Bring a late ack to the owner of a consumer that this node does not serve."""
        # Other nodes say it once more to the next owner, if this one stops.
        if not self._desk.is_stopping:
            self._spawn(key, self._pass_on(key, ack))

    def tell(self, queue: str, change: Changed) -> None:
        """Tell all nodes of a change of a queue, or of one of its consumers."""
        self.post.send_to_all((queue, change.consumer or ""), change)

    def freed(self, queue: str, consumer: str) -> None:
        """Note that nobody owns a consumer: claim it if something is attached here."""
        key = queue, consumer
        tenure, serving = self._tenures.get(key), self._desk.find(queue, consumer)
        if tenure is not None:
            tenure.was_freed = True
            if tenure.is_owned and not tenure.is_lost:
                tenure.is_lost = True
                if serving is not None:
                    serving.stop()
                self._spawn(key, self._step_back(key))
        if isinstance(serving, Branch):
            self.seek(serving)

    def seek(self, branch: Branch) -> None:
        """Find the next owner of a branch's consumer; perhaps this node."""
        branch.lose_owner()
        if not self._desk.is_stopping:
            self._spawn(branch.key, self._seek(branch))

    # -- the end of this node -------------------------------------------------------------------------------

    def hand_over_all(self) -> None:
        """Let other nodes own what this node owns; its takers go on to answer what they have."""
        for key in list(self._tenures):
            self._spawn(key, self._hand_over(key))

    async def _hand_over(self, key: Key) -> None:
        async with self._holding(key) as tenure:
            runner = self._desk.find(*key)
            branch = None
            if isinstance(runner, Runner):
                branch = await self._desk.open_branch(key, runner.order)
                attachments = await runner.yield_up()
                branch.row = runner.row
                branch.adopt(attachments)
                self._desk.put(branch, runner)
            tenure.guests = None
            is_released = tenure.is_owned and await self._release(key, tenure)
        if branch is not None and is_released:
            await self._heirs.find(key, branch)

    async def _step_back(self, key: Key) -> None:
        """Serve a consumer through its next owner: its host has taken it from this node, which stood still."""
        async with self._holding(key) as tenure:
            # Nothing is awaited until the takers are at a branch: the store takes no outcome of this runner.
            runner = self._desk.find(*key)
            successor, tenure.successor = tenure.successor, None
            tenure.is_owned = tenure.is_lost = False
            tenure.guests = None
            if not isinstance(runner, Runner):
                return
            branch = self._desk.branch_of(runner)
            attachments, unstored = runner.lose_office()
            for position, ordering_key in unstored.items():
                branch.answers.sent(LateAck(position, ordering_key, branch.row.generation, branch.row.epoch))
            branch.adopt(attachments)
            self._desk.put(branch, runner)
            if successor is not None:
                self._hear_of_owner(successor, key)
            elif branch.takers:
                await self._settle(key, tenure, branch.known_order)
            branch.wake()
        if branch.owner is None and branch.takers and self._desk.find(*key) is branch:
            await self._introduce(branch)

    async def _introduce(self, branch: Branch) -> None:
        """Tell the next owner of a branch's takers, if it has asked when this node was dead for it."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_SUCCESSOR_S):
                await branch.owned()
        async with self._holding(branch.key) as tenure:
            if branch.owner is None and self._desk.find(*branch.key) is branch:
                await self._settle(branch.key, tenure, branch.known_order)
                if tenure.rival is not None and not branch.has_owner:
                    self._hear_of_owner(tenure.rival, branch.key)

    # -- what other nodes say -------------------------------------------------------------------------------

    def _receive(self, sender: str, message: bytes) -> None:
        try:
            letter = decode(message)
        except msgspec.MsgspecError as problem:
            logger.error(
                "node %s says of a queue what this version does not understand: %s",
                sender,
                problem,
                extra=fields(node=sender),
            )
            return
        is_own = sender == self._nodes.name
        body = letter.body
        key = letter.queue, letter.consumer
        if isinstance(body, Attached | NotOwner | Deliver | Taken | Forget | TellLoss | Moved):
            branch = self._desk.find(*key)
            # What an owner said that is not the owner any more is void, as its takers were given to the next one.
            if isinstance(branch, Branch) and branch.owner == sender:
                branch.take(body)
        elif isinstance(body, Changed):
            if not is_own:
                self._desk.apply(letter.queue, body)
        elif isinstance(body, Owns):
            if not is_own:
                self._hear_of_owner(sender, key)
        elif isinstance(body, Hands):
            self._take_hands(sender, key, body)
        else:
            self._receive_rest(sender, letter, body, is_own=is_own)

    def _receive_rest(
        self, sender: str, letter: Letter, body: FromGuest | Inherit | Declined | LoadsAsked | Loads, *, is_own: bool
    ) -> None:
        key = letter.queue, letter.consumer
        if isinstance(body, Inherit):
            if self._desk.is_stopping:
                self.post.send(sender, key, Declined())
            else:
                self._spawn(key, self._inherit(key))
        elif isinstance(body, Declined):
            self._heirs.decline(key)
        elif isinstance(body, LoadsAsked):
            if not is_own:
                self.post.send(sender, key, Loads(body.number, tuple(self._desk.loads(body.queues))))
        elif isinstance(body, Loads):
            self.survey.take(sender, body)
        else:
            self._take_from_guest(sender, key, body)

    def _take_from_guest(self, sender: str, key: Key, body: FromGuest) -> None:
        tenure = self._tenures.get(key)
        if tenure is None:
            self._refuse(sender, key, body)
        elif tenure.guests is not None:
            tenure.guests.take(sender, body)
        else:
            tenure.backlog.append((sender, body))
            if not tenure.users:
                self._spawn(key, self._inherit(key))

    def _refuse(self, sender: str, key: Key, body: FromGuest | None) -> None:
        """Answer what is meant for the owner, which this node is not any more."""
        if isinstance(body, Attach):
            self.post.send(sender, key, NotOwner())
        elif isinstance(body, LateAck):
            self.pass_on(key, body)

    def _hear_of_owner(self, node: str, key: Key) -> None:
        tenure = self._tenures.get(key)
        if tenure is not None and tenure.is_lost:
            # It is answered as soon as the runner here has ended.
            tenure.successor = node
            return
        branch = self._desk.find(*key)
        if isinstance(branch, Branch):
            branch.set_owner(node)
            self.post.send(node, key, branch.hands())
            branch.send_answers()
        elif tenure is not None and tenure.is_owned:
            self._spawn(key, self._doubt(key, node))
        else:
            self._say_nothing_is_here(node, key)

    def _say_nothing_is_here(self, node: str, key: Key) -> None:
        self.post.send(node, key, Hands((), None, "", 0, ()))

    async def _doubt(self, key: Key, node: str) -> None:
        """Find out whether this node still owns a consumer: another one says that it does, or said so long ago."""
        async with self._holding(key) as tenure:
            if tenure.is_owned and not tenure.is_lost:
                owner = await self._nodes.claim_consumer(*key)
                if owner != self._nodes.name:
                    self.freed(*key)
                    tenure.successor = owner
                    return
        self._say_nothing_is_here(node, key)

    def _take_hands(self, sender: str, key: Key, hands: Hands) -> None:
        tenure = self._tenures.get(key)
        if tenure is None:
            return
        if tenure.is_asking:
            tenure.take_hands(sender, hands)
        elif hands.takers or hands.acknowledged:
            self._take_from_guest(sender, key, hands)

    def _node_changed(self, node: str, is_there: bool) -> None:
        if is_there:
            return
        self.survey.gone(node)
        for tenure in self._tenures.values():
            tenure.gone(node)

    # -- claims ---------------------------------------------------------------------------------------------

    async def _settle(self, key: Key, tenure: Tenure, order: Order | None) -> Serving:
        """Find out who owns a consumer, and begin to serve it here. The lock is held."""
        former = self._desk.find(*key)
        while not tenure.is_owned:
            tenure.was_freed, tenure.rival = False, None
            owner = await self._nodes.claim_consumer(*key)
            if owner == self._nodes.name:
                tenure.is_owned = True
                await tenure.ask_all(self.post, key)
            elif not tenure.was_freed:
                if isinstance(former, Branch):
                    # The new owner asks for what is in hand here.
                    tenure.rival = owner
                    return former
                branch = await self._desk.open_branch(key, order)
                if not tenure.was_freed:
                    branch.set_owner(owner)
                    self._desk.put(branch, None)
                    return branch
        return await self._take_office(key, tenure, order)

    async def _take_office(self, key: Key, tenure: Tenure, order: Order | None) -> Runner:
        """Make the runner of a consumer that this node owns, with all that is in hand anywhere. The lock is held."""
        former = self._desk.find(*key)
        branch = former if isinstance(former, Branch) else None
        runner = await self._desk.open_runner(key, tenure.order or (branch and branch.known_order) or order)
        guests = Guests(runner, self.post, self._services.store.clock.now)
        takeover = Takeover(runner, guests, self._services.store.queue(key[0]), self._services)
        await takeover.look(tenure.hands, branch)
        # From here on nothing is awaited: what comes meanwhile is in the backlog.
        takeover.begin()
        self._desk.put(runner, former)
        tenure.guests, tenure.hands = guests, {}
        for member in takeover.welcome():
            if member.out.is_live:
                self._desk.went_live(member)
        backlog, tenure.backlog = tenure.backlog, []
        for sender, body in backlog:
            if body is None:
                guests.gone(sender)
            else:
                guests.take(sender, body)
        self._desk.began(runner)
        return runner

    async def _seek(self, branch: Branch) -> None:
        """Claim the consumer of a branch that has no owner, until some node has done so."""
        backoff = Backoff(STORE_RETRIES)
        key = branch.key
        while not self._desk.is_stopping:
            try:
                async with self._holding(key) as tenure:
                    if self._desk.find(*key) is branch and branch.owner is None and branch.takers:
                        await self._settle(key, tenure, branch.known_order)
                    return
            except StoreClosed:
                return
            except StorageError as problem:
                pause_s = backoff.next_s()
                logger.error(
                    "queue %r: consumer %r has no owner, again in %.1f s: %s",
                    *key,
                    pause_s,
                    problem,
                    extra=fields(queue=key[0], consumer=key[1], seconds=pause_s),
                )
                await asyncio.sleep(pause_s)

    async def _inherit(self, key: Key) -> None:
        """Own a consumer for the takers of other nodes."""
        async with self._holding(key) as tenure:
            if self._desk.find(*key) is None:
                await self._settle(key, tenure, None)
                serving = self._desk.find(*key)
                if serving is not None:
                    # It ends if nothing is attached.
                    serving.wake()

    async def _inherit_at_last(self, key: Key, tenure: Tenure) -> None:
        """Serve the takers of other nodes at a consumer that this node owns, as soon as the store lets it."""
        backoff = Backoff(STORE_RETRIES)
        try:
            while tenure.awaits_runner and not self._desk.is_stopping:
                try:
                    await self._inherit(key)
                except StoreClosed:
                    return
                except StorageError as problem:
                    logger.error(
                        "queue %r: consumer %r is not served yet: %s",
                        *key,
                        problem,
                        extra=fields(queue=key[0], consumer=key[1]),
                    )
                if tenure.awaits_runner:
                    await asyncio.sleep(backoff.next_s())
        finally:
            tenure.is_inheriting = False

    async def _pass_on(self, key: Key, ack: LateAck) -> None:
        async with self._holding(key) as tenure:
            serving = self._desk.find(*key) or await self._settle(key, tenure, None)
            if serving.row.generation == ack.generation:
                serving.acknowledge_late(as_message(ack), ack.epoch)
            serving.wake()

    # -- giving up ------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def _holding(self, key: Key) -> AsyncIterator[Tenure]:
        """Keep who owns a consumer from changing on this node, except by the caller."""
        tenure = self._tenures.setdefault(key, Tenure())
        tenure.users += 1
        try:
            async with tenure.lock:
                yield tenure
        finally:
            tenure.users -= 1
            if not tenure.users:
                self._look_after(key, tenure)

    def _look_after(self, key: Key, tenure: Tenure) -> None:
        """See to what other nodes have said meanwhile."""
        if not tenure.is_owned:
            del self._tenures[key]
            for sender, body in tenure.backlog:
                self._refuse(sender, key, body)
        elif tenure.awaits_runner and not tenure.is_inheriting:
            tenure.is_inheriting = True
            self._spawn(key, self._inherit_at_last(key, tenure))

    def _give_up_later(self, key: Key) -> None:
        if key in self._tenures and self._desk.find(*key) is None:
            self._spawn(key, self._give_up(key))

    async def _give_up(self, key: Key) -> None:
        async with self._holding(key) as tenure:
            if self._desk.find(*key) is None and tenure.is_owned and not tenure.backlog:
                await self._release(key, tenure)

    async def _release(self, key: Key, tenure: Tenure) -> bool:
        """Own a consumer no more; the lock is held. Returns False if this node has lost the store."""
        tenure.is_owned = False
        try:
            await self._nodes.release_consumer(*key)
        except StorageError as problem:
            logger.error(
                "queue %r: consumer %r could not be released: %s",
                *key,
                problem,
                extra=fields(queue=key[0], consumer=key[1]),
            )
            return False
        return True

    def _guests_of(self, runner: Runner) -> Guests | None:
        tenure = self._tenures.get((runner.queue_name, runner.row.name))
        return None if tenure is None else tenure.guests

    def _spawn(self, key: Key, work: Coroutine[Any, Any, None]) -> None:
        self._services.keep_task(asyncio.get_running_loop().create_task(guarded(key, work)))
